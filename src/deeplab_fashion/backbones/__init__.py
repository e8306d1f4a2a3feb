"""Backbones: networks pre-trained on ImageNet that give features at several strides.

Each is the architecture of ``keras.applications`` (or EfficientNet-Lite0) with strides removed and
kernels dilated up to the asked output stride; see ``register`` for an own one.
"""

import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeplab_fashion import layers
from deeplab_fashion.backbones._efficientnet_lite import efficientnet_lite0
from deeplab_fashion.backbones._surgery import adapt_channels, carry_over, dilate
from deeplab_fashion.errors import CheckpointError

__all__ = ["create", "efficientnet_lite0", "names", "register"]

Build = Callable[[str | None], keras.Model]


@dataclass(frozen=True)
class _Backbone:
    build: Build
    features: dict[int, str]
    mean: float | Sequence[float]
    scale: float | Sequence[float]
    reverse_channels: bool

    def preprocessing(self, input_channels: int) -> layers.Preprocessing:
        """Return the layer for photos of that many channels; beyond RGB they share one mean."""
        mean, scale = self.mean, self.scale
        if input_channels != 3:
            mean, scale = float(np.mean(mean)), float(np.mean(scale))
        return layers.Preprocessing(
            mean=mean,
            scale=scale,
            reverse_channels=self.reverse_channels and input_channels == 3,
            name="preprocessing",
        )


_REGISTRY: dict[str, _Backbone] = {}


