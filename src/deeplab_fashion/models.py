"""The segmentation networks: DeepLabV3+ and DeepLabV3 on any backbone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from deeplab_fashion import backbones, layers

__all__ = ["DeepLabV3", "DeepLabV3Plus"]

_RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}


def DeepLabV3Plus(  # noqa: N802 - reads as the class of network it builds
    num_classes: int = 6,
    *,
    backbone: str = "inceptionresnetv2",
    input_size: tuple[int, int] | None = None,
    output_stride: int = 16,
    weights: str | Path | None = "imagenet",
    activation: str | None = None,
    input_channels: int = 3,
    atrous_rates: Sequence[int] | None = None,
    aspp_filters: int = 256,
    decoder_filters: int = 256,
    skip_filters: int = 48,
    separable: bool = True,
    dropout: float = 0.1,
    multi_grid: Sequence[int] = (1,),
    batch_norm_momentum: float | None = None,
    freeze_batch_norm: bool = False,
    synchronized: bool = False,
) -> keras.Model:
    """Build a DeepLabV3+ network."""
    image = keras.Input((*(input_size or (None, None)), input_channels), name="image")
    features = backbones.create(
        backbone,
        input_size,
        output_stride,
        weights,
        input_channels=input_channels,
        multi_grid=multi_grid,
        batch_norm_momentum=batch_norm_momentum,
        freeze_batch_norm=freeze_batch_norm,
        synchronized=synchronized,
    )(image)
    head: dict[str, Any] = {
        "separable": separable,
        "batch_norm_momentum": 0.99 if batch_norm_momentum is None else batch_norm_momentum,
        "synchronized": synchronized,
    }
    x = layers.ASPP(
        aspp_filters,
        rates=atrous_rates or _RATES[output_stride],
        dropout=dropout,
        name="aspp",
        **head,
    )(features[-1])
    x = layers.DeepLabDecoder(decoder_filters, skip_filters=skip_filters, name="decoder", **head)(
        [x, features[0]]
    )
    x = keras.layers.Conv2D(num_classes, 1, name="head", dtype="float32")(x)
    x = layers.ResizeToMatch(name="logits", dtype="float32")([x, image])
    if activation is not None:
        x = keras.layers.Activation(activation, name="activation", dtype="float32")(x)
    return keras.Model(image, x, name="deeplabv3plus")


DeepLabV3 = DeepLabV3Plus
