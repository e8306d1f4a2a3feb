"""Twelve annotated street photos in the package, so that everything runs without a download.

They come from Clothing Co-Parsing (Yang, Luo, Lin, CVPR 2014), Apache-2.0; ``NOTICE`` and
``LICENSE`` beside them tell more. Their annotations have the form of iMaterialist 2020 and CCP's
59 tags as categories: use ``taxonomy.CCP_TO_MAIN`` to map them.
"""

from pathlib import Path

from deeplab_fashion.annotations import AnnotationSet, read_imaterialist

__all__ = ["annotations_path", "load", "photo"]

_FOLDER = Path(__file__).parent


def annotations_path() -> Path:
    """Return the CSV with the photos' annotations; the photos lie beside it.

    Example:
        >>> annotations_path().name
        'annotations.csv'
    """
    return _FOLDER / "annotations.csv"


def load() -> AnnotationSet:
    """Read the records of the twelve photos, in the order of their names.

    Example:
        >>> load()
        <AnnotationSet: 12 images, 99 regions, 0 skipped>
    """
    return read_imaterialist(annotations_path(), _FOLDER)


def photo(index: int = 0) -> Path:
    """Return the path of one of the photos.

    Args:
        index: Its place in `load`, 0 to 11; negative numbers count from the end.

    Raises:
        IndexError: If there is no such photo.

    Example:
        >>> photo().name
        '0007.jpg'
    """
    paths = sorted(_FOLDER.glob("*.jpg"))
    if not -len(paths) <= index < len(paths):
        raise IndexError(f"index must lie between {-len(paths)} and {len(paths) - 1}, got {index}")
    return paths[index]
