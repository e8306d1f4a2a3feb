"""The connected regions of a label map, found and cleaned on runs, never on full-size masks."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplab_fashion.rle import RunLengthMask

__all__ = ["Region", "find_regions", "remove_specks"]

_CHUNK = 2**22  # pixels
_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Region:
    """One connected piece of one class.

    Attributes:
        class_name: The class's name.
        label: The class's label in the label map.
        score: Mean over the region of the winning class's probability, 0 to 1.
        mask: The region's pixels.
    """

    class_name: str
    label: int
    score: float
    mask: RunLengthMask

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.mask.area

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right), half open, in pixels."""
        return self.mask.bbox

    def polygons(self, *, tolerance: float = 0.0) -> list[list[float]]:
        """Return the outline in COCO form; a hole is joined to it by a line there and back.

        Args:
            tolerance: How far, in pixels, a simplified outline may lie from the true one. At 0
                the polygons give back exactly the region's pixels.

        Returns:
            Polygons ``[x0, y0, x1, y1, ...]`` in pixels; the first pixel's centre is (0.5, 0.5).

        Raises:
            ValueError: If ``tolerance`` is negative.

        Example:
            >>> region = Region("coat", 1, 0.9, RunLengthMask.from_kaggle("1 1", (1, 1)))
            >>> sorted(zip(*[iter(region.polygons()[0])] * 2, strict=True))
            [(0.0, 0.5), (0.5, 0.0), (0.5, 1.0), (1.0, 0.5)]
        """
        from skimage.measure import approximate_polygon, find_contours

        if not tolerance >= 0:
            raise ValueError(f"tolerance must be at least 0, got {tolerance}")
        top, left, bottom, right = self.bbox
        columns, rows = np.divmod(self.mask.starts, self.mask.size[0])
        size = (bottom - top, right - left)
        crop = RunLengthMask(size, (columns - left) * size[0] + rows - top, self.mask.lengths)
        padded = np.pad(crop.to_mask(), 1)
        outlines = find_contours(padded, 0.5, fully_connected="high")
        # The outer outline reaches higher than any hole.
        outlines.sort(key=lambda points: float(points[:, 0].min()))
        if tolerance:
            simple = [approximate_polygon(line, tolerance) for line in outlines]
            outlines = [s if len(s) > 3 else p for s, p in zip(simple, outlines, strict=True)]
        path = [outlines[0][:-1]]
        for hole in outlines[1:]:
            path += [outlines[0][:1], hole]
        joined = np.concatenate(path)[:, ::-1] + (left - 0.5, top - 0.5)
        return [joined.ravel().tolist()]


@dataclass(frozen=True)
class _Runs:
    """A label map as runs of one label down the columns, and the number of each run's piece."""

    size: tuple[int, int]
    starts: _Ints
    lengths: _Ints
    labels: NDArray[Any]
    pieces: _Ints
    touching: tuple[_Ints, _Ints, _Ints]
    """Pairs of runs side by side, corners included, and the pixels along which they touch."""


def _runs_of(labels: NDArray[np.integer[Any]]) -> _Runs:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    height, width = labels.shape
    flat = labels.ravel(order="F")
    new = np.empty(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=new[1:])
    new[::height] = True
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=flat.size)
    ends, values = starts + lengths, flat[starts]
    # In the next column a run meets, corners included, what lies between these two rows.
    column = starts // height + 1
    low = np.maximum(starts + height - 1, column * height)
    high = np.minimum(ends + height + 1, (column + 1) * height)
    first = np.searchsorted(ends, low, side="right")
    counts = np.searchsorted(starts, high, side="left") - first
    counts[column == width] = 0
    left = np.repeat(np.arange(len(starts)), counts)
    right = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    contact = np.minimum(ends[left] + height, ends[right]) - np.maximum(
        starts[left] + height, starts[right]
    )
    same = values[left] == values[right]
    graph = coo_array(
        (np.ones(int(same.sum()), np.bool_), (left[same], right[same])), shape=(len(starts),) * 2
    )
    pieces = connected_components(graph, directed=False)[1].astype(np.int64)
    return _Runs(
        (height, width), starts, lengths, values, pieces, (left, right, np.maximum(contact, 0))
    )


