"""Losses for segmentation: one contract for what is counted, ignored and averaged.

Every loss here compares labels with logits, image by image:

- Truth is an integer label map of shape (batch, height, width), or one-hot of shape
  (batch, height, width, classes). Predictions are logits of shape (batch, height, width, classes),
  or probabilities with ``from_logits=False``. All but ``boundary`` take other numbers of spatial
  axes too.
- A pixel whose label is ``ignore_index`` (one-hot: a row of zeros) is left out of every sum and
  every mean, and its gradient is exactly zero.
- A function (``cross_entropy``) returns one value per image, 0 for an image without a pixel to
  learn from. Its class (``CrossEntropy``) is the Keras loss. By default that gives the mean over
  the images that have such a pixel, counted over all replicas of a ``tf.distribute`` strategy: how
  a batch is split between replicas never changes the gradient, nor does an image more that is
  ignored throughout. Where all images are, the loss and its gradient are 0. The reductions "sum"
  and "none" keep the images' own values.
- A label that is neither a class nor ``ignore_index`` raises ``ValueError`` in eager code. In
  traced code, where nothing can be raised, it makes the loss NaN, and its image adds nothing to
  the gradient.
- All is computed in float32 whatever the model's precision; float64 stays float64.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

if TYPE_CHECKING:
    from deeplab_fashion.taxonomy import LabelMap

__all__ = [
    "Boundary",
    "Combined",
    "CrossEntropy",
    "Dice",
    "Focal",
    "Jaccard",
    "LovaszSoftmax",
    "Tversky",
    "balanced_class_weights",
    "boundary",
    "cross_entropy",
    "dice",
    "focal",
    "jaccard",
    "lovasz_softmax",
    "tversky",
]

ClassWeights: TypeAlias = Sequence[float] | NDArray[np.floating[Any]]

_SMALLEST_PROBABILITY = 1e-7
_BROKEN = tf.int32.min

_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "alpha": ("a number of at least 0", lambda v: 0 <= v < math.inf),
    "beta": ("a number of at least 0", lambda v: 0 <= v < math.inf),
    "boundary_weight": ("a number of at least 1", lambda v: 1 <= v < math.inf),
    "gamma": ("a number of at least 0", lambda v: 0 <= v < math.inf),
    "ignore_index": (
        "None or a whole number",
        lambda v: v is None or bool(np.issubdtype(type(v), np.integer)),
    ),
    "label_smoothing": ("in [0, 1)", lambda v: 0 <= v < 1),
    "ohem": ("None or in (0, 1]", lambda v: v is None or 0 < v <= 1),
    "power": ("in [0, 1]", lambda v: 0 <= v <= 1),
    "radius": ("a whole number of at least 1", lambda v: v >= 1 and v == int(v)),
    "smooth": ("a number of at least 0", lambda v: 0 <= v < math.inf),
}


def _check(**options: Any) -> None:
    for name, value in options.items():
        rule, holds = _RULES[name]
        message = f"{name} must be {rule}, received {value!r}"
        try:
            if holds(value):
                continue
        except TypeError:
            raise TypeError(message) from None
        raise ValueError(message)


def _checked_weights(name: str, weights: Any) -> list[float]:
    try:
        array = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a sequence of numbers, received {weights!r}") from None
    if array.ndim != 1 or not np.all(np.isfinite(array) & (array >= 0)):
        raise ValueError(f"{name} must be finite numbers of at least 0, received {weights!r}")
    return [float(weight) for weight in array]


def _labels(y_true: tf.Tensor, y_pred: tf.Tensor, ignore_index: int | None) -> tf.Tensor:
    """Return labels of shape (batch, pixels), int32, ``_BROKEN`` where they are no whole number."""
    if y_true.dtype.is_bool:
        y_true = tf.cast(y_true, tf.int32)
    if y_true.shape.rank < y_pred.shape.rank or y_true.shape[-1] == 1:
        labels = tf.cast(y_true, tf.int32)
        whole = tf.cast(labels, y_true.dtype) == y_true
    else:
        labels = tf.argmax(y_true, axis=-1, output_type=tf.int32)
        ones = tf.reduce_sum(tf.cast(y_true == 1, tf.int32), axis=-1)
        zeros = tf.reduce_sum(tf.cast(y_true == 0, tf.int32), axis=-1)
        num_classes = y_pred.shape[-1]
        whole = (ones == 1) & (ones + zeros == num_classes)
        if ignore_index is not None:
            labels = tf.where(zeros == num_classes, ignore_index, labels)
            whole |= zeros == num_classes
    shape = tf.shape(y_pred)
    return tf.reshape(tf.where(whole, labels, _BROKEN), (shape[0], tf.reduce_prod(shape[1:-1])))


def _is_ignored(labels: tf.Tensor, ignore_index: int | None) -> tf.Tensor:
    return tf.zeros_like(labels, tf.bool) if ignore_index is None else labels == ignore_index


def _checked_classes(y_true: tf.Tensor, y_pred: tf.Tensor) -> int:
    """Return the number of classes of truth and predictions whose shapes and types fit."""
    if not y_pred.dtype.is_floating:
        raise TypeError(f"y_pred must be floating point, received {y_pred.dtype.name}")
    if not (y_true.dtype.is_integer or y_true.dtype.is_floating or y_true.dtype.is_bool):
        raise TypeError(f"y_true must be numbers, received {y_true.dtype.name}")
    true, pred = y_true.shape, y_pred.shape
    received = f"received y_true of shape {true} and y_pred of shape {pred}"
    if true.rank is None or pred.rank is None:
        raise ValueError(f"y_true and y_pred must have a known number of axes; {received}")
    num_classes: int | None = pred[-1] if pred.rank > 1 else None
    if num_classes is None or num_classes < 2:
        raise ValueError(
            f"y_pred must have shape (batch, ..., classes) with at least 2 classes; {received}"
        )
    allowed = (pred[:-1], pred[:-1].concatenate([1]), pred)
    if not any(true.is_compatible_with(shape) for shape in allowed):
        raise ValueError(
            "y_true must be labels, of y_pred's shape without its last axis, or one-hot, of "
            f"y_pred's shape; {received}"
        )
    return num_classes


def _check_labels(
    y_true: tf.Tensor, y_pred: tf.Tensor, broken: tf.Tensor, ignore_index: int | None
) -> None:
    if not tf.reduce_any(broken):
        return
    *shape, num_classes = y_pred.numpy().shape
    rule = f"y_true must hold labels 0 to {num_classes - 1}"
    if ignore_index is not None:
        rule += f" or ignore_index={ignore_index}"
    image, *pixel = np.argwhere(broken.numpy().reshape(shape))[0].tolist()
    came = y_true.numpy().reshape(*shape, -1)[image, *pixel].tolist()
    if len(came) > 1:
        rule += ", one-hot: a 1 among zeros, or all zeros where ignored"
    received = came if len(came) > 1 else f"{came[0]:g}"
    raise ValueError(f"{rule}; received {received} at {pixel} of image {image} of the batch")


class _Pixels(NamedTuple):
    """A batch of truth and predictions, its spatial axes flattened to one."""

    labels: tf.Tensor  # (batch, pixels), int32; 0 where not valid, so that each is a class
    scores: tf.Tensor  # (batch, pixels, classes)
    num_classes: int
    from_logits: bool
    valid: tf.Tensor  # (batch, pixels), bool; the label is a class and not ignored
    broken: tf.Tensor  # (batch, pixels), bool; the label is neither a class nor ignored

    @classmethod
    def of(cls, y_true: Any, y_pred: Any, *, ignore_index: int | None, from_logits: bool) -> Self:
        _check(ignore_index=ignore_index)
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        num_classes = _checked_classes(y_true, y_pred)
        labels = _labels(y_true, y_pred, ignore_index)
        ignored = _is_ignored(labels, ignore_index)
        is_class = (labels >= 0) & (labels < num_classes)
        valid = is_class & tf.logical_not(ignored)
        broken = tf.logical_not(is_class | ignored)
        if tf.executing_eagerly():
            _check_labels(y_true, y_pred, broken, ignore_index)
        scores = y_pred if y_pred.dtype == tf.float64 else tf.cast(y_pred, tf.float32)
        scores = tf.reshape(scores, tf.concat([tf.shape(labels), [num_classes]], axis=0))
        labels = tf.where(valid, labels, 0)
        return cls(labels, scores, num_classes, from_logits, valid, broken)

    def cross_entropies(self, label_smoothing: float = 0.0) -> tf.Tensor:
        """Return -log(probability of the true class), shape (batch, pixels)."""
        logits = self.scores
        if not self.from_logits:
            logits = tf.math.log(tf.maximum(logits, _SMALLEST_PROBABILITY))
        if not label_smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(self.labels, logits)
        truth = tf.one_hot(self.labels, self.num_classes, dtype=logits.dtype)
        truth = truth * (1 - label_smoothing) + label_smoothing / self.num_classes
        return tf.nn.softmax_cross_entropy_with_logits(truth, logits)

    def probabilities(self) -> tf.Tensor:
        return tf.nn.softmax(self.scores) if self.from_logits else self.scores

    def one_hot(self) -> tf.Tensor:
        """Return the truth, shape (batch, pixels, classes), all zeros where not valid."""
        return tf.one_hot(
            tf.where(self.valid, self.labels, -1), self.num_classes, dtype=self.scores.dtype
        )

    def class_weights(self, class_weights: ClassWeights | None) -> tf.Tensor:
        """Return the weight of each class, shape (classes,)."""
        if class_weights is None:
            return tf.ones(self.num_classes, self.scores.dtype)
        weights = _checked_weights("class_weights", class_weights)
        if len(weights) != self.num_classes:
            raise ValueError(
                f"class_weights must hold one number for each of y_pred's {self.num_classes} "
                f"classes, received {len(weights)}"
            )
        return tf.constant(weights, self.scores.dtype)

    def weighted(self, losses: tf.Tensor, class_weights: ClassWeights | None) -> tf.Tensor:
        """Return the losses of pixels, each times the weight of its true class."""
        if class_weights is None:
            return losses
        return losses * tf.gather(self.class_weights(class_weights), self.labels)

    def pixel_mean(self, losses: tf.Tensor, importance: tf.Tensor | None = None) -> tf.Tensor:
        """Return the mean over each image's valid pixels, shape (batch,)."""
        counted = tf.cast(self.valid, losses.dtype)
        if importance is not None:
            counted *= importance
        total = tf.reduce_sum(losses * counted, axis=1)
        return self.checked(tf.math.divide_no_nan(total, tf.reduce_sum(counted, axis=1)))

    def class_mean(
        self, losses: tf.Tensor, pixels_of_class: tf.Tensor, class_weights: ClassWeights | None
    ) -> tf.Tensor:
        """Return the mean over the classes in each image's truth, shape (batch,)."""
        present = tf.cast(pixels_of_class > 0, losses.dtype)
        weights = present * self.class_weights(class_weights)
        total = tf.reduce_sum(losses * weights, axis=1)
        return self.checked(tf.math.divide_no_nan(total, tf.reduce_sum(weights, axis=1)))

    def checked(self, values: tf.Tensor) -> tf.Tensor:
        """Return the values of images, NaN where a label is broken."""
        nan = tf.constant(math.nan, values.dtype)
        return tf.where(tf.reduce_any(self.broken, axis=1), nan, values)


