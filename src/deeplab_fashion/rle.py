"""Run-length masks: codecs, region algebra and painting label maps, on runs and in plain numpy.

A mask is kept as its runs of inside pixels, counted down the columns from 0 (column-major). All
work is done on the runs, so its cost follows the outline of a region, never the size of the photo.
What each reader accepts and refuses is written in :doc:`/explanation/run_length_forms`.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from deeplab_fashion.errors import RleFormatError, RleTypeError

__all__ = [
    "MAX_MASK_PIXELS",
    "RunLengthMask",
    "coco_to_mask",
    "iou_matrix",
    "kaggle_to_mask",
    "mask_to_coco",
    "mask_to_kaggle",
    "paint_labels",
    "polygons_to_mask",
]

MAX_MASK_PIXELS = 2**30
"""Pixels of the largest array that is built for a size that came with the data."""

_MAX_INT64 = 2**63 - 1
_MAX_COORDINATE = 2.0**52
_MAX_CROSSINGS = 2**27
_Runs = NDArray[np.int64]


class RunLengthMask:
    """A region of an image as its runs of inside pixels; immutable, comparable, hashable.

    Pixel (row, column) has the number ``column * height + row``. Runs are kept sorted, disjoint,
    non-empty and maximal (no two touch), so equal regions are equal objects.

    Args:
        size: Height and width in pixels, each at least 0, their product below 2**63.
        starts: First pixel of each run, counted from 0, shape (runs,).
        lengths: Pixels in each run, at least 1, shape (runs,). Runs that touch are joined.

    Raises:
        RleFormatError: If the runs overlap, are out of order or leave the image, or the size is
            not two integers of at least 0.
        RleTypeError: If ``starts`` or ``lengths`` are not integers.

    Example:
        >>> region = RunLengthMask((3, 2), starts=[1, 4], lengths=[2, 1])
        >>> region.to_mask().astype(int)
        array([[0, 0],
               [1, 1],
               [1, 0]])
        >>> region.area, region.bbox
        (3, (1, 0, 3, 2))
    """

    __slots__ = ("_lengths", "_size", "_starts")
    _size: tuple[int, int]
    _starts: _Runs
    _lengths: _Runs

    def __init__(self, size: Sequence[int], starts: ArrayLike, lengths: ArrayLike) -> None:
        checked = _check_size(size)
        first, extent = _integers(starts, "starts"), _integers(lengths, "lengths")
        if len(first) != len(extent):
            raise RleFormatError(
                f"starts and lengths must be equally many; got {len(first)} and {len(extent)}"
            )
        first, last = _maximal(*_check_runs(first, extent, checked, origin=0))
        _set(self, checked, np.array(first), last - first)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"RunLengthMask is immutable; cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"RunLengthMask is immutable; cannot delete {name!r}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self._size

    @property
    def starts(self) -> _Runs:
        """First pixel of each run, counted from 0 down the columns; read-only, shape (runs,)."""
        return self._starts

    @property
    def lengths(self) -> _Runs:
        """Pixels in each run; read-only, shape (runs,)."""
        return self._lengths

    @property
    def area(self) -> int:
        """Number of pixels inside."""
        return int(self._lengths.sum())

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """The tight box (top, left, bottom, right), half open; (0, 0, 0, 0) for no pixel."""
        if not len(self._starts):
            return 0, 0, 0, 0
        height = self._size[0]
        first_column, top = np.divmod(self._starts, height)
        last_column, bottom = np.divmod(self._starts + self._lengths - 1, height)
        left, right = int(first_column[0]), int(last_column[-1]) + 1
        if (first_column != last_column).any():
            return 0, left, height, right
        return int(top.min()), left, int(bottom.max()) + 1, right

    @classmethod
    def from_mask(cls, mask: ArrayLike) -> Self:
        """Return the region of the non-zero pixels of ``mask``.

        Args:
            mask: Shape (height, width), bool or any integer type, any memory order.

        Raises:
            RleTypeError: If ``mask`` is not of bool or integers.
            RleFormatError: If ``mask`` does not have two dimensions.

        Example:
            >>> RunLengthMask.from_mask([[0, 7], [1, 1]]).to_kaggle()
            '2 3'
        """
        array = np.asarray(mask)
        if array.dtype.kind not in "bui":
            raise RleTypeError(f"mask must be of bool or integers; got dtype {array.dtype}")
        if array.ndim != 2:
            raise RleFormatError(f"mask must have shape (height, width); got {array.shape}")
        changes = _changes(array)
        if len(changes) % 2:
            changes = np.append(changes, array.size)
        return cls._of((array.shape[0], array.shape[1]), changes[0::2], changes[1::2])

    def to_mask(self, *, max_pixels: int = MAX_MASK_PIXELS) -> NDArray[np.bool_]:
        """Return the mask as an array of shape (height, width), in Fortran order.

        Args:
            max_pixels: The largest size that is built, so that a few damaged bytes cannot ask for
                all memory. Raise it to decode larger masks.

        Raises:
            RleFormatError: If the image has more pixels than ``max_pixels``.
        """
        height, width = self._size
        if height * width > max_pixels:
            raise RleFormatError(
                f"size {self._size} has {height * width} pixels, more than max_pixels={max_pixels}"
            )
        counts = _counts(self)
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return flat.reshape((height, width), order="F")

    @classmethod
    def from_kaggle(cls, text: str, size: Sequence[int]) -> Self:
        """Read ``EncodedPixels``: ``start length start length ...``, 1-based, column-major.

        Args:
            text: ASCII digits and spaces; the empty string is the empty region.
            size: Height and width in pixels.

        Raises:
            RleFormatError: If the text breaks the format; the message says where and why.

        Example:
            >>> RunLengthMask.from_kaggle("2 3", (2, 2)).to_mask().astype(int)
            array([[0, 1],
                   [1, 1]])
        """
        checked = _check_size(size)
        values = _parse_kaggle(text)
        starts, stops = _check_runs(values[0::2], values[1::2], checked, origin=1)
        return cls._of(checked, *_maximal(starts, stops))

    def to_kaggle(self) -> str:
        """Return ``EncodedPixels``, the inverse of :meth:`from_kaggle`."""
        values = np.column_stack((self._starts + 1, self._lengths))
        return " ".join(map(str, values.ravel().tolist()))

    @classmethod
    def from_coco(cls, obj: Mapping[str, Any]) -> Self:
        """Read COCO's run-length object.

        Args:
            obj: ``{"size": [height, width], "counts": ...}`` where the counts are a compressed
                string, the same as bytes, or a list of integers that begins with the outside.

        Raises:
            RleFormatError: If the object breaks the format; the message says where and why.

        Example:
            >>> RunLengthMask.from_coco({"size": [2, 2], "counts": [1, 3]}).area
            3
        """
        if not isinstance(obj, Mapping):
            raise RleTypeError(f"obj must be a dict with size and counts; got {_show(obj)}")
        for key in ("size", "counts"):
            if key not in obj:
                raise RleFormatError(f"obj must have the key {key!r}; got {sorted(map(str, obj))}")
        size = _check_size(obj["size"])
        counts = obj["counts"]
        pixels = size[0] * size[1]
        if isinstance(counts, str | bytes):
            counts = _parse_compressed(counts, pixels)
        else:
            counts = _integers(counts, "counts")
        _check_counts(counts, size)
        edges = np.cumsum(counts)
        if len(edges) % 2:
            edges = edges[:-1]
        return cls._of(size, *_maximal(edges[0::2], edges[1::2]))

    def to_coco(self, compressed: bool = True) -> dict[str, Any]:
        """Return COCO's run-length object in plain JSON types.

        Args:
            compressed: Whether the counts are COCO's compressed string or a list of int.

        Example:
            >>> RunLengthMask((2, 2), [1], [3]).to_coco()
            {'size': [2, 2], 'counts': '13'}
        """
        counts = _counts(self)
        text = _compress(counts) if compressed else counts.tolist()
        return {"size": list(self._size), "counts": text}

    @classmethod
    def from_polygons(cls, polygons: Iterable[ArrayLike], size: Sequence[int]) -> Self:
        """Return the union of COCO polygons; the rule is that of :func:`polygons_to_mask`."""
        checked = _check_size(size)
        if isinstance(polygons, str | bytes | Mapping) or not isinstance(polygons, Iterable):
            raise RleTypeError(f"polygons must be a list of lists; got {_show(polygons)}")
        parts = [_polygon_runs(part, number, checked) for number, part in enumerate(polygons)]
        return cls._of(
            checked,
            *_union(
                np.concatenate([starts for starts, _ in parts] or [_NONE]),
                np.concatenate([stops for _, stops in parts] or [_NONE]),
            ),
        )

    def union(self, *others: "RunLengthMask") -> Self:
        """Return what lies in any of the regions; faster than a chain of ``|``."""
        regions = self._with(others)
        return self._of(
            self._size,
            *_union(
                np.concatenate([region._starts for region in regions]),
                np.concatenate([_stops(region) for region in regions]),
            ),
        )

    def intersection(self, *others: "RunLengthMask") -> Self:
        """Return what lies in all of the regions; faster than a chain of ``&``."""
        regions = self._with(others)
        return self._of(
            self._size,
            *_covered(
                np.concatenate([region._starts for region in regions]),
                np.concatenate([_stops(region) for region in regions]),
                len(regions),
            ),
        )

    def __or__(self, other: object) -> Self:
        return self.union(other) if isinstance(other, RunLengthMask) else NotImplemented

    def __and__(self, other: object) -> Self:
        return self.intersection(other) if isinstance(other, RunLengthMask) else NotImplemented

    def __sub__(self, other: object) -> Self:
        return self.intersection(~other) if isinstance(other, RunLengthMask) else NotImplemented

    def __xor__(self, other: object) -> Self:
        if not isinstance(other, RunLengthMask):
            return NotImplemented
        edges = np.concatenate([a for r in self._with((other,)) for a in (r._starts, _stops(r))])
        edges.sort()
        same = edges[1:] == edges[:-1]
        once = np.ones(len(edges), np.bool_)
        once[1:] &= ~same
        once[:-1] &= ~same
        edges = edges[once]
        return self._of(self._size, edges[0::2], edges[1::2])

    def __invert__(self) -> Self:
        starts = np.concatenate(([0], _stops(self)))
        stops = np.concatenate((self._starts, [self._size[0] * self._size[1]]))
        return self._of(self._size, *_non_empty(starts, stops))

    def iou(self, other: "RunLengthMask") -> float:
        """Return the area of the intersection over that of the union; NaN if both are empty."""
        shared = self.intersection(other).area
        total = self.area + other.area - shared
        return shared / total if total else float("nan")

    def resize(self, size: Sequence[int]) -> Self:
        """Return the region in an image of another size: nearest neighbour at pixel centres.

        Pixel (row, column) of the result is pixel ``(floor((row + 0.5) * height / new_height),
        floor((column + 0.5) * width / new_width))`` of this region, computed without rounding.

        Args:
            size: New height and width in pixels.

        Raises:
            RleFormatError: If this image has no pixel and the new one has some.
        """
        new = _check_size(size)
        _check_sampling(self._size, new)
        height, width = new
        if not len(self._starts) or not height * width:
            return self._of(new, _NONE, _NONE)
        # Each run is at most three boxes: its first column, full columns, its last column.
        left, top = np.divmod(self._starts, self._size[0])
        right, bottom = np.divmod(_stops(self), self._size[0])
        within = left == right
        full = np.full_like(top, self._size[0])
        boxes = np.concatenate(
            (
                np.stack((left, left + 1, top, np.where(within, bottom, full))),
                np.stack((left + 1, right, np.zeros_like(top), full))[:, ~within],
                np.stack((right, right + 1, np.zeros_like(top), bottom))[:, ~within],
            ),
            axis=1,
        )
        columns = _samples_before(boxes[:2], self._size[1], width)
        rows = _samples_before(boxes[2:], self._size[0], height)
        keep = (columns[0] < columns[1]) & (rows[0] < rows[1])
        columns, rows = columns[:, keep], rows[:, keep]
        whole = rows[1] - rows[0] == height
        extent = np.where(whole, 1, columns[1] - columns[0])
        box = np.repeat(np.arange(len(extent)), extent)
        column = np.arange(len(box)) - np.repeat(np.cumsum(extent) - extent, extent)
        column += columns[0][box]
        starts = column * height + rows[0][box]
        stops = np.where(whole[box], columns[1][box] * height, column * height + rows[1][box])
        return self._of(new, *_union(starts, stops))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunLengthMask):
            return NotImplemented
        return (
            self._size == other._size
            and np.array_equal(self._starts, other._starts)
            and np.array_equal(self._lengths, other._lengths)
        )

    def __hash__(self) -> int:
        return hash((self._size, self._starts.tobytes(), self._lengths.tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._size, self._starts, self._lengths)

    def __repr__(self) -> str:
        return f"<RunLengthMask size={self._size} runs={len(self._starts)} area={self.area}>"

    @classmethod
    def _of(cls, size: tuple[int, int], starts: _Runs, stops: _Runs) -> Self:
        """Return a mask of runs that are known to be sorted, disjoint, non-empty and maximal."""
        mask = object.__new__(cls)
        _set(mask, size, np.array(starts), stops - starts)
        return mask

    def _with(self, others: Sequence["RunLengthMask"]) -> list["RunLengthMask"]:
        for other in others:
            if not isinstance(other, RunLengthMask):
                raise RleTypeError(f"other must be a RunLengthMask; got {_show(other)}")
            if other._size != self._size:
                raise RleFormatError(
                    f"both regions must have one size; got {self._size} and {other._size}"
                )
        return [self, *others]


def mask_to_kaggle(mask: ArrayLike) -> str:
    """Return the ``EncodedPixels`` text of iMaterialist for a mask.

    Args:
        mask: Shape (height, width), bool or any integer type; non-zero is inside.

    Returns:
        ``start length start length ...``, 1-based, down the columns; ``""`` for no pixel.

    Raises:
        RleTypeError: If ``mask`` is not of bool or integers.
        RleFormatError: If ``mask`` does not have two dimensions.

    Example:
        >>> mask_to_kaggle([[0, 1], [1, 1]])
        '2 3'
    """
    return RunLengthMask.from_mask(mask).to_kaggle()


def kaggle_to_mask(text: str, size: Sequence[int]) -> NDArray[np.bool_]:
    """Return the mask that an ``EncodedPixels`` text describes.

    Args:
        text: ``start length start length ...``, 1-based, down the columns.
        size: Height and width in pixels; at most ``MAX_MASK_PIXELS`` in all.

    Returns:
        Shape (height, width), bool, in Fortran order.

    Raises:
        RleFormatError: If the text breaks the format; the message says where and why.

    Example:
        >>> kaggle_to_mask("2 3", (2, 2)).astype(int)
        array([[0, 1],
               [1, 1]])
    """
    return RunLengthMask.from_kaggle(text, size).to_mask()


def mask_to_coco(mask: ArrayLike, *, compressed: bool = True) -> dict[str, Any]:
    """Return COCO's run-length object for a mask, in plain JSON types.

    Args:
        mask: Shape (height, width), bool or any integer type; non-zero is inside.
        compressed: Whether the counts are COCO's compressed string or a list of int.

    Returns:
        ``{"size": [height, width], "counts": str or list of int}``.

    Raises:
        RleTypeError: If ``mask`` is not of bool or integers.
        RleFormatError: If ``mask`` does not have two dimensions.

    Example:
        >>> mask_to_coco([[0, 1], [1, 1]], compressed=False)
        {'size': [2, 2], 'counts': [1, 3]}
    """
    return RunLengthMask.from_mask(mask).to_coco(compressed)


def coco_to_mask(obj: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask that COCO's run-length object describes.

    Args:
        obj: ``{"size": [height, width], "counts": ...}``; the counts are a compressed string, the
            same as bytes, or a list of integers. At most ``MAX_MASK_PIXELS`` in all.

    Returns:
        Shape (height, width), bool, in Fortran order.

    Raises:
        RleFormatError: If the object breaks the format; the message says where and why.

    Example:
        >>> coco_to_mask({"size": [2, 2], "counts": "13"}).astype(int)
        array([[0, 1],
               [1, 1]])
    """
    return RunLengthMask.from_coco(obj).to_mask()


