"""How a photo is shown to a network in windows, and how their answers become its labels.

The canvas is the whole photo at the size in which the network sees it. Windows lie on the canvas;
neighbours overlap and fade into each other. A row of the photo is labelled as soon as the rows of
the canvas around it are final, so of a large canvas only one row of windows is ever held.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
Planes = NDArray[np.float32]
Taps = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]

_CHUNK = 2**24  # pixels of a photo that are resized at once
_STRIP = 2**16  # pixels that are labelled at once, small enough for the cache


def plan(
    size: Size, frame: Size, *, keep_aspect: bool, tile: int | None, smallest: int
) -> tuple[Size, Size]:
    """Return the sizes of the canvas and of one window on it.

    Args:
        size: The photo's.
        frame: What a window is fitted into.
        keep_aspect: Whether it keeps its proportions there.
        tile: Side of a window in pixels of the photo; None is all of it.
        smallest: Least side of a window.
    """
    view = [side if tile is None else min(side, tile) for side in size]
    ratios = [most / side for most, side in zip(frame, view, strict=True)]
    if keep_aspect:
        ratios = [min(ratios)] * 2
    canvas, window = [], []
    for whole, part, ratio in zip(size, view, ratios, strict=True):
        window.append(max(smallest, round(part * ratio)))
        canvas.append(window[-1] if part == whole else max(window[-1], round(whole * ratio)))
    return (canvas[0], canvas[1]), (window[0], window[1])


def bands(
    canvas: Size,
    window: Size,
    classes: int,
    overlap: float,
    look: Callable[[int, int], Planes],
) -> Iterator[Planes]:
    """Yield the canvas from top to bottom, shape (classes, some rows, width).

    Args:
        canvas: Its size.
        window: The size of a window.
        classes: How many planes ``look`` returns.
        overlap: Least share of a window that its neighbour sees too.
        look: From a window's top and left to its probabilities, shape (classes, *window).
    """
    if window == canvas:
        yield look(0, 0)
        return
    tops, lefts = (
        _starts(whole, part, overlap) for whole, part in zip(canvas, window, strict=True)
    )
    weight = _fading(window[0], overlap)[:, None] * _fading(window[1], overlap)
    total = np.zeros((classes, window[0], canvas[1]), np.float32)
    mass = np.zeros((window[0], canvas[1]), np.float32)
    for top, next_top in zip(tops, [*tops[1:], canvas[0]], strict=True):
        for left in lefts:
            place = np.s_[..., left : left + window[1]]
            total[place] += look(top, left) * weight
            mass[place] += weight
        final = next_top - top
        yield total[:, :final] / mass[:final]
        for array in (total, mass):
            array[..., : window[0] - final, :] = array[..., final:, :].copy()
            array[..., window[0] - final :, :] = 0


def label(
    parts: Iterator[Planes], canvas: Size, size: Size, *, keep: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Planes | None]:
    """Resize probabilities to the photo's size and take the likeliest class of each pixel.

    Args:
        parts: The canvas from top to bottom; see `bands`.
        canvas: Its size.
        size: The photo's size.
        keep: Whether the canvas is returned.

    Returns:
        Labels; 255 times the probability of each; and the canvas.
    """
    labels, confidence = np.empty(size, np.uint8), np.empty(size, np.uint8)
    rows, columns = (taps(n, m) for n, m in zip(canvas, size, strict=True))
    step = max(1, _STRIP // size[1])
    kept: list[Planes] = []
    ready: Planes | None = None
    known = painted = 0
    for band in parts:
        ready = band if ready is None else np.concatenate([ready, band], axis=1)
        known += band.shape[1]
        first = known - ready.shape[1]
        if keep:
            kept.append(band)
        until = int(np.searchsorted(rows[1], known))
        for top in range(painted, until, step):
            strip = slice(top, min(top + step, until))
            low, high, weight = rows[0][strip], rows[1][strip], rows[2][strip]
            labels[strip], confidence[strip] = _winners(
                ready[:, low[0] - first : high[-1] + 1 - first],
                (low - low[0], high - low[0], weight),
                columns,
            )
        painted = until
        if painted < size[0]:
            ready = ready[:, rows[0][painted] - first :]
    if not keep:
        return labels, confidence, None
    return labels, confidence, kept[0] if len(kept) == 1 else np.concatenate(kept, axis=1)


def taps(source: int, target: int) -> Taps:
    """Return, for each pixel of a resized axis, its two source pixels and the second's weight."""
    centre = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    low = centre.astype(np.intp)
    return low, np.minimum(low + 1, source - 1), (centre - low).astype(np.float32)