def cross_entropy(
    y_true: Any,
    y_pred: Any,
    *,
    class_weights: ClassWeights | None = None,
    label_smoothing: float = 0.0,
    ohem: float | None = None,
    ignore_index: int | None = 255,
    from_logits: bool = True,
) -> tf.Tensor:
    """Return the cross-entropy of each image; ``CrossEntropy`` tells its formula.

    Args:
        y_true: Labels, shape (batch, ...), or one-hot, shape (batch, ..., classes).
        y_pred: Logits or probabilities, shape (batch, ..., classes).
        class_weights: As in ``CrossEntropy``.
        label_smoothing: As in ``CrossEntropy``.
        ohem: As in ``CrossEntropy``.
        ignore_index: As in ``CrossEntropy``.
        from_logits: As in ``CrossEntropy``.

    Returns:
        Shape (batch,), at least 0; 0 for an image without a valid pixel.

    Raises:
        ValueError: If an option is out of its range, the shapes or the number of class weights do
            not match, or (in eager code) a label is neither a class nor ``ignore_index``.
        TypeError: If ``y_pred`` is not floating point or ``y_true`` not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_pred = np.zeros((1, 3, 2), "float32")
        >>> losses.cross_entropy([[0, 1, 255]], y_pred).numpy().round(4)  # log(2)
        array([0.6931], dtype=float32)
    """
    _check(label_smoothing=label_smoothing, ohem=ohem)
    pixels = _Pixels.of(y_true, y_pred, ignore_index=ignore_index, from_logits=from_logits)
    losses = pixels.weighted(pixels.cross_entropies(label_smoothing), class_weights)
    if ohem is None:
        return pixels.pixel_mean(losses)
    return pixels.checked(_hardest_mean(losses, pixels.valid, ohem))


