"""Turn a classification network into one with a chosen output stride, layer by layer.

The network's own graph is walked once. A layer whose stride would take the features beyond the
output stride loses it, and every kernel behind it is spread out by the same factor, so that each
output still sees the input pixels it saw before. The pre-trained weights fit as they are.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from deeplab_fashion import layers

_KERNELS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
_POOLS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


def dilate(
    network: keras.Model,
    image: Any,
    features: dict[int, str],
    *,
    output_stride: int,
    multi_grid: Sequence[int],
    batch_norm: dict[str, Any],
    penultimate: bool = False,
) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """Run ``image`` through a copy of ``network`` whose features are no coarser than asked.

    Args:
        network: A functional model of one image, at its own full stride.
        image: The symbolic tensor that the copy starts from.
        features: From stride to the name of the operation that ends in the features there. An
            operation that Keras named by itself is known by its kind and its place, ``add_0``.
        output_stride: The coarsest stride to keep.
        multi_grid: Factors of the dilation of the last stage's kernels, in turn.
        batch_norm: Settings that replace those of every batch normalisation.
        penultimate: Whether the features of the stage before the last are added at the end.

    Returns:
        The features, finest first, and the pairs (old layer, new layer) of all layers.

    Raises:
        ValueError: If the network has no layer of a name in ``features``, or one that cannot be
            dilated.
    """
    surgeon = _Surgeon(max(features), output_stride, tuple(multi_grid), batch_norm)
    surgeon.scale_of[id(image)] = (1, 1)
    keras.models.clone_model(
        network,
        input_tensors=image,
        clone_function=lambda operation: operation,
        call_function=surgeon.apply,
    )
    absent = sorted(set(features.values()) - set(surgeon.output_of))
    if absent:
        raise ValueError(f"features name {', '.join(absent)}, which the network does not have")
    kept = [stride for stride in sorted(features) if stride < output_stride] + [max(features)]
    if penultimate:
        kept.append(max(features) // 2)
    return [surgeon.output_of[features[stride]] for stride in kept], surgeon.pairs


def carry_over(old: Any, new: Any) -> None:
    """Copy the variables of one layer of a pair to the other."""
    for source, target in zip(old.weights, new.weights, strict=True):
        value = source.numpy()
        if isinstance(new, keras.layers.DepthwiseConv2D) and target is new.kernel:
            value = value.reshape(target.shape)  # from a grouped convolution: (h, w, 1, channels)
        elif value.shape != tuple(target.shape):
            value = adapt_channels(value, target.shape[2])
        target.assign(value)


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Fit the first kernel, of shape (h, w, 3, filters), to another number of input channels.

    One or two channels: the first counts as a grey photo, which is RGB with three equal channels.
    Four or more: the first three are RGB. Any other channel starts with a kernel of zeros.
    """
    adapted = np.zeros((*kernel.shape[:2], channels, kernel.shape[3]), kernel.dtype)
    if channels < 3:
        adapted[:, :, 0] = kernel.sum(axis=2)
    else:
        adapted[:, :, :3] = kernel
    return adapted