def polygons_to_mask(polygons: Iterable[ArrayLike], size: Sequence[int]) -> NDArray[np.bool_]:
    """Return the mask of the union of COCO polygons.

    A pixel is inside a part when its centre ``(column + 0.5, row + 0.5)`` is, by the even-odd
    rule; a centre on a left or upper edge is inside, on a right or lower edge outside, so that
    parts with a common edge neither overlap nor leave a gap. What lies beyond the image is cut.

    Args:
        polygons: Parts ``[x0, y0, x1, y1, ...]`` of at least three points, in pixels; each part
            is closed by itself.
        size: Height and width in pixels; at most ``MAX_MASK_PIXELS`` in all.

    Returns:
        Shape (height, width), bool, in Fortran order.

    Raises:
        RleFormatError: If a part has an odd number of coordinates, fewer than three points, or a
            coordinate that is not a finite number.

    Example:
        >>> polygons_to_mask([[0, 0, 2, 0, 2, 1, 0, 1]], (2, 3)).astype(int)
        array([[1, 1, 0],
               [0, 0, 0]])
    """
    return RunLengthMask.from_polygons(polygons, size).to_mask()


def iou_matrix(
    regions: Iterable[RunLengthMask], others: Iterable[RunLengthMask]
) -> NDArray[np.float64]:
    """Return the IoU of every region with every other.

    Args:
        regions: Masks of one size.
        others: Masks of the same size.

    Returns:
        Shape (regions, others), float64, in [0, 1]; NaN where both are empty.

    Raises:
        RleFormatError: If the sizes differ.

    Example:
        >>> left, both = RunLengthMask((1, 2), [0], [1]), RunLengthMask((1, 2), [0], [2])
        >>> iou_matrix([left, both], [left, both])
        array([[1. , 0.5],
               [0.5, 1. ]])
    """
    rows, columns = list(regions), list(others)
    result = [[row.iou(column) for column in columns] for row in rows]
    return np.array(result, np.float64).reshape(len(rows), len(columns))