def register(
    name: str,
    build: Build,
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
        features: From stride (4, 8, 16, 32) to the name of the layer that ends in the features
            there. A layer that Keras named by itself is known by its kind and its place in the
            graph: ``add_0``.
        mean: Subtracted from each channel of the photo, in grey levels.
        scale: What each channel is then divided by, in grey levels.
        reverse_channels: Whether the network was trained on BGR; ``mean`` and ``scale`` are then
            in that order.

    Raises:
        ValueError: If ``features`` does not name strides 4, 8, 16 and 32.

    Example:
        >>> def build(weights):
        ...     x = inputs = keras.Input((None, None, 3))
        ...     for stride in (2, 4, 8, 16, 32):
        ...         x = keras.layers.Conv2D(8, 3, 2, padding="same", name=f"to_{stride}")(x)
        ...     return keras.Model(inputs, x)
        >>> register("five_layers", build, features={n: f"to_{n}" for n in (4, 8, 16, 32)})
        >>> network = create("five_layers", (64, 64), output_stride=16, weights=None)
        >>> [tuple(output.shape[1:3]) for output in network.outputs][-1]
        (4, 4)
    """
    if sorted(features) != [4, 8, 16, 32]:
        raise ValueError(
            f"features must name a layer for strides 4, 8, 16 and 32, received {sorted(features)}"
        )
    _REGISTRY[name] = _Backbone(build, dict(features), mean, scale, reverse_channels)


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
    penultimate: bool = False,
) -> keras.Model:
    """Return the backbone ``name`` as a model from raw photos to features.

    Args:
        name: One of ``names()``.
        input_size: (height, width) of the photos in pixels; None for any size.
        output_stride: Stride of the deepest features: 8, 16 or 32. Strides beyond it are removed
            and the kernels behind them dilated.
        weights: "imagenet" (downloaded by Keras), the path of a weights file, or None for random
            ones. A file is a ``.npz`` of arrays named ``layer/variable``, a ``.keras`` model that
            holds layers of these names, or ``.h5`` weights of the backbone or of Keras' own
            network.
        input_channels: 3 for RGB. For another number the first kernel is adapted: a single channel
            counts as a grey photo; channels beyond RGB start without influence.
        multi_grid: Factors of the dilation of the last stage's kernels, in turn.
        batch_norm_momentum: Replaces the momentum of every batch normalisation; None keeps the
            network's own.
        freeze_batch_norm: Whether batch normalisations keep their statistics and stay untrained.
        synchronized: Whether replicas share their batch statistics.
        penultimate: Whether the features of the stage before the last follow as one output more,
            for an auxiliary head.

    Returns:
        A model from (batch, height, width, input_channels), values in [0, 255], to the list of
        features at strides 4, 8, ... up to ``output_stride``, the network's deepest features last.
        At stride s they are ceil(height / s) by ceil(width / s).

    Raises:
        ValueError: If an argument is not one of the above.
        CheckpointError: If the weights file is missing or does not fit the network.

    References:
        Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017.

    Example:
        >>> features = create("mobilenetv2", weights=None)(np.zeros((1, 65, 64, 3)))
        >>> [tuple(feature.shape) for feature in features]
        [(1, 17, 16, 24), (1, 9, 8, 32), (1, 5, 4, 320)]
    """
    if name not in _REGISTRY:
        raise ValueError(f"backbone must be one of {', '.join(names())}; received {name!r}")
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, received {output_stride!r}")
    if input_channels < 1:
        raise ValueError(f"input_channels must be at least 1, received {input_channels!r}")
    if not multi_grid or any(factor != int(factor) or factor < 1 for factor in multi_grid):
        raise ValueError(f"multi_grid must be factors of at least 1, received {multi_grid!r}")
    entry = _REGISTRY[name]
    network = entry.build("imagenet" if weights == "imagenet" else None)
    batch_norm: dict[str, Any] = {"synchronized": synchronized}
    if batch_norm_momentum is not None:
        batch_norm["momentum"] = batch_norm_momentum
    if freeze_batch_norm:
        batch_norm["trainable"] = False
    image = keras.Input((*(input_size or (None, None)), input_channels), name="image")
    features, pairs = dilate(
        network,
        entry.preprocessing(input_channels)(image),
        entry.features,
        output_stride=output_stride,
        multi_grid=multi_grid,
        batch_norm=batch_norm,
        penultimate=penultimate,
    )
    backbone = keras.Model(image, features, name=name)
    if weights == "imagenet":
        _carry_over_all(backbone, pairs)
    elif weights is not None:
        _load(backbone, network, pairs, Path(weights))
    return backbone


def _carry_over_all(backbone: keras.Model, pairs: Sequence[tuple[Any, Any]]) -> None:
    used = {id(layer) for layer in backbone.layers}
    for old, new in pairs:
        if id(new) in used:
            carry_over(old, new)


def _load(
    backbone: keras.Model, network: keras.Model, pairs: Sequence[tuple[Any, Any]], path: Path
) -> None:
    """Fill ``backbone`` from a weights file of any of the kinds that ``create`` names."""
    if not path.is_file():
        raise CheckpointError(f"weights must be 'imagenet', None or a file; there is no {path}")
    if path.suffix not in (".npz", ".keras", ".h5"):
        raise CheckpointError(f"weights must end in .npz, .keras or .h5, received {path}")
    try:
        if path.suffix == ".npz":
            with path.open("rb") as stream, np.load(stream) as file:
                arrays = dict(file)
        elif path.suffix == ".keras":
            saved: Any = keras.models.load_model(path, compile=False)
            arrays = {_key(la, v): v.numpy() for la in _all_layers(saved) for v in la.weights}
        else:
            _load_h5(backbone, network, pairs, path)
            return
    except CheckpointError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"weights {path} cannot be read: {error}") from error
    _assign_by_name(backbone, arrays, path)


def _load_h5(
    backbone: keras.Model, network: keras.Model, pairs: Sequence[tuple[Any, Any]], path: Path
) -> None:
    with warnings.catch_warnings():
        # Keras only warns where it leaves a layer at random.
        warnings.simplefilter("error", UserWarning)
        try:
            backbone.load_weights(path)
        except (ValueError, UserWarning):
            try:
                network.load_weights(path)
            except (ValueError, UserWarning) as error:
                raise CheckpointError(
                    f"weights {path} fit neither the backbone {backbone.name} nor Keras' network "
                    f"that it is made of: {error}"
                ) from error
            _carry_over_all(backbone, pairs)


def _key(layer: keras.layers.Layer, variable: Any) -> str:
    # Keras counts what a layer left unnamed, over the whole process: variable_17.
    return f"{layer.name}/{re.sub(r'^variable_[0-9]+$', 'variable', variable.name)}"


def _all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of ``model`` and of the models inside it."""
    found = []
    for layer in model.layers:
        found += _all_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _assign_by_name(backbone: keras.Model, arrays: dict[str, np.ndarray], path: Path) -> None:
    """Set every variable of ``backbone`` from the array named ``layer/variable``."""
    for layer in backbone.layers:
        for variable in layer.weights:
            key, shape = _key(layer, variable), tuple(variable.shape)
            if key not in arrays:
                raise CheckpointError(f"weights {path} hold no {key}, which {backbone.name} needs")
            value = arrays[key]
            if value.ndim == 4 and value.shape[2] == 3 != shape[2] == backbone.input_shape[3]:
                value = adapt_channels(value, shape[2])
            if value.shape != shape:
                raise CheckpointError(
                    f"weights {path}: {key} must have shape {shape}, received {value.shape}"
                )
            variable.assign(value)


def _of_keras(application: Callable[..., keras.Model], **options: Any) -> Build:
    def build(weights: str | None) -> keras.Model:
        shape = (224, 224, 3)  # of the trained weights; no layer depends on it
        return application(include_top=False, weights=weights, input_shape=shape, **options)

    return build


def _efficientnet_lite0(weights: str | None) -> keras.Model:
    if weights is not None:
        raise ValueError(
            "weights of efficientnetlite0 must be the path of a file or None: "
            f"Keras has none to download, received {weights!r}"
        )
    return efficientnet_lite0()


# What the photos were turned into when Keras' weights were trained.
_CENTRED: dict[str, Any] = {"mean": 127.5, "scale": 127.5}
_BGR: dict[str, Any] = {"mean": (103.939, 116.779, 123.68), "reverse_channels": True}
_STANDARD: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)}