class _Surgeon:
    def __init__(
        self,
        full_stride: int,
        output_stride: int,
        multi_grid: tuple[int, ...],
        batch_norm: dict[str, Any],
    ) -> None:
        self.full_stride = full_stride
        self.output_stride = output_stride
        self.multi_grid = multi_grid
        self.batch_norm = batch_norm
        # of a tensor: its stride in the untouched network, and the dilation that makes good for
        # the part of that stride which was removed
        self.scale_of: dict[int, tuple[int, int]] = {}
        self.padded: dict[int, tuple[Any, int]] = {}
        self.output_of: dict[str, Any] = {}
        self.pairs: list[tuple[Any, Any]] = []
        self.unnamed: Counter[str] = Counter()
        self.last_stage_kernels = 0

    def apply(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the copy of ``operation`` that takes its place."""
        if isinstance(operation, keras.Sequential):
            outputs = args[0]
            for layer in operation.layers:
                outputs = self.apply(layer, outputs)
            return outputs
        config = operation.get_config() | {"name": self._stable_name(operation)}
        tensors = [t for t in keras.tree.flatten(args) if isinstance(t, keras.KerasTensor)]
        stride, dilation = max(self.scale_of[id(tensor)] for tensor in tensors)
        kind = type(operation)
        if isinstance(operation, _KERNELS + _POOLS):
            own_stride = _first(operation.strides)
            (source,) = tensors
            if id(source) in self.padded and self.padded[id(source)][1] != _extent(operation) // 2:
                args = (self.padded[id(source)][0],)
                config["padding"] = "same"
            elif id(source) not in self.padded:
                config["padding"] = "same"
            kind = self._spread(operation, config, source, stride, dilation)
            stride *= own_stride
            if stride > self.output_stride:
                config["strides"] = (1, 1)
                if isinstance(operation, _KERNELS) and _extent(operation) % 2 == 0:
                    # "same" would put half of the padding before a spread-out even kernel
                    before = (_extent(operation) - 1) // 2 * dilation
                    after = _extent(operation) // 2 * dilation
                    sides = ((before, after), (before, after))
                    args = (
                        keras.layers.ZeroPadding2D(sides, name=f"{config['name']}_pad")(source),
                    )
                    config["padding"] = "valid"
                dilation *= own_stride
        elif isinstance(operation, keras.layers.BatchNormalization):
            kind = layers.BatchNormalization
            config |= self.batch_norm
        new = kind.from_config(config)
        outputs = new(*args, **kwargs)
        self.pairs.append((operation, new))
        self.output_of[new.name] = outputs
        self.scale_of[id(outputs)] = (stride, dilation)
        if isinstance(operation, keras.layers.ZeroPadding2D):
            # Padding before a strided kernel may stay if it is the same on all sides, for then
            # every size becomes ceil(size / stride); else "same" takes its place.
            amounts = set(keras.tree.flatten(operation.padding))
            self.padded[id(outputs)] = (args[0], amounts.pop() if len(amounts) == 1 else -1)
        return outputs

    def _stable_name(self, operation: Any) -> str:
        """Return a name that does not depend on what else the process has built."""
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<!^)(?=[A-Z][a-z])", "_", type(operation).__name__)
        kind = kind.lower()
        if not re.fullmatch(rf"{kind}(_\d+)?", operation.name):
            return str(operation.name)
        self.unnamed[kind] += 1
        return f"{kind}_{self.unnamed[kind] - 1}"

    def _spread(
        self, operation: Any, config: dict[str, Any], source: Any, stride: int, dilation: int
    ) -> type:
        """Write the dilation into ``config``; return the class that can carry it out."""
        kind = type(operation)
        if isinstance(operation, _KERNELS):
            if stride == self.full_stride and _extent(operation) > 1:
                dilation *= self.multi_grid[self.last_stage_kernels % len(self.multi_grid)]
                self.last_stage_kernels += 1
            config["dilation_rate"] = (dilation, dilation) if _extent(operation) > 1 else (1, 1)
            if kind is keras.layers.Conv2D and operation.groups == source.shape[-1] > 1:
                # TensorFlow has no gradient of a grouped convolution on the CPU.
                for name in ("initializer", "regularizer", "constraint"):
                    config[f"depthwise_{name}"] = config.pop(f"kernel_{name}")
                config["depth_multiplier"] = config.pop("filters") // config.pop("groups")
                return layers.DepthwiseConv2D
            return layers.DepthwiseConv2D if kind is keras.layers.DepthwiseConv2D else kind
        if dilation > 1 and _extent(operation) > 1:
            if kind is not keras.layers.MaxPooling2D:
                raise ValueError(f"layer {operation.name}: only max pooling can be dilated")
            config["dilation_rate"] = dilation
            return layers.DilatedMaxPooling2D
        return kind


def _first(value: Any) -> int:
    return int(value if isinstance(value, int) else value[0])


def _extent(operation: Any) -> int:
    """Return the longer side of a kernel or pooling window."""
    window = operation.kernel_size if hasattr(operation, "kernel_size") else operation.pool_size
    return int(window if isinstance(window, int) else max(window))
