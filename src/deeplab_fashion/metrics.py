"""Keras metrics: the counts and scores of `deeplab_fashion.scores`, on tensors.

What every metric takes (`SoftIoU` and `SoftF1` take no predicted labels):

- ``y_pred`` of a *floating* dtype holds logits or probabilities, shape (..., C); the class with the
  greatest value is the prediction, so softmax or none makes no difference. ``y_pred`` of an
  *integer* dtype holds labels. Nothing else decides which it is.
- ``y_true`` holds labels, whole numbers of any dtype, of the prediction's shape without C. Beside
  logits or probabilities it may also have shape (..., 1), or be one-hot, shape (..., C), where a
  row of zeros is an ignored pixel.
- ``sample_weight`` says how many times each pixel counts: whole numbers, 0 leaves it out. Its shape
  is that of the labels or of their leading axes. Counts stay counts, so a fraction is an error.

The state is one int64 confusion matrix for each metric: exact beyond 2^24 and 2^31 pixels, the same
for every split into batches, and added up over the replicas of a ``tf.distribute`` strategy.

A label outside ``0..num_classes - 1`` that is not ``ignore_index`` never vanishes in silence. Where
``update_state`` runs eagerly it raises ``ValueError``. In a traced function, as in ``fit``, such
pixels are counted apart: the traced ``result`` is NaN from then on, and the next eager ``result``
(``fit`` and ``evaluate`` ask for one after each epoch) raises and says how many there are.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion.scores import RATIOS, checked_class_names, checked_num_classes

__all__ = [
    "ClassIoU",
    "MeanF1",
    "MeanIoU",
    "PixelAccuracy",
    "SegmentationReport",
    "SoftF1",
    "SoftIoU",
]

_RULES = (
    "y_true must hold labels {labels}",
    "y_pred must hold labels {labels}",
    "sample_weight must hold whole numbers of at least 0",
)


class _CheckedMetric(keras.metrics.Metric):
    """A metric that counts, per rule, the pixels that break it."""

    default_name: str

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int | None = 255,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        num_classes = checked_num_classes(num_classes)
        super().__init__(name=name or self.default_name, dtype=dtype)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._broken = self.add_variable((len(_RULES),), "zeros", dtype="int64", name="broken")

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_index": self.ignore_index,
        }

    def _count_broken(self, pixels: tf.Tensor) -> None:
        self._raise_if_broken(pixels)
        self._broken.assign_add(pixels)

    def _raise_if_broken(self, pixels: tf.Tensor) -> None:
        if tf.is_symbolic_tensor(pixels):
            return
        labels = f"0..{self.num_classes - 1}"
        if self.ignore_index is not None:
            labels += f" or ignore_index={self.ignore_index}"
        broken = [
            f"{rule.format(labels=labels)}, received {number} pixels that do not"
            for rule, number in zip(_RULES, pixels.numpy().tolist(), strict=True)
            if number
        ]
        if broken:
            raise ValueError(f"{self.name}: {'; '.join(broken)}")

    def _defined(self, score: tf.Tensor) -> tf.Tensor:
        """Return the score in the metric's dtype, NaN where a rule was broken; or raise."""
        broken = tf.convert_to_tensor(self._broken)
        self._raise_if_broken(broken)
        nan = tf.constant(np.nan, score.dtype)
        return tf.cast(tf.where(tf.reduce_any(broken > 0), nan, score), self.dtype)


