"""Keras metrics over one int64 confusion matrix: the counts and scores of ``scores``."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__ = ["MeanF1", "MeanIoU"]


class _ConfusionMetric(keras.metrics.Metric):
    _default_name: str

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int | None = 255,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        name = name or self._default_name
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, received {num_classes}")
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        # Row and column num_classes hold labels out of range, for result() to report.
        self._counts = self.add_weight(
            shape=(num_classes + 1, num_classes + 1),
            initializer="zeros",
            dtype="int64",
            name="counts",
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        classes = self.num_classes
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        if y_pred.dtype.is_floating:
            y_pred = tf.argmax(y_pred, axis=-1, output_type=tf.int32)
        ignored = y_true == self.ignore_index
        truth, predicted = tf.cast(y_true, tf.int32), tf.cast(y_pred, tf.int32)
        truth = tf.where((truth >= 0) & (truth < classes), truth, classes)
        predicted = tf.where((predicted >= 0) & (predicted < classes), predicted, classes)
        truth = tf.where(ignored, classes + 1, truth)
        keys = tf.reshape(truth * (classes + 1) + predicted, [-1])
        # Keys of ignored pixels lie beyond the size, where Bincount drops them.
        counts = tf.raw_ops.Bincount(
            arr=keys, size=(classes + 1) ** 2, weights=tf.zeros([0], tf.int64)
        )
        self._counts.assign_add(tf.reshape(counts, [classes + 1, classes + 1]))

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        return np.asarray(self._counts.numpy())[:-1, :-1]

    def _parts(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        counts = tf.convert_to_tensor(self._counts)
        if not tf.is_symbolic_tensor(counts):
            outside = int(tf.reduce_sum(counts[-1])), int(tf.reduce_sum(counts[:-1, -1]))
            if any(outside):
                raise ValueError(
                    f"labels must be in 0..{self.num_classes - 1} or "
                    f"ignore_index={self.ignore_index}, received {outside[0]} pixels of y_true "
                    f"and {outside[1]} of y_pred outside"
                )
        counts = tf.cast(counts[:-1, :-1], tf.float64)
        return (
            tf.linalg.diag_part(counts),
            tf.reduce_sum(counts, axis=1),
            tf.reduce_sum(counts, axis=0),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_index": self.ignore_index,
        }


def _mean(scores: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.boolean_mask(scores, ~tf.math.is_nan(scores)))


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class MeanIoU(_ConfusionMetric):
    """Mean IoU of the classes present in truth or prediction."""

    _default_name = "mean_iou"

    def result(self) -> tf.Tensor:
        hit, true, predicted = self._parts()
        return tf.cast(_mean(hit / (true + predicted - hit)), self.dtype)


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class MeanF1(_ConfusionMetric):
    """Mean F1 of the classes present in truth or prediction."""

    _default_name = "mean_f1"

    def result(self) -> tf.Tensor:
        hit, true, predicted = self._parts()
        return tf.cast(_mean(2 * hit / (true + predicted)), self.dtype)