def _hardest_mean(losses: tf.Tensor, valid: tf.Tensor, share: float) -> tf.Tensor:
    def kept(count: tf.Tensor) -> tf.Tensor:
        # In float64, less a little: 0.07 of 100 pixels are 7, not 8.
        exact = share * tf.cast(count, tf.float64)
        return tf.cast(tf.math.ceil(exact * (1 - 1e-12)), tf.int32)

    keep = kept(tf.math.count_nonzero(valid, axis=1))
    hardest, _ = tf.math.top_k(tf.where(valid, losses, -1), k=kept(tf.shape(valid)[1]))
    mask = tf.sequence_mask(keep, tf.shape(hardest)[1], losses.dtype)
    total = tf.reduce_sum(hardest * mask, axis=1)
    return tf.math.divide_no_nan(total, tf.cast(keep, losses.dtype))


def focal(
    y_true: Any,
    y_pred: Any,
    *,
    gamma: float = 2.0,
    class_weights: ClassWeights | None = None,
    ignore_index: int | None = 255,
    from_logits: bool = True,
) -> tf.Tensor:
    """Return the focal loss of each image; ``Focal`` tells its formula.

    Args:
        y_true: Labels, shape (batch, ...), or one-hot, shape (batch, ..., classes).
        y_pred: Logits or probabilities, shape (batch, ..., classes).
        gamma: As in ``Focal``.
        class_weights: As in ``Focal``.
        ignore_index: As in ``Focal``.
        from_logits: As in ``Focal``.

    Returns:
        Shape (batch,), at least 0; 0 for an image without a valid pixel.

    Raises:
        ValueError: If an option is out of its range, the shapes or the number of class weights do
            not match, or (in eager code) a label is neither a class nor ``ignore_index``.
        TypeError: If ``y_pred`` is not floating point or ``y_true`` not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_pred = np.zeros((1, 3, 2), "float32")
        >>> losses.focal([[0, 1, 255]], y_pred, gamma=2.0).numpy().round(4)  # log(2) / 4
        array([0.1733], dtype=float32)
    """
    _check(gamma=gamma)
    pixels = _Pixels.of(y_true, y_pred, ignore_index=ignore_index, from_logits=from_logits)
    losses = pixels.cross_entropies()
    if gamma:
        losses *= _power(-tf.math.expm1(-losses), gamma)
    return pixels.pixel_mean(pixels.weighted(losses, class_weights))


def _power(base: tf.Tensor, exponent: float) -> tf.Tensor:
    """Return base ** exponent, a straight line close to 0, so that no gradient is infinite."""
    if exponent >= 1:
        return base**exponent
    nearly_zero = 1e-6
    line = base * nearly_zero ** (exponent - 1)
    return tf.where(base > nearly_zero, tf.maximum(base, nearly_zero) ** exponent, line)


def dice(
    y_true: Any,
    y_pred: Any,
    *,
    smooth: float = 0.0,
    class_weights: ClassWeights | None = None,
    ignore_index: int | None = 255,
    from_logits: bool = True,
) -> tf.Tensor:
    """Return the soft Dice loss of each image; ``Dice`` tells its formula.

    Args:
        y_true: Labels, shape (batch, ...), or one-hot, shape (batch, ..., classes).
        y_pred: Logits or probabilities, shape (batch, ..., classes).
        smooth: As in ``Dice``.
        class_weights: As in ``Dice``.
        ignore_index: As in ``Dice``.
        from_logits: As in ``Dice``.

    Returns:
        Shape (batch,), in [0, 1]; 0 for an image without a valid pixel.

    Raises:
        ValueError: If an option is out of its range, the shapes or the number of class weights do
            not match, or (in eager code) a label is neither a class nor ``ignore_index``.
        TypeError: If ``y_pred`` is not floating point or ``y_true`` not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_pred = np.full((1, 4, 2), 0.5, "float32")
        >>> losses.dice([[0, 0, 0, 1]], y_pred, from_logits=False).numpy().round(4)
        array([0.5333], dtype=float32)
    """
    # 2 TP + s over 2 TP + FP + FN + s, halved.
    return tversky(
        y_true,
        y_pred,
        alpha=0.5,
        beta=0.5,
        smooth=smooth / 2,
        class_weights=class_weights,
        ignore_index=ignore_index,
        from_logits=from_logits,
    )


def jaccard(
    y_true: Any,
    y_pred: Any,
    *,
    smooth: float = 0.0,
    class_weights: ClassWeights | None = None,
    ignore_index: int | None = 255,
    from_logits: bool = True,
) -> tf.Tensor:
    """Return the soft Jaccard loss of each image; ``Jaccard`` tells its formula.

    Args:
        y_true: Labels, shape (batch, ...), or one-hot, shape (batch, ..., classes).
        y_pred: Logits or probabilities, shape (batch, ..., classes).
        smooth: As in ``Jaccard``.
        class_weights: As in ``Jaccard``.
        ignore_index: As in ``Jaccard``.
        from_logits: As in ``Jaccard``.

    Returns:
        Shape (batch,), in [0, 1]; 0 for an image without a valid pixel.

    Raises:
        ValueError: If an option is out of its range, the shapes or the number of class weights do
            not match, or (in eager code) a label is neither a class nor ``ignore_index``.
        TypeError: If ``y_pred`` is not floating point or ``y_true`` not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_pred = np.full((1, 4, 2), 0.5, "float32")
        >>> losses.jaccard([[0, 0, 0, 1]], y_pred, from_logits=False).numpy().round(4)
        array([0.6857], dtype=float32)
    """
    return tversky(
        y_true,
        y_pred,
        alpha=1.0,
        beta=1.0,
        smooth=smooth,
        class_weights=class_weights,
        ignore_index=ignore_index,
        from_logits=from_logits,
    )