def paint_labels(
    regions: Iterable[RunLengthMask],
    labels: Iterable[int],
    *,
    size: Sequence[int] | None = None,
    output_size: Sequence[int] | None = None,
    overlap: Literal["last", "maximum", "smallest"] = "last",
    dtype: DTypeLike = np.uint8,
) -> NDArray[Any]:
    """Paint several regions into one label map, sampled at the pixel centres of its own grid.

    Args:
        regions: Masks of one size.
        labels: One label for each region, at least 0 and within ``dtype``; 0 is background.
        size: Height and width of the regions; needed only where there is none.
        output_size: Height and width of the result; by default that of the regions.
        overlap: What a pixel of several regions gets: the label of the ``"last"`` of them, the
            ``"maximum"`` label, or the label of the one with the ``"smallest"`` area (of equal
            ones the last).
        dtype: Integer type of the result.

    Returns:
        Shape ``output_size``, of ``dtype``; equal to painting the decoded masks and taking pixel
        ``(floor((row + 0.5) * height / new_height), floor((column + 0.5) * width / new_width))``.

    Raises:
        RleFormatError: If sizes or numbers of regions and labels differ, or a label or the overlap
            rule is not allowed.
        RleTypeError: If a region, label or ``dtype`` is of the wrong type.

    Example:
        >>> coat, pocket = RunLengthMask((2, 2), [0], [4]), RunLengthMask((2, 2), [3], [1])
        >>> paint_labels([coat, pocket], [3, 5])
        array([[3, 3],
               [3, 5]], dtype=uint8)
    """
    masks = list(regions)
    kind = np.dtype(dtype)
    if kind.kind not in "ui":
        raise RleTypeError(f"dtype must be of integers; got {kind}")
    values = [_check_label(label, kind) for label in labels]
    if len(values) != len(masks):
        raise RleFormatError(
            f"labels must be as many as regions; got {len(values)} and {len(masks)}"
        )
    source = _common_size(masks, size)
    target = source if output_size is None else _check_size(output_size)
    _check_sampling(source, target)
    if target[0] * target[1] > MAX_MASK_PIXELS:
        raise RleFormatError(
            f"output_size {target} has more than {MAX_MASK_PIXELS} pixels (MAX_MASK_PIXELS)"
        )
    order: Iterable[int] = range(len(masks))
    if overlap == "maximum":
        order = sorted(order, key=lambda number: values[number])
    elif overlap == "smallest":
        order = sorted(order, key=lambda number: -masks[number].area)
    elif overlap != "last":
        raise RleFormatError(f"overlap must be 'last', 'maximum' or 'smallest'; got {overlap!r}")
    height, width = source
    rows, columns = target[0], min(target[1], width)
    canvas = np.zeros(rows * columns, kind)
    if canvas.size:
        rows_before = _samples_before(np.arange(height + 1), height, rows)
        columns_before = _samples_before(np.arange(width + 2).clip(max=width), width, columns)
        for number in order:
            mask = masks[number]
            edges = np.empty(2 * len(mask._starts) + 2, np.int64)
            edges[0], edges[-1] = 0, rows * columns
            for place, position in ((1, mask._starts), (2, _stops(mask))):
                column = position // height
                row = position - column * height
                before = columns_before[column]
                sampled = columns_before[column + 1] - before
                edges[place:-1:2] = before * rows + sampled * rows_before[row]
            counts = np.diff(edges)
            inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
            np.copyto(canvas, values[number], where=inside)
    painted = canvas.reshape((rows, columns), order="F")
    if target[1] > columns:
        of_column = (2 * np.arange(target[1]) + 1) * width // (2 * target[1])
        painted = painted[:, of_column]
    return np.ascontiguousarray(painted)