class _ConfusionMetric(_CheckedMetric):
    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int | None = 255,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_classes, ignore_index=ignore_index, name=name, dtype=dtype)
        self._confusion = self.add_variable(
            (num_classes, num_classes), "zeros", dtype="int64", name="confusion"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add the pixels of a batch to the counts.

        Args:
            y_true: Labels, shape (...), usually (batch, height, width); beside logits or
                probabilities also (..., 1) or one-hot (..., num_classes).
            y_pred: Floating: logits or probabilities, shape (..., num_classes). Integer: labels,
                shape (...).
            sample_weight: How many times each pixel counts, whole numbers; None means once. Shape
                (...), or its leading axes.

        Raises:
            TypeError: If the labels are no numbers.
            ValueError: If the shapes do not fit, or, run eagerly, if a label is outside
                0..num_classes-1 and not ``ignore_index`` or a weight is no whole number.
        """
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        classes, ignore_index = self.num_classes, self.ignore_index
        truth = _true_slots(y_true, y_pred, classes, ignore_index)
        if y_pred.dtype.is_floating:
            predicted = _argmax(y_pred)
        else:
            # Predicting ignore_index is right where the truth says so, if it is no class.
            is_class = ignore_index is not None and 0 <= ignore_index < classes
            predicted = _slots(y_pred, classes, None if is_class else ignore_index)
        side = classes + 2
        keys = truth * side + predicted
        weights = tf.zeros([0], tf.int64)
        if sample_weight is not None:
            given = _broadcast(tf.convert_to_tensor(sample_weight), keys)
            weights = tf.cast(given, tf.int64)
            whole = (tf.cast(weights, given.dtype) == given) & (weights >= 0)
            keys = tf.where(whole, keys, side**2)
            weights = tf.reshape(tf.where(whole, weights, 1), [-1])
        counts = tf.raw_ops.Bincount(arr=tf.reshape(keys, [-1]), size=side**2 + 1, weights=weights)
        table = tf.reshape(counts[:-1], [side, side])
        self._count_broken(
            tf.stack(
                [
                    tf.reduce_sum(table[classes]),
                    tf.reduce_sum(table[:classes, classes:]) + table[-1, classes],
                    counts[-1],
                ]
            )
        )
        self._confusion.assign_add(table[:classes, :classes])

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """The counts so far, int64, shape (num_classes, num_classes), rows are truth."""
        self._raise_if_broken(tf.convert_to_tensor(self._broken))
        return np.asarray(self._confusion.numpy())

    def _parts(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        counts = tf.cast(tf.convert_to_tensor(self._confusion), tf.float64)
        hit = tf.linalg.diag_part(counts)
        return hit, tf.reduce_sum(counts, axis=1), tf.reduce_sum(counts, axis=0)

    def _per_class(self, kind: str) -> tf.Tensor:
        hit, true, predicted = self._parts()
        part, whole = RATIOS[kind](hit, true, predicted)
        nan = tf.constant(np.nan, tf.float64)
        return tf.where(true + predicted > 0, part / tf.maximum(whole, 1), nan)

    def _accuracy(self) -> tf.Tensor:
        hit, true, _ = self._parts()
        return tf.reduce_sum(hit) / tf.reduce_sum(true)


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class MeanIoU(_ConfusionMetric):
    """Mean IoU of the classes that are in truth or prediction, over all pixels seen.

        mean over classes of tp / (tp + fp + fn)

    Args:
        num_classes: Number of classes C, at least 1.
        ignore_index: Pixels of this true label are not counted; None counts all.
        name: Name in the logs.
        dtype: Dtype of the result; it is computed in float64.

    Raises:
        ValueError: If ``num_classes`` is below 1.

    Example:
        >>> from deeplab_fashion.metrics import MeanIoU
        >>> metric = MeanIoU(2)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 0]])
        >>> float(metric.result())
        0.5
    """

    default_name = "mean_iou"

    def result(self) -> tf.Tensor:
        """Return the score, a scalar in [0, 1]; NaN where nothing is counted."""
        return self._defined(_mean(self._per_class("iou")))


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class MeanF1(_ConfusionMetric):
    """Mean F1 (Dice) of the classes that are in truth or prediction, over all pixels seen.

        mean over classes of 2 tp / (2 tp + fp + fn)

    Args:
        num_classes: Number of classes C, at least 1.
        ignore_index: Pixels of this true label are not counted; None counts all.
        name: Name in the logs.
        dtype: Dtype of the result; it is computed in float64.

    Raises:
        ValueError: If ``num_classes`` is below 1.

    Example:
        >>> from deeplab_fashion.metrics import MeanF1
        >>> metric = MeanF1(2, dtype="float64")
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 0]])
        >>> round(float(metric.result()), 3)
        0.667
    """

    default_name = "mean_f1"

    def result(self) -> tf.Tensor:
        """Return the score, a scalar in [0, 1]; NaN where nothing is counted."""
        return self._defined(_mean(self._per_class("f1")))


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class PixelAccuracy(_ConfusionMetric):
    """Share of the pixels seen whose class is right.

    Args:
        num_classes: Number of classes C, at least 1.
        ignore_index: Pixels of this true label are not counted; None counts all.
        name: Name in the logs.
        dtype: Dtype of the result; it is computed in float64.

    Raises:
        ValueError: If ``num_classes`` is below 1.

    Example:
        >>> from deeplab_fashion.metrics import PixelAccuracy
        >>> metric = PixelAccuracy(2)
        >>> metric.update_state([[0, 0, 1, 1, 255]], [[0, 1, 1, 1, 0]])
        >>> float(metric.result())
        0.75
    """

    default_name = "pixel_accuracy"

    def result(self) -> tf.Tensor:
        """Return the score, a scalar in [0, 1]; NaN where nothing is counted."""
        return self._defined(self._accuracy())


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class ClassIoU(_ConfusionMetric):
    """IoU of one class, or of each.

        tp / (tp + fp + fn)

    Args:
        num_classes: Number of classes C, at least 1.
        class_index: The class; None means each of them, and a result of shape (C,). For the logs
            of ``fit``, where scalars are wanted, `SegmentationReport` names each class's score.
        ignore_index: Pixels of this true label are not counted; None counts all.
        name: Name in the logs.
        dtype: Dtype of the result; it is computed in float64.

    Raises:
        ValueError: If ``num_classes`` is below 1 or ``class_index`` is no class.

    Example:
        >>> from deeplab_fashion.metrics import ClassIoU
        >>> metric = ClassIoU(3)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 0]])
        >>> metric.result().numpy()
        array([0.5, 0.5, nan], dtype=float32)
    """

    default_name = "class_iou"

    def __init__(
        self,
        num_classes: int,
        *,
        class_index: int | None = None,
        ignore_index: int | None = 255,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        num_classes = checked_num_classes(num_classes)
        if class_index is not None and not 0 <= class_index < num_classes:
            raise ValueError(
                f"class_index must be a class, 0..{num_classes - 1}, received {class_index}"
            )
        super().__init__(num_classes, ignore_index=ignore_index, name=name, dtype=dtype)
        self.class_index = class_index

    def result(self) -> tf.Tensor:
        """Return the score in [0, 1], a scalar or of shape (C,); NaN where a class is absent."""
        scores = self._per_class("iou")
        return self._defined(scores if self.class_index is None else scores[self.class_index])

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "class_index": self.class_index}


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class SegmentationReport(_ConfusionMetric):
    """Every score under its name, from one confusion matrix.

    In ``compile(metrics=[SegmentationReport(...)])`` each score is a column of the logs, so
    ``ModelCheckpoint(monitor="val_iou/dress")`` works. The names are those of
    `deeplab_fashion.scores.report`.

    Args:
        num_classes: Number of classes C, at least 1.
        class_names: One for each class; None names them "0", "1", ….
        ignore_index: Pixels of this true label are not counted; None counts all.
        name: Name of the metric; the logs hold the scores' own names.
        dtype: Dtype of the results; they are computed in float64.

    Raises:
        ValueError: If ``num_classes`` is below 1 or there is not one distinct name for each class.

    Example:
        >>> from deeplab_fashion.metrics import SegmentationReport
        >>> metric = SegmentationReport(2, class_names=["background", "dress"])
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 0]])
        >>> scores = metric.result()
        >>> float(scores["mean_iou"]), float(scores["recall/dress"])
        (0.5, 1.0)
    """

    default_name = "segmentation_report"

    def __init__(
        self,
        num_classes: int,
        *,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = 255,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_classes, ignore_index=ignore_index, name=name, dtype=dtype)
        self.class_names = checked_class_names(class_names, num_classes)

    def result(self) -> dict[str, tf.Tensor]:
        """Return ``mean_iou``, …, ``pixel_accuracy``, ``iou/NAME``, …; absent classes are NaN."""
        per_class = {kind: self._per_class(kind) for kind in RATIOS}
        scores = {f"mean_{kind}": self._defined(_mean(of)) for kind, of in per_class.items()}
        scores["pixel_accuracy"] = self._defined(self._accuracy())
        for kind, of in per_class.items():
            each = tf.unstack(self._defined(of))
            scores.update(
                {f"{kind}/{name}": v for name, v in zip(self.class_names, each, strict=True)}
            )
        return scores

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "class_names": list(self.class_names)}


class _SoftMetric(_CheckedMetric):
    kind: str

    def __init__(
        self,
        num_classes: int,
        *,
        from_logits: bool = True,
        smooth: float = 1e-5,
        ignore_index: int | None = 255,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if smooth < 0:
            raise ValueError(f"smooth must be at least 0, received {smooth}")
        super().__init__(num_classes, ignore_index=ignore_index, name=name, dtype=dtype)
        self.from_logits = from_logits
        self.smooth = smooth
        self._total = self.add_variable((), "zeros", dtype="float64", name="total")
        self._batches = self.add_variable((), "zeros", dtype="int64", name="batches")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add one batch's score; a batch without a counted pixel has none.

        Args:
            y_true: Labels, shape (...), or (..., 1), or one-hot (..., num_classes).
            y_pred: Logits or probabilities, floating, shape (..., num_classes).
            sample_weight: A weight of at least 0 for each pixel, shape (...) or its leading axes.

        Raises:
            TypeError: If ``y_pred`` is not floating.
            ValueError: If the shapes do not fit, or, run eagerly, if a label is outside
                0..num_classes-1 and not ``ignore_index``.
        """
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        if not y_pred.dtype.is_floating:
            raise TypeError(
                f"y_pred must be logits or probabilities, received dtype {y_pred.dtype.name}"
            )
        truth = _true_slots(y_true, y_pred, self.num_classes, self.ignore_index)
        broken = tf.reduce_sum(tf.cast(truth == self.num_classes, tf.int64))
        self._count_broken(tf.stack([broken, 0, 0]))
        weights = tf.cast(truth < self.num_classes, tf.float32)
        if sample_weight is not None:
            given = tf.cast(tf.convert_to_tensor(sample_weight), tf.float32)
            weights *= _broadcast(given, truth)
        probabilities = tf.cast(y_pred, tf.float32)
        if self.from_logits:
            probabilities = tf.nn.softmax(probabilities)
        one_hot = tf.one_hot(truth, self.num_classes)
        axes = list(range(truth.shape.rank))
        both, true, predicted = (
            tf.reduce_sum(values * tf.expand_dims(weights, -1), axis=axes)
            for values in (one_hot * probabilities, one_hot, probabilities)
        )
        part, whole = RATIOS[self.kind](both, true, predicted)
        score = tf.reduce_mean((part + self.smooth) / (whole + self.smooth))
        counted = tf.reduce_any(weights > 0)
        self._total.assign_add(tf.where(counted, tf.cast(score, tf.float64), 0))
        self._batches.assign_add(tf.cast(counted, tf.int64))

    def result(self) -> tf.Tensor:
        """Return the mean over the batches, a scalar in [0, 1]; NaN before the first."""
        batches = tf.cast(tf.convert_to_tensor(self._batches), tf.float64)
        return self._defined(tf.convert_to_tensor(self._total) / batches)

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "smooth": self.smooth,
        }


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class SoftIoU(_SoftMetric):
    """The batch-averaged soft IoU of the study that this project starts from.

        batch and class:  (sum(t p) + smooth) / (sum(t) + sum(p) - sum(t p) + smooth)

    with t the one-hot truth and p the probabilities, summed over the pixels of the batch; averaged
    over all classes, then over batches. It exists to compare with the study's table, and is no IoU
    of the predicted masks: it depends on the batch size and on how sure the model is, and a class
    that a batch lacks scores near 1 or near 0 as its probabilities fall below or above ``smooth``.
    `MeanIoU` has none of this. Under a ``tf.distribute`` strategy a batch is a replica's share.

    Args:
        num_classes: Number of classes C, at least 1.
        from_logits: Whether to apply a softmax to the predictions.
        smooth: Added above and below, in pixels. At least 0.
        ignore_index: Pixels of this true label are not counted; None counts all.
        name: Name in the logs.
        dtype: Dtype of the result.

    Raises:
        ValueError: If ``num_classes`` is below 1 or ``smooth`` is negative.

    Example:
        >>> from deeplab_fashion.metrics import SoftIoU
        >>> metric = SoftIoU(2, from_logits=False, smooth=0)
        >>> metric.update_state([[0, 1]], [[[0.5, 0.5], [0.0, 1.0]]])
        >>> round(float(metric.result()), 3)  # (0.5 / 1 + 1 / 1.5) / 2
        0.583
    """

    default_name = "soft_iou"
    kind = "iou"


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class SoftF1(_SoftMetric):
    """The batch-averaged soft F1 of the study that this project starts from.

        batch and class:  (2 sum(t p) + smooth) / (sum(t) + sum(p) + smooth)

    with t the one-hot truth and p the probabilities, summed over the pixels of the batch; averaged
    over all classes, then over batches. See `SoftIoU` for what this does and does not say.

    Args:
        num_classes: Number of classes C, at least 1.
        from_logits: Whether to apply a softmax to the predictions.
        smooth: Added above and below, in pixels. At least 0.
        ignore_index: Pixels of this true label are not counted; None counts all.
        name: Name in the logs.
        dtype: Dtype of the result.

    Raises:
        ValueError: If ``num_classes`` is below 1 or ``smooth`` is negative.

    Example:
        >>> from deeplab_fashion.metrics import SoftF1
        >>> metric = SoftF1(2, from_logits=False, smooth=0)
        >>> metric.update_state([[0, 1]], [[[0.5, 0.5], [0.0, 1.0]]])
        >>> round(float(metric.result()), 3)  # (1 / 1.5 + 2 / 2.5) / 2
        0.733
    """

    default_name = "soft_f1"
    kind = "f1"