def tversky(
    y_true: Any,
    y_pred: Any,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    smooth: float = 0.0,
    class_weights: ClassWeights | None = None,
    ignore_index: int | None = 255,
    from_logits: bool = True,
) -> tf.Tensor:
    """Return the Tversky loss of each image; ``Tversky`` tells its formula.

    Args:
        y_true: Labels, shape (batch, ...), or one-hot, shape (batch, ..., classes).
        y_pred: Logits or probabilities, shape (batch, ..., classes).
        alpha: As in ``Tversky``.
        beta: As in ``Tversky``.
        gamma: As in ``Tversky``.
        smooth: As in ``Tversky``.
        class_weights: As in ``Tversky``.
        ignore_index: As in ``Tversky``.
        from_logits: As in ``Tversky``.

    Returns:
        Shape (batch,), in [0, 1]; 0 for an image without a valid pixel.

    Raises:
        ValueError: If an option is out of its range, the shapes or the number of class weights do
            not match, or (in eager code) a label is neither a class nor ``ignore_index``.
        TypeError: If ``y_pred`` is not floating point or ``y_true`` not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_pred = np.full((1, 4, 2), 0.5, "float32")
        >>> recall_alone = {"alpha": 0.0, "beta": 1.0, "from_logits": False}
        >>> losses.tversky([[0, 0, 0, 1]], y_pred, **recall_alone).numpy().round(4)
        array([0.5], dtype=float32)
    """
    _check(alpha=alpha, beta=beta, gamma=gamma, smooth=smooth)
    pixels = _Pixels.of(y_true, y_pred, ignore_index=ignore_index, from_logits=from_logits)
    probabilities, truth = pixels.probabilities(), pixels.one_hot()
    counted = tf.expand_dims(tf.cast(pixels.valid, truth.dtype), -1)
    true_positives = tf.reduce_sum(probabilities * truth, axis=1)
    predicted = tf.reduce_sum(probabilities * counted, axis=1)
    pixels_of_class = tf.reduce_sum(truth, axis=1)
    wrong = alpha * (predicted - true_positives) + beta * (pixels_of_class - true_positives)
    losses = tf.math.divide_no_nan(wrong, true_positives + wrong + smooth)
    return pixels.class_mean(_power(losses, gamma), pixels_of_class, class_weights)


def lovasz_softmax(
    y_true: Any,
    y_pred: Any,
    *,
    class_weights: ClassWeights | None = None,
    ignore_index: int | None = 255,
    from_logits: bool = True,
) -> tf.Tensor:
    """Return the Lovász-softmax loss of each image; ``LovaszSoftmax`` tells its formula.

    Args:
        y_true: Labels, shape (batch, ...), or one-hot, shape (batch, ..., classes).
        y_pred: Logits or probabilities, shape (batch, ..., classes).
        class_weights: As in ``LovaszSoftmax``.
        ignore_index: As in ``LovaszSoftmax``.
        from_logits: As in ``LovaszSoftmax``.

    Returns:
        Shape (batch,), in [0, 1]; 0 for an image without a valid pixel.

    Raises:
        ValueError: If an option is out of its range, the shapes or the number of class weights do
            not match, or (in eager code) a label is neither a class nor ``ignore_index``.
        TypeError: If ``y_pred`` is not floating point or ``y_true`` not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_pred = np.eye(2, dtype="float32")[[[0, 0, 1, 1]]]
        >>> losses.lovasz_softmax([[0, 0, 0, 1]], y_pred, from_logits=False).numpy().round(4)
        array([0.4167], dtype=float32)
    """
    pixels = _Pixels.of(y_true, y_pred, ignore_index=ignore_index, from_logits=from_logits)
    truth, probabilities = (
        tf.transpose(t, (0, 2, 1)) for t in (pixels.one_hot(), pixels.probabilities())
    )
    # An ignored pixel has no error, so that it is sorted behind all that have a part in the sum.
    counted = tf.cast(pixels.valid, truth.dtype)[:, tf.newaxis]
    errors = tf.abs(truth - probabilities * counted)
    errors, order = tf.math.top_k(errors, k=tf.shape(errors)[2])
    is_class = tf.gather(truth, order, batch_dims=2)
    pixels_of_class = tf.reduce_sum(truth, axis=2)
    total = tf.expand_dims(pixels_of_class, -1)
    intersection = total - tf.cumsum(is_class, axis=2)
    union = total + tf.cumsum(1 - is_class, axis=2)
    jaccards = 1 - tf.math.divide_no_nan(intersection, union)
    steps = jaccards - tf.pad(jaccards[..., :-1], ((0, 0), (0, 0), (1, 0)))
    losses = tf.reduce_sum(errors * steps, axis=2)
    return pixels.class_mean(losses, pixels_of_class, class_weights)


def boundary(
    y_true: Any,
    y_pred: Any,
    *,
    radius: int = 2,
    boundary_weight: float = 5.0,
    class_weights: ClassWeights | None = None,
    ignore_index: int | None = 255,
    from_logits: bool = True,
) -> tf.Tensor:
    """Return the boundary-weighted cross-entropy of each image; ``Boundary`` tells its formula.

    Args:
        y_true: Labels, shape (batch, height, width), or one-hot, (batch, height, width, classes).
        y_pred: Logits or probabilities, shape (batch, height, width, classes).
        radius: As in ``Boundary``.
        boundary_weight: As in ``Boundary``.
        class_weights: As in ``Boundary``.
        ignore_index: As in ``Boundary``.
        from_logits: As in ``Boundary``.

    Returns:
        Shape (batch,), at least 0; 0 for an image without a valid pixel.

    Raises:
        ValueError: If an option is out of its range, the shapes or the number of class weights do
            not match, or (in eager code) a label is neither a class nor ``ignore_index``.
        TypeError: If ``y_pred`` is not floating point or ``y_true`` not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_pred = np.zeros((1, 1, 4, 2), "float32")
        >>> losses.boundary([[[0, 0, 0, 1]]], y_pred).numpy().round(4)  # log(2)
        array([0.6931], dtype=float32)
    """
    _check(radius=radius, boundary_weight=boundary_weight)
    y_pred = tf.convert_to_tensor(y_pred)
    pixels = _Pixels.of(y_true, y_pred, ignore_index=ignore_index, from_logits=from_logits)
    if y_pred.shape.rank != 4:
        raise ValueError(
            "y_pred must have shape (batch, height, width, classes) for a boundary, received "
            f"{y_pred.shape}"
        )
    near = _near_other_class(pixels, tf.shape(y_pred)[:-1], int(radius))
    importance = 1 + (boundary_weight - 1) * tf.cast(near, pixels.scores.dtype)
    losses = pixels.weighted(pixels.cross_entropies(), class_weights)
    return pixels.pixel_mean(losses, importance)


