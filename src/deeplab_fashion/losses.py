"""Losses for segmentation: one contract for what is counted, ignored and averaged.

Every loss here compares labels with logits, image by image:

- Truth is an integer label map of shape (batch, height, width), or one-hot of shape
  (batch, height, width, classes). Predictions are logits of shape (batch, height, width, classes),
  or probabilities with ``from_logits=False``. Other numbers of spatial axes work alike.
- A pixel whose label is ``ignore_index`` (one-hot: a row of zeros) is left out of every sum and
  every mean, and its gradient is exactly zero.
- A function (``cross_entropy``) returns one value per image, 0 for an image without a single
  pixel to learn from. Its class (``CrossEntropy``) is the Keras loss, whose result is the mean over
  the images that have something to learn from, over all replicas of a ``tf.distribute`` strategy:
  how a batch is split never changes the gradient. A batch without any such image gives 0.
- A label that is neither a class nor ``ignore_index`` raises ``ValueError`` in eager code. In
  traced code, where nothing can be raised, it makes the loss NaN and its image adds nothing to
  the gradient.
- All is computed in float32 whatever the model's precision (float64 stays float64).
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

__all__ = [
    "CrossEntropy",
    "cross_entropy",
]

_SMALLEST_PROBABILITY = 1e-7


def _truth_and_logits(
    y_true: Any, y_pred: Any, *, ignore_index: int | None, from_logits: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return labels (batch, pixels), logits (batch, pixels, classes), valid and broken pixels.

    Labels of pixels that are not valid are 0, so that every label is a class.
    """
    y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    _check_shapes(y_true, y_pred)
    logits = y_pred if y_pred.dtype == tf.float64 else tf.cast(y_pred, tf.float32)
    if not from_logits:
        logits = tf.math.log(tf.clip_by_value(logits, _SMALLEST_PROBABILITY, 1.0))
    num_classes = y_pred.shape[-1]
    if y_true.shape.rank == y_pred.shape.rank and y_true.shape[-1] != 1:
        labels = _labels_of_one_hot(y_true, ignore_index)
        whole = tf.ones_like(labels, tf.bool)
    else:
        labels = tf.cast(y_true, tf.int32)
        whole = tf.cast(labels, y_true.dtype) == y_true
    batch = tf.shape(y_pred)[0]
    labels, whole = tf.reshape(labels, (batch, -1)), tf.reshape(whole, (batch, -1))
    logits = tf.reshape(logits, (batch, -1, num_classes))
    is_class = whole & (labels >= 0) & (labels < num_classes)
    ignored = tf.zeros_like(is_class) if ignore_index is None else labels == ignore_index
    valid, broken = is_class & ~ignored, ~(is_class | ignored)
    if tf.executing_eagerly():
        _check_labels(y_true, labels, broken, num_classes, ignore_index)
    return tf.where(valid, labels, 0), logits, valid, broken


def _labels_of_one_hot(y_true: tf.Tensor, ignore_index: int | None) -> tf.Tensor:
    total, largest = tf.reduce_sum(y_true, axis=-1), tf.reduce_max(y_true, axis=-1)
    labels = tf.argmax(y_true, axis=-1, output_type=tf.int32)
    labels = tf.where((total == 1) & (largest == 1), labels, -1)
    if ignore_index is None:
        return labels
    empty = tf.reduce_all(y_true == 0, axis=-1)
    return tf.where(empty, ignore_index, labels)


def _check_shapes(y_true: tf.Tensor, y_pred: tf.Tensor) -> None:
    received = f"received y_true {y_true.shape} and y_pred {y_pred.shape}"
    if not y_pred.dtype.is_floating:
        raise TypeError(f"y_pred must be floating point, received {y_pred.dtype.name}")
    if not (y_true.dtype.is_integer or y_true.dtype.is_floating):
        raise TypeError(f"y_true must be a number type, received {y_true.dtype.name}")
    if y_pred.shape.rank is None or y_true.shape.rank is None:
        raise ValueError(f"y_true and y_pred must have a known number of axes; {received}")
    if y_pred.shape.rank < 2 or y_pred.shape[-1] is None or y_pred.shape[-1] < 2:
        raise ValueError(
            f"y_pred must have shape (batch, ..., classes) with at least 2 classes; {received}"
        )
    one_hot = y_pred.shape
    if not any(
        y_true.shape.is_compatible_with(allowed)
        for allowed in (one_hot[:-1], one_hot[:-1].concatenate([1]), one_hot)
    ):
        raise ValueError(
            "y_true must hold labels of y_pred's shape without its last axis, or be one-hot with "
            f"y_pred's shape; {received}"
        )