def _true_slots(
    y_true: tf.Tensor, y_pred: tf.Tensor, num_classes: int, ignore_index: int | None
) -> tf.Tensor:
    """Return the `_slots` of the truth, from any form that the prediction allows."""
    if None in (y_true.shape.rank, y_pred.shape.rank):
        raise ValueError(
            "y_true and y_pred must have a known number of axes, "
            f"received shapes {y_true.shape} and {y_pred.shape}"
        )
    labels = y_pred.shape[:-1] if y_pred.dtype.is_floating else y_pred.shape
    allowed = [labels]
    if y_pred.dtype.is_floating:
        allowed += [labels.concatenate([1]), labels.concatenate([num_classes])]
        if not y_pred.shape[-1:].is_compatible_with([num_classes]):
            raise ValueError(
                f"y_pred of a floating dtype must have shape (..., num_classes={num_classes}), "
                f"received {tuple(y_pred.shape)}; predicted labels must be integers"
            )
    if not any(y_true.shape.is_compatible_with(shape) for shape in allowed):
        raise ValueError(
            f"y_true must have shape {' or '.join(str(tuple(shape)) for shape in allowed)} beside "
            f"y_pred of shape {tuple(y_pred.shape)} and dtype {y_pred.dtype.name}, "
            f"received {tuple(y_true.shape)}"
        )
    if y_true.shape.rank > labels.rank:
        if y_true.shape[-1] != 1:
            ignored = tf.reduce_all(y_true == tf.zeros([], y_true.dtype), axis=-1)
            return tf.where(ignored, num_classes + 1, _argmax(y_true))
        y_true = tf.squeeze(y_true, -1)
    return _slots(y_true, num_classes, ignore_index)


