"""Backbones: networks pre-trained on ImageNet that give features at several strides.

Each is the architecture of ``keras.applications`` (or EfficientNet-Lite0) with strides removed and
kernels dilated up to the asked output stride; see ``register`` for an own one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeplab_fashion import layers
from deeplab_fashion.backbones._efficientnet_lite import efficientnet_lite0
from deeplab_fashion.backbones._surgery import dilate
from deeplab_fashion.errors import CheckpointError

__all__ = ["create", "efficientnet_lite0", "names", "register"]


@dataclass(frozen=True)
class _Backbone:
    build: Callable[[str | None], keras.Model]
    features: dict[int, str]
    preprocessing: dict[str, Any]


_REGISTRY: dict[str, _Backbone] = {}

# what the pixels were turned into when the networks were trained
_MINUS_ONE_TO_ONE = {"mean": 127.5, "scale": 127.5}
_CAFFE = {"mean": (103.939, 116.779, 123.68), "scale": 1.0, "reverse_channels": True}
_IMAGENET = {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)}


def register(
    name: str,
    build: Callable[[str | None], keras.Model],
    *,
    features: dict[int, str],
    mean: float | Sequence[float] = 0.0,
    scale: float | Sequence[float] = 1.0,
    reverse_channels: bool = False,
) -> None:
    """Add a backbone of your own, or replace one.

    Args:
        name: What ``create`` and ``DeepLabV3Plus(backbone=...)`` know it by.
        build: Called with ``weights``, "imagenet" or None; returns a functional
            ``keras.Model`` from (batch, height, width, 3) to its deepest features, built from
            Keras' own layers at its full stride.
        features: From stride (4, 8, 16, 32) to the name of the layer that holds the features there.
        mean: Subtracted from each channel of the photo, in grey levels.
        scale: What each channel is then divided by, in grey levels.
        reverse_channels: Whether the network was trained on BGR.

    Raises:
        ValueError: If ``features`` does not give strides that double from 4 on.
    """
    if sorted(features) not in ([4, 8, 16], [4, 8, 16, 32]):
        raise ValueError(
            f"features must name a layer for strides 4, 8, 16 and 32, received {sorted(features)}"
        )
    _REGISTRY[name] = _Backbone(
        build,
        dict(features),
        {"mean": mean, "scale": scale, "reverse_channels": reverse_channels},
    )


def names() -> list[str]:
    """Return the names of all backbones, in alphabetical order.

    Example:
        >>> "efficientnetlite0" in names()
        True
    """
    return sorted(_REGISTRY)


def create(
    name: str,
    input_size: tuple[int, int] | None = None,
    output_stride: int = 16,
    weights: str | Path | None = "imagenet",
    *,
    input_channels: int = 3,
    multi_grid: Sequence[int] = (1,),
    batch_norm_momentum: float | None = None,
    freeze_batch_norm: bool = False,
    synchronized: bool = False,
) -> keras.Model:
    """Return the backbone ``name`` as a model from raw photos to features.

    Args:
        name: One of ``names()``.
        input_size: (height, width) of the photos in pixels; None for any size.
        output_stride: Stride of the deepest features: 8, 16 or 32. Strides beyond it are removed
            and the kernels behind them dilated.
        weights: "imagenet" (downloaded by Keras), the path of a weights file, or None for random
            ones.
        input_channels: 3 for RGB. For another number the first kernel is adapted: a single channel
            counts as a grey photo, channels beyond three start without influence.
        multi_grid: Factors of the dilation of the last stage's kernels, in turn.
        batch_norm_momentum: Replaces the momentum of every batch normalisation; None keeps the
            network's own.
        freeze_batch_norm: Whether batch normalisations keep their statistics and stay untrained.
        synchronized: Whether replicas share their batch statistics.

    Returns:
        A model from (batch, height, width, input_channels), values in [0, 255], to the list of
        features at strides 4, 8, ... up to ``output_stride``, the network's deepest features last.
        Each is ceil(size / stride) wide and high.

    Raises:
        ValueError: If ``name``, ``output_stride`` or ``input_channels`` is not one of the above.
        CheckpointError: If the weights file does not fit the network.

    References:
        Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017.
    """
    if name not in _REGISTRY:
        raise ValueError(f"backbone must be one of {', '.join(names())}; received {name!r}")
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, received {output_stride!r}")
    if input_channels < 1:
        raise ValueError(f"input_channels must be at least 1, received {input_channels!r}")
    entry = _REGISTRY[name]
    source = entry.build("imagenet" if weights == "imagenet" else None)
    batch_norm: dict[str, Any] = {"synchronized": synchronized}
    if batch_norm_momentum is not None:
        batch_norm["momentum"] = batch_norm_momentum
    if freeze_batch_norm:
        batch_norm["trainable"] = False
    body, pairs = dilate(
        source,
        entry.features,
        output_stride=output_stride,
        input_channels=input_channels,
        multi_grid=multi_grid,
        batch_norm=batch_norm,
    )
    if weights == "imagenet":
        for old, new in pairs:
            new.set_weights(old.get_weights())
    elif weights is not None:
        _load(body, Path(weights))
    height, width = input_size or (None, None)
    image = keras.Input((height, width, input_channels), name="image")
    features = body(layers.Preprocessing(**entry.preprocessing, name="preprocessing")(image))
    return keras.Model(image, features, name=name)


def _load(body: keras.Model, path: Path) -> None:
    """Fill ``body`` from a file of arrays named ``layer/variable``."""
    with np.load(path) as arrays:
        for layer in body.layers:
            for variable in layer.weights:
                key = f"{layer.name}/{variable.name}"
                if key not in arrays:
                    raise CheckpointError(f"weights {path} hold no {key}, which the network needs")
                if arrays[key].shape != tuple(variable.shape):
                    raise CheckpointError(
                        f"weights {path}: {key} must have shape {tuple(variable.shape)}, "
                        f"received {arrays[key].shape}"
                    )
                variable.assign(arrays[key])


def _efficientnet_lite0(weights: str | None) -> keras.Model:
    if weights is not None:
        raise ValueError(
            "weights of efficientnetlite0 must be the path of a file or None: "
            f"Keras has none to download; received {weights!r}"
        )
    return efficientnet_lite0()


register(
    "efficientnetlite0",
    _efficientnet_lite0,
    features={4: "block2b_add", 8: "block3b_add", 16: "block5c_add", 32: "block7a_project_bn"},
    **_MINUS_ONE_TO_ONE,
)
