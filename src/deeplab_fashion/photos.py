"""Photos of every common kind, read the same way everywhere: upright, RGB, eight bits."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deeplab_fashion.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_PIXELS", "from_pil", "read", "resize", "size_of"]

MAX_PIXELS = 2**27
"""Pixels of the largest photo that is read: a small file can ask for all memory."""

DAMAGE = (OSError, SyntaxError, ValueError, EOFError)  # what Pillow raises while it decodes

_LIMIT_LIFTED = threading.Lock()

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def _open(path: Path, max_pixels: int | None = None) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        # Pillow's own limit is global, and warns from 89 megapixels on.
        with _LIMIT_LIFTED:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except FileNotFoundError:
        raise ImageError(f"photo {path} does not exist") from None
    except UnidentifiedImageError:
        raise ImageError(f"photo {path} is not an image of a known format") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"photo {path} cannot be read: {error}") from None
    if max_pixels is not None and image.width * image.height > max_pixels:
        image.close()
        raise ImageError(
            f"photo {path} has {image.width * image.height} pixels, more than max_pixels, "
            f"{max_pixels}; raise max_pixels for a photo that you trust"
        )
    return image


def size_of(path: str | Path) -> tuple[int, int]:
    """Return a photo's upright size from its header, without decoding it.

    Args:
        path: An image file.

    Returns:
        (height, width), after the EXIF orientation.

    Raises:
        ImageError: If the file is missing, damaged or no image.

    Example:
        >>> from deeplab_fashion import samples
        >>> height, width = size_of(samples.photo())
    """
    with _open(Path(path)) as image:
        try:
            turned = image.getexif().get(_ORIENTATION) in _TURNED
        except DAMAGE as error:
            raise ImageError(f"photo {path} is damaged: {error}") from None
        return (image.width, image.height) if turned else (image.height, image.width)


def from_pil(image: "Image") -> NDArray[np.uint8]:
    """Turn a PIL image of any mode into upright RGB.

    Transparent pixels are laid on white, sixteen bits are scaled to eight, grey and CMYK become
    RGB, and an EXIF orientation is applied.

    Args:
        image: A PIL image.

    Returns:
        Shape (height, width, 3).

    Raises:
        ImageError: If its pixels are floating-point numbers, whose range is unknown.

    Example:
        >>> from PIL import Image
        >>> from_pil(Image.new("L", (3, 2), 7)).shape
        (2, 3, 3)
    """
    from PIL import Image, ImageOps

    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ImageError("a photo has whole numbers as pixels, but this one holds floats (mode F)")
    if image.mode.startswith("I"):  # 16 bits a pixel, whatever the container
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return np.repeat(((wide + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    if image.mode != "RGB":
        image = image.convert("RGB")
    # Strip by strip, since Pillow hands out its pixels through a copy.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    step = max(1, 2**22 // max(1, image.width))
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def read(
    path: str | Path,
    *,
    at_least: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read a photo as upright RGB: colour, grey, CMYK, 16-bit or with transparency.

    Args:
        path: An image file of any format that Pillow knows.
        at_least: The (height, width) that are wanted in the end. A JPEG is then decoded straight
            at a half, a quarter or an eighth of its size where that still reaches both, which is
            several times as fast as to decode and shrink it.
        max_pixels: Pixels of the largest photo that is read; looked up in its header, before
            anything is decoded.

    Returns:
        Shape (height, width, 3), smaller than the photo only with ``at_least``; see `from_pil`
        for the conversions.

    Raises:
        ImageError: If the file is missing, damaged, too large or no image; the message names it.

    Example:
        >>> from deeplab_fashion import samples
        >>> read(samples.photo()).dtype
        dtype('uint8')
    """
    path = Path(path)
    with _open(path, max_pixels) as image:
        try:
            if at_least is not None:
                turned = image.getexif().get(_ORIENTATION) in _TURNED
                height, width = at_least
                image.draft(None, (height, width) if turned else (width, height))
            return from_pil(image)
        except ImageError as error:
            raise ImageError(f"photo {path}: {error}") from None
        except DAMAGE as error:
            raise ImageError(f"photo {path} is damaged: {error}") from None


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a photo with a triangle filter as wide as the reduction, so that nothing aliases.

    Args:
        image: Shape (height, width, 3).
        size: The wanted (height, width).

    Returns:
        Shape (height, width, 3).

    Example:
        >>> resize(np.full((4, 6, 3), 9, np.uint8), (2, 3)).tolist()[0][0]
        [9, 9, 9]
    """
    from PIL import Image

    if image.shape[:2] == tuple(size):
        return image
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.array(resized)