_RAW = {"include_preprocessing": False}
_applications = keras.applications

register(
    "inceptionresnetv2",
    _of_keras(_applications.InceptionResNetV2),
    features={4: "activation_4", 8: "block35_10_ac", 16: "block17_20_ac", 32: "conv_7b_ac"},
    **_CENTRED,
)
register(
    "xception",
    _of_keras(_applications.Xception),
    features={4: "add_0", 8: "add_1", 16: "add_10", 32: "block14_sepconv2_act"},
    **_CENTRED,
)
register(
    "resnet50",
    _of_keras(_applications.ResNet50),
    features={
        4: "conv2_block3_out",
        8: "conv3_block4_out",
        16: "conv4_block6_out",
        32: "conv5_block3_out",
    },
    **_BGR,
)
register(
    "resnet101",
    _of_keras(_applications.ResNet101),
    features={
        4: "conv2_block3_out",
        8: "conv3_block4_out",
        16: "conv4_block23_out",
        32: "conv5_block3_out",
    },
    **_BGR,
)
register(
    "mobilenetv2",
    _of_keras(_applications.MobileNetV2),
    features={4: "block_2_add", 8: "block_5_add", 16: "block_12_add", 32: "block_16_project_BN"},
    **_CENTRED,
)
register(
    "mobilenetv3large",
    _of_keras(_applications.MobileNetV3Large, **_RAW),
    features={
        4: "expanded_conv_2_add",
        8: "expanded_conv_5_add",
        16: "expanded_conv_11_add",
        32: "expanded_conv_14_add",
    },
    **_CENTRED,
)
register(
    "efficientnetv2b0",
    _of_keras(_applications.EfficientNetV2B0, **_RAW),
    features={4: "block2b_add", 8: "block3b_add", 16: "block5e_add", 32: "block6h_add"},
    **_STANDARD,
)
register(
    "efficientnetv2s",
    _of_keras(_applications.EfficientNetV2S, **_RAW),
    features={4: "block2d_add", 8: "block3d_add", 16: "block5i_add", 32: "block6o_add"},
    mean=128.0,
    scale=128.0,
)
register(
    "convnexttiny",
    _of_keras(_applications.ConvNeXtTiny, **_RAW),
    features={4: "add_2", 8: "add_5", 16: "add_14", 32: "layer_normalization_0"},
    **_STANDARD,
)
register(
    "efficientnetlite0",
    _efficientnet_lite0,
    features={4: "block2b_add", 8: "block3b_add", 16: "block5c_add", 32: "block7a_project_bn"},
    **_CENTRED,
)