def _slots(labels: tf.Tensor, num_classes: int, ignore_index: int | None) -> tf.Tensor:
    """Return C + 1 where labels are ignore_index, C where they are no class, else themselves."""
    if labels.dtype.is_floating:
        whole = tf.cast(labels, tf.int64)
        labels = tf.where(tf.cast(whole, labels.dtype) == labels, whole, tf.int64.min)
    elif not (labels.dtype.is_integer or labels.dtype.is_bool):
        raise TypeError(f"labels must be whole numbers, received dtype {labels.dtype.name}")
    elif labels.dtype.is_bool or labels.dtype.max < num_classes:
        labels = tf.cast(labels, tf.int32)
    dtype = labels.dtype
    # Seen as unsigned, a negative label is a large one, so that one minimum finds both.
    unsigned = labels if dtype.is_unsigned else tf.bitcast(labels, tf.as_dtype(f"u{dtype.name}"))
    slots = tf.cast(tf.minimum(unsigned, tf.constant(num_classes, unsigned.dtype)), tf.int32)
    if ignore_index is not None and dtype.min <= ignore_index <= dtype.max:
        ignored = labels == tf.constant(ignore_index, dtype)
        slots = tf.where(ignored, num_classes + 1, slots)
    return slots


def _argmax(values: tf.Tensor) -> tf.Tensor:
    """Return ``tf.argmax(values, axis=-1)``; it is slow for few classes, comparing them is not."""
    num_classes = values.shape[-1]
    if num_classes is None or num_classes > 8:
        return tf.argmax(values, axis=-1, output_type=tf.int32)
    best, *others = tf.unstack(values, axis=-1)
    index = tf.zeros_like(best, tf.int32)
    for i, value in enumerate(others, 1):
        index = tf.where(value > best, i, index)
        if i < len(others):
            best = tf.maximum(best, value)
    return index


def _broadcast(weights: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the weights in the labels' shape; theirs is that of the leading axes."""
    given, missing = weights.shape, labels.shape.rank - weights.shape.rank
    if missing == -1 and given[-1] == 1:
        weights, missing = tf.squeeze(weights, -1), 0
    if missing < 0 or not weights.shape.is_compatible_with(labels.shape[: weights.shape.rank]):
        raise ValueError(
            f"sample_weight must have the labels' shape {tuple(labels.shape)} or that of their "
            f"leading axes, received {tuple(given)}"
        )
    for _ in range(missing):
        weights = tf.expand_dims(weights, -1)
    return tf.broadcast_to(weights, tf.shape(labels))


def _mean(scores: tf.Tensor) -> tf.Tensor:
    defined = tf.logical_not(tf.math.is_nan(scores))
    total = tf.reduce_sum(tf.where(defined, scores, 0))
    return total / tf.reduce_sum(tf.cast(defined, scores.dtype))