def interpolated(plane: Planes, rows: Taps, columns: Taps) -> Planes:
    """Return a plane resized along both axes."""
    across = plane[rows[0]]
    across += (plane[rows[1]] - across) * rows[2][:, None]
    result = across[:, columns[0]]
    result += (across[:, columns[1]] - result) * columns[2]
    return result


def _winners(
    planes: Planes, rows: Taps, columns: Taps
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    peaks = planes.max(axis=(1, 2))
    if not np.isfinite(peaks).all():
        raise ValueError("the model's scores must be numbers, got NaN or infinity")
    # Probabilities sum to 1, so a class that stays below an even share wins nowhere.
    likely = np.flatnonzero(peaks > 0.99 / len(planes)).tolist()
    first, *others = likely or range(len(planes))  # all, where the scores sum to less
    best = interpolated(planes[first], rows, columns)
    labels = np.full(best.shape, first, np.uint8)
    for index in others:
        value = interpolated(planes[index], rows, columns)
        np.copyto(labels, np.uint8(index), where=value > best)
        np.maximum(best, value, out=best)
    best *= 255
    best += 0.5
    return labels, best.astype(np.uint8)


def _starts(whole: int, part: int, overlap: float) -> list[int]:
    """Return evenly spread starts of windows that share at least ``overlap`` of their length."""
    room = whole - part
    steps = math.ceil(room / max(1, math.floor(part * (1 - overlap))))
    return [round(index * room / max(1, steps)) for index in range(steps + 1)]


def _fading(length: int, overlap: float) -> Planes:
    """Return a window's weight along one axis, which falls off where its neighbour begins."""
    from_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.minimum(1, from_edge / max(0.5, length * overlap)).astype(np.float32)


def resized(
    photo: NDArray[np.uint8], box: tuple[float, float, float, float], size: Size
) -> NDArray[np.uint8]:
    """Return a part of the photo as `photos.resize` would show it, never copying all of it.

    Args:
        photo: Shape (height, width, 3).
        box: (top, left, bottom, right) in its pixels.
        size: The size of the result.
    """
    from PIL import Image

    top, left, bottom, right = box
    down, across = (bottom - top) / size[0], (right - left) / size[1]
    first, last = _reach(left, right, across, photo.shape[1])
    result = np.empty((*size, 3), np.uint8)
    step = max(1, int(_CHUNK / (down * (last - first))))
    for y in range(0, size[0], step):
        end = min(y + step, size[0])
        start, stop = top + y * down, min(top + end * down, photo.shape[0])
        upper, lower = _reach(start, stop, down, photo.shape[0])
        part = Image.fromarray(np.ascontiguousarray(photo[upper:lower, first:last]))
        inside = (left - first, start - upper, min(right, photo.shape[1]) - first, stop - upper)
        result[y:end] = np.asarray(
            part.resize((size[1], end - y), Image.Resampling.BILINEAR, inside)
        )
    return result


def _reach(start: float, stop: float, ratio: float, length: int) -> tuple[int, int]:
    """Return the pixels that a triangle filter over this stretch looks at."""
    margin = max(1.0, ratio) + 1
    return max(0, math.floor(start - margin)), min(length, math.ceil(stop + margin))
