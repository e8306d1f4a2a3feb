"""Confusion counts, and every score as a ratio of them.

Counts are int64 and the only state; scores are float64. One contract holds throughout:

- rows are truth, columns are prediction;
- a class in neither truth nor prediction has no score (NaN) and no part in a mean;
- a class in one of them alone scores 0;
- a pixel is ignored where its *truth* is ``ignore_index``, whatever is predicted there;
- any other label outside ``0..num_classes - 1`` is an error.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "confusion_matrix",
    "f1_per_class",
    "iou_per_class",
    "mean_f1",
    "mean_iou",
    "pixel_accuracy",
    "precision_per_class",
    "recall_per_class",
]

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


def confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, num_classes: int, *, ignore_index: int | None = None
) -> Counts:
    """Count the pixels of each (true class, predicted class) pair.

    Matrices of several images add up: the sum over any split of the data is the same.

    Args:
        y_true: Integer labels, any shape.
        y_pred: Integer labels, the same shape.
        num_classes: Number of classes C, at least 1.
        ignore_index: Pixels of this true label are not counted.

    Returns:
        Shape (C, C); entry (i, j) is the number of pixels of true class i predicted as j.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: If the shapes differ or a label is outside 0..C-1 and not ``ignore_index``.

    Example:
        >>> confusion_matrix([0, 0, 1, 255], [0, 1, 1, 1], 2, ignore_index=255)
        array([[1, 1],
               [0, 1]])
    """
    truth, predicted = np.asarray(y_true), np.asarray(y_pred)
    if truth.shape != predicted.shape:
        raise ValueError(
            "y_true and y_pred must have the same shape, "
            f"received {truth.shape} and {predicted.shape}"
        )
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, received {num_classes}")
    for name, labels in (("y_true", truth), ("y_pred", predicted)):
        if labels.dtype.kind not in "bui":
            raise TypeError(f"{name} must hold integer labels, received dtype {labels.dtype}")
        bad = (labels < 0) | (labels >= num_classes)
        if ignore_index is not None:
            bad &= labels != ignore_index
        if bad.any():
            raise ValueError(
                f"{name} must hold labels 0..{num_classes - 1} or ignore_index={ignore_index}, "
                f"received {labels[bad][0]} ({np.count_nonzero(bad)} pixels outside)"
            )
    if ignore_index is not None:
        known = truth != ignore_index
        truth, predicted = truth[known], predicted[known]
        if (predicted == ignore_index).any() and not 0 <= ignore_index < num_classes:
            raise ValueError(
                f"y_pred must hold labels 0..{num_classes - 1} where y_true is not ignored, "
                f"received ignore_index={ignore_index}"
            )
    keys = truth.astype(np.int64).ravel() * num_classes + predicted.ravel()
    return np.bincount(keys, minlength=num_classes**2).reshape(num_classes, num_classes)


def _parts(confusion: ArrayLike) -> tuple[Scores, Scores, Scores]:
    """Return true positives, true pixels and predicted pixels of each class."""
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"confusion must be square, shape (C, C), received {counts.shape}")
    counts = counts.astype(np.float64)
    return np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)


def _ratio(part: Scores, whole: Scores, present: NDArray[np.bool_]) -> Scores:
    return np.where(present, part / np.maximum(whole, 1), np.nan)


def iou_per_class(confusion: ArrayLike) -> Scores:
    """Return tp / (tp + fp + fn) of each class."""
    hit, true, predicted = _parts(confusion)
    return _ratio(hit, true + predicted - hit, true + predicted > 0)


def f1_per_class(confusion: ArrayLike) -> Scores:
    """Return 2 tp / (2 tp + fp + fn) of each class."""
    hit, true, predicted = _parts(confusion)
    return _ratio(2 * hit, true + predicted, true + predicted > 0)


def precision_per_class(confusion: ArrayLike) -> Scores:
    """Return tp / (tp + fp) of each class."""
    hit, true, predicted = _parts(confusion)
    return _ratio(hit, predicted, true + predicted > 0)


def recall_per_class(confusion: ArrayLike) -> Scores:
    """Return tp / (tp + fn) of each class."""
    hit, true, predicted = _parts(confusion)
    return _ratio(hit, true, true + predicted > 0)


def pixel_accuracy(confusion: ArrayLike) -> float:
    """Return the share of counted pixels that are right; NaN where none is counted."""
    hit, true, _ = _parts(confusion)
    return float(hit.sum() / true.sum()) if true.any() else float("nan")


def _mean(scores: Scores) -> float:
    present = scores[~np.isnan(scores)]
    return float(present.mean()) if present.size else float("nan")


def mean_iou(confusion: ArrayLike) -> float:
    """Return the mean IoU of the classes present in truth or prediction; NaN where none is."""
    return _mean(iou_per_class(confusion))


def mean_f1(confusion: ArrayLike) -> float:
    """Return the mean F1 of the classes present in truth or prediction; NaN where none is."""
    return _mean(f1_per_class(confusion))
