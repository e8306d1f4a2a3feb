"""The Keras layers of a DeepLab network: pyramid pooling, decoder, and the blocks they share.

Every layer works on images of any size, in any floating-point precision, and can be saved and
loaded by name. Sizes are ``(height, width)`` and data is channels-last throughout.
"""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

__all__ = [
    "ASPP",
    "BatchNormalization",
    "ConvBlock",
    "CropToMatch",
    "DeepLabDecoder",
    "DepthwiseConv2D",
    "DilatedMaxPooling2D",
    "ImagePooling",
    "PadToMultiple",
    "Preprocessing",
    "ResizeToMatch",
]

_register = keras.saving.register_keras_serializable(package="deeplab_fashion")

Shape = tuple[int | None, ...]


def _require_positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, received {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, received {value}")
    return value


def _build(layer: keras.layers.Layer, shape: Shape) -> Shape:
    """Build ``layer`` under its own name scope, so that a saved file finds its variables."""
    if not layer.built:
        layer.build(shape)
    return tuple(layer.compute_output_shape(shape))


@_register
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel.

    The same mathematics, variables and options as ``keras.layers.BatchNormalization``; the fused
    kernel reads the batch once instead of five times and stays in bfloat16 under
    ``mixed_bfloat16``. Masks, renormalisation, replicas in step and axes other than the last take
    Keras' own way.

    Example:
        >>> features = np.array([[[[0.0], [4.0]]]], "float32")
        >>> BatchNormalization()(features, training=True).numpy().ravel().round(2)
        array([-1.,  1.], dtype=float32)
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise ``inputs`` of shape (batch, height, width, channels)."""
        fusable = (
            mask is None
            and not self.renorm
            and not self.synchronized
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and inputs.dtype in (tf.float32, tf.bfloat16, tf.float16)
            and self.variable_dtype == "float32"
            and self.epsilon >= 1.001e-5  # the smallest that the kernel takes as it is
        )
        if not fusable:
            return super().call(inputs, training=training, mask=mask)
        moving_mean = tf.convert_to_tensor(self.moving_mean)
        moving_variance = tf.convert_to_tensor(self.moving_variance)
        channels = moving_mean.shape
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else tf.constant(1.0, shape=channels)
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.constant(0.0, shape=channels)
        in_training = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=tf.zeros([0]) if in_training else moving_mean,
            variance=tf.zeros([0]) if in_training else moving_variance,
            epsilon=self.epsilon,
            is_training=in_training,
        )
        if in_training:
            # The kernel gives the unbiased variance; Keras averages the biased one.
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            variance *= (count - 1.0) / count
            averages: tuple[Any, Any] = (self.moving_mean, self.moving_variance)
            old_and_new = ((moving_mean, mean), (moving_variance, variance))
            for average, (old, new) in zip(averages, old_and_new, strict=True):
                average.assign(old * self.momentum + new * (1.0 - self.momentum))
        return outputs


@_register
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Depthwise convolution whose gradients are taken in float32 when it runs in half precision.

    Otherwise ``keras.layers.DepthwiseConv2D``. The processor's bfloat16 kernels for these two
    gradients are up to ten times slower than their float32 ones, while the forward one is faster.

    Example:
        >>> layer = DepthwiseConv2D(3, padding="same", depthwise_initializer="ones")
        >>> layer(np.ones((1, 3, 3, 2), "float32")).numpy()[0, :, :, 0]
        array([[4., 6., 4.],
               [6., 9., 6.],
               [4., 6., 4.]], dtype=float32)
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Convolve ``inputs`` of shape (batch, height, width, channels)."""
        if self.compute_dtype == "float32" or not training:
            return super().call(inputs)

        settings: dict[str, Any] = {
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
        }

        def convolve(x: Any, kernel: Any) -> Any:
            return keras.ops.depthwise_conv(x, kernel, **settings)

        @tf.custom_gradient
        def convolve_exactly(x: Any, kernel: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                with tf.GradientTape() as tape:
                    exact = [tf.cast(x, tf.float32), tf.cast(kernel, tf.float32)]
                    tape.watch(exact)
                    outputs = convolve(*exact)
                slopes: Any = tape.gradient(outputs, exact, tf.cast(upstream, tf.float32))
                return [tf.cast(slope, x.dtype) for slope in slopes]

            return convolve(x, kernel), gradient

        outputs = convolve_exactly(inputs, tf.cast(self.kernel, self.compute_dtype))
        if self.use_bias:
            outputs += tf.cast(self.bias, self.compute_dtype)
        activation: Any = self.activation
        return outputs if activation is None else activation(outputs)


@_register
class Preprocessing(keras.layers.Layer):
    """Turn raw pixels in [0, 255] into what a pre-trained network was trained on.

        y = (x - mean) / scale

    Args:
        mean: Subtracted from each channel, in grey levels; one number or one per channel.
        scale: What each channel is then divided by, in grey levels; one number or one per channel.
        reverse_channels: Whether RGB becomes BGR first.

    Example:
        >>> layer = Preprocessing(mean=127.5, scale=127.5)
        >>> layer(tf.constant([[[[0.0, 127.5, 255.0]]]])).numpy().tolist()
        [[[[-1.0, 0.0, 1.0]]]]
    """

    def __init__(
        self,
        *,
        mean: float | Sequence[float] = 0.0,
        scale: float | Sequence[float] = 1.0,
        reverse_channels: bool = False,
        **kwargs: Any,
    ) -> None:
        # Raw pixels are not exact in half precision: they come in as float32 and leave as float32.
        super().__init__(**{"autocast": False, **kwargs})
        self.mean = mean if isinstance(mean, (int, float)) else list(mean)
        self.scale = scale if isinstance(scale, (int, float)) else list(scale)
        self.reverse_channels = reverse_channels

    def call(self, inputs: Any) -> Any:
        """Map raw pixels (batch, height, width, channels) to network input, same shape."""
        inputs = tf.cast(inputs, tf.float32)
        if self.reverse_channels:
            inputs = tf.reverse(inputs, axis=[-1])
        mean = tf.constant(self.mean, tf.float32)
        outputs = (inputs - mean) / tf.constant(self.scale, tf.float32)
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return ``input_shape``: nothing is resized."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {
            "mean": self.mean,
            "scale": self.scale,
            "reverse_channels": self.reverse_channels,
        }


@_register
class PadToMultiple(keras.layers.Layer):
    """Frame photos so that both sides are whole multiples of a stride.

    A strided convolution samples an odd size at other places than an even one; only at whole
    multiples of the stride do a network's coarse and fine features lie as it learnt them. The photo
    stays in the middle, one pixel nearer to the top or left where the frame cannot be even.

    Args:
        multiple: What the height and the width become whole multiples of, in pixels. At least 1.
        value: Grey level of the frame.

    Example:
        >>> import numpy as np
        >>> PadToMultiple(16)(np.ones((1, 33, 32, 3))).shape
        TensorShape([1, 48, 32, 3])
    """

    def __init__(self, multiple: int, *, value: float = 127.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple = _require_positive("multiple", multiple)
        self.value = value

    def call(self, inputs: Any) -> Any:
        """Return (batch, framed height, framed width, channels)."""
        if all(side is not None and side % self.multiple == 0 for side in inputs.shape[1:3]):
            return inputs
        # Joined, not tf.pad: behind paddings that are computed the LiteRT converter no longer knows
        # the channels. Not `-size % multiple`: ONNX converters take that remainder wrongly.
        framed = inputs
        for axis in (1, 2):
            shape = tf.unstack(tf.shape(framed))
            room = (self.multiple - shape[axis] % self.multiple) % self.multiple
            before, after = (
                tf.fill(
                    [*shape[:axis], side, *shape[axis + 1 :]], tf.cast(self.value, inputs.dtype)
                )
                for side in (room // 2, room - room // 2)
            )
            framed = tf.concat([before, framed, after], axis)
        framed.set_shape(self.compute_output_shape(inputs.shape))
        return framed

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the framed size with the input's channels."""
        batch, height, width, channels = tuple(input_shape)
        sides = (side and side + -side % self.multiple for side in (height, width))
        return (batch, *sides, channels)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {"multiple": self.multiple, "value": self.value}


@_register
class CropToMatch(keras.layers.Layer):
    """Cut the middle of a feature map out, at another tensor's height and width.

    Called with ``[features, reference]``; takes away again what ``PadToMultiple`` added.

    Example:
        >>> import numpy as np
        >>> CropToMatch()([np.ones((1, 48, 32, 8)), np.ones((1, 33, 32, 3))]).shape
        TensorShape([1, 33, 32, 8])
    """

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return the features' middle, at the reference's size."""
        features, reference = inputs
        if None not in reference.shape[1:3] and reference.shape[1:3] == features.shape[1:3]:
            return features
        height, width = tf.unstack(tf.shape(reference)[1:3])
        top, left = tf.unstack((tf.shape(features)[1:3] - tf.shape(reference)[1:3]) // 2)
        cropped = features[:, top : top + height, left : left + width]
        cropped.set_shape(self.compute_output_shape([features.shape, reference.shape]))
        return cropped

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        """Return the reference's height and width with the features' channels."""
        features, reference = input_shape
        return (features[0], reference[1], reference[2], features[3])


@_register
class ResizeToMatch(keras.layers.Layer):
    """Resize a feature map bilinearly to another tensor's height and width.

    Called with ``[features, reference]``. The size is read from the reference when the layer runs,
    so one network takes images of any size, odd ones too. Pixel centres are aligned (half-pixel
    centres, no aligned corners).

    Example:
        >>> import numpy as np
        >>> layer = ResizeToMatch()
        >>> layer([np.ones((1, 3, 3, 8)), np.ones((1, 7, 5, 3))]).shape
        TensorShape([1, 7, 5, 8])
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return the features at the reference's size, in the layer's compute precision."""
        features, reference = inputs
        if reference.shape[1] is not None and reference.shape[1:3] == features.shape[1:3]:
            return features
        resized = tf.image.resize(features, tf.shape(reference)[1:3], method="bilinear")
        static = (features.shape[0], reference.shape[1], reference.shape[2], features.shape[3])
        return tf.ensure_shape(tf.cast(resized, self.compute_dtype), static)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        """Return the reference's height and width with the features' channels."""
        features, reference = input_shape
        return (features[0], reference[1], reference[2], features[3])


@_register
class DilatedMaxPooling2D(keras.layers.MaxPooling2D):
    """Max pooling at stride 1 whose window is spread out by a dilation rate.

    What a strided pooling becomes when an earlier stride of the same network was removed.

    Args:
        pool_size: Height and width of the window, in samples.
        dilation_rate: Distance between two samples of the window, in pixels. At least 1.
        padding: ``"same"``; the border does not take part in the maximum.

    Example:
        >>> import numpy as np
        >>> x = np.zeros((1, 5, 5, 1), "float32"); x[0, 2, 2] = 1
        >>> int(np.sum(DilatedMaxPooling2D(3, dilation_rate=2)(x)))
        9
    """

    def __init__(
        self, pool_size: Any = 3, *, dilation_rate: int = 1, padding: str = "same", **kwargs: Any
    ) -> None:
        kwargs.pop("strides", None)
        if padding != "same":
            raise ValueError(f"padding must be 'same', received {padding!r}")
        super().__init__(pool_size, strides=1, padding="same", **kwargs)
        self.dilation_rate = _require_positive("dilation_rate", dilation_rate)

    def call(self, inputs: Any) -> Any:
        """Return the maximum over each spread-out window, at the input's size."""
        outputs = inputs
        for axis, window in zip((1, 2), self.pool_size, strict=True):
            reach = self.dilation_rate * (window - 1)
            before = self.dilation_rate * ((window - 1) // 2)
            padding = [[0, 0], [0, 0], [0, 0], [0, 0]]
            padding[axis] = [before, reach - before]
            padded = tf.pad(outputs, padding, constant_values=outputs.dtype.min)
            size = tf.shape(inputs)[axis]
            starts = range(0, reach + 1, self.dilation_rate)
            shifted = [
                padded[:, s : s + size] if axis == 1 else padded[:, :, s : s + size] for s in starts
            ]
            outputs = functools.reduce(tf.maximum, shifted)
        return tf.ensure_shape(outputs, inputs.shape)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {"dilation_rate": self.dilation_rate}


@_register
class ConvBlock(keras.layers.Layer):
    """Convolution, batch normalisation, ReLU: the unit that ASPP and decoder are made of.

    Args:
        filters: Output channels. At least 1.
        kernel_size: Height and width of the kernel, in pixels. At least 1.
        dilation_rate: Distance between two taps of the kernel, in pixels. At least 1.
        separable: A depthwise convolution followed by a 1x1 convolution in place of a dense
            kernel. Without effect on a 1x1 kernel.
        batch_norm_momentum: How much of the moving average a step keeps, in [0, 1).
        synchronized: Whether replicas share their batch statistics.

    References:
        Chen et al., Encoder-Decoder with Atrous Separable Convolution for Semantic Image
        Segmentation, 2018. Deviation: no normalisation or activation between the depthwise and the
        1x1 convolution, which saves two passes over the widest tensors.

    Example:
        >>> import numpy as np
        >>> ConvBlock(16, 3, dilation_rate=2, separable=True)(np.ones((1, 9, 9, 8))).shape
        TensorShape([1, 9, 9, 16])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 1,
        *,
        dilation_rate: int = 1,
        separable: bool = False,
        batch_norm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = _require_positive("filters", filters)
        self.kernel_size = _require_positive("kernel_size", kernel_size)
        self.dilation_rate = _require_positive("dilation_rate", dilation_rate)
        self.separable = separable
        self.batch_norm_momentum = batch_norm_momentum
        self.synchronized = synchronized
        self.depthwise: keras.layers.Layer | None = None
        dense_size = kernel_size
        if separable and kernel_size > 1:
            self.depthwise = DepthwiseConv2D(
                kernel_size,
                padding="same",
                dilation_rate=dilation_rate,
                use_bias=False,
                depthwise_initializer="he_normal",
                dtype=self.dtype_policy,
                trainable=self.trainable,
                name="depthwise",
            )
            dense_size = 1
        self.convolution = keras.layers.Conv2D(
            filters,
            dense_size,
            padding="same",
            dilation_rate=1 if dense_size == 1 else dilation_rate,
            use_bias=False,
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name="convolution",
        )
        self.batch_norm = BatchNormalization(
            momentum=batch_norm_momentum,
            synchronized=synchronized,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name="batch_norm",
        )

    def build(self, input_shape: Shape) -> None:
        """Create the variables for ``input_shape`` = (batch, height, width, channels)."""
        shape = tuple(input_shape)
        if self.depthwise is not None:
            shape = _build(self.depthwise, shape)
        shape = _build(self.convolution, shape)
        _build(self.batch_norm, shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return (batch, height, width, filters), all values at least 0."""
        x = inputs if self.depthwise is None else self.depthwise(inputs, training=training)
        return tf.nn.relu(self.batch_norm(self.convolution(x), training=training))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's size with ``filters`` channels."""
        return (*tuple(input_shape)[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "dilation_rate": self.dilation_rate,
            "separable": self.separable,
            "batch_norm_momentum": self.batch_norm_momentum,
            "synchronized": self.synchronized,
        }


@_register
class ImagePooling(keras.layers.Layer):
    """The whole image's mean feature, projected and spread over every pixel again.

    Args:
        filters: Output channels. At least 1.
        batch_norm_momentum: As in ``ConvBlock``.
        synchronized: As in ``ConvBlock``.

    References:
        Liu et al., ParseNet: Looking Wider to See Better, 2015.

    Example:
        >>> import numpy as np
        >>> ImagePooling(16)(np.ones((1, 9, 7, 8))).shape
        TensorShape([1, 9, 7, 16])
    """

    def __init__(
        self,
        filters: int,
        *,
        batch_norm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = _require_positive("filters", filters)
        self.batch_norm_momentum = batch_norm_momentum
        self.synchronized = synchronized
        self.projection = ConvBlock(
            filters,
            batch_norm_momentum=batch_norm_momentum,
            synchronized=synchronized,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name="projection",
        )

    def build(self, input_shape: Shape) -> None:
        """Create the variables for ``input_shape`` = (batch, height, width, channels)."""
        _build(self.projection, (input_shape[0], 1, 1, input_shape[3]))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return (batch, height, width, filters), the same value at every pixel of an image."""
        mean = tf.reduce_mean(tf.cast(inputs, tf.float32), axis=(1, 2), keepdims=True)
        projected = self.projection(tf.cast(mean, inputs.dtype), training=training)
        return projected + tf.zeros_like(inputs[..., :1])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's size with ``filters`` channels."""
        return (*tuple(input_shape)[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {
            "filters": self.filters,
            "batch_norm_momentum": self.batch_norm_momentum,
            "synchronized": self.synchronized,
        }


@_register
class ASPP(keras.layers.Layer):
    """Atrous spatial pyramid pooling: one feature map seen at several scales at once.

    A 1x1 convolution, one 3x3 convolution per rate, and the pooled image run side by side on
    the input; their concatenation is projected by a 1x1 convolution.

    Args:
        filters: Channels of every branch and of the output. At least 1.
        rates: Dilation rate of each 3x3 branch, in pixels of the input. (6, 12, 18) belongs to
            output stride 16, (12, 24, 36) to 8.
        separable: Depthwise separable branches; False for dense 3x3 kernels.
        dropout: Share of the output's values dropped in training, in [0, 1).
        batch_norm_momentum: As in ``ConvBlock``.
        synchronized: As in ``ConvBlock``.

    Raises:
        ValueError: If a rate is below 1 or ``dropout`` is outside [0, 1).

    References:
        Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017, section
        3.3; separable branches after Chen et al., 2018. Deviations: batch-norm momentum is Keras'
        0.99 in place of 0.9997, and dropout is 0.1, as in the authors' later code.

    Example:
        >>> import numpy as np
        >>> ASPP(32, rates=(2, 4))(np.ones((1, 9, 7, 8))).shape
        TensorShape([1, 9, 7, 32])
    """

    def __init__(
        self,
        filters: int = 256,
        *,
        rates: Sequence[int] = (6, 12, 18),
        separable: bool = True,
        dropout: float = 0.1,
        batch_norm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = _require_positive("filters", filters)
        self.rates = tuple(_require_positive("rates", rate) for rate in rates)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), received {dropout}")
        self.separable = separable
        self.dropout = dropout
        self.batch_norm_momentum = batch_norm_momentum
        self.synchronized = synchronized
        common: dict[str, Any] = {
            "batch_norm_momentum": batch_norm_momentum,
            "synchronized": synchronized,
            "dtype": self.dtype_policy,
            "trainable": self.trainable,
        }
        self.branches = [ConvBlock(filters, name="pointwise", **common)]
        self.branches += [
            ConvBlock(
                filters,
                3,
                dilation_rate=rate,
                separable=separable,
                name=f"rate{position}",
                **common,
            )
            for position, rate in enumerate(self.rates)
        ]
        self.branches.append(ImagePooling(filters, name="image_pooling", **common))
        self.projection = ConvBlock(filters, name="projection", **common)
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="drop")

    def build(self, input_shape: Shape) -> None:
        """Create the variables for ``input_shape`` = (batch, height, width, channels)."""
        for branch in self.branches:
            _build(branch, tuple(input_shape))
        joined = self.filters * len(self.branches)
        _build(self.projection, (*tuple(input_shape)[:3], joined))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return (batch, height, width, filters)."""
        seen = [branch(inputs, training=training) for branch in self.branches]
        projected = self.projection(tf.concat(seen, axis=-1), training=training)
        return self.drop(projected, training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's size with ``filters`` channels."""
        return (*tuple(input_shape)[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {
            "filters": self.filters,
            "rates": list(self.rates),
            "separable": self.separable,
            "dropout": self.dropout,
            "batch_norm_momentum": self.batch_norm_momentum,
            "synchronized": self.synchronized,
        }


@_register
class DeepLabDecoder(keras.layers.Layer):
    """Sharpen deep features with early, fine ones.

    Called with ``[deep, skip]``: the skip is reduced by a 1x1 convolution, the deep features are
    resized to the skip's size, and two 3x3 convolutions refine their concatenation.

    Args:
        filters: Output channels. At least 1.
        skip_filters: Channels that the skip is reduced to. At least 1.
        separable: Depthwise separable 3x3 convolutions; False for dense ones.
        batch_norm_momentum: As in ``ConvBlock``.
        synchronized: As in ``ConvBlock``.

    References:
        Chen et al., Encoder-Decoder with Atrous Separable Convolution for Semantic Image
        Segmentation, 2018, section 3.1 and table 1 for the 48 channels.

    Example:
        >>> import numpy as np
        >>> DeepLabDecoder(32)([np.ones((1, 4, 4, 8)), np.ones((1, 15, 13, 6))]).shape
        TensorShape([1, 15, 13, 32])
    """

    def __init__(
        self,
        filters: int = 256,
        *,
        skip_filters: int = 48,
        separable: bool = True,
        batch_norm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = _require_positive("filters", filters)
        self.skip_filters = _require_positive("skip_filters", skip_filters)
        self.separable = separable
        self.batch_norm_momentum = batch_norm_momentum
        self.synchronized = synchronized
        common: dict[str, Any] = {
            "batch_norm_momentum": batch_norm_momentum,
            "synchronized": synchronized,
            "dtype": self.dtype_policy,
            "trainable": self.trainable,
        }
        self.reduction = ConvBlock(skip_filters, name="reduction", **common)
        self.resize = ResizeToMatch(dtype=self.dtype_policy, name="resize")
        self.refinements = [
            ConvBlock(filters, 3, separable=separable, name=f"refinement{position}", **common)
            for position in range(2)
        ]

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create the variables for the shapes of ``[deep, skip]``."""
        deep, skip = (tuple(shape) for shape in input_shape)
        _build(self.reduction, skip)
        shape: Shape = (*skip[:3], (deep[3] or 0) + self.skip_filters)
        for refinement in self.refinements:
            shape = _build(refinement, shape)

    def call(self, inputs: Sequence[Any], training: bool | None = None) -> Any:
        """Return (batch, height of skip, width of skip, filters)."""
        deep, skip = inputs
        skip = self.reduction(skip, training=training)
        x = tf.concat([self.resize([deep, skip]), skip], axis=-1)
        for refinement in self.refinements:
            x = refinement(x, training=training)
        return x

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        """Return the skip's size with ``filters`` channels."""
        return (*tuple(input_shape[1])[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {
            "filters": self.filters,
            "skip_filters": self.skip_filters,
            "separable": self.separable,
            "batch_norm_momentum": self.batch_norm_momentum,
            "synchronized": self.synchronized,
        }
