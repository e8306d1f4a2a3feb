"""Turn a classification network into one with a chosen output stride, layer by layer.

The network's own graph is walked once. A layer whose stride would take the features beyond the
output stride loses it, and every kernel behind it is spread out by the same factor, so that each
output still sees the input pixels it saw before. No variable changes its shape: the pre-trained
weights fit as they are.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from deeplab_fashion import layers

_KERNELS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
_POOLS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def dilate(
    network: keras.Model,
    features: dict[int, str],
    *,
    output_stride: int,
    input_channels: int = 3,
    multi_grid: Sequence[int] = (1,),
    batch_norm: dict[str, Any] | None = None,
) -> tuple[keras.Model, list[tuple[Any, Any]]]:
    """Rebuild ``network`` with features no coarser than ``output_stride``.

    Args:
        network: A functional model of one image, at its own full stride.
        features: From stride to the name of the layer that holds the features at that stride.
        output_stride: The coarsest stride to keep.
        input_channels: Channels of the new network's input.
        multi_grid: Factors of the dilation of the last stage's kernels, in turn.
        batch_norm: Settings that replace those of every batch normalisation.

    Returns:
        A model from the image to the list of features, finest first, the deepest last; and the
        pairs (old layer, new layer), for carrying weights over.
    """
    full_stride = max(features)
    # of every tensor: its stride in the untouched network, and the dilation that makes good for
    # the part of that stride which was removed
    state: dict[int, tuple[int, int]] = {id(tensor): (1, 1) for tensor in network.inputs}
    followers: dict[int, list[Any]] = {}
    for operation in network.operations:
        for tensor in keras.tree.flatten(operation.input):
            followers.setdefault(id(tensor), []).append(operation)
    unnamed: Counter[str] = Counter()
    pairs: list[tuple[Any, Any]] = []
    last_stage_kernels = 0

    def is_exact_padding(operation: Any) -> bool:
        """Whether a padding gives ceil(size / stride) for every size, so that it may stay."""
        (top, bottom), (left, right) = operation.padding
        follower = followers[id(operation.output)][0]
        size = getattr(follower, "kernel_size", None) or getattr(follower, "pool_size", None)
        return top == bottom == left == right == _pair(size)[0] // 2

    def rebuild(operation: Any) -> Any:
        nonlocal last_stage_kernels
        sources = keras.tree.flatten(operation.input)
        stride, dilation = max(state[id(tensor)] for tensor in sources)
        config = operation.get_config()
        kind = type(operation)
        prefix = _snake_case(kind.__name__)
        if re.fullmatch(rf"{prefix}(_\d+)?", operation.name):
            config["name"] = f"{prefix}_{unnamed[prefix]}"
            unnamed[prefix] += 1

        own_stride = 1
        if isinstance(operation, _KERNELS + _POOLS):
            own_stride = _pair(operation.strides)[0]
            spread = dilation
            if isinstance(operation, _KERNELS) and _pair(operation.kernel_size)[0] > 1:
                if stride == full_stride:
                    spread *= multi_grid[last_stage_kernels % len(multi_grid)]
                    last_stage_kernels += 1
            padded_by = getattr(sources[0], "_keras_history", (None,))[0]
            if not (
                isinstance(padded_by, keras.layers.ZeroPadding2D) and is_exact_padding(padded_by)
            ):
                config["padding"] = "same"
            if stride * own_stride > output_stride:
                config["strides"] = (1, 1)
                dilation *= own_stride
            if isinstance(operation, _KERNELS):
                config["dilation_rate"] = (spread, spread)
            elif spread > 1 and isinstance(operation, keras.layers.MaxPooling2D):
                kind = layers.DilatedMaxPooling2D
                config["dilation_rate"] = spread
            if kind is keras.layers.DepthwiseConv2D:
                kind = layers.DepthwiseConv2D
        elif isinstance(operation, keras.layers.ZeroPadding2D) and not is_exact_padding(operation):
            kind = keras.layers.Identity
            config = {"name": config["name"], "dtype": config["dtype"]}
        elif isinstance(operation, keras.layers.BatchNormalization):
            kind = layers.BatchNormalization
            config |= batch_norm or {}
        for tensor in keras.tree.flatten(operation.output):
            state[id(tensor)] = (stride * own_stride, dilation)
        new = kind.from_config(config)
        pairs.append((operation, new))
        return new

    image = keras.Input((None, None, input_channels), name="image")
    dilated = keras.models.clone_model(network, input_tensors=image, clone_function=rebuild)
    names = {old.name: new.name for old, new in pairs}
    kept = [stride for stride in sorted(features) if stride < output_stride] + [full_stride]
    outputs = [dilated.get_layer(names[features[stride]]).output for stride in kept]
    return keras.Model(dilated.inputs, outputs, name=network.name), pairs
