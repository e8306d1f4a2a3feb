"""Annotation files of fashion data sets: read to records, split, and written back.

A record is one photo with its regions (`ImageAnnotation`). The readers go through a file once,
piece by piece, and keep nothing of it but the records, so their memory is bounded by these and
not by the file. A fault is reported with its file, row and image, and never repaired in silence:
it raises, or with ``on_error="skip"`` the whole photo is left out and listed in ``.skipped``,
for a photo that lacks one of its garments would teach a network that this garment is background.
"""

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any, Literal, TextIO, overload

import numpy as np
from numpy.typing import NDArray

from deeplab_fashion import photos
from deeplab_fashion._files import replacing
from deeplab_fashion.errors import AnnotationError, ImageError, RleFormatError, TaxonomyError
from deeplab_fashion.rle import RunLengthMask, paint_labels
from deeplab_fashion.taxonomy import LabelMap, Taxonomy

__all__ = [
    "AnnotationSet",
    "ImageAnnotation",
    "SkippedRecord",
    "read_fashionpedia",
    "read_imaterialist",
    "split",
    "write_coco",
    "write_fashionpedia",
    "write_imaterialist",
    "write_submission",
]

Progress = Callable[[int, int], None]
OnError = Literal["raise", "skip"]

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".webp", ".bmp", ".tif", ".tiff")
_SUBMISSION_COLUMNS = ("ImageId", "EncodedPixels", "ClassId", "AttributesIds")
_COLUMNS = ("ImageId", "EncodedPixels", "Height", "Width", "ClassId", "AttributesIds")
_LARGEST_SIZE = (2**31, 2**31)


