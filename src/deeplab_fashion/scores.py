"""Confusion counts, and every score as a ratio of them.

Counts are int64 and the only state; scores are float64. One contract holds throughout:

- rows are truth, columns are prediction;
- a class in neither truth nor prediction has no score (NaN) and no part in a mean;
- a class in one of them alone scores 0;
- a pixel is ignored where its *truth* is ``ignore_index``; what is predicted there has no effect;
- a label outside ``0..num_classes - 1`` that is not ``ignore_index`` is an error, and so is a
  prediction of ``ignore_index`` where the truth is known.

Counts add up, so a split of the data into other batches changes no result.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ConfidenceInterval",
    "ImageStatistics",
    "bootstrap_interval",
    "boundary_confusion_matrix",
    "boundary_f1_per_class",
    "boundary_iou_per_class",
    "confusion_matrices",
    "confusion_matrix",
    "f1_per_class",
    "image_statistics",
    "iou_per_class",
    "mean_boundary_f1",
    "mean_boundary_iou",
    "mean_f1",
    "mean_iou",
    "pixel_accuracy",
    "precision_per_class",
    "recall_per_class",
    "report",
]

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]

# Numerator and denominator of each score, from true positives, true pixels and predicted pixels of
# a class. They serve numpy arrays here and tensors in `metrics`.
RATIOS: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "iou": lambda hit, true, predicted: (hit, true + predicted - hit),
    "f1": lambda hit, true, predicted: (2 * hit, true + predicted),
    "precision": lambda hit, true, predicted: (hit, predicted),
    "recall": lambda hit, true, predicted: (hit, true),
}


def confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, num_classes: int, *, ignore_index: int | None = None
) -> Counts:
    """Count the pixels of each pair of true and predicted class.

    Args:
        y_true: Integer labels, any shape.
        y_pred: Integer labels, the same shape.
        num_classes: Number of classes C, at least 1.
        ignore_index: Pixels of this true label are not counted. It may be one of the classes: its
            row is then 0, its column still counts where it was predicted wrongly.

    Returns:
        Shape (C, C); entry (i, j) is the number of pixels of true class i predicted as j.

    Raises:
        TypeError: If the labels or ``num_classes`` are not integers.
        ValueError: If the shapes differ, or a label is outside 0..C-1 and not ``ignore_index``, or
            ``ignore_index`` is predicted where the truth is known.

    Example:
        >>> confusion_matrix([0, 0, 1, 255], [0, 1, 1, 1], 2, ignore_index=255)
        array([[1, 1],
               [0, 1]])
    """
    truth, predicted, known = _checked(y_true, y_pred, num_classes, ignore_index)
    size = num_classes**2
    dtype = np.min_scalar_type(size - 1)
    keys = np.multiply(truth.ravel(), num_classes, dtype=dtype, casting="unsafe")
    np.add(keys, predicted.ravel(), out=keys, dtype=dtype, casting="unsafe")
    if known is not None:
        keys *= known.ravel().view(np.uint8)  # ignored pixels are counted as (0, 0)
    counts = _histogram(keys, size)
    if known is not None:
        counts[0] -= known.size - np.count_nonzero(known)
    return counts.reshape(num_classes, num_classes)


def confusion_matrices(
    y_true: Iterable[ArrayLike],
    y_pred: Iterable[ArrayLike],
    num_classes: int,
    *,
    ignore_index: int | None = None,
) -> Counts:
    """Count each image by itself, for `image_statistics` and `bootstrap_interval`.

    Args:
        y_true: Images of integer labels, which may differ in size.
        y_pred: As many images, each of its partner's shape.
        num_classes: Number of classes C, at least 1.
        ignore_index: Pixels of this true label are not counted.

    Returns:
        Shape (images, C, C). Their sum over the first axis is the matrix of the data set.

    Raises:
        TypeError: As in `confusion_matrix`.
        ValueError: As in `confusion_matrix`, and if there are more images in one than the other.

    Example:
        >>> confusion_matrices([[0, 1], [1, 1, 1]], [[0, 0], [1, 1, 0]], 2).tolist()
        [[[1, 0], [1, 0]], [[0, 0], [1, 2]]]
    """
    matrices = [
        confusion_matrix(truth, predicted, num_classes, ignore_index=ignore_index)
        for truth, predicted in zip(y_true, y_pred, strict=True)
    ]
    return np.array(matrices, np.int64).reshape(len(matrices), num_classes, num_classes)


def boundary_confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    num_classes: int,
    *,
    width: float = 0.02,
    ignore_index: int | None = None,
) -> Counts:
    """Count the pixels near the contours of all classes, in one pass.

    A pixel of class c lies *in the band* of c if one of the pixels at most d rows and d columns
    away is not of class c; what lies outside the image or is ignored is of no class. Truth and
    prediction have a band each. A map's label is kept in its band and replaced by C ("inner")
    elsewhere, and the two maps are counted like any others. For a class c < C of the matrix M

        boundary IoU = M[c, c] / (sum(M[c, :]) + sum(M[:, c]) - M[c, c])
        boundary F1  = 2 M[c, c] / (sum(M[c, :]) + sum(M[:, c]))

    because M[c, :] sums to the truth's band of c, M[:, c] to the prediction's, and M[c, c] is their
    intersection: the scores of each class by itself (`boundary_iou_per_class`,
    `boundary_f1_per_class`, and their means). Only bands count, so M[C, C] holds the pixels that
    are in neither. The matrices of several images add up. They do not collapse to coarser classes:
    a contour between two classes that become one is a contour no more.

    Args:
        y_true: Integer labels, shape (..., height, width).
        y_pred: Integer labels, the same shape.
        num_classes: Number of classes C, at least 1.
        width: Distance d as a fraction of the image's diagonal, above 0 and at most 1; rounded to
            whole pixels, at least one.
        ignore_index: Pixels of this true label are not counted, and no prediction is seen there.

    Returns:
        Shape (C + 1, C + 1), rows are truth.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: As in `confusion_matrix`, or if the labels have fewer than two axes or ``width``
            is out of range.

    Example:
        >>> import numpy as np
        >>> y_true = np.zeros((9, 9), np.uint8)
        >>> y_true[2:7, 2:7] = 1
        >>> y_pred = np.roll(y_true, 1, axis=1)
        >>> matrix = boundary_confusion_matrix(y_true, y_pred, 2)
        >>> matrix[1].sum()  # the outer ring of a square of 5 by 5
        np.int64(16)
        >>> iou_per_class(matrix)[:2].round(3)
        array([0.721, 0.333])

    References:
        Cheng, Girshick, Dollár, Berg, Kirillov, Boundary IoU, CVPR 2021: the inner band, the square
        neighbourhood, the image's edge as a contour and width 0.02 are theirs; all classes at once,
        F1 and ignored pixels are added here. This F1 compares bands; the "BF score" of Csurka et
        al. (2013), which matches contour pixels within a tolerance, is another score.
    """
    if not 0 < width <= 1:
        raise ValueError(f"width must be a fraction above 0 and at most 1, received {width}")
    truth, predicted, known = _checked(y_true, y_pred, num_classes, ignore_index)
    if truth.ndim < 2:
        raise ValueError(f"y_true must have shape (..., height, width), received {truth.shape}")
    nowhere = num_classes
    dtype = np.min_scalar_type(nowhere + 1)
    truth, predicted = truth.astype(dtype), predicted.astype(dtype)
    if known is not None:
        truth[~known] = predicted[~known] = nowhere
    distance = max(1, round(width * float(np.hypot(*truth.shape[-2:]))))
    for labels in (truth, predicted):
        for image in labels.reshape(-1, *labels.shape[-2:]):
            image[~_near_contour(image, distance, nowhere)] = nowhere
    if known is not None:
        truth[~known] = nowhere + 1
    return confusion_matrix(truth, predicted, nowhere + 1, ignore_index=nowhere + 1)


def iou_per_class(confusion: ArrayLike) -> Scores:
    """Return the intersection over union of each class.

        IoU = tp / (tp + fp + fn)

    Args:
        confusion: Counts, shape (C, C), rows are truth.

    Returns:
        Shape (C,), in [0, 1]; NaN for a class in neither truth nor prediction.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> iou_per_class([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
        array([0.75, 0.8 ,  nan])
    """
    return _ratio("iou", confusion)


def f1_per_class(confusion: ArrayLike) -> Scores:
    """Return the F1 score (Dice coefficient) of each class.

        F1 = 2 tp / (2 tp + fp + fn) = 2 IoU / (1 + IoU)

    Args:
        confusion: Counts, shape (C, C), rows are truth.

    Returns:
        Shape (C,), in [0, 1]; NaN for a class in neither truth nor prediction.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> f1_per_class([[3, 1, 0], [0, 4, 0], [0, 0, 0]]).round(3)
        array([0.857, 0.889,   nan])
    """
    return _ratio("f1", confusion)


def precision_per_class(confusion: ArrayLike) -> Scores:
    """Return the share of each class's predicted pixels that are right.

        precision = tp / (tp + fp)

    Args:
        confusion: Counts, shape (C, C), rows are truth.

    Returns:
        Shape (C,), in [0, 1]; 0 for a true class that is never predicted, NaN for a class in
        neither truth nor prediction.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> precision_per_class([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
        array([1. , 0.8, nan])
    """
    return _ratio("precision", confusion)


def recall_per_class(confusion: ArrayLike) -> Scores:
    """Return the share of each class's true pixels that are found.

        recall = tp / (tp + fn)

    Args:
        confusion: Counts, shape (C, C), rows are truth.

    Returns:
        Shape (C,), in [0, 1]; 0 for a predicted class that is never true, NaN for a class in
        neither truth nor prediction.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> recall_per_class([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
        array([0.75, 1.  ,  nan])
    """
    return _ratio("recall", confusion)


def pixel_accuracy(confusion: ArrayLike) -> float:
    """Return the share of counted pixels whose class is right.

    Args:
        confusion: Counts, shape (C, C), rows are truth.

    Returns:
        In [0, 1]; NaN where nothing is counted.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> pixel_accuracy([[3, 1], [0, 4]])
        0.875
    """
    hit, true, _ = _parts(confusion)
    return float(hit.sum() / true.sum()) if true.any() else float("nan")


def mean_iou(confusion: ArrayLike) -> float:
    """Return the mean IoU of the classes that are in truth or prediction.

    Args:
        confusion: Counts, shape (C, C), rows are truth.

    Returns:
        In [0, 1]; NaN where nothing is counted.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> mean_iou([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
        0.775
    """
    return _mean(iou_per_class(confusion))


def mean_f1(confusion: ArrayLike) -> float:
    """Return the mean F1 of the classes that are in truth or prediction.

    Args:
        confusion: Counts, shape (C, C), rows are truth.

    Returns:
        In [0, 1]; NaN where nothing is counted.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> round(mean_f1([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), 3)
        0.873
    """
    return _mean(f1_per_class(confusion))


def boundary_iou_per_class(confusion: ArrayLike) -> Scores:
    """Return the IoU of each class's bands; see `boundary_confusion_matrix`.

    Args:
        confusion: Boundary counts, shape (C + 1, C + 1), "inner" last.

    Returns:
        Shape (C,), in [0, 1]; NaN for a class in neither truth nor prediction.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> boundary_iou_per_class([[3, 1, 0], [0, 4, 2], [0, 0, 90]])
        array([0.75      , 0.57142857])
    """
    return iou_per_class(confusion)[:-1]


def boundary_f1_per_class(confusion: ArrayLike) -> Scores:
    """Return the F1 of each class's bands; see `boundary_confusion_matrix`.

    Args:
        confusion: Boundary counts, shape (C + 1, C + 1), "inner" last.

    Returns:
        Shape (C,), in [0, 1]; NaN for a class in neither truth nor prediction.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> boundary_f1_per_class([[3, 1, 0], [0, 4, 2], [0, 0, 90]])
        array([0.85714286, 0.72727273])
    """
    return f1_per_class(confusion)[:-1]


def mean_boundary_iou(confusion: ArrayLike) -> float:
    """Return the mean boundary IoU of the classes that are in truth or prediction.

    Args:
        confusion: Boundary counts, shape (C + 1, C + 1), "inner" last.

    Returns:
        In [0, 1]; NaN where nothing is counted.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> mean_boundary_iou([[3, 1, 0], [0, 3, 0], [0, 0, 90]])
        0.75
    """
    return _mean(boundary_iou_per_class(confusion))


def mean_boundary_f1(confusion: ArrayLike) -> float:
    """Return the mean boundary F1 of the classes that are in truth or prediction.

    Args:
        confusion: Boundary counts, shape (C + 1, C + 1), "inner" last.

    Returns:
        In [0, 1]; NaN where nothing is counted.

    Raises:
        ValueError: If ``confusion`` is not square or a count is negative.

    Example:
        >>> round(mean_boundary_f1([[3, 1, 0], [0, 3, 0], [0, 0, 90]]), 3)
        0.857
    """
    return _mean(boundary_f1_per_class(confusion))


def report(confusion: ArrayLike, class_names: Sequence[str] | None = None) -> dict[str, float]:
    """Return every score under its name.

    Args:
        confusion: Counts, shape (C, C), rows are truth.
        class_names: One for each class; None names them "0", "1", ….

    Returns:
        ``mean_iou``, ``mean_f1``, ``mean_precision``, ``mean_recall``, ``pixel_accuracy``, and for
        each class ``iou/NAME``, ``f1/NAME``, ``precision/NAME`` and ``recall/NAME``.

    Raises:
        ValueError: If ``confusion`` is not square, a count is negative, or there is not one
            distinct name for each class.

    Example:
        >>> scores = report([[3, 1], [0, 4]], ["background", "dress"])
        >>> scores["pixel_accuracy"], scores["recall/background"]
        (0.875, 0.75)
    """
    names = checked_class_names(class_names, len(_parts(confusion)[0]))
    per_class = {kind: _ratio(kind, confusion) for kind in RATIOS}
    scores = {f"mean_{kind}": _mean(values) for kind, values in per_class.items()}
    scores["pixel_accuracy"] = pixel_accuracy(confusion)
    for kind, values in per_class.items():
        scores.update({f"{kind}/{name}": float(v) for name, v in zip(names, values, strict=True)})
    return scores


@dataclass(frozen=True, eq=False)
class ImageStatistics:
    """The scores of single images; see `image_statistics`.

    Attributes:
        values: The score of each image, shape (images,); NaN where it has none.
        mean: Their mean, over the images that have a score.
        worst_decile: The mean of the lowest tenth of them, at least one image.
    """

    values: Scores
    mean: float
    worst_decile: float


def image_statistics(
    confusions: ArrayLike, score: Callable[[Counts], float] = mean_iou
) -> ImageStatistics:
    """Score each image by itself, and say how the images fare on average and at worst.

    Where the score of the whole data set weighs pixels alike, this mean weighs images alike. With
    ``score=mean_iou`` an image's score is the mean of the classes that it shows or is said to show.

    Args:
        confusions: Counts of each image, shape (images, C, C), from `confusion_matrices`.
        score: From one image's counts to its score.

    Returns:
        The scores, their mean, and the mean of the ``ceil(n / 10)`` lowest of n. NaN where no image
        has a score.

    Raises:
        ValueError: If ``confusions`` has another shape.

    Example:
        >>> statistics = image_statistics([[[4, 0], [0, 4]], [[2, 2], [2, 2]]], pixel_accuracy)
        >>> statistics.mean, statistics.worst_decile
        (0.75, 0.5)
    """
    values = np.array([score(matrix) for matrix in _stack(confusions)], np.float64)
    ranked = np.sort(values[~np.isnan(values)])
    return ImageStatistics(values, _mean(ranked), _mean(ranked[: -(-len(ranked) // 10)]))


@dataclass(frozen=True)
class ConfidenceInterval:
    """A score of the data set and its interval; see `bootstrap_interval`.

    Attributes:
        estimate: The score of all images together.
        low: The interval's lower end.
        high: The interval's upper end.
    """

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    confusions: ArrayLike,
    score: Callable[[Counts], float] = mean_iou,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> ConfidenceInterval:
    """Say how far a data set's score would move with other photos of the same kind.

    Photos, not pixels, are drawn with replacement (the pixels of a photo are no independent
    observations); the counts of each draw are added up and scored. The interval lies between the
    percentiles (1 - confidence) / 2 and (1 + confidence) / 2 of these scores; a draw without a
    score is left out.

    Args:
        confusions: Counts of each image, shape (images, C, C), from `confusion_matrices`.
        score: From the counts of a set of images to its score; for one class write
            ``lambda counts: iou_per_class(counts)[3]``.
        confidence: Share of the draws inside the interval, above 0 and below 1.
        resamples: Number of draws, at least 1.
        seed: The same seed gives the same interval.

    Returns:
        The score of all images and the ends of the interval; NaN where there is no score.

    Raises:
        ValueError: If ``confusions`` has another shape or no image, or an option is out of range.

    Example:
        >>> matrices = [[[90, 10], [5, 95]], [[70, 30], [20, 80]], [[99, 1], [0, 100]]]
        >>> interval = bootstrap_interval(matrices, pixel_accuracy)
        >>> interval.low <= interval.estimate <= interval.high
        True

    References:
        Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
    """
    stack = _stack(confusions)
    if not len(stack):
        raise ValueError("confusions must hold at least one image, received none")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be above 0 and below 1, received {confidence}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, received {resamples}")
    draws = np.random.default_rng(seed).integers(len(stack), size=(resamples, len(stack)))
    flat = stack.reshape(len(stack), -1).astype(np.float64)  # exact below 2^53

    def drawn(photos: NDArray[np.int64]) -> Counts:
        total = np.bincount(photos, minlength=len(flat)) @ flat
        return total.astype(np.int64).reshape(stack.shape[1:])

    values = np.array([score(drawn(photos)) for photos in draws], np.float64)
    values = values[~np.isnan(values)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail]) if values.size else (np.nan, np.nan)
    return ConfidenceInterval(float(score(stack.sum(axis=0))), float(low), float(high))


def checked_num_classes(num_classes: int) -> int:
    """Return the number of classes as an int, or raise TypeError or ValueError."""
    try:
        number = operator.index(num_classes)
    except TypeError:
        raise TypeError(f"num_classes must be an integer, received {num_classes!r}") from None
    if number < 1:
        raise ValueError(f"num_classes must be at least 1, received {number}")
    return number


def checked_class_names(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """Return one name for each class, or raise ValueError."""
    if names is None:
        return tuple(map(str, range(num_classes)))
    if isinstance(names, str) or len(names) != num_classes or len(set(names)) != num_classes:
        raise ValueError(
            f"class_names must be {num_classes} distinct names, one for each class, "
            f"received {names!r}"
        )
    return tuple(names)


def _checked(
    y_true: ArrayLike, y_pred: ArrayLike, num_classes: int, ignore_index: int | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_] | None]:
    """Return the labels and where the truth is known (None: everywhere), or raise.

    What is predicted where the truth is ignored may be ``ignore_index`` still.
    """
    num_classes = checked_num_classes(num_classes)
    truth, predicted = np.asarray(y_true), np.asarray(y_pred)
    if truth.shape != predicted.shape:
        raise ValueError(
            "y_true and y_pred must have the same shape, "
            f"received {truth.shape} and {predicted.shape}"
        )
    true_outside = _outside("y_true", truth, num_classes)
    predicted_outside = _outside("y_pred", predicted, num_classes)
    known = None
    if ignore_index is not None:
        ignore_index = operator.index(ignore_index)
        if true_outside is not None or 0 <= ignore_index < num_classes:
            known = truth != ignore_index
    for name, labels, outside in (
        ("y_true", truth, true_outside),
        ("y_pred", predicted, predicted_outside),
    ):
        if outside is not None and known is not None:
            outside &= known if name == "y_true" else known | (labels != ignore_index)
        if outside is not None and outside.any():
            rule = "" if ignore_index is None else f" or ignore_index={ignore_index}"
            where = tuple(int(axis[0]) for axis in np.nonzero(outside))
            also = " where y_true is known" if ignore_index == labels[where] else ""
            raise ValueError(
                f"{name} must hold labels 0..{num_classes - 1}{rule}, received "
                f"{labels[where]}{also} at index {where}; {np.count_nonzero(outside)} such pixels "
                "in all"
            )
    return truth, predicted, known


def _outside(name: str, labels: NDArray[Any], num_classes: int) -> NDArray[np.bool_] | None:
    """Return where a label is no class (None: nowhere), or raise TypeError."""
    if labels.dtype.kind not in "bui":
        raise TypeError(f"{name} must hold integer labels, received dtype {labels.dtype}")
    # Seen as unsigned, a negative label is beyond the signed range: one pass finds both extremes.
    unsigned = labels.view(labels.dtype.str.replace("i", "u").replace("b", "u"))
    signed = labels.dtype.kind == "i"
    limit = min(num_classes, np.iinfo(labels.dtype).max + 1) if signed else num_classes
    if unsigned.max(initial=0) < limit:
        return None
    outside: NDArray[np.bool_] = np.asarray(unsigned >= limit)
    return outside


def _histogram(keys: NDArray[Any], size: int) -> Counts:
    """Return ``np.bincount(keys, minlength=size)``, in a fraction of its time."""
    few = size <= 256
    sample = keys[: keys.size // 128 * 128].reshape(-1, 128)[::17]  # an odd step: all columns
    changes = np.count_nonzero(sample[:, 1:] != sample[:, :-1])
    if changes * (20 if few else 4) < sample.size:
        # Neighbours are mostly equal: count runs by their lengths.
        ends = np.append(np.flatnonzero(keys[1:] != keys[:-1]), keys.size - 1)
        return _tally(keys[ends], np.diff(ends, prepend=-1), size)
    if few:
        # Two neighbouring bytes, seen as one number, are counted in one step.
        even = keys.size // 2 * 2
        pairs = _tally(keys[:even].view(np.uint16), 1, 2**16).reshape(256, 256)[:size, :size]
        counts = _tally(keys[even:], 1, size)
        counts += pairs.sum(axis=0)
        counts += pairs.sum(axis=1)
        return counts
    return _tally(keys, 1, size)


def _tally(keys: NDArray[Any], amounts: int | NDArray[np.int64], size: int) -> Counts:
    """Add up the amounts of each key; faster than `np.bincount`, and exact."""
    counts = np.zeros(size, np.int64)
    np.add.at(counts, keys.astype(np.intp), np.asarray(amounts, np.int64))
    return counts


def _near_contour(labels: NDArray[Any], distance: int, nowhere: int) -> NDArray[np.bool_]:
    """Return where a label within ``distance`` rows and columns differs; outside is ``nowhere``."""
    padded = np.pad(labels, distance, constant_values=nowhere)
    lowest, highest = (
        _slide(_slide(padded, distance, ufunc).T, distance, ufunc).T
        for ufunc in (np.minimum, np.maximum)
    )
    near: NDArray[np.bool_] = lowest != highest
    return near


def _slide(array: NDArray[Any], distance: int, ufunc: np.ufunc) -> NDArray[Any]:
    """Reduce each window of 2 * distance + 1 rows; the windows' width doubles in each step."""
    window, reach = 2 * distance + 1, 1
    while reach < window:
        step = min(reach, window - reach)
        array = ufunc(array[:-step], array[step:])
        reach += step
    return array


def _parts(confusion: ArrayLike) -> tuple[Scores, Scores, Scores]:
    """Return true positives, true pixels and predicted pixels of each class."""
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"confusion must have shape (C, C), received {counts.shape}")
    if counts.size and counts.min() < 0:
        raise ValueError(f"confusion must hold counts of at least 0, received {counts.min()}")
    counts = counts.astype(np.float64)
    return np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)


def _ratio(kind: str, confusion: ArrayLike) -> Scores:
    hit, true, predicted = _parts(confusion)
    part, whole = RATIOS[kind](hit, true, predicted)
    return np.where(true + predicted > 0, part / np.maximum(whole, 1), np.nan)


def _mean(scores: Scores) -> float:
    defined = scores[~np.isnan(scores)]
    return float(defined.mean()) if defined.size else float("nan")


def _stack(confusions: ArrayLike) -> Counts:
    stack = np.asarray(confusions)
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2]:
        raise ValueError(f"confusions must have shape (images, C, C), received {stack.shape}")
    return stack