def _near_other_class(pixels: _Pixels, shape: tf.Tensor, radius: int) -> tf.Tensor:
    """Return whether a valid pixel of another class lies within the square around each pixel."""

    def largest(values: tf.Tensor) -> tf.Tensor:
        grid = tf.reshape(values, tf.concat([shape, [1]], axis=0))
        for size in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
            grid = tf.nn.max_pool2d(grid, size, strides=1, padding="SAME")
        return tf.reshape(grid, tf.shape(values))

    labels = tf.cast(pixels.labels, tf.float32)
    ignored = tf.constant(-math.inf)
    return largest(tf.where(pixels.valid, labels, ignored)) != -largest(
        tf.where(pixels.valid, -labels, ignored)
    )


def balanced_class_weights(
    source: Any,
    *,
    num_classes: int | None = None,
    label_map: "LabelMap | None" = None,
    ignore_index: int | None = 255,
    power: float = 1.0,
) -> NDArray[np.float64]:
    """Return class weights that make up for how rare each class is.

    ::

        weight_c = n_c ** -power, scaled so that the mean weight of a pixel is 1

    where n_c is the number of pixels of class c: with ``power=1`` (scikit-learn's "balanced")
    every class has the same share in the loss, with ``power=0`` every pixel has, and 0.5 lies
    between. A class without a pixel gets the largest weight of the others, so that it still
    counts if it does turn up.

    Args:
        source: Pixel counts, shape (classes,); or a confusion matrix, shape (classes, classes),
            whose rows are truth; or a finite ``tf.data.Dataset`` of (images, labels, ...), batched
            or not; or annotations, together with ``label_map``.
        num_classes: How many classes a dataset has; elsewhere known from ``source``.
        label_map: Turns the categories of annotations into classes.
        ignore_index: The label of pixels that do not count.
        power: In [0, 1].

    Returns:
        Shape (classes,), each above 0.

    Raises:
        ValueError: If ``power`` is out of its range, no pixel is counted, a count is negative, a
            label is neither a class nor ``ignore_index``, or the dataset has no end.
        TypeError: If ``source`` is nothing of the above, or what it needs beside it is missing.

    Example:
        >>> from deeplab_fashion import losses
        >>> losses.balanced_class_weights([900, 60, 40]).round(3)
        array([0.37 , 5.556, 8.333])
        >>> losses.balanced_class_weights([900, 60, 40], power=0.5).round(3)
        array([0.756, 2.929, 3.588])

    References:
        King and Zeng, Logistic Regression in Rare Events Data, 2001, for ``power=1``.
    """
    _check(power=power)
    counts = _pixel_counts(source, num_classes, label_map, ignore_index)
    seen = counts > 0
    if not seen.any():
        raise ValueError("source must hold at least one pixel of a class, received none")
    weights = np.where(seen, np.maximum(counts, 1) ** -power, 0.0)
    weights *= counts.sum() / (counts * weights).sum()
    return np.where(seen, weights, weights.max())


def _pixel_counts(
    source: Any, num_classes: int | None, label_map: "LabelMap | None", ignore_index: int | None
) -> NDArray[np.float64]:
    if label_map is not None:
        label_maps = (record.to_labels(label_map) for record in source)
        return _counted(label_maps, label_map.num_classes, ignore_index)
    if isinstance(source, tf.data.Dataset):
        if num_classes is None:
            raise TypeError("balanced_class_weights needs num_classes to count a dataset")
        if source.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("source must be a finite dataset, received one that repeats forever")
        batches = (labels for _, labels, *_ in source.as_numpy_iterator())
        return _counted(batches, num_classes, ignore_index)
    try:
        counts = np.asarray(source, np.float64)
    except (TypeError, ValueError):
        counts = np.empty((0, 0, 0))
    if counts.ndim == 2 and counts.shape[0] == counts.shape[1]:
        counts = counts.sum(axis=1)
    if counts.ndim != 1:
        raise TypeError(
            "source must be pixel counts, a square confusion matrix, a dataset with num_classes "
            f"or annotations with label_map, received {type(source).__name__}"
        )
    if not np.all(np.isfinite(counts) & (counts >= 0)):
        raise ValueError(f"source must hold counts of at least 0, received {source!r}")
    return counts


def _counted(
    label_maps: Iterable[NDArray[Any]], num_classes: int, ignore_index: int | None
) -> NDArray[np.float64]:
    counts = np.zeros(num_classes)
    for number, labels in enumerate(label_maps):
        kept = labels.ravel() if ignore_index is None else labels[labels != ignore_index]
        if kept.size and not 0 <= kept.min() <= kept.max() < num_classes:
            raise ValueError(
                f"source must hold labels 0 to {num_classes - 1} or ignore_index={ignore_index}, "
                f"received {kept.min()} to {kept.max()} in its element {number}"
            )
        counts += np.bincount(kept.astype(np.int64), minlength=num_classes)
    return counts


def _share_of_mean(
    y_true: Any, y_pred: Any, ignore_index: int | None, dtype: tf.DType
) -> tf.Tensor:
    """Return images over images with a pixel to learn from, both counted over all replicas.

    Keras divides the sum over a replica's images by their number and by that of the replicas;
    times this, it is the mean over all images that have a pixel to learn from.
    """
    labels = _labels(tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred), ignore_index)
    images = tf.cast(tf.shape(labels)[0], dtype)
    learnable = tf.reduce_any(tf.logical_not(_is_ignored(labels, ignore_index)), axis=1)
    counted = tf.reduce_sum(tf.cast(learnable, dtype))
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        images *= context.num_replicas_in_sync
        counted = context.all_reduce(tf.distribute.ReduceOp.SUM, counted)
    return tf.math.divide_no_nan(images, counted)


