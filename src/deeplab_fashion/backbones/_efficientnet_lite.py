"""EfficientNet-Lite0, which keras.applications does not have."""

from typing import Any

import keras

# stage: (blocks, kernel size, stride, filters, expansion)
_STAGES = (
    (1, 3, 1, 16, 1),
    (2, 3, 2, 24, 6),
    (2, 5, 2, 40, 6),
    (3, 3, 2, 80, 6),
    (3, 5, 1, 112, 6),
    (4, 5, 2, 192, 6),
    (1, 3, 1, 320, 6),
)


def _normalised(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=name)(x)


def _conv(x: Any, filters: int, kernel_size: int, strides: int, name: str) -> Any:
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def efficientnet_lite0(*, include_top: bool = False) -> keras.Model:
    """Build the classification network at stride 32, without weights.

    Args:
        include_top: Whether the 1280-channel layer, the pooling and the 1000 logits follow.

    Returns:
        A model from (batch, height, width, 3), values in [-1, 1], to the last block's features at
        stride 32, or to logits.

    Example:
        >>> efficientnet_lite0(include_top=True).output_shape
        (None, 1000)

    References:
        https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    inputs = keras.Input((None, None, 3))
    x = _normalised(_conv(inputs, 32, 3, 2, "stem_conv"), "stem_bn")
    x = keras.layers.ReLU(6.0, name="stem_activation")(x)
    for stage, (blocks, kernel_size, stride, filters, expansion) in enumerate(_STAGES, start=1):
        for position in range(blocks):
            name = f"block{stage}{chr(ord('a') + position)}_"
            entry = x
            if expansion > 1:
                width = entry.shape[-1] * expansion
                x = _normalised(_conv(x, width, 1, 1, name + "expand_conv"), name + "expand_bn")
                x = keras.layers.ReLU(6.0, name=name + "expand_activation")(x)
            x = keras.layers.DepthwiseConv2D(
                kernel_size,
                stride if position == 0 else 1,
                padding="same",
                use_bias=False,
                depthwise_initializer="he_normal",
                name=name + "dwconv",
            )(x)
            x = keras.layers.ReLU(6.0, name=name + "activation")(_normalised(x, name + "bn"))
            x = _normalised(_conv(x, filters, 1, 1, name + "project_conv"), name + "project_bn")
            if position > 0:
                x = keras.layers.Add(name=name + "add")([x, entry])
    if include_top:
        x = _normalised(_conv(x, 1280, 1, 1, "top_conv"), "top_bn")
        x = keras.layers.ReLU(6.0, name="top_activation")(x)
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = keras.layers.Dense(1000, name="predictions")(x)
    return keras.Model(inputs, x, name="efficientnetlite0")