def _check_labels(
    y_true: tf.Tensor,
    labels: tf.Tensor,
    broken: tf.Tensor,
    num_classes: int,
    ignore_index: int | None,
) -> None:
    if not bool(tf.reduce_any(broken)):
        return
    rule = f"y_true must hold labels 0 to {num_classes - 1}"
    if ignore_index is not None:
        rule += f" or ignore_index={ignore_index}"
    image, pixel = (int(i) for i in tf.where(broken)[0])
    if tf.size(y_true) == tf.size(labels):
        came = tf.reshape(y_true, tf.shape(labels))[image, pixel].numpy()
    else:
        rule += ", one-hot: a single 1 among zeros (all zeros where ignored)"
        came = tf.reshape(y_true, (*labels.shape, num_classes))[image, pixel].numpy()
    raise ValueError(f"{rule}; received {came} at pixel {pixel} of image {image} of the batch")


def _image_mean(values: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Return the sum of each image's ``values`` over its number of valid pixels, 0 if none."""
    valid = tf.cast(valid, values.dtype)
    return tf.math.divide_no_nan(
        tf.reduce_sum(values * valid, axis=1), tf.reduce_sum(valid, axis=1)
    )


def _broken_to_nan(values: tf.Tensor, broken: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.reduce_any(broken, axis=1), tf.cast(float("nan"), values.dtype), values)


def _pixel_class_weights(
    labels: tf.Tensor, class_weights: Sequence[float] | None, num_classes: int, dtype: tf.DType
) -> tf.Tensor:
    """Return each pixel's class weight, or a scalar 1 where there are none."""
    if class_weights is None:
        return tf.ones((), dtype)
    _check_class_weights(class_weights, num_classes)
    return tf.gather(tf.constant(class_weights, dtype), labels)


def _check_class_weights(class_weights: Sequence[float], num_classes: int) -> None:
    if len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights must hold one weight per class of y_pred, {num_classes}; "
            f"received {len(class_weights)}"
        )


def cross_entropy(
    y_true: Any,
    y_pred: Any,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = 255,
    from_logits: bool = True,
) -> tf.Tensor:
    """Return the cross-entropy of each image, the mean over its valid pixels."""
    labels, logits, valid, broken = _truth_and_logits(
        y_true, y_pred, ignore_index=ignore_index, from_logits=from_logits
    )
    num_classes = logits.shape[-1]
    if label_smoothing:
        truth = tf.one_hot(labels, num_classes, dtype=logits.dtype)
        truth = truth * (1 - label_smoothing) + label_smoothing / num_classes
        losses = tf.nn.softmax_cross_entropy_with_logits(truth, logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    losses *= _pixel_class_weights(labels, class_weights, num_classes, logits.dtype)
    return _broken_to_nan(_image_mean(losses, valid), broken)


class _ImageLoss(keras.losses.Loss):
    """A Keras loss made of a function that returns one value per image."""

    _function: ClassVar[Callable[..., tf.Tensor]]

    def __init__(
        self, *, name: str | None, reduction: str | None, dtype: str | None, **options: Any
    ) -> None:
        if dtype is None:
            dtype = "float64" if keras.config.floatx() == "float64" else "float32"
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if options["class_weights"] is not None:
            options["class_weights"] = tuple(float(w) for w in options["class_weights"])
        self._options = options

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Return one value per image, shape (batch,)."""
        values = type(self)._function(y_true, y_pred, **self._options)
        if self.reduction in (None, "none", "sum"):
            return values
        return values * _share_of_mean(y_true, y_pred, self._options["ignore_index"], values.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what ``from_config`` needs to make the same loss again."""
        return {**super().get_config(), "dtype": self.dtype, **self._options}


def _share_of_mean(
    y_true: Any, y_pred: Any, ignore_index: int | None, dtype: tf.DType
) -> tf.Tensor:
    """Return images / images with something to learn from, both counted over all replicas.

    Keras divides the sum over a replica's images by their number and by that of the replicas;
    times this factor, it is the mean over all the images that count.
    """
    y_true = tf.convert_to_tensor(y_true)
    if y_true.shape.rank == len(y_pred.shape) and y_true.shape[-1] != 1:
        y_true = _labels_of_one_hot(y_true, ignore_index)
    images = tf.shape(y_true)[0]
    learnable = tf.ones((images,), tf.bool)
    if ignore_index is not None:
        learnable = tf.reduce_any(
            tf.reshape(y_true, (images, -1)) != tf.cast(ignore_index, y_true.dtype), axis=1
        )
    images, counted = tf.cast(images, dtype), tf.reduce_sum(tf.cast(learnable, dtype))
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        images *= context.num_replicas_in_sync
        counted = context.all_reduce(tf.distribute.ReduceOp.SUM, counted)
    return tf.math.divide_no_nan(images, counted)


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class CrossEntropy(_ImageLoss):
    """Cross-entropy of the valid pixels; see ``cross_entropy``."""

    _function = staticmethod(cross_entropy)

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cross_entropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