@dataclass(frozen=True)
class ImageAnnotation:
    """A photo and its annotated regions.

    Args:
        image_id: The photo's name in its annotation file, exactly as written there.
        path: The photo.
        size: Its height and width in pixels, upright.
        regions: The regions, in the file's order, each of this size.
        category_ids: The category of each region, in the numbering of the file.
        attribute_ids: The attributes of each region; empty means that no region has any.
        crowd: Whether each region is a group of things; empty means that none is.

    Raises:
        AnnotationError: If the numbers of regions, categories, attributes or flags differ, or a
            region has another size.

    Example:
        >>> from deeplab_fashion import samples
        >>> record = samples.load()[0]
        >>> len(record.regions) == len(record.category_ids)
        True
    """

    image_id: str
    path: Path
    size: tuple[int, int]
    regions: tuple[RunLengthMask, ...]
    category_ids: tuple[int, ...]
    attribute_ids: tuple[tuple[int, ...], ...] = ()
    crowd: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        number = len(self.regions)
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "regions", tuple(self.regions))
        object.__setattr__(self, "category_ids", tuple(self.category_ids))
        object.__setattr__(self, "attribute_ids", tuple(self.attribute_ids) or ((),) * number)
        object.__setattr__(self, "crowd", tuple(self.crowd) or (False,) * number)
        for name in ("category_ids", "attribute_ids", "crowd"):
            if len(getattr(self, name)) != number:
                raise AnnotationError(
                    f"image {self.image_id!r} has {number} regions, "
                    f"but {len(getattr(self, name))} entries in {name}"
                )
        for place, region in enumerate(self.regions):
            if region.size != self.size:
                raise AnnotationError(
                    f"image {self.image_id!r} has size {self.size}, "
                    f"but its regions[{place}] has size {region.size}"
                )

    def to_labels(
        self, label_map: LabelMap, *, output_size: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """Paint the photo's label map.

        Transparent categories are left out, so what lies beneath them shows. Categories that go
        to background are painted as background. Where regions overlap, ``label_map.overlap``
        decides: by default the last in the file wins.

        Args:
            label_map: The label of each category.
            output_size: Height and width of the result, sampled at pixel centres; None means the
                photo's own size.

        Returns:
            Shape ``output_size``; 0 is background.

        Raises:
            TaxonomyError: If the label map knows nothing of a category; the message names the
                image.

        Example:
            >>> from deeplab_fashion import samples, taxonomy
            >>> samples.load()[0].to_labels(taxonomy.CCP_TO_MAIN, output_size=(64, 48)).shape
            (64, 48)
        """
        try:
            labels = [label_map.label_of(category_id) for category_id in self.category_ids]
        except TaxonomyError as error:
            raise TaxonomyError(f"image {self.image_id!r}: {error}") from None
        painted = [(r, n) for r, n in zip(self.regions, labels, strict=True) if n is not None]
        result: NDArray[np.uint8] = paint_labels(
            [region for region, _ in painted],
            [label for _, label in painted],
            size=self.size,
            output_size=output_size,
            overlap=label_map.overlap,
        )
        return result


@dataclass(frozen=True)
class SkippedRecord:
    """A fault for which a photo was left out.

    Args:
        source: The annotation file.
        row: The line of a CSV, its header being line 1; or the place of an item in its JSON list,
            the first being 1; or 0 for a photo that the file does not mention.
        image_id: The photo that was left out; empty where the row does not tell.
        reason: The rule that was broken, and what was found.
        kind: What ``row`` counts: a "row" of a CSV, an "annotation" or "image" of a JSON.

    Example:
        >>> print(SkippedRecord("train.csv", 7, "0002", "ClassId is missing"))
        train.csv, row 7, image '0002': ClassId is missing
    """

    source: str
    row: int
    image_id: str
    reason: str
    kind: str = "row"

    def __str__(self) -> str:
        return f"{self.source}, {self.kind} {self.row}, image {self.image_id!r}: {self.reason}"


@dataclass(frozen=True, repr=False)
class AnnotationSet(Sequence[ImageAnnotation]):
    """A sequence of records, and what was skipped when they were read.

    Args:
        records: The records.
        skipped: Every fault met under ``on_error="skip"``.

    Example:
        >>> from deeplab_fashion import samples
        >>> samples.load()[:3]
        <AnnotationSet: 3 images, 26 regions, 0 skipped>
    """

    records: tuple[ImageAnnotation, ...]
    skipped: tuple[SkippedRecord, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", tuple(self.records))
        object.__setattr__(self, "skipped", tuple(self.skipped))

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> ImageAnnotation: ...
    @overload
    def __getitem__(self, index: slice) -> "AnnotationSet": ...
    def __getitem__(self, index: int | slice) -> "ImageAnnotation | AnnotationSet":
        if isinstance(index, slice):
            return AnnotationSet(self.records[index])
        return self.records[index]

    def __iter__(self) -> Iterator[ImageAnnotation]:
        return iter(self.records)

    def __repr__(self) -> str:
        regions = sum(len(record.regions) for record in self.records)
        skipped = len({fault.image_id for fault in self.skipped})
        return f"<AnnotationSet: {len(self)} images, {regions} regions, {skipped} skipped>"


@dataclass
class _Photo:
    """A record while its rows come in."""

    path: Path
    size: tuple[int, int]
    row: int
    regions: list[RunLengthMask] = field(default_factory=list)
    category_ids: list[int] = field(default_factory=list)
    attribute_ids: list[tuple[int, ...]] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)


class _Collector:
    """Gathers regions by photo and deals with faults, the same way for every file form."""

    def __init__(
        self,
        source: str | Path,
        images_dir: str | Path,
        *,
        taxonomy: Taxonomy | None,
        image_ids: Collection[str] | None,
        check_images: bool,
        on_error: OnError,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', but is {on_error!r}")
        if check_images and not Path(images_dir).is_dir():
            raise ImageError(f"images_dir must be a folder of photos, but {images_dir} is none")
        if isinstance(image_ids, str):
            raise TypeError(f"image_ids must be a collection of ids, but is the str {image_ids!r}")
        self.source = str(source)
        self._images_dir = Path(images_dir)
        self._taxonomy = taxonomy
        self._wanted = None if image_ids is None else frozenset(image_ids)
        self._check_images = check_images
        self._on_error = on_error
        self._photos: dict[str, _Photo | None] = {}
        self._faults: list[SkippedRecord] = []

    def wants(self, image_id: str) -> bool:
        return self._wanted is None or image_id in self._wanted

    def given_up(self, image_id: str) -> bool:
        return image_id in self._photos and self._photos[image_id] is None

    def fail(self, row: int, image_id: str, error: Exception, kind: str = "row") -> None:
        """Raise the fault, or note it and give up the photo."""
        fault = SkippedRecord(self.source, row, image_id, str(error), kind)
        if self._on_error == "raise":
            error_class = ImageError if isinstance(error, ImageError) else AnnotationError
            raise error_class(str(fault)) from None
        self._faults.append(fault)
        if image_id:
            self._photos[image_id] = None

    def photo(
        self, row: int, image_id: str, file_name: str, size: tuple[int, int] | None
    ) -> _Photo | None:
        """Return a photo's record, begun after a look at its header; None if it was given up."""
        if image_id not in self._photos:
            path = _photo_path(self._images_dir, file_name)
            if size is None or self._check_images:
                found = photos.size_of(path)
                if size is not None and found != size:
                    raise ImageError(
                        f"photo {path} has the size {found} (height, width), "
                        f"but its annotation says {size}"
                    )
                size = found
            self._photos[image_id] = _Photo(path, size, row)
        photo = self._photos[image_id]
        if photo is not None and size is not None and size != photo.size:
            raise AnnotationError(
                f"size {size} (height, width) differs from {photo.size} in row {photo.row}"
            )
        return photo

    def add(
        self,
        photo: _Photo | None,
        region: RunLengthMask,
        category_id: int,
        attribute_ids: tuple[int, ...],
        crowd: bool = False,
    ) -> None:
        if self._taxonomy is not None:
            self._taxonomy.category(category_id)
        if photo is None:
            return
        photo.regions.append(region)
        photo.category_ids.append(category_id)
        photo.attribute_ids.append(attribute_ids)
        photo.crowd.append(crowd)

    def finish(self) -> AnnotationSet:
        for image_id in sorted((self._wanted or frozenset()) - self._photos.keys()):
            self.fail(0, image_id, AnnotationError("image_ids names it, but the file does not"))
        records = [
            ImageAnnotation(
                image_id,
                photo.path,
                photo.size,
                tuple(photo.regions),
                tuple(photo.category_ids),
                tuple(photo.attribute_ids),
                tuple(photo.crowd),
            )
            for image_id, photo in self._photos.items()
            if photo is not None
        ]
        return AnnotationSet(tuple(records), tuple(self._faults))


def _photo_path(images_dir: Path, name: str) -> Path:
    """Return the photo with this name, where ``.jpg`` or another extension may be left out."""
    if name.endswith(_EXTENSIONS):
        return images_dir / name
    candidates = [images_dir / (name + extension) for extension in _EXTENSIONS]
    return next((path for path in candidates if path.exists()), candidates[0])


def _whole(text: str, name: str, least: int = 0) -> int:
    """Return a whole number written in plain ASCII digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) < least:
        raise AnnotationError(
            f"{name} must be a whole number of at least {least}, but is {text[:40]!r}"
        )
    return int(text)


def read_imaterialist(
    csv: str | Path,
    images_dir: str | Path,
    *,
    taxonomy: Taxonomy | None = None,
    image_ids: Collection[str] | None = None,
    sizes: Literal["columns", "photos"] = "columns",
    check_images: bool = True,
    on_error: OnError = "raise",
    progress: Progress | None = None,
) -> AnnotationSet:
    """Read a CSV of iMaterialist (Fashion) 2020 or 2019.

    Its columns, in any order, are ``ImageId``, ``EncodedPixels``, ``Height``, ``Width``,
    ``ClassId`` and, if it likes, ``AttributesIds``; further ones are left alone. Each row is one
    region; the rows of a photo need not stand together. ``ImageId`` may end in ``.jpg`` and
    ``ClassId`` may carry attributes (``6_12_34``), as in 2019. How doubtful forms are dealt with
    is written in :doc:`/how_to/read_annotations`.

    Args:
        csv: The file, UTF-8.
        images_dir: The folder of the photos.
        taxonomy: If given, every ``ClassId`` must be one of its ids.
        image_ids: Read these photos only; None reads all. Other rows are not looked into.
        sizes: Where the photos' sizes come from: the "columns" ``Height`` and ``Width``, or the
            "photos" themselves, for files without these columns such as submissions.
        check_images: Open each photo's header: it must exist, be an image and have the annotated
            size. False trusts the file.
        on_error: "raise" stops at the first fault; "skip" leaves the photo out, goes on and
            lists every fault in ``.skipped``. Faults of the whole file always raise.
        progress: Called now and then, and at the end, with the bytes read and their total.

    Returns:
        The records, in the order in which the photos first occur.

    Raises:
        AnnotationError: If the file or one of its rows breaks the form; the message names file,
            row and image.
        ImageError: If a photo is missing, no image or of another size than annotated.
        FileNotFoundError: If there is no such CSV.

    Example:
        >>> from deeplab_fashion import samples
        >>> csv = samples.annotations_path()
        >>> read_imaterialist(csv, csv.parent)[0].category_ids[:3]
        (5, 19, 33)
    """
    if sizes not in ("columns", "photos"):
        raise ValueError(f"sizes must be 'columns' or 'photos', but is {sizes!r}")
    collector = _Collector(
        csv,
        images_dir,
        taxonomy=taxonomy,
        image_ids=image_ids,
        check_images=check_images,
        on_error=on_error,
    )
    with Path(csv).open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        header_line = file.readline(1 << 16)
        header, place = _csv_header(collector.source, header_line, with_sizes=sizes == "columns")
        done = len(header_line)
        for row, line in enumerate(file, start=2):
            done += len(line)
            if not line.strip():
                continue
            image_id = ""
            try:
                fields = _csv_fields(line)
                if fields == header:
                    raise AnnotationError("the header must occur once, but is repeated here")
                image_id = fields[place["ImageId"]] if place["ImageId"] < len(fields) else ""
                if len(fields) != len(header):
                    raise AnnotationError(
                        f"the header has {len(header)} columns, but this row has {len(fields)}"
                    )
                if not image_id:
                    raise AnnotationError("ImageId is empty")
                if collector.wants(image_id):
                    _add_row(collector, row, fields, place)
            except (AnnotationError, ImageError, RleFormatError, TaxonomyError) as error:
                collector.fail(row, image_id or _id_in_damaged(line, place), error)
            if progress is not None and row % 256 == 0:
                progress(done, total)
    if progress is not None:
        progress(done, total)
    return collector.finish()


def _csv_header(source: str, line: bytes, *, with_sizes: bool) -> tuple[list[str], dict[str, int]]:
    """Return the header's columns and the places of those that are read."""
    if not line.strip():
        raise AnnotationError(f"{source}, row 1: a header is needed, but the file is empty")
    if line.lstrip().startswith((b"{", b"[")):
        raise AnnotationError(
            f"{source}, row 1: a CSV is needed, but this is JSON; read_fashionpedia reads it"
        )
    try:
        header = [name.strip() for name in _csv_fields(line.removeprefix(b"\xef\xbb\xbf"))]
    except AnnotationError as error:
        raise AnnotationError(f"{source}, row 1: {error}") from None
    for name in _COLUMNS:
        if header.count(name) > 1:
            raise AnnotationError(
                f"{source}, row 1: column {name} must occur once, but occurs {header.count(name)} "
                f"times in {header}"
            )
    sizes = ("Height", "Width")
    read = [name for name in _COLUMNS if with_sizes or name not in sizes]
    missing = [name for name in read if name not in header and name != "AttributesIds"]
    if missing:
        raise AnnotationError(
            f"{source}, row 1: columns {', '.join(missing)} are missing; found {header!s:.300}"
        )
    return header, {name: header.index(name) for name in read if name in header}


def _csv_fields(line: bytes) -> list[str]:
    """Split one line of a CSV whose fields hold neither quotes nor line breaks.

    The standard library's reader would refuse long masks: it stops at 131,072 characters a field,
    a limit that can be raised for the whole process only.
    """
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"text must be UTF-8, but byte {error.start + 1} is {line[error.start]:#04x}"
        ) from None
    if '"' not in text:
        return text.split(",")
    pieces = text.split('"')
    outside = pieces[0::2]
    opens_well = all(piece.endswith(",") for piece in outside[1:-1]) and (
        outside[0] == "" or outside[0].endswith(",")
    )
    closes_well = all(piece.startswith(",") for piece in outside[1:-1]) and (
        outside[-1] == "" or outside[-1].startswith(",")
    )
    if len(pieces) % 2 == 0 or not opens_well or not closes_well:
        raise AnnotationError("quotes must enclose whole fields on one line, but do not here")
    pieces[0::2] = [piece.replace(",", "\0") for piece in outside]
    return "".join(pieces).split("\0")


def _id_in_damaged(line: bytes, place: Mapping[str, int]) -> str:
    """Return the ImageId of a row that is not well formed, whose photo must be given up too."""
    fields = line.decode("utf-8", "replace").split(",")
    found = fields[place["ImageId"]].strip() if place["ImageId"] < len(fields) else ""
    return "" if found == "ImageId" else found


def _add_row(collector: _Collector, row: int, fields: list[str], place: Mapping[str, int]) -> None:
    image_id = fields[place["ImageId"]]
    size = None
    if "Height" in place:
        height = _whole(fields[place["Height"]], "Height", 1)
        size = height, _whole(fields[place["Width"]], "Width", 1)
    category, *attributes = fields[place["ClassId"]].split("_")
    if "AttributesIds" in place and fields[place["AttributesIds"]]:
        attributes += fields[place["AttributesIds"]].split(",")
    category_id = _whole(category, "ClassId")
    attribute_ids = tuple(_whole(attribute, "an attribute") for attribute in attributes)
    photo = collector.photo(row, image_id, image_id, size)
    size = size if photo is None else photo.size
    if size is not None:
        region = RunLengthMask.from_kaggle(fields[place["EncodedPixels"]], size)
        collector.add(photo, region, category_id, attribute_ids)


class _JsonReader:
    """Reads a JSON object in pieces and never holds more than one piece and the item at hand."""

    _PIECE = 1 << 20
    _SPACE = re.compile(r"[ \t\n\r]*")
    _LONGEST_LITERAL = 16

    def __init__(self, file: TextIO, source: str) -> None:
        self._file = file
        self._source = source
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._dropped = 0

    def items(self, lists: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """Yield (key, place from 1, item) of these lists, and (key, 0, None) when one begins."""
        try:
            yield from self._items(lists)
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{self._source}: text must be UTF-8: {error}") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, AnnotationError):
                raise
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            where = self._dropped + getattr(error, "pos", self._at) + 1
            raise AnnotationError(
                f"{self._source}: not valid JSON at character {where}: {reason}"
            ) from None

    def _items(self, lists: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        self._take("{")
        seen = set()
        closing = self._peek() == "}"
        while not closing:
            key = self._value()
            if not isinstance(key, str) or key in seen:
                raise AnnotationError(f"{self._source}: key {key!r:.40} is no text or occurs twice")
            seen.add(key)
            self._take(":")
            if key in lists:
                self._take("[")
                yield key, 0, None
                place = 0
                if self._peek() == "]":
                    self._take("]")
                else:
                    more = ","
                    while more == ",":
                        place += 1
                        yield key, place, self._value()
                        more = self._take(",]")
            else:
                self._value()
            closing = self._take(",}") == "}"
        if not seen:
            self._take("}")
        if self._peek():
            raise json.JSONDecodeError("nothing may follow the object", self._text, self._at)

    def _more(self) -> bool:
        rest = self._text[self._at :]
        chunk = self._file.read(max(self._PIECE, len(rest)))
        if chunk:
            self._dropped += self._at
            self._text, self._at = rest + chunk, 0
        return bool(chunk)

    def _peek(self) -> str:
        while True:
            space = self._SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, allowed: str) -> str:
        found = self._peek()
        if not found or found not in allowed:
            wanted = " or ".join(map(repr, allowed))
            raise json.JSONDecodeError(
                f"expected {wanted}, found {found!r}" if found else f"expected {wanted}, found end",
                self._text,
                self._at,
            )
        self._at += 1
        return found

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = (
                    error.msg.startswith("Unterminated string")
                    or error.pos > len(self._text) - self._LONGEST_LITERAL
                )
                if not cut or not self._more():
                    raise
            else:
                # "1" may be the beginning of "1.5" or "1e+5", cut off where this piece ends.
                if end + 2 < len(self._text) or not self._more():
                    self._at = end
                    return value


def _json_items(
    path: Path, lists: Collection[str], progress: Progress | None = None
) -> Iterator[tuple[str, int, Any]]:
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        if not total:
            raise AnnotationError(f"{path}: a JSON object is needed, but the file is empty")
        text = io.TextIOWrapper(file, encoding="utf-8-sig")
        for key, place, item in _JsonReader(text, str(path)).items(lists):
            yield key, place, item
            if progress is not None and place % 256 == 0:
                progress(file.tell(), total)
        if progress is not None:
            progress(total, total)


def read_fashionpedia(
    json: str | Path,
    images_dir: str | Path,
    *,
    taxonomy: Taxonomy | None = None,
    image_ids: Collection[str] | None = None,
    check_images: bool = True,
    on_error: OnError = "raise",
    progress: Progress | None = None,
) -> AnnotationSet:
    """Read a Fashionpedia file, or any other in COCO's instance form.

    The regions may be polygons of several parts, lists of counts or compressed strings. The ids
    of the categories are the file's own: Fashionpedia's differ from iMaterialist's, so map them
    with ``FASHIONPEDIA_TO_MAIN`` or a map over ``Taxonomy.from_json(json)``.

    The file is gone through twice, first for its images and categories, then for its
    annotations, an item at a time. What is held beside the records is the list of images.

    Args:
        json: The file, UTF-8, with the lists ``images``, ``annotations`` and ``categories``.
        images_dir: The folder that the images' ``file_name`` is relative to.
        taxonomy: If given, every category in use must have the same id and name in it.
        image_ids: Read these photos only; None reads all. Other annotations are not looked into.
        check_images: Open each photo's header: it must exist, be an image and have the annotated
            size. False trusts the file.
        on_error: "raise" stops at the first fault; "skip" leaves the photo out, goes on and
            lists every fault in ``.skipped``. Faults of the whole file always raise.
        progress: Called now and then, and at the end, with the bytes read and their total.

    Returns:
        The records, in the order of ``images``; a photo without annotations has no regions. An
        ``image_id`` that is a number in the file is that number as text.

    Raises:
        AnnotationError: If the file or one of its items breaks the form; the message names file,
            item and image.
        ImageError: If a photo is missing, no image or of another size than annotated.
        FileNotFoundError: If there is no such file.

    Example:
        >>> import tempfile
        >>> from deeplab_fashion import samples, taxonomy
        >>> records = samples.load()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_fashionpedia(folder + "/ccp.json", records, taxonomy.CCP)
        ...     read_fashionpedia(folder + "/ccp.json", samples.photo().parent)[0] == records[0]
        True
    """
    path = Path(json)
    collector = _Collector(
        json,
        images_dir,
        taxonomy=taxonomy,
        image_ids=image_ids,
        check_images=check_images,
        on_error=on_error,
    )
    faults = AnnotationError, ImageError, RleFormatError, TaxonomyError
    found: set[str] = set()
    names: dict[int, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for key, place, item in _json_items(path, _LISTS):
        if key == "annotations" and found >= {"images", "categories"}:
            break
        found.add(key)
        if key == "images" and place:
            image_id = ""
            try:
                image_id = _json_image_id(item, "id")
                if not collector.wants(image_id):
                    continue
                if image_id in sizes:
                    raise AnnotationError("the image's id must occur once, but occurs again")
                sizes[image_id] = _json_whole(item, "height", 1), _json_whole(item, "width", 1)
                file_name = _json_field(item, "file_name", str)
                collector.photo(place, image_id, file_name, sizes[image_id])
            except faults as error:
                collector.fail(place, image_id, error, "image")
        elif key == "categories" and place:
            try:
                category_id, name = _json_whole(item, "id"), _json_field(item, "name", str)
                if category_id in names:
                    raise AnnotationError(f"id {category_id} must occur once, but occurs again")
                if taxonomy is not None and category_id in taxonomy.ids:
                    known = taxonomy.category(category_id).name
                    if name != known:
                        raise AnnotationError(
                            f"id {category_id} is {name!r} here, "
                            f"but {known!r} in taxonomy {taxonomy.name!r}"
                        )
            except AnnotationError as error:
                raise AnnotationError(f"{json}, category {place}: {error}") from None
            names[category_id] = name
    for key, place, item in _json_items(path, _LISTS, progress):
        found.add(key)
        if key != "annotations" or not place:
            continue
        image_id = ""
        try:
            image_id = _json_image_id(item, "image_id")
            if not collector.wants(image_id) or (
                image_id not in sizes and collector.given_up(image_id)
            ):
                continue
            if image_id not in sizes:
                raise AnnotationError("image_id must be the id of one of the file's images")
            _add_item(collector, place, image_id, sizes[image_id], item, names)
        except faults as error:
            collector.fail(place, image_id, error, "annotation")
    missing = sorted(set(_LISTS) - found)
    if missing:
        raise AnnotationError(f"{json}: the lists {', '.join(missing)} are missing")
    return collector.finish()


_LISTS = ("images", "annotations", "categories")


def _json_field(item: Any, key: str, *kinds: type) -> Any:
    """Return a field of a JSON object after a check of its type."""
    if not isinstance(item, dict) or key not in item:
        raise AnnotationError(f"an object with {key!r} is needed, but this is {item!r:.80}")
    value = item[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise AnnotationError(
            f"{key} must be {' or '.join(kind.__name__ for kind in kinds)}, but is {value!r:.40}"
        )
    return value


def _json_whole(item: Any, key: str, least: int = 0) -> int:
    value: int = _json_field(item, key, int)
    if not least <= value < 2**63:
        raise AnnotationError(f"{key} must be at least {least}, but is {value}")
    return value


def _json_image_id(item: Any, key: str) -> str:
    image_id = str(_json_field(item, key, int, str))
    if not image_id:
        raise AnnotationError(f"{key} is empty")
    return image_id


def _add_item(
    collector: _Collector,
    place: int,
    image_id: str,
    size: tuple[int, int],
    item: dict[str, Any],
    names: Mapping[int, str],
) -> None:
    category_id = _json_whole(item, "category_id")
    if category_id not in names:
        raise AnnotationError(f"category_id {category_id} is none of the file's categories")
    crowd = item.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise AnnotationError(f"iscrowd must be 0 or 1, but is {crowd!r:.40}")
    attribute_ids = item.get("attribute_ids") or []
    if not isinstance(attribute_ids, list) or not all(type(n) is int for n in attribute_ids):
        raise AnnotationError(
            f"attribute_ids must be a list of whole numbers, but is {attribute_ids!r:.40}"
        )
    segmentation = _json_field(item, "segmentation", list, dict)
    if isinstance(segmentation, list):
        region = RunLengthMask.from_polygons(segmentation, size)
    else:
        region = RunLengthMask.from_coco(segmentation)
        if region.size != size:
            raise AnnotationError(f"size {region.size} differs from the image's {size}")
    photo = collector.photo(place, image_id, image_id, size)
    collector.add(photo, region, category_id, tuple(attribute_ids), bool(crowd))


def split(
    records: Sequence[ImageAnnotation], fractions: Sequence[float], seed: int = 0
) -> tuple[AnnotationSet, ...]:
    """Split records at random into parts, such as training and validation.

    A photo's part depends on its ``image_id``, the seed and the ids beside it, not on the
    records' order, and is the same on every machine. Records of the same id stay together.

    Args:
        records: The records.
        fractions: The share of each part, each above 0, their sum 1.
        seed: Another seed gives another split.

    Returns:
        One part for each fraction, each in the order of ``records``.

    Raises:
        ValueError: If a fraction is not above 0, or their sum is not 1.

    Example:
        >>> from deeplab_fashion import samples
        >>> training, validation = split(samples.load(), (0.75, 0.25), seed=1)
        >>> len(training), len(validation)
        (9, 3)
    """
    shares = [float(fraction) for fraction in fractions]
    if not all(share > 0 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"fractions must be above 0 and sum up to 1, but are {shares}")

    def rank(image_id: str) -> bytes:
        return hashlib.sha256(f"{index(seed)}\0{image_id}".encode()).digest()

    ids = sorted({record.image_id for record in records}, key=rank)
    ends = [round(sum(shares[: part + 1]) * len(ids)) for part in range(len(shares))]
    ends[-1] = len(ids)
    part_of: dict[str, int] = {}
    for part, end in enumerate(ends):
        part_of |= dict.fromkeys(ids[ends[part - 1] if part else 0 : end], part)
    return tuple(
        AnnotationSet(tuple(r for r in records if part_of[r.image_id] == part))
        for part in range(len(shares))
    )


Row = ImageAnnotation | Mapping[str, Any]


def write_submission(path: str | Path, rows: Iterable[Row]) -> None:
    """Write a CSV with the columns of a Kaggle submission.

    The columns are ``ImageId``, ``EncodedPixels``, ``ClassId`` and ``AttributesIds``; the file
    appears whole or not at all. `read_imaterialist` with ``sizes="photos"`` reads it back.

    Args:
        path: The file to write.
        rows: Records, of which each region gives a row; or rows as mappings with these columns,
            the last at will and further ones left out, where ``EncodedPixels`` is text or a
            `RunLengthMask`.

    Raises:
        AnnotationError: If a row lacks a column or holds what the form does not allow; the
            message gives the row's place from 1.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     row = {"ImageId": "0002", "EncodedPixels": "1 3", "ClassId": 4}
        ...     write_submission(folder + "/submission.csv", [row])
        ...     print(Path(folder, "submission.csv").read_text(encoding="utf-8"))
        ImageId,EncodedPixels,ClassId,AttributesIds
        0002,1 3,4,
        <BLANKLINE>
    """
    _write(path, _csv_lines(_SUBMISSION_COLUMNS, _submission_rows(rows)))


def write_imaterialist(path: str | Path, records: Iterable[ImageAnnotation]) -> None:
    """Write records as a CSV of iMaterialist 2020, which `read_imaterialist` reads back exactly.

    Args:
        path: The file to write; it appears whole or not at all.
        records: The records; photos of the same id must not occur twice.

    Raises:
        AnnotationError: If a record holds what the form cannot: no region at all, a crowd flag,
            or an id that is empty, occurs twice or holds quotes or line breaks.

    Example:
        >>> import tempfile
        >>> from deeplab_fashion import samples
        >>> records = samples.load()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_imaterialist(folder + "/a.csv", records)
        ...     read_imaterialist(folder + "/a.csv", samples.photo().parent) == records
        True
    """
    _write(path, _csv_lines(_COLUMNS, _record_rows(records)))


def _write(path: str | Path, chunks: Iterable[str]) -> None:
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        file.writelines(chunks)


def _csv_lines(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    yield ",".join(columns) + "\n"
    for number, row in enumerate(rows, start=1):
        values = [row[column] for column in columns]
        if not values[0] or re.search(r'["\r\n\0]', values[0]) or values[0] != values[0].strip():
            raise AnnotationError(
                f"row {number}: ImageId must be text without quotes, line breaks and outer "
                f"spaces, but is {values[0]!r:.80}"
            )
        yield ",".join(f'"{value}"' if "," in value else value for value in values) + "\n"


def _record_rows(records: Iterable[ImageAnnotation]) -> Iterator[dict[str, str]]:
    seen = set()
    for record in records:
        if record.image_id in seen or not record.regions or any(record.crowd):
            raise AnnotationError(
                f"image {record.image_id!r} must occur once, with regions and without crowd flags, "
                f"but {'occurs again' if record.image_id in seen else 'has'} "
                f"{len(record.regions)} regions, {sum(record.crowd)} crowd flags"
            )
        seen.add(record.image_id)
        yield from _region_rows(record)


def _region_rows(record: ImageAnnotation) -> Iterator[dict[str, str]]:
    for region, category_id, attribute_ids in zip(
        record.regions, record.category_ids, record.attribute_ids, strict=True
    ):
        yield {
            "ImageId": record.image_id,
            "EncodedPixels": region.to_kaggle(),
            "Height": str(record.size[0]),
            "Width": str(record.size[1]),
            "ClassId": str(category_id),
            "AttributesIds": ",".join(map(str, attribute_ids)),
        }


def _check_mapping(row: object, number: int) -> None:
    if not isinstance(row, Mapping):
        raise TypeError(
            f"rows must be ImageAnnotation or mappings, but row {number} is {row!r:.60}"
        )


def _submission_rows(rows: Iterable[Row]) -> Iterator[dict[str, str]]:
    number = 0
    for row in rows:
        if isinstance(row, ImageAnnotation):
            yield from _region_rows(row)
            number += len(row.regions)
            continue
        number += 1
        _check_mapping(row, number)
        try:
            pixels = row["EncodedPixels"]
            if not isinstance(pixels, RunLengthMask):
                pixels = RunLengthMask.from_kaggle(pixels, _LARGEST_SIZE)
            attribute_ids = row.get("AttributesIds") or ()
            if isinstance(attribute_ids, str):
                attribute_ids = attribute_ids.split(",")
            yield {
                "ImageId": str(row["ImageId"]),
                "EncodedPixels": pixels.to_kaggle(),
                "ClassId": str(_whole(str(row["ClassId"]), "ClassId")),
                "AttributesIds": ",".join(
                    str(_whole(str(attribute), "an attribute")) for attribute in attribute_ids
                ),
            }
        except KeyError as error:
            raise AnnotationError(f"row {number}: column {error} is missing") from None
        except (RleFormatError, AnnotationError, TypeError) as error:
            raise AnnotationError(f"row {number}: {error}") from error


def write_coco(path: str | Path, rows: Iterable[Row], *, compressed: bool = True) -> None:
    """Write predictions as COCO results: a JSON list of one object for each region.

    Each object has ``image_id``, ``category_id``, ``segmentation`` and ``score``, but no ``bbox``:
    where there is one, pycocotools takes its area for that of the region. An id that is a plain
    number becomes a number, as pycocotools wants it.

    Args:
        path: The file to write; it appears whole or not at all.
        rows: Records, of which each region gives an object of score 1; or mappings with
            ``image_id``, ``category_id``, ``segmentation`` (a `RunLengthMask` or COCO's run-length
            object) and, if it is not 1, ``score``; further keys are left out.
        compressed: Whether counts are written as COCO's compressed text or as lists.

    Raises:
        AnnotationError: If a row lacks a key or holds what the form does not allow; the message
            gives the row's place from 1.

    Example:
        >>> import json, tempfile
        >>> row = {"image_id": 7, "category_id": 1, "score": 0.5,
        ...        "segmentation": RunLengthMask((2, 2), [1], [3])}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_coco(folder + "/results.json", [row])
        ...     json.loads(Path(folder, "results.json").read_text())[0]["segmentation"]
        {'size': [2, 2], 'counts': '13'}
    """
    _write(path, _json_list(_results(rows, compressed)))


def _json_list(items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    before = "[\n"
    for item in items:
        yield before + json.dumps(item, ensure_ascii=False, allow_nan=False)
        before = ",\n"
    yield "\n]" if before == ",\n" else "[]"


def _json_id(image_id: object) -> int | str:
    """Return an image's id as JSON holds it, so that reading it as text gives it back."""
    text = str(image_id)
    return int(text) if re.fullmatch(r"0|[1-9][0-9]{0,17}", text) else text


def _coco_item(
    image_id: object, category_id: int, region: RunLengthMask, compressed: bool
) -> dict[str, Any]:
    return {
        "image_id": _json_id(image_id),
        "category_id": category_id,
        "segmentation": region.to_coco(compressed),
    }


def _results(rows: Iterable[Row], compressed: bool) -> Iterator[dict[str, Any]]:
    number = 0
    for row in rows:
        if isinstance(row, ImageAnnotation):
            for region, category_id in zip(row.regions, row.category_ids, strict=True):
                yield _coco_item(row.image_id, category_id, region, compressed) | {"score": 1.0}
            number += len(row.regions)
            continue
        number += 1
        _check_mapping(row, number)
        try:
            region = row["segmentation"]
            if not isinstance(region, RunLengthMask):
                region = RunLengthMask.from_coco(region)
            score = float(row.get("score", 1.0))
            if not math.isfinite(score):
                raise AnnotationError(f"score must be finite, but is {score}")
            category_id = _whole(str(row["category_id"]), "category_id")
            yield _coco_item(row["image_id"], category_id, region, compressed) | {"score": score}
        except KeyError as error:
            raise AnnotationError(f"row {number}: key {error} is missing") from None
        except (RleFormatError, AnnotationError, TypeError, ValueError) as error:
            raise AnnotationError(f"row {number}: {error}") from error


def write_fashionpedia(
    path: str | Path, records: Sequence[ImageAnnotation], taxonomy: Taxonomy
) -> None:
    """Write records as a JSON of Fashionpedia's form, which `read_fashionpedia` reads back exactly.

    Regions are written as compressed run lengths, photos under their bare file names.

    Args:
        path: The file to write; it appears whole or not at all.
        records: The records; photos of the same id must not occur twice.
        taxonomy: The categories that the records use.

    Raises:
        TaxonomyError: If a record uses a category that the taxonomy lacks.
        AnnotationError: If an id occurs twice.

    Example:
        >>> import tempfile
        >>> from deeplab_fashion import samples, taxonomy
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_fashionpedia(folder + "/ccp.json", samples.load(), taxonomy.CCP)
        ...     len(Taxonomy.from_json(folder + "/ccp.json"))
        59
    """
    _write(path, _fashionpedia_chunks(records, taxonomy))


def _fashionpedia_chunks(records: Sequence[ImageAnnotation], taxonomy: Taxonomy) -> Iterator[str]:
    ids = [record.image_id for record in records]
    if len(set(ids)) != len(ids):
        twice = next(image_id for image_id in ids if ids.count(image_id) > 1)
        raise AnnotationError(f"image {twice!r} must occur once, but occurs again")
    images = (
        {
            "id": _json_id(record.image_id),
            "height": record.size[0],
            "width": record.size[1],
            "file_name": record.path.name,
        }
        for record in records
    )
    yield '{"images": '
    yield from _json_list(images)
    yield ',\n"categories": '
    yield from _json_list(json.loads(taxonomy.to_json())["categories"])
    yield ',\n"annotations": '
    yield from _json_list(_fashionpedia_items(records, taxonomy))
    yield "}\n"


def _fashionpedia_items(
    records: Sequence[ImageAnnotation], taxonomy: Taxonomy
) -> Iterator[dict[str, Any]]:
    number = 0
    for record in records:
        for region, category_id, attribute_ids, crowd in zip(
            record.regions, record.category_ids, record.attribute_ids, record.crowd, strict=True
        ):
            number += 1
            taxonomy.category(category_id)
            top, left, bottom, right = region.bbox
            yield {
                "id": number,
                **_coco_item(record.image_id, category_id, region, True),
                "bbox": [left, top, right - left, bottom - top],
                "area": region.area,
                "iscrowd": int(crowd),
                "attribute_ids": list(attribute_ids),
            }