class _SegmentationLoss(keras.losses.Loss):
    """A Keras loss whose ``call`` returns one value per image."""

    def __init__(self, *, name: str, reduction: str | None, dtype: str | None) -> None:
        if dtype is None:
            dtype = "float64" if keras.config.floatx() == "float64" else "float32"
        super().__init__(
            name=name,
            reduction=reduction,  # pyright: ignore[reportArgumentType] - Keras takes None too
            dtype=dtype,
        )

    def _image_losses(self, y_true: Any, y_pred: Any, *, averaged: bool) -> tf.Tensor:
        """Return one value per image, times its share of Keras' mean if that is ``averaged``."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the reduced loss, each image times its ``sample_weight``, shape (batch,)."""
        if sample_weight is not None:
            shape = tf.TensorShape(np.shape(sample_weight))
            if not any(shape.is_compatible_with(allowed) for allowed in ((None,), (None, 1))):
                raise ValueError(
                    "sample_weight must hold one number for each image, shape (batch,), received "
                    f"shape {shape}; single pixels are left out by ignore_index"
                )
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Return one value per image, shape (batch,)."""
        return self._image_losses(
            y_true, y_pred, averaged=self.reduction not in (None, "none", "sum")
        )

    def get_config(self) -> dict[str, Any]:
        """Return what ``from_config`` makes the same loss from."""
        return {**super().get_config(), "dtype": self.dtype}


class _FunctionLoss(_SegmentationLoss):
    """A loss class around a function of this module."""

    _function: ClassVar[Callable[..., tf.Tensor]]

    def __init__(
        self, *, name: str, reduction: str | None, dtype: str | None, **options: Any
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if options["class_weights"] is not None:
            options["class_weights"] = _checked_weights("class_weights", options["class_weights"])
        _check(**{option: value for option, value in options.items() if option in _RULES})
        self._options = {
            option: value.item() if isinstance(value, np.generic) else value
            for option, value in options.items()
        }

    def _image_losses(self, y_true: Any, y_pred: Any, *, averaged: bool) -> tf.Tensor:
        values = type(self)._function(y_true, y_pred, **self._options)
        if not averaged:
            return values
        return values * _share_of_mean(y_true, y_pred, self._options["ignore_index"], values.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what ``from_config`` makes the same loss from."""
        return {**super().get_config(), **self._options}


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class CrossEntropy(_FunctionLoss):
    """Cross-entropy, with class weights, label smoothing and online hard example mining.

    ::

        pixel loss = -w_y * sum over classes c of q_c * log(p_c)
        q_c = (1 - label_smoothing) * [c = y] + label_smoothing / classes

    with the probabilities p, the true class y and its weight w_y. An image's loss is the mean over
    its valid pixels; with ``ohem`` over the share of them whose losses are largest, rounded up. The
    mean divides by the number of pixels, not by the sum of their weights, so that the weights
    balance classes between images too.

    Range: at least 0, without an upper end; log(classes) for uniform predictions. With label
    smoothing the least value is the entropy of q, above 0. Empty: 0 for an image without a valid
    pixel.

    Args:
        label_smoothing: The share of each label that is spread evenly over all classes, in [0, 1).
        ohem: The share of valid pixels, the hardest ones, that is kept, in (0, 1]. None keeps all.
        class_weights: A factor for the pixels of each true class, at least 0. None: all 1.
        ignore_index: The label of pixels that do not count, or None where all do.
        from_logits: Whether ``y_pred`` holds logits; else probabilities that sum to 1 over classes.
        reduction: How Keras reduces the values of the images; see the module for the mean.
        name: The loss's name.
        dtype: "float64" computes in float64; otherwise float32.

    Raises:
        ValueError: If an option is out of its range.
        TypeError: If ``class_weights`` is not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_true = np.array([[[0, 1], [1, 255]]])
        >>> y_pred = np.zeros((1, 2, 2, 3), "float32")
        >>> round(float(losses.CrossEntropy()(y_true, y_pred)), 4)  # log(3): nothing is diluted
        1.0986

    References:
        Label smoothing: Szegedy et al., Rethinking the Inception Architecture, 2016, section 7.
        OHEM: Shrivastava et al., Training Region-based Object Detectors with Online Hard Example
        Mining, 2016; here pixels take the place of regions, and there is no suppression.
    """

    _function = staticmethod(cross_entropy)

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        ohem: float | None = None,
        class_weights: ClassWeights | None = None,
        ignore_index: int | None = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cross_entropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            label_smoothing=label_smoothing,
            ohem=ohem,
            class_weights=class_weights,
            ignore_index=ignore_index,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class Focal(_FunctionLoss):
    """Focal loss: cross-entropy in which pixels that are right already weigh little.

    ::

        pixel loss = -w_y * (1 - p_y) ** gamma * log(p_y)

    with the probability p_y of the true class y and its weight w_y. An image's loss is the mean
    over its valid pixels.

    Range: at least 0, without an upper end. Empty: 0 for an image without a valid pixel.

    Args:
        gamma: How strongly pixels that are right already are weighted down, at least 0; with 0 this
            is cross-entropy.
        class_weights: A factor for the pixels of each true class, at least 0. None: all 1.
        ignore_index: The label of pixels that do not count, or None where all do.
        from_logits: Whether ``y_pred`` holds logits; else probabilities that sum to 1 over classes.
        reduction: How Keras reduces the values of the images; see the module for the mean.
        name: The loss's name.
        dtype: "float64" computes in float64; otherwise float32.

    Raises:
        ValueError: If an option is out of its range.
        TypeError: If ``class_weights`` is not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_pred = np.log([[[[0.9, 0.1], [0.5, 0.5]]]]).astype("float32")
        >>> loss = losses.Focal(gamma=2.0)
        >>> round(float(loss([[[0, 255]]], y_pred)), 6)  # 0.1 ** 2 * -log(0.9)
        0.001054

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017, section 3. Their alpha is
        ``class_weights``; the sum is divided by the valid pixels, not by the foreground.
    """

    _function = staticmethod(focal)

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        class_weights: ClassWeights | None = None,
        ignore_index: int | None = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "focal",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            gamma=gamma,
            class_weights=class_weights,
            ignore_index=ignore_index,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class Dice(_FunctionLoss):
    """Soft Dice loss: 1 minus the F1 score of probabilities.

    ::

        class loss = 1 - (2 * sum(p * t) + smooth) / (sum(p) + sum(t) + smooth)

    with the probabilities p and the truth t in {0, 1} of one class, summed over the valid pixels of
    one image. An image's loss is the weighted mean over the classes in its truth. A class that is
    not in it has no term of its own: what is wrongly given to it is missing elsewhere.

    Range: [0, 1]; 0 for a perfect prediction, whichever classes are there. Empty: 0 for an image
    without a valid pixel.

    Args:
        smooth: Added to numerator and denominator, in pixels, at least 0.
        class_weights: The weight of each class in the mean over classes, at least 0. None: all 1.
        ignore_index: The label of pixels that do not count, or None where all do.
        from_logits: Whether ``y_pred`` holds logits; else probabilities that sum to 1 over classes.
        reduction: How Keras reduces the values of the images; see the module for the mean.
        name: The loss's name.
        dtype: "float64" computes in float64; otherwise float32.

    Raises:
        ValueError: If an option is out of its range.
        TypeError: If ``class_weights`` is not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_true = np.array([[[0, 0], [0, 1]]])
        >>> y_pred = np.full((1, 2, 2, 2), 0.5, "float32")
        >>> loss = losses.Dice(from_logits=False)
        >>> round(float(loss(y_true, y_pred)), 4)  # (1 - 3 / 5 + 1 - 1 / 3) / 2
        0.5333

    References:
        Milletari et al., V-Net, 2016, section 3; they square the terms of the denominator.
    """

    _function = staticmethod(dice)

    def __init__(
        self,
        *,
        smooth: float = 0.0,
        class_weights: ClassWeights | None = None,
        ignore_index: int | None = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            smooth=smooth,
            class_weights=class_weights,
            ignore_index=ignore_index,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class Jaccard(_FunctionLoss):
    """Soft Jaccard loss: 1 minus the IoU of probabilities.

    ::

        class loss = 1 - (sum(p * t) + smooth) / (sum(p) + sum(t) - sum(p * t) + smooth)

    with the probabilities p and the truth t in {0, 1} of one class, summed over the valid pixels of
    one image. An image's loss is the weighted mean over the classes in its truth.

    Range: [0, 1]; 0 for a perfect prediction, whichever classes are there. Empty: 0 for an image
    without a valid pixel.

    Args:
        smooth: Added to numerator and denominator, in pixels, at least 0.
        class_weights: The weight of each class in the mean over classes, at least 0. None: all 1.
        ignore_index: The label of pixels that do not count, or None where all do.
        from_logits: Whether ``y_pred`` holds logits; else probabilities that sum to 1 over classes.
        reduction: How Keras reduces the values of the images; see the module for the mean.
        name: The loss's name.
        dtype: "float64" computes in float64; otherwise float32.

    Raises:
        ValueError: If an option is out of its range.
        TypeError: If ``class_weights`` is not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_true = np.array([[[0, 0], [0, 1]]])
        >>> y_pred = np.full((1, 2, 2, 2), 0.5, "float32")
        >>> loss = losses.Jaccard(from_logits=False)
        >>> round(float(loss(y_true, y_pred)), 4)  # (1 - 1.5 / 3.5 + 1 - 0.5 / 2.5) / 2
        0.6857

    References:
        Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image
        Segmentation, 2016; here for several classes.
    """

    _function = staticmethod(jaccard)

    def __init__(
        self,
        *,
        smooth: float = 0.0,
        class_weights: ClassWeights | None = None,
        ignore_index: int | None = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "jaccard",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            smooth=smooth,
            class_weights=class_weights,
            ignore_index=ignore_index,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class Tversky(_FunctionLoss):
    """Tversky loss: an overlap loss that weighs false positives and false negatives apart.

    ::

        class loss = (1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)) ** gamma
        tp = sum(p * t), fp = sum(p * (1 - t)), fn = sum((1 - p) * t)

    with the probabilities p and the truth t in {0, 1} of one class, summed over the valid pixels of
    one image. An image's loss is the weighted mean over the classes in its truth. With
    alpha = beta = 0.5 it is Dice (there with twice the ``smooth``), with 1 Jaccard. A ``gamma``
    other than 1 makes it the focal Tversky loss; below 1, ``x ** gamma`` is a straight line under
    x = 1e-6, where its slope would be infinite.

    Range: [0, 1]; 0 for a perfect prediction, whichever classes are there. Empty: 0 for an image
    without a valid pixel.

    Args:
        alpha: The weight of false positives, at least 0.
        beta: The weight of false negatives, at least 0.
        gamma: The exponent of each class's loss, at least 0.
        smooth: Added to numerator and denominator, in pixels, at least 0.
        class_weights: The weight of each class in the mean over classes, at least 0. None: all 1.
        ignore_index: The label of pixels that do not count, or None where all do.
        from_logits: Whether ``y_pred`` holds logits; else probabilities that sum to 1 over classes.
        reduction: How Keras reduces the values of the images; see the module for the mean.
        name: The loss's name.
        dtype: "float64" computes in float64; otherwise float32.

    Raises:
        ValueError: If an option is out of its range.
        TypeError: If ``class_weights`` is not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_true = np.array([[[0, 0], [0, 1]]])
        >>> y_pred = np.full((1, 2, 2, 2), 0.5, "float32")
        >>> loss = losses.Tversky(alpha=0.2, beta=0.8, from_logits=False)
        >>> round(float(loss(y_true, y_pred)), 4)  # (1 - 1.5 / 2.8 + 1 - 0.5 / 1.2) / 2
        0.5238

    References:
        Salehi et al., Tversky Loss Function for Image Segmentation, 2017, section 2. Focal: Abraham
        and Khan, A Novel Focal Tversky Loss Function, 2019, whose exponent 1 / gamma with
        gamma = 4 / 3 is ``gamma=0.75`` here.
    """

    _function = staticmethod(tversky)

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 0.0,
        class_weights: ClassWeights | None = None,
        ignore_index: int | None = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            smooth=smooth,
            class_weights=class_weights,
            ignore_index=ignore_index,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class LovaszSoftmax(_FunctionLoss):
    """Lovász-softmax loss: the Jaccard loss of hard predictions, extended to probabilities.

    ::

        class loss = sum over k of m_k * (J_k - J_{k-1})

    with the errors m = abs(t - p) of one class in the valid pixels of one image, sorted downwards,
    and the Jaccard loss J_k = 1 - IoU of the prediction that is wrong in exactly the first k of
    them (J_0 = 0). It is convex and piecewise linear in the errors, and where every p is 0 or 1 it
    equals 1 - IoU of the class. An image's loss is the weighted mean over the classes in its truth.

    Range: [0, 1]; 0 for a perfect prediction, whichever classes are there. Empty: 0 for an image
    without a valid pixel.

    Args:
        class_weights: The weight of each class in the mean over classes, at least 0. None: all 1.
        ignore_index: The label of pixels that do not count, or None where all do.
        from_logits: Whether ``y_pred`` holds logits; else probabilities that sum to 1 over classes.
        reduction: How Keras reduces the values of the images; see the module for the mean.
        name: The loss's name.
        dtype: "float64" computes in float64; otherwise float32.

    Raises:
        ValueError: If an option is out of its range.
        TypeError: If ``class_weights`` is not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_true = np.array([[[0, 0], [0, 1]]])
        >>> y_pred = np.eye(2, dtype="float32")[[[[0, 0], [1, 1]]]]
        >>> loss = losses.LovaszSoftmax(from_logits=False)
        >>> round(float(loss(y_true, y_pred)), 4)  # (1 - 2 / 3 + 1 - 1 / 2) / 2
        0.4167

    References:
        Berman et al., The Lovász-Softmax loss, 2018, section 3 and algorithm 1; classes "present",
        image by image.
    """

    _function = staticmethod(lovasz_softmax)

    def __init__(
        self,
        *,
        class_weights: ClassWeights | None = None,
        ignore_index: int | None = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "lovasz_softmax",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            class_weights=class_weights,
            ignore_index=ignore_index,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class Boundary(_FunctionLoss):
    """Boundary-weighted cross-entropy: pixels close to another class weigh more.

    ::

        image loss = sum(b * w_y * -log(p_y)) / sum(b)

    over the valid pixels, with the probability p_y of the true class y and its weight w_y, and
    b = ``boundary_weight`` where a valid pixel of another class lies at most ``radius`` rows and
    columns away, else 1. Ignored pixels make no boundary. Where there is no boundary, this is
    cross-entropy.

    Range: at least 0, without an upper end; log(classes) for uniform predictions. Empty: 0 for an
    image without a valid pixel.

    Args:
        radius: How far from another class a pixel still belongs to the boundary, in pixels of the
            label map, at least 1.
        boundary_weight: The weight of a boundary pixel, at least 1; any other weighs 1.
        class_weights: A factor for the pixels of each true class, at least 0. None: all 1.
        ignore_index: The label of pixels that do not count, or None where all do.
        from_logits: Whether ``y_pred`` holds logits; else probabilities that sum to 1 over classes.
        reduction: How Keras reduces the values of the images; see the module for the mean.
        name: The loss's name.
        dtype: "float64" computes in float64; otherwise float32.

    Raises:
        ValueError: If an option is out of its range.
        TypeError: If ``class_weights`` is not of numbers.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> y_true = np.array([[[0, 0, 0, 1]]])
        >>> y_pred = np.array([[[[0, 0], [99, 0], [99, 0], [0, 99]]]], "float32")
        >>> loss = losses.Boundary(radius=1, boundary_weight=4.0)
        >>> round(float(loss(y_true, y_pred)), 4)  # log(2) / (1 + 1 + 4 + 4)
        0.0693

    References:
        Ronneberger et al., U-Net, 2015, equation 2; here a band of one weight takes the place of
        their Gaussian of the distance to two cells.
    """

    _function = staticmethod(boundary)

    def __init__(
        self,
        *,
        radius: int = 2,
        boundary_weight: float = 5.0,
        class_weights: ClassWeights | None = None,
        ignore_index: int | None = 255,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "boundary",
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            radius=radius,
            boundary_weight=boundary_weight,
            class_weights=class_weights,
            ignore_index=ignore_index,
            from_logits=from_logits,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable(package="deeplab_fashion")
class Combined(_SegmentationLoss):
    """The weighted sum of several losses.

    ::

        loss = sum over k of weights_k * loss_k

    Each part keeps its own options, ``ignore_index`` and ``from_logits`` among them, and its own
    mean over images; only its reduction is that of the whole.

    Range: from the weighted sum of the parts' least values to that of their largest. Empty: 0 where
    every part is.

    Args:
        losses: At least one loss of this module.
        weights: The factor of each, at least 0. None: all 1.
        reduction: How Keras reduces the values of the images; see the module for the mean.
        name: The loss's name.
        dtype: "float64" computes in float64; otherwise float32.

    Raises:
        TypeError: If one of the losses is not of this module.
        ValueError: If there are no losses, or not one weight for each.

    Example:
        >>> import numpy as np
        >>> from deeplab_fashion import losses
        >>> loss = losses.Combined([losses.CrossEntropy(), losses.Dice()], weights=[1.0, 0.5])
        >>> round(float(loss(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 2), "float32"))), 4)
        0.8598

    References:
        Isensee et al., nnU-Net, 2021, sums cross-entropy and Dice.
    """

    def __init__(
        self,
        losses: Sequence[_SegmentationLoss],
        *,
        weights: Sequence[float] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "combined",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._losses = list(losses)
        for loss in self._losses:
            if not isinstance(loss, _SegmentationLoss):
                raise TypeError(f"losses must be losses of {__name__}, received {loss!r}")
        self._weights = _checked_weights(
            "weights", [1] * len(self._losses) if weights is None else weights
        )
        if not self._losses or len(self._weights) != len(self._losses):
            raise ValueError(
                "losses must be at least one, and weights one number for each; "
                f"received {len(self._losses)} losses and {len(self._weights)} weights"
            )

    def _image_losses(self, y_true: Any, y_pred: Any, *, averaged: bool) -> tf.Tensor:
        parts = zip(self._losses, self._weights, strict=True)
        return tf.add_n(
            [
                weight * loss._image_losses(y_true, y_pred, averaged=averaged)
                for loss, weight in parts
            ]
        )

    def get_config(self) -> dict[str, Any]:
        """Return what ``from_config`` makes the same loss from."""
        losses = [keras.saving.serialize_keras_object(loss) for loss in self._losses]
        return {**super().get_config(), "losses": losses, "weights": self._weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the loss that a ``get_config`` describes."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        arguments: dict[str, Any] = {**config, "losses": losses}
        return cls(**arguments)