def find_regions(
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    *,
    confidence: NDArray[np.uint8] | None = None,
) -> tuple[Region, ...]:
    """Return the connected regions of every class but background, the largest first.

    Pixels that touch at a corner are connected.

    Args:
        labels: Label map, shape (height, width); 0 is background, labels without a name are left
            out.
        class_names: The name of each label, background first.
        confidence: Probability of the winning class at each pixel, as 0 to 255, shape
            (height, width). Without it every score is 1.

    Returns:
        Regions by falling area, then by first pixel down the columns.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> labels = np.array([[1, 0, 2], [1, 0, 2], [0, 0, 2]])
        >>> [(r.class_name, r.area, r.bbox) for r in find_regions(labels, ("none", "top", "shoe"))]
        [('shoe', 3, (0, 2, 3, 3)), ('top', 2, (0, 0, 2, 1))]
    """
    if labels.ndim != 2 or (confidence is not None and confidence.shape != labels.shape):
        found = None if confidence is None else confidence.shape
        raise ValueError(
            "labels and confidence must have one shape (height, width), "
            f"got {labels.shape} and {found}"
        )
    if labels.size == 0:
        return ()
    runs = _runs_of(labels)
    kept = np.flatnonzero((runs.labels > 0) & (runs.labels < len(class_names)))
    if not len(kept):
        return ()
    sums = 255 * runs.lengths
    if confidence is not None:
        sums = _sums(confidence.ravel(order="F"), runs.starts)
    order = kept[np.argsort(runs.pieces[kept], kind="stable")]
    bounds = np.flatnonzero(np.diff(runs.pieces[order], prepend=-1))
    regions = []
    for members in np.split(order, bounds[1:]):
        label = int(runs.labels[members[0]])
        mask = RunLengthMask(labels.shape, runs.starts[members], runs.lengths[members])
        score = float(sums[members].sum() / (255 * mask.area))
        regions.append(Region(class_names[label], label, score, mask))
    return tuple(sorted(regions, key=lambda region: (-region.area, int(region.mask.starts[0]))))


def _sums(values: NDArray[np.uint8], starts: _Ints) -> _Ints:
    """Return the sum from each start to the next, widening only a part of the values at once."""
    sums = np.empty(len(starts), np.int64)
    bounds = np.searchsorted(starts, np.arange(0, values.size, _CHUNK)).tolist()
    for first, last in itertools.pairwise([*bounds, len(starts)]):
        if first < last:
            stop = starts[last] if last < len(starts) else values.size
            part = values[starts[first] : stop]
            sums[first:last] = np.add.reduceat(
                part, starts[first:last] - starts[first], dtype=np.int64
            )
    return sums


def remove_specks(labels: NDArray[np.uint8], min_area: int) -> NDArray[np.uint8]:
    """Give each connected piece smaller than ``min_area`` the label that surrounds it most.

    Background pieces, holes in a garment, are treated alike. The smallest pieces go first, so a
    speck within a speck joins what remains around both.

    Args:
        labels: Label map, shape (height, width).
        min_area: Pixels of the smallest piece that stays, at least 0.

    Returns:
        A new label map, in which no piece is smaller, unless the whole map is one piece.

    Raises:
        ValueError: If ``min_area`` is negative.

    Example:
        >>> remove_specks(np.array([[1, 1, 1], [1, 2, 1], [1, 1, 0]], np.uint8), 2).tolist()
        [[1, 1, 1], [1, 1, 1], [1, 1, 1]]
    """
    if min_area < 0:
        raise ValueError(f"min_area must be at least 0, got {min_area}")
    while labels.size and min_area > 1:
        runs = _runs_of(labels)
        areas = np.bincount(runs.pieces, weights=runs.lengths)
        small = areas < min_area
        if not small.any() or len(areas) == 1:
            break
        left, right, contact = runs.touching
        below = np.flatnonzero(np.diff(runs.starts // labels.shape[0]) == 0)
        one = np.concatenate([left, right, below, below + 1])
        other = np.concatenate([right, left, below + 1, below])
        weight = np.concatenate([contact, contact, np.ones(2 * len(below), np.int64)])
        piece, towards = runs.pieces[one], runs.pieces[other]
        # A piece only joins a larger one, so two specks never change places.
        joins = small[piece] & (
            (areas[towards] > areas[piece]) | ((areas[towards] == areas[piece]) & (towards < piece))
        )
        joins &= runs.labels[one] != runs.labels[other]
        keys = piece[joins] * 256 + runs.labels[other][joins]
        pairs, place = np.unique(keys, return_inverse=True)
        total = np.bincount(place, weights=weight[joins])
        order = np.lexsort((pairs % 256, -total, pairs // 256))
        winners = order[np.flatnonzero(np.diff(pairs[order] // 256, prepend=-1))]
        if not len(winners):
            break
        label_of_piece = np.zeros(len(areas), np.uint8)
        label_of_piece[runs.pieces] = runs.labels
        label_of_piece[pairs[winners] // 256] = pairs[winners] % 256
        flat = np.repeat(label_of_piece[runs.pieces], runs.lengths)
        labels = np.ascontiguousarray(flat.reshape(labels.shape[::-1]).T)
    return labels
