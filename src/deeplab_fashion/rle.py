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
_MAX_EXACT_FLOAT = 2**53
_BITS = 52
_MAX_COORDINATE = 2.0**52
_MAX_SPREAD = 2**27
_Pixels = NDArray[np.int64]
_NONE: _Pixels = np.empty(0, np.int64)


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

    __slots__ = ("_edges", "_size")
    _size: tuple[int, int]
    _edges: _Pixels  # start, stop, start, stop, ...: where inside begins and ends, increasing

    def __init__(self, size: Sequence[int], starts: ArrayLike, lengths: ArrayLike) -> None:
        checked = _check_size(size)
        first, extent = _integers(starts, "starts"), _integers(lengths, "lengths")
        if len(first) != len(extent):
            raise RleFormatError(
                f"starts and lengths must be equally many; got {len(first)} and {len(extent)}"
            )
        _set(self, checked, _runs_to_edges(first, extent, checked, origin=0))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"RunLengthMask is immutable; cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"RunLengthMask is immutable; cannot delete {name!r}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self._size

    @property
    def starts(self) -> _Pixels:
        """First pixel of each run, counted from 0 down the columns; read-only, shape (runs,)."""
        return self._edges[0::2]

    @property
    def lengths(self) -> _Pixels:
        """Pixels in each run; read-only, shape (runs,)."""
        lengths = self._edges[1::2] - self._edges[0::2]
        lengths.flags.writeable = False
        return lengths

    @property
    def area(self) -> int:
        """Number of pixels inside."""
        return int(self._edges[1::2].sum() - self._edges[0::2].sum())

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """The tight box (top, left, bottom, right), half open; (0, 0, 0, 0) for no pixel."""
        if not len(self._edges):
            return 0, 0, 0, 0
        height = self._size[0]
        first_column, top = np.divmod(self._edges[0::2], height)
        last_column, bottom = np.divmod(self._edges[1::2] - 1, height)
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
        edges = _changes(array)
        if len(edges) % 2:
            edges = np.append(edges, array.size)
        return cls._of((array.shape[0], array.shape[1]), edges)

    def to_mask(self, *, max_pixels: int = MAX_MASK_PIXELS) -> NDArray[np.bool_]:
        """Return the mask as an array.

        Args:
            max_pixels: The largest size that is built, so that a few damaged bytes cannot ask for
                all memory. Raise it to decode larger masks.

        Returns:
            Shape (height, width), bool, in Fortran order.

        Raises:
            RleFormatError: If the image has more pixels than ``max_pixels``.

        Example:
            >>> RunLengthMask((2, 3), [1], [3]).to_mask().astype(int)
            array([[0, 1, 0],
                   [1, 1, 0]])
        """
        height, width = self._size
        if height * width > max_pixels:
            raise RleFormatError(
                f"size {self._size} has {height * width} pixels, more than max_pixels={max_pixels}"
            )
        counts = _counts(self)
        inside = np.zeros(len(counts), np.bool_)
        inside[1::2] = True
        return np.repeat(inside, counts).reshape((height, width), order="F")

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
        return cls._of(checked, _runs_to_edges(values[0::2], values[1::2], checked, origin=1))

    def to_kaggle(self) -> str:
        """Return ``EncodedPixels``, the inverse of `from_kaggle`.

        Example:
            >>> RunLengthMask((2, 3), [1], [3]).to_kaggle()
            '2 3'
        """
        values = np.empty_like(self._edges)
        values[0::2] = self._edges[0::2] + 1
        values[1::2] = self._edges[1::2] - self._edges[0::2]
        return ("%d " * len(values) % tuple(values.tolist()))[:-1]

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
        if isinstance(counts, str | bytes):
            counts = _decompress(counts)
        else:
            counts = _integers(counts, "counts")
        return cls._of(size, _counts_to_edges(counts, size))

    def to_coco(self, compressed: bool = True) -> dict[str, Any]:
        """Return COCO's run-length object in plain JSON types.

        Args:
            compressed: Whether the counts are COCO's compressed string or a list of int.

        Returns:
            ``{"size": [height, width], "counts": str or list of int}``, as pycocotools writes it
            but for str in the place of bytes.

        Example:
            >>> RunLengthMask((2, 2), [1], [3]).to_coco()
            {'size': [2, 2], 'counts': '13'}
        """
        counts = _counts(self)
        text = _compress(counts) if compressed else counts.tolist()
        return {"size": list(self._size), "counts": text}

    @classmethod
    def from_polygons(cls, polygons: Iterable[ArrayLike], size: Sequence[int]) -> Self:
        """Return the union of COCO polygons, by the rule of `polygons_to_mask`.

        Args:
            polygons: Parts ``[x0, y0, x1, y1, ...]`` of at least three points, in pixels.
            size: Height and width in pixels.

        Raises:
            RleFormatError: If a part breaks the format; the message says which and why.

        Example:
            >>> RunLengthMask.from_polygons([[0, 0, 2, 0, 2, 1, 0, 1]], (2, 3)).to_kaggle()
            '1 1 3 1'
        """
        checked = _check_size(size)
        if isinstance(polygons, str | bytes | Mapping) or not isinstance(polygons, Iterable):
            raise RleTypeError(f"polygons must be a list of lists; got {_show(polygons)}")
        parts = [_polygon_edges(part, number, checked) for number, part in enumerate(polygons)]
        return cls._of(checked, _union(np.concatenate([_NONE, *parts])))

    def union(self, *others: "RunLengthMask") -> Self:
        """Return what lies in any of the regions; faster than a chain of ``|``.

        Args:
            others: Regions of the same size, any number of them.

        Raises:
            RleFormatError: If the sizes differ.

        Example:
            >>> first, second, third = (RunLengthMask((1, 9), [n], [3]) for n in (0, 2, 6))
            >>> first.union(second, third).to_kaggle()
            '1 5 7 3'
        """
        return self._of(self._size, _union(self._edges_with(others)))

    def intersection(self, *others: "RunLengthMask") -> Self:
        """Return what lies in all of the regions; faster than a chain of ``&``.

        Args:
            others: Regions of the same size, any number of them.

        Raises:
            RleFormatError: If the sizes differ.

        Example:
            >>> first, second, third = (RunLengthMask((1, 9), [n], [5]) for n in (0, 2, 3))
            >>> first.intersection(second, third).to_kaggle()
            '4 2'
        """
        edges = self._edges_with(others)
        starts, stops = (np.sort(edges[side::2], kind="stable") for side in (0, 1))
        # All n regions are open at starts[i] exactly when stops[i + 1 - n] comes after it, and then
        # that stop ends the run.
        starts = starts[len(others) :]
        stops = stops[: len(starts)]
        return self._of(self._size, _non_empty(np.stack((starts, stops), axis=1).ravel()))

    def __or__(self, other: object) -> Self:
        if not isinstance(other, RunLengthMask):
            return NotImplemented
        return self.union(other)

    def __and__(self, other: object) -> Self:
        if not isinstance(other, RunLengthMask):
            return NotImplemented
        return self.intersection(other)

    def __sub__(self, other: object) -> Self:
        if not isinstance(other, RunLengthMask):
            return NotImplemented
        return self.intersection(~other)

    def __xor__(self, other: object) -> Self:
        if not isinstance(other, RunLengthMask):
            return NotImplemented
        edges = np.sort(self._edges_with((other,)), kind="stable")
        # An edge that both regions have is none of the result.
        alone = np.ones(len(edges), np.bool_)
        alone[1:] = edges[1:] != edges[:-1]
        alone[:-1] &= alone[1:]
        return self._of(self._size, edges[alone])

    def __invert__(self) -> Self:
        edges = np.concatenate(([0], self._edges, [self._size[0] * self._size[1]]))
        first = 2 if edges[0] == edges[1] else 0
        last = len(edges) - (2 if edges[-1] == edges[-2] else 0)
        return self._of(self._size, edges[first:last])

    def iou(self, other: "RunLengthMask") -> float:
        """Return the area of the intersection over that of the union.

        Args:
            other: A region of the same size.

        Returns:
            In [0, 1]; NaN where both are empty, since nothing is shared of nothing.

        Raises:
            RleFormatError: If the sizes differ.

        Example:
            >>> RunLengthMask((1, 9), [0], [4]).iou(RunLengthMask((1, 9), [2], [4]))
            0.3333333333333333
        """
        edges = self._edges_with((other,))
        starts, stops = (np.sort(edges[side::2], kind="stable") for side in (0, 1))
        shared = int(np.maximum(stops[:-1] - starts[1:], 0).sum())
        total = self.area + other.area - shared
        return shared / total if total else float("nan")

    def resize(self, size: Sequence[int]) -> Self:
        """Return the region in an image of another size: nearest neighbour at pixel centres.

        Pixel (row, column) of the result is pixel ``(floor((row + 0.5) * height / new_height),
        floor((column + 0.5) * width / new_width))`` of this region, computed without rounding.

        Args:
            size: New height and width in pixels.

        Raises:
            RleFormatError: If this image has no pixel and the new one has some, or the result
                would have more than 2**27 runs.

        Example:
            >>> RunLengthMask((2, 2), [1], [2]).resize((4, 4)).to_mask().astype(int)
            array([[0, 0, 1, 1],
                   [0, 0, 1, 1],
                   [1, 1, 0, 0],
                   [1, 1, 0, 0]])
        """
        new = _check_size(size)
        _check_sampling(self._size, new)
        height, width = new
        if not len(self._edges) or not height * width:
            return self._of(new, _NONE)
        # Each run is at most three boxes: its first column, full columns, its last column.
        left, top = np.divmod(self._edges[0::2], self._size[0])
        right, bottom = np.divmod(self._edges[1::2], self._size[0])
        within = left == right
        zero, full = np.zeros_like(top), np.full_like(top, self._size[0])
        boxes = np.concatenate(
            (
                np.stack((left, left + 1, top, np.where(within, bottom, full))),
                np.stack((left + 1, right, zero, full))[:, ~within],
                np.stack((right, right + 1, zero, bottom))[:, ~within],
            ),
            axis=1,
        )
        columns = _samples_before(boxes[:2], self._size[1], width)
        rows = _samples_before(boxes[2:], self._size[0], height)
        keep = (columns[0] < columns[1]) & (rows[0] < rows[1])
        columns, rows = columns[:, keep], rows[:, keep]
        # A box of full columns is one run, any other is one run a column.
        whole = rows[1] - rows[0] == height
        extent = np.where(whole, 1, columns[1] - columns[0])
        box, column = _spread(columns[0], extent)
        edges = np.empty((len(box), 2), np.int64)
        edges[:, 0] = column * height + rows[0][box]
        edges[:, 1] = np.where(whole[box], columns[1][box] * height, column * height + rows[1][box])
        return self._of(new, _union(edges.ravel()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunLengthMask):
            return NotImplemented
        return self._size == other._size and np.array_equal(self._edges, other._edges)

    def __hash__(self) -> int:
        return hash((self._size, self._edges.tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._size, self.starts, self.lengths)

    def __repr__(self) -> str:
        return f"<RunLengthMask size={self._size} runs={len(self.starts)} area={self.area}>"

    @classmethod
    def _of(cls, size: tuple[int, int], edges: _Pixels) -> Self:
        """Return a mask of edges that are known to be strictly increasing and in the image."""
        mask = object.__new__(cls)
        _set(mask, size, edges)
        return mask

    def _edges_with(self, others: Sequence["RunLengthMask"]) -> _Pixels:
        for other in others:
            if not isinstance(other, RunLengthMask):
                raise RleTypeError(f"other must be a RunLengthMask; got {_show(other)}")
            if other._size != self._size:
                raise RleFormatError(
                    f"both regions must have one size; got {self._size} and {other._size}"
                )
        return np.concatenate([self._edges, *[other._edges for other in others]])


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
        ``{"size": [height, width], "counts": str or list of int}``, the same counts as pycocotools.

    Raises:
        RleTypeError: If ``mask`` is not of bool or integers.
        RleFormatError: If ``mask`` does not have two dimensions.

    Example:
        >>> mask_to_coco([[0, 1], [1, 1]], compressed=False)
        {'size': [2, 2], 'counts': [1, 3]}

    References:
        The COCO API, ``common/maskApi.c``, ``rleToString``. Deviation: str in the place of bytes,
        so that the result is JSON.
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

    References:
        The COCO API, ``common/maskApi.c``, ``rleFrPoly``. Deviation: vertices are not rounded to a
        fifth of a pixel, so that masks differ by a few pixels along the outline.
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
    first, second = list(regions), list(others)
    if not first or not second:
        return np.empty((len(first), len(second)))
    size = _common_size([*first, *second], None)
    if size[0] * size[1] > _MAX_EXACT_FLOAT:
        return np.array([[one.iou(other) for other in second] for one in first])
    result = np.empty((len(first), len(second)))
    for top in range(0, len(first), 8):
        for left in range(0, len(second), 8):
            block = result[top : top + 8, left : left + 8]
            block[:] = _iou_of_few(first[top : top + 8], second[left : left + 8])
    return result


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
        Shape ``output_size``, of ``dtype``, in Fortran order; equal to painting the decoded masks
        and taking pixel ``(floor((row + 0.5) * height / new_height), floor((column + 0.5) * width /
        new_width))``. 0 where no region is.

    Raises:
        RleFormatError: If sizes or numbers of regions and labels differ, a label or the overlap
            rule is not allowed, or the result would have more than ``MAX_MASK_PIXELS``.
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
    ranked = list(range(len(masks)))
    if overlap == "maximum":
        ranked.sort(key=lambda number: values[number])
    elif overlap == "smallest":
        ranked.sort(key=lambda number: masks[number].area, reverse=True)
    elif overlap != "last":
        raise RleFormatError(f"overlap must be 'last', 'maximum' or 'smallest'; got {overlap!r}")
    width = source[1]
    # A photo's column may lie under several columns of the result: those are copied in the end.
    rows, columns = target[0], min(target[1], width)
    painted = np.zeros(rows * columns, kind)
    if painted.size:
        for begin in range(0, len(ranked), _BITS):
            group = ranked[begin : begin + _BITS]
            edges, rank = _sampled([masks[number] for number in group], rows, columns)
            top, extent = _topmost(edges, rank, rows * columns)
            shown = np.array([0, *[values[number] for number in group]], kind)[top]
            if begin:
                np.copyto(painted, np.repeat(shown, extent), where=np.repeat(top > 0, extent))
            else:
                painted = np.repeat(shown, extent)
    grid = painted.reshape((rows, columns), order="F")
    if target[1] > columns:
        grid = grid.T[(2 * np.arange(target[1]) + 1) * width // (2 * target[1])].T
    return grid


def _set(mask: RunLengthMask, size: tuple[int, int], edges: _Pixels) -> None:
    edges.flags.writeable = False
    object.__setattr__(mask, "_size", size)
    object.__setattr__(mask, "_edges", edges)


def _show(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        text = "too long to write"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _check_size(size: object) -> tuple[int, int]:
    if not isinstance(size, tuple | list | np.ndarray) or len(size) != 2:
        raise RleFormatError(f"size must be two integers, height and width; got {_show(size)}")
    if isinstance(size[0], bool) or isinstance(size[1], bool):
        raise RleFormatError(f"size must be two integers, height and width; got {_show(size)}")
    try:
        height, width = index(size[0]), index(size[1])
    except TypeError:
        raise RleFormatError(
            f"size must be two integers, height and width; got {_show(size)}"
        ) from None
    if height < 0 or width < 0 or max(height, width, height * width) > _MAX_INT64:
        raise RleFormatError(f"size must be at least 0 and below 2**63 pixels; got {_show(size)}")
    return height, width


def _check_label(label: Any, kind: np.dtype[Any]) -> int:
    try:
        value = index(label)
    except TypeError:
        raise RleTypeError(f"labels must be integers; got {_show(label)}") from None
    if not 0 <= value <= np.iinfo(kind).max:
        raise RleFormatError(
            f"labels must be from 0 to {np.iinfo(kind).max} ({kind}); got {_show(value)}"
        )
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


def _integers(values: object, name: str) -> _Pixels:
    """Return a new int64 array of what are integers already; nothing is rounded or guessed."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise RleFormatError(f"{name} must have one dimension; got shape {values.shape}")
        if values.dtype.kind not in "iu" and values.size:
            raise RleTypeError(f"{name} must be integers; got dtype {values.dtype}")
        if values.dtype != np.uint64:
            return values.astype(np.int64)
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise RleTypeError(f"{name} must be a list of integers; got {_show(values)}")
    if not set(map(type, values)) <= {int}:
        for number, value in enumerate(values):
            if type(value) is not int and not isinstance(value, np.integer):
                raise RleTypeError(
                    f"{name} must be integers; number {number + 1} of {len(values)} is "
                    f"{_show(value)}"
                )
    try:
        return np.array(values, np.int64)
    except OverflowError:
        worst = max(values, key=abs)
        raise RleFormatError(f"{name} must fit 64 bits; got {_show(worst)}") from None


def _runs_to_edges(
    starts: _Pixels, lengths: _Pixels, size: tuple[int, int], *, origin: int
) -> _Pixels:
    """Return the edges of runs that are counted from ``origin``, once all of them are checked."""
    edges = np.empty(2 * len(starts), np.int64)
    if not len(edges):
        return edges
    pixels = size[0] * size[1]
    np.subtract(starts, origin, out=edges[0::2])
    np.add(edges[0::2], lengths, out=edges[1::2])
    # A sum beyond int64 wraps around to a negative number, which is not increasing either.
    if edges[0] < 0 or edges[-1] > pixels or not (edges[1:] > edges[:-1]).all():
        _refuse_runs(starts.tolist(), lengths.tolist(), size, origin)
        apart = np.ones(len(edges), np.bool_)
        apart[1:-1:2] = apart[2:-1:2] = edges[1:-1:2] != edges[2:-1:2]
        edges = edges[apart]
    return edges


def _refuse_runs(starts: list[int], lengths: list[int], size: tuple[int, int], origin: int) -> None:
    """Raise for the first run that breaks a rule; runs that merely touch break none."""
    pixels, before = size[0] * size[1], origin
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if start < origin:
            rule = f"start at {origin} or later"
        elif length < 1:
            rule = "have a length of at least 1"
        elif start - origin + length > pixels:
            rule = f"end within the {pixels} pixels of size {size}"
        elif number and start < starts[number - 1]:
            rule = f"come after the run before it, which starts at {starts[number - 1]}"
        elif start < before:
            rule = f"not overlap the run before it, which ends before {before}"
        else:
            before = start + length
            continue
        raise RleFormatError(
            f"run {number + 1} of {len(starts)} must {rule}; got start {_shown(start)}, "
            f"length {_shown(length)}"
        )


def _shown(number: int) -> str:
    # What does not fit 64 bits was read from text as the largest number that does.
    return f"{number} or more" if number == _MAX_INT64 else str(number)


def _counts_to_edges(counts: _Pixels, size: tuple[int, int]) -> _Pixels:
    """Return the edges of COCO's counts, once all of them are checked."""
    pixels = size[0] * size[1]
    edges = counts.cumsum()
    whole = counts[0] >= 0 and edges[-1] == pixels if len(counts) else not pixels
    # A sum beyond int64 wraps around to a negative number.
    if not whole or counts[1:].min(initial=1) < 1 or edges.min(initial=0) < 0:
        _refuse_counts(counts.tolist(), size)
        edges = edges[: len(edges) // 2 * 2]
        apart = np.ones(len(edges), np.bool_)
        apart[1:-1:2] = apart[2:-1:2] = counts[2 : len(edges) : 2] > 0
        return edges[apart]
    return edges[: len(edges) // 2 * 2]


def _refuse_counts(counts: list[int], size: tuple[int, int]) -> None:
    pixels, total = size[0] * size[1], 0
    for number, count in enumerate(counts):
        total += count
        if count < 0:
            rule = "be at least 0"
        elif not count and number % 2:
            rule = "be at least 1, being the length of a run"
        elif total > pixels:
            rule = f"end within the {pixels} pixels of size {size}"
        else:
            continue
        raise RleFormatError(f"count {number + 1} of {len(counts)} must {rule}; got {count}")
    if total != pixels:
        raise RleFormatError(
            f"counts must sum to the {pixels} pixels of size {size}; the {len(counts)} "
            f"sum to {total}"
        )


def _counts(mask: RunLengthMask) -> _Pixels:
    """Return COCO's counts: outside, inside, outside, ... as pycocotools writes them."""
    edges = np.empty(len(mask._edges) + 2, np.int64)
    edges[0], edges[1:-1], edges[-1] = 0, mask._edges, mask._size[0] * mask._size[1]
    counts = edges[1:] - edges[:-1]
    return counts[:-1] if len(counts) > 1 and not counts[-1] else counts


def _non_empty(edges: _Pixels) -> _Pixels:
    keep = edges[0::2] < edges[1::2]
    return edges if keep.all() else edges.reshape(-1, 2)[keep].ravel()


def _union(edges: _Pixels) -> _Pixels:
    """Return the edges of the union of intervals that are not empty, in any order."""
    if not len(edges):
        return _NONE
    # What is sorted in parts already, as here, is quickest to merge by the stable method.
    starts = np.sort(edges[0::2], kind="stable")
    stops = np.sort(edges[1::2], kind="stable")
    # With both sorted, a stop ends a run of the union when the start that follows comes later.
    apart = np.flatnonzero(stops[:-1] < starts[1:])
    result = np.empty(2 * len(apart) + 2, np.int64)
    result[0], result[-1] = starts[0], stops[-1]
    result[1:-1:2] = stops[apart]
    result[2:-1:2] = starts[apart + 1]
    return result


def _spread(first: _Pixels, extent: _Pixels) -> tuple[_Pixels, _Pixels]:
    """Return ``[0, 0, ..., 1, ...]`` and ``[first[0], first[0] + 1, ..., first[1], ...]``."""
    if sum(extent.tolist()) > _MAX_SPREAD:
        raise RleFormatError(f"a region must have at most {_MAX_SPREAD} runs; got more")
    which = np.repeat(np.arange(len(extent)), extent)
    return which, np.arange(len(which)) + np.repeat(first - (np.cumsum(extent) - extent), extent)


def _changes(mask: NDArray[Any]) -> _Pixels:
    """Return where, down the columns, inside begins or ends; before the first pixel is outside."""
    height, width = mask.shape
    if not mask.size:
        return _NONE
    data = mask if mask.itemsize == 1 else mask != 0
    if data.flags.f_contiguous:
        changes = _differences(data.reshape(-1, order="F"), 1) + 1
    else:
        places = _differences(np.ascontiguousarray(data).reshape(-1), width)
        row = places // width
        top = np.flatnonzero(data[-1, :-1].astype(np.bool_) != data[0, 1:].astype(np.bool_)) + 1
        # Pixel (row + 1, column) has the number column * height + row + 1.
        changes = np.concatenate(((places - row * width) * height + row + 1, top * height))
        changes.sort()
    return np.append(0, changes) if data[0, 0] else changes


def _differences(flat: NDArray[Any], step: int) -> _Pixels:
    """Return the places where a pixel is inside and that ``step`` later is not, or vice versa.

    Eight bytes are compared at a time; only the few words that differ are looked at more closely.
    """
    here, there = flat[: len(flat) - step], flat[step:]
    whole = len(here) // 8 * 8
    words = here[:whole].view(np.uint64), there[:whole].view(np.uint64)
    word = np.flatnonzero(words[0] != words[1])
    byte = np.flatnonzero((words[0][word] ^ words[1][word]).view(np.uint8) != 0)
    places: _Pixels = (word[byte >> 3] << 3) + (byte & 7)
    if whole < len(here):
        places = np.append(places, np.flatnonzero(here[whole:] != there[whole:]) + whole)
    if flat.dtype == np.bool_:
        return places
    real: _Pixels = places[(here[places] == 0) != (there[places] == 0)]
    return real


def _iou_of_few(
    regions: Sequence[RunLengthMask], others: Sequence[RunLengthMask]
) -> NDArray[np.float64]:
    """Return the IoU of at most 8 with at most 8 regions: one sweep with a bit for each."""
    together = [*regions, *others]
    edges = np.concatenate([mask._edges for mask in together])
    which = np.repeat(np.arange(len(together)), [len(mask._edges) for mask in together])
    events = np.sort(edges << 4 | which)
    state = np.bitwise_xor.accumulate(1 << (events & 15))
    events >>= 4
    area = np.bincount(state[:-1], events[1:] - events[:-1])
    seen = np.flatnonzero(area != 0)
    inside = (seen[:, None] >> np.arange(len(together)) & 1).astype(np.float64)
    weighted = inside.T * area[seen]
    total = weighted.sum(axis=1)
    shared = weighted[: len(regions)] @ inside[:, len(regions) :]
    union = total[: len(regions), None] + total[len(regions) :] - shared
    result = np.full(shared.shape, np.nan)
    np.divide(shared, union, out=result, where=union > 0)
    return result


def _sampled(masks: Sequence[RunLengthMask], rows: int, columns: int) -> tuple[_Pixels, _Pixels]:
    """Return the runs of all masks on a grid of ``rows`` and no more columns than they have.

    Returns:
        Edges of runs that are not empty, numbered down the columns of the grid, shape (runs, 2);
        and the mask that each run is of, shape (runs,).
    """
    height, width = masks[0]._size
    edges = np.concatenate([mask._edges for mask in masks]).reshape(-1, 2)
    which = np.repeat(np.arange(len(masks)), [len(mask._edges) // 2 for mask in masks])
    column = edges // height
    # Most runs of a large photo lie between two sampled columns: they are left out early.
    first = _samples_before(column[:, 0], width, columns)
    seen = np.flatnonzero(first < _samples_before(column[:, 1] + 1, width, columns))
    edges, which, column = edges[seen], which[seen], column[seen]
    before = _samples_before(column, width, columns)
    sampled = _samples_before(column + 1, width, columns) - before
    rows_before = _samples_before(edges - column * height, height, rows)
    edges = before * rows + sampled * rows_before
    seen = np.flatnonzero(edges[:, 0] < edges[:, 1])
    return edges[seen], which[seen]


def _topmost(edges: _Pixels, which: _Pixels, pixels: int) -> tuple[_Pixels, _Pixels]:
    """Return which mask lies on top, counted from 1, 0 for none; and for how many pixels."""
    events = (edges << 6 | which[:, None]).ravel()
    events.sort()
    state = np.bitwise_xor.accumulate(1 << (events & 63))
    highest = np.frexp(state.astype(np.float64))[1]  # bit that is set
    top = np.concatenate(([0], highest))
    extent = np.diff(events >> 6, prepend=0, append=pixels)
    return top, extent


def _samples_before(position: NDArray[np.int64], source: int, target: int) -> NDArray[np.int64]:
    """Return how many of ``target`` pixel centres fall on ``source`` pixels before a position."""
    if 2 * source * target + source <= _MAX_INT64:
        return (2 * target * position + (source - 1)) // (2 * source)
    exact = (2 * target * position.astype(object) + (source - 1)) // (2 * source)
    return exact.astype(np.int64)


def _parse_kaggle(text: object) -> _Pixels:
    if not isinstance(text, str):
        raise RleTypeError(f"text must be str, empty for no pixel; got {_show(text)}")
    data = text.encode("utf-8", "surrogatepass")
    if data.translate(None, b"0123456789 "):
        place = next(i for i, letter in enumerate(text) if letter not in "0123456789 ")
        raise RleFormatError(
            f"text must hold digits and spaces alone; got {text[place]!r} at character {place + 1}"
        )
    if not text or text.isspace():
        return _NONE
    values = np.fromstring(data, np.int64, sep=" ")
    if b" 0" in data or data[0] == 48:
        tokens = text.split()
        number = next(place for place, token in enumerate(tokens) if token[0] == "0")
        raise RleFormatError(
            f"run {number // 2 + 1}: {('start', 'length')[number % 2]} must be at least 1 and "
            f"without leading zeros; got {tokens[number][:40]!r}"
        )
    if len(values) % 2:
        raise RleFormatError(
            f"text must hold pairs of start and length; got {len(values)} numbers, so that run "
            f"{len(values) // 2 + 1} has no length"
        )
    return values


def _decompress(text: str | bytes) -> _Pixels:
    """Return the counts of COCO's string, unchecked beyond the way in which they are written.

    A number is written in groups of 5 bits, lowest first, the sign in the last one; a sixth bit
    says that another group follows. From the fourth on, it is the difference to the last but one.
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    codes = np.frombuffer(data, np.uint8) - np.uint8(48)
    if not len(codes):
        return _NONE
    if codes.max() > 63:
        place = int((codes > 63).argmax())
        raise RleFormatError(
            f"counts must hold the characters '0' to 'o' alone; got {data[place : place + 1]!r} at "
            f"byte {place + 1}"
        )
    if codes[-1] > 31:
        raise RleFormatError("counts must end with a whole number; the last byte says it goes on")
    last = np.flatnonzero(codes < 32)
    digits = last.copy()
    digits[0] += 1
    digits[1:] -= last[:-1]
    bits = (codes & 31).astype(np.int64)
    values = (bits[last] ^ 16) - 16
    most = int(digits.max())
    # The 13th group holds the last 3 bits of 63 and the sign.
    bad = _NONE
    if most > 12:
        bad = np.flatnonzero((digits > 13) | ((digits == 13) & (values.clip(-8, 7) != values)))
    longer = np.flatnonzero(digits > 1)
    for place in range(1, min(most, 13)):
        if place > 1:
            longer = longer[digits[longer] > place]
        values[longer] = (values[longer] << 5) + bits[last[longer] - place]
        if place == 1 and not len(bad):  # what fits one group was written in two or more
            bad = longer[(values[longer] + 16).view(np.uint64) < 32]
    if len(bad):
        number = int(bad[0])
        written = data[last[number] - digits[number] + 1 : last[number] + 1]
        raise RleFormatError(
            f"count {number + 1} of {len(last)} must be written without needless characters and "
            f"fit 64 bits; got {written[:40]!r}"
        )
    values[1::2].cumsum(out=values[1::2])
    values[2::2].cumsum(out=values[2::2])
    return values


def _compress(counts: _Pixels) -> str:
    """Return COCO's string of counts; the inverse of :func:`_decompress`."""
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    most = max(int(rest.max(initial=0)), ~int(rest.min(initial=0))).bit_length() // 5 + 1
    groups = rest >> 5 * np.arange(most)[:, None]
    # Another group follows where 4 bits and the sign do not hold the rest.
    goes_on = ((groups + 16).view(np.uint64) > 31).view(np.uint8)
    codes = (groups.astype(np.uint8) & 31) + (goes_on << 5) + 48
    codes[1:] *= goes_on[:-1]
    return codes.T.tobytes().translate(None, b"\0").decode("ascii")


def _polygon_edges(part: Any, number: int, size: tuple[int, int]) -> _Pixels:
    """Return the edges of the runs of pixel centres inside one polygon."""
    try:
        points = np.array(part)
        numbers = points.dtype.kind in "iuf" and bool not in map(type, part)
    except (TypeError, ValueError):
        points, numbers = np.empty(0), False
    if not numbers:
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
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    # Every edge is taken from left to right, so that two parts compute a common edge alike.
    turned = next_x < x
    x0, x1 = np.where(turned, next_x, x), np.where(turned, x, next_x)
    y0, y1 = np.where(turned, next_y, y), np.where(turned, y, next_y)
    left = np.ceil(np.clip(x0 - 0.5, 0, width)).astype(np.int64)
    right = np.ceil(np.clip(x1 - 0.5, 0, width)).astype(np.int64)
    edge, column = _spread(left, right - left)
    rise = (column + 0.5 - x0[edge]) * (y1 - y0)[edge] / (x1 - x0)[edge]
    row = np.ceil(np.clip(y0[edge] + rise - 0.5, 0, height)).astype(np.int64)
    return _non_empty(np.sort(column * height + row))