_NONE: _Runs = np.empty(0, np.int64)


def _set(mask: RunLengthMask, size: tuple[int, int], starts: _Runs, lengths: _Runs) -> None:
    starts.flags.writeable = lengths.flags.writeable = False
    object.__setattr__(mask, "_size", size)
    object.__setattr__(mask, "_starts", starts)
    object.__setattr__(mask, "_lengths", lengths)


def _stops(mask: RunLengthMask) -> _Runs:
    return mask._starts + mask._lengths


def _show(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _check_size(size: object) -> tuple[int, int]:
    try:
        height, width = size  # type: ignore[misc]
        sides = index(height), index(width)
    except (TypeError, ValueError):
        raise RleFormatError(
            f"size must be two integers, height and width; got {_show(size)}"
        ) from None
    if isinstance(size, str | bytes) or isinstance(height, bool) or isinstance(width, bool):
        raise RleFormatError(f"size must be two integers, height and width; got {_show(size)}")
    if min(sides) < 0 or sides[0] * sides[1] > _MAX_INT64 or max(sides) > _MAX_INT64:
        raise RleFormatError(f"size must be at least 0 and below 2**63 pixels; got {sides}")
    return sides


def _check_label(label: object, kind: np.dtype[Any]) -> int:
    try:
        value = index(label)  # type: ignore[arg-type]
    except TypeError:
        raise RleTypeError(f"labels must be integers; got {_show(label)}") from None
    if not 0 <= value <= np.iinfo(kind).max:
        raise RleFormatError(f"labels must be from 0 to {np.iinfo(kind).max} ({kind}); got {value}")
    return value


def _check_sampling(source: tuple[int, int], target: tuple[int, int]) -> None:
    if not source[0] * source[1] and target[0] * target[1]:
        raise RleFormatError(f"an image of size {source} has no pixel to sample for size {target}")


def _common_size(masks: Sequence[RunLengthMask], size: Sequence[int] | None) -> tuple[int, int]:
    for mask in masks:
        if not isinstance(mask, RunLengthMask):
            raise RleTypeError(f"regions must be RunLengthMask; got {_show(mask)}")
    if size is None and not masks:
        raise RleFormatError("size must be given where there is no region; got None")
    common = masks[0]._size if size is None else _check_size(size)
    for number, mask in enumerate(masks):
        if mask._size != common:
            raise RleFormatError(f"regions must have size {common}; region {number}: {mask._size}")
    return common


def _integers(values: object, name: str) -> _Runs:
    """Return a new int64 array of what are integers already; nothing is rounded or guessed."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "iu" and values.size:
            raise RleTypeError(f"{name} must be integers; got dtype {values.dtype}")
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            if type(value) is not int and not isinstance(value, np.integer):
                raise RleTypeError(
                    f"{name} must be integers; number {number + 1} of {len(values)} is "
                    f"{_show(value)}"
                )
    else:
        raise RleTypeError(f"{name} must be a list of integers; got {_show(values)}")
    if np.ndim(values) != 1:
        raise RleFormatError(f"{name} must have one dimension; got shape {np.shape(values)}")
    if isinstance(values, np.ndarray) and values.dtype == np.uint64:
        values = values.tolist()
    try:
        return np.array(values, np.int64)
    except OverflowError:
        raise RleFormatError(f"{name} must be below 2**63; got {max(values, key=abs)}") from None


def _check_runs(
    starts: _Runs, lengths: _Runs, size: tuple[int, int], *, origin: int
) -> tuple[_Runs, _Runs]:
    """Return 0-based starts and stops of runs that are sorted, disjoint and inside the image."""
    pixels = size[0] * size[1]
    first = starts - origin
    # A start or length that is out of range by itself is found before the sum can wrap around.
    bad = (first < 0) | (first >= pixels) | (lengths < 1) | (lengths > pixels)
    stops = first + lengths
    bad |= (stops > pixels) | (stops < 0)
    bad[1:] |= first[1:] < stops[:-1]
    if bad.any():
        number = int(bad.argmax())
        start, length = int(starts[number]), int(lengths[number])
        if start < origin:
            rule = f"start must be at least {origin}"
        elif length < 1:
            rule = "length must be at least 1"
        elif start - origin + length > pixels:
            rule = f"must end within the {pixels} pixels of size {size}"
        elif first[number] < first[number - 1]:
            rule = f"must start after the run before it, which starts at {starts[number - 1]}"
        else:
            rule = (
                "must not overlap the run before it "
                f"(start {starts[number - 1]}, length {lengths[number - 1]})"
            )
        raise RleFormatError(
            f"run {number + 1} of {len(starts)} {rule}; got start {start}, length {length}"
        )
    return first, stops


def _check_counts(counts: _Runs, size: tuple[int, int]) -> None:
    pixels = size[0] * size[1]
    for bad, rule in (
        (counts < 0, "must be at least 0"),
        (counts > pixels, f"must be at most the {pixels} pixels of size {size}"),
        ((counts == 0) & (np.arange(len(counts)) % 2 == 1), "is a run, of at least one pixel"),
    ):
        if bad.any():
            number = int(bad.argmax())
            raise RleFormatError(
                f"count {number + 1} of {len(counts)} {rule}; got {counts[number]}"
            )
    total = np.cumsum(counts)
    beyond = (total > pixels) | (total < 0)
    if beyond.any() or (total[-1] if len(total) else 0) != pixels:
        where = int(beyond.argmax()) + 1 if beyond.any() else len(counts)
        raise RleFormatError(
            f"counts must sum to the {pixels} pixels of size {size}; the first {where} of "
            f"{len(counts)} sum to {sum(counts[:where].tolist())}"
        )


def _counts(mask: RunLengthMask) -> _Runs:
    """Return COCO's counts: outside, inside, outside, ... as pycocotools writes them."""
    edges = np.empty(2 * len(mask._starts) + 2, np.int64)
    edges[0], edges[-1] = 0, mask._size[0] * mask._size[1]
    edges[1:-1:2] = mask._starts
    edges[2:-1:2] = _stops(mask)
    counts = np.diff(edges)
    return counts[:-1] if len(counts) > 1 and not counts[-1] else counts


def _maximal(starts: _Runs, stops: _Runs) -> tuple[_Runs, _Runs]:
    """Join the runs that touch."""
    apart = starts[1:] != stops[:-1]
    if apart.all():
        return starts, stops
    return starts[np.append(True, apart)], stops[np.append(apart, True)]


def _non_empty(starts: _Runs, stops: _Runs) -> tuple[_Runs, _Runs]:
    keep = starts < stops
    return starts[keep], stops[keep]


def _union(starts: _Runs, stops: _Runs) -> tuple[_Runs, _Runs]:
    """Return the runs of the union of any intervals that are not empty."""
    starts, stops = np.sort(starts), np.sort(stops)
    # With both sorted, nothing is open before starts[i] exactly when stops[i - 1] lies before it.
    apart = starts[1:] > stops[:-1]
    ends = np.ones(len(starts), np.bool_)
    first, last = ends.copy(), ends
    first[1:] = apart
    last[:-1] = apart
    return starts[first], stops[last]


def _covered(starts: _Runs, stops: _Runs, times: int) -> tuple[_Runs, _Runs]:
    """Return the runs that all of ``times`` masks, given by all of their runs, have in common."""
    starts, stops = np.sort(starts), np.sort(stops)
    starts = starts[times - 1 :]
    return _non_empty(starts, stops[: len(starts)])


def _changes(mask: NDArray[Any]) -> _Runs:
    """Return where, down the columns, a pixel is inside and the one before is not or vice versa."""
    inside = mask if mask.dtype == np.bool_ else mask != 0
    if not mask.size:
        return _NONE
    flat = inside.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return np.append(0, changes) if flat[0] else changes


def _samples_before(position: NDArray[np.int64], source: int, target: int) -> NDArray[np.int64]:
    """Return how many of ``target`` pixel centres fall on ``source`` pixels before a position."""
    if 2 * source * target + source <= _MAX_INT64:
        return (2 * target * position + (source - 1)) // (2 * source)
    exact = (2 * target * position.astype(object) + (source - 1)) // (2 * source)
    return exact.astype(np.int64)


def _parse_kaggle(text: object) -> _Runs:
    if not isinstance(text, str):
        raise RleTypeError(f"text must be str, empty for no pixel; got {_show(text)}")
    if not text.isascii() or text.encode("ascii").translate(None, b"0123456789 "):
        place = next(i for i, letter in enumerate(text) if letter not in "0123456789 ")
        raise RleFormatError(
            f"text must hold digits and spaces alone; got {text[place]!r} at character {place + 1}"
        )
    if not text or text.isspace():
        return _NONE
    values = np.fromstring(text, np.int64, sep=" ")
    if len(values) % 2:
        raise RleFormatError(
            f"text must hold pairs of start and length; got {len(values)} numbers, the last "
            f"start without a length"
        )
    if " 0" in text or text[0] == "0":
        tokens = text.split()
        number = next(i for i, token in enumerate(tokens) if token[0] == "0")
        raise RleFormatError(
            f"run {number // 2 + 1} of {len(tokens) // 2}: {('start', 'length')[number % 2]} must "
            f"be at least 1 without leading zeros; got {tokens[number][:40]!r}"
        )
    return values


def _parse_compressed(text: str | bytes, pixels: int) -> _Runs:
    """Return the counts of COCO's string: 5 bits a character, differences from the third on."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    bad = (codes < 0) | (codes > 63)
    if bad.any():
        place = int(bad.argmax())
        raise RleFormatError(
            f"counts must hold characters '0' to 'o'; got {data[place : place + 1]!r} at byte "
            f"{place + 1}"
        )
    if not len(codes):
        return _NONE
    if codes[-1] & 32:
        raise RleFormatError("counts must not end within a number; the last byte says it goes on")
    last = np.flatnonzero(codes < 32)
    first = np.append(0, last[:-1] + 1)
    digits = last - first + 1
    before = codes[np.maximum(last - 1, 0)] & 16
    tail = codes[last]
    overlong = (digits > 1) & (((tail == 0) & (before == 0)) | ((tail == 31) & (before != 0)))
    overlong |= (digits > 13) | ((digits == 13) & (tail > 7) & (tail < 24))
    if overlong.any():
        number = int(overlong.argmax())
        raise RleFormatError(
            f"count {number + 1} of {len(last)} must be written as short as can be and below "
            f"2**63; got {data[first[number] : last[number] + 1][:40]!r}"
        )
    values = np.zeros(len(last), np.int64)
    for place in range(int(digits.max())):
        has = np.flatnonzero(digits > place)
        values[has] |= (codes[first[has] + place] & 31) << (5 * place)
    negative = np.flatnonzero(((tail & 16) != 0) & (digits < 13))
    values[negative] -= np.left_shift(np.int64(1), 5 * digits[negative])
    # Were a difference larger than the image, the sums below could wrap around.
    bad = (values > pixels) | (values < -pixels)
    if bad.any():
        number = int(bad.argmax())
        raise RleFormatError(
            f"count {number + 1} of {len(values)} must stay within {pixels} pixels; its "
            f"difference is {values[number]}"
        )
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _compress(counts: _Runs) -> str:
    values = counts.copy()
    values[3:] -= counts[1:-2]
    magnitude = values ^ (values >> 63)
    digits = np.ones(len(values), np.int64)
    for place in range(1, 13):
        more = magnitude >= 1 << (5 * place - 1)
        if not more.any():
            break
        digits += more
    first = np.cumsum(digits) - digits
    data = np.empty(int(digits.sum()), np.uint8)
    for place in range(int(digits.max(initial=0))):
        has = np.flatnonzero(digits > place)
        goes_on = digits[has] > place + 1
        data[first[has] + place] = ((values[has] >> (5 * place)) & 31) + 32 * goes_on + 48
    return data.tobytes().decode("ascii")


def _polygon_runs(part: ArrayLike, number: int, size: tuple[int, int]) -> tuple[_Runs, _Runs]:
    """Return starts and stops of the runs of pixel centres inside one polygon."""
    try:
        points = np.array(part)
    except (TypeError, ValueError):
        points = np.empty(0, object)
    if points.dtype.kind not in "iuf" and points.size:
        raise RleTypeError(f"polygon {number + 1} must be a list of numbers; got {_show(part)}")
    points = points.astype(np.float64)
    if points.ndim != 1 or len(points) % 2 or len(points) < 6:
        raise RleFormatError(
            f"polygon {number + 1} must be [x0, y0, x1, y1, ...] of at least three points; got "
            f"shape {points.shape}"
        )
    bad = ~(np.abs(points) <= _MAX_COORDINATE)
    if bad.any():
        place = int(bad.argmax())
        raise RleFormatError(
            f"polygon {number + 1} must have finite coordinates of at most 2**52; coordinate "
            f"{place + 1} is {points[place]}"
        )
    height, width = size
    x, y = points[0::2], points[1::2]
    # Every edge runs from left to right, so that two parts compute a common edge alike.
    swap = (np.roll(x, -1) < x) | ((np.roll(x, -1) == x) & (np.roll(y, -1) < y))
    x0, x1 = np.where(swap, np.roll(x, -1), x), np.where(swap, x, np.roll(x, -1))
    y0, y1 = np.where(swap, np.roll(y, -1), y), np.where(swap, y, np.roll(y, -1))
    left = np.ceil(np.clip(x0 - 0.5, 0, width)).astype(np.int64)
    right = np.ceil(np.clip(x1 - 0.5, 0, width)).astype(np.int64)
    extent = right - left
    if int(extent.astype(object).sum()) > _MAX_CROSSINGS:
        raise RleFormatError(
            f"polygon {number + 1} must cross at most {_MAX_CROSSINGS} columns in all"
        )
    edge = np.repeat(np.arange(len(extent)), extent)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(extent) - extent - left, extent)
    slope = (column + 0.5 - x0[edge]) * (y1 - y0)[edge] / (x1 - x0)[edge]
    row = np.ceil(np.clip(y0[edge] + slope - 0.5, 0, height)).astype(np.int64)
    crossings = np.sort(column * height + row)
    return _non_empty(crossings[0::2], crossings[1::2])
