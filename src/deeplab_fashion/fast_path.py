"""A trained network made ready to answer quickly on a CPU.

The weights become constants, batch normalisations are folded into the convolutions before them,
and the graph is held, so that a call costs what its arithmetic costs. `Segmenter` takes the first
step alone, which costs no time before the first photo, unless its option ``precision`` asks for
all of them.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deeplab_fashion.models import in_precision, logits_of

__all__ = ["CompiledInference", "Precision", "compile_inference", "with_constants"]

Precision = Literal["auto", "float32", "bfloat16"]
"""What a network computes in; "auto": bfloat16 where the processor has it and the labels agree."""

_AGREEMENT = 0.995


class CompiledInference:
    """What `compile_inference` returns: call it with photos of any size.

    Attributes:
        precision: "float32" or "bfloat16", the precision that the convolutions run in.
    """

    def __init__(self, function: Any, precision: str) -> None:
        self._function = function
        self._dtype = function.inputs[0].dtype
        self.precision = precision

    def __call__(self, images: Any) -> NDArray[Any]:
        """Return the model's output for (batch, height, width, channels) as an array."""
        answer: NDArray[Any] = self._function(tf.constant(images, self._dtype))[0].numpy()
        return answer


def compile_inference(
    model: keras.Model,
    *,
    precision: Precision = "auto",
    input_dtype: str = "float32",
    then: Callable[[Any], Any] | None = None,
    check: NDArray[Any] | None = None,
) -> CompiledInference:
    """Freeze ``model`` as it is now into a function of its own.

    Later training does not change the function. Any batch, height and width that the model takes
    may follow each other; nothing is traced again.

    Args:
        model: A functional Keras model of one image; of several outputs the one named "logits".
        precision: "float32"; "bfloat16"; or "auto", which takes bfloat16 where the processor
            calculates in it and at least 99.5 % of the labels stay as they are in float32.
        input_dtype: Type of the photos that the function takes: "float32" or "uint8".
        then: TensorFlow function that the output goes through, such as a softmax.
        check: Photos (batch, height, width, channels) on which "auto" compares the labels; None
            for two of the photos that come with the package.

    Returns:
        A callable from photos to an array.

    Raises:
        ValueError: If ``precision`` or ``input_dtype`` is not one of the above, or the model cannot
            be copied for "bfloat16".

    Example:
        >>> from deeplab_fashion import DeepLabV3Plus
        >>> model = DeepLabV3Plus(6, backbone="mobilenetv2", weights=None)
        >>> fast = compile_inference(model, precision="float32")
        >>> fast(np.zeros((1, 65, 70, 3), np.float32)).shape
        (1, 65, 70, 6)
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision must be auto, float32 or bfloat16, received {precision!r}")
    if input_dtype not in ("float32", "uint8"):
        raise ValueError(f"input_dtype must be float32 or uint8, received {input_dtype!r}")

    half = None
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16()):
        try:
            half = in_precision(model, "bfloat16")
        except ValueError:
            if precision != "auto":
                raise
    if half is not None:
        function = _frozen(half, input_dtype, then)
        if precision == "bfloat16":
            return CompiledInference(function, "bfloat16")
        photos = tf.constant(_photos(model) if check is None else check, input_dtype)
        # as a graph, which lets go of each layer's output once it is used
        exact = tf.function(lambda x: logits_of(model(x, training=False)), autograph=False)
        own = tf.argmax(exact(tf.cast(photos, tf.float32)), axis=-1)
        if np.mean(own == tf.argmax(function(photos)[1], axis=-1)) >= _AGREEMENT:
            return CompiledInference(function, "bfloat16")
    return CompiledInference(_frozen(model, input_dtype, then), "float32")


def with_constants(
    model: keras.Model, function: Callable[..., Any], *, largest: int | None = None
) -> Callable[..., Any]:
    """Return ``function`` with the weights of ``model`` in it as they are when it is traced.

    TensorFlow prepares a constant once, and the value of a variable at every call.

    Args:
        model: The model that ``function`` calls.
        function: What `tf.function` is to trace.
        largest: Number of values up to which a weight becomes a constant; larger ones are held
            beside the graph, which would keep many copies of them. None makes all constants.

    Returns:
        A function of the same arguments, for `tf.function`.

    Example:
        >>> double = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> double.set_weights([np.array([[2.0]])])
        >>> held = tf.function(with_constants(double, double))
        >>> float(held(tf.constant([[3.0]]))[0, 0])
        6.0
    """

    def traced(*arguments: Any) -> Any:
        with tf.init_scope():  # out of the graph, where a variable has a value
            values = [variable.numpy() for variable in model.variables]
            beside = {
                place: tf.convert_to_tensor(value)
                for place, value in enumerate(values)
                if largest is not None and value.size > largest
            }
        held: list[Any] = [beside.get(place, value) for place, value in enumerate(values)]
        state = zip(model.variables, map(tf.convert_to_tensor, held), strict=True)
        with keras.StatelessScope(state_mapping=list(state)):
            return function(*arguments)

    return traced


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself, as far as the system tells."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _photos(model: keras.Model) -> NDArray[np.uint8]:
    """Return two photos of the package in the size and the channels that the model takes."""
    from deeplab_fashion import photos, samples

    height, width = (side or 256 for side in model.input_shape[1:3])
    channels = model.input_shape[3]
    rgb = np.stack([photos.resize(photos.read(samples.photo(i)), (height, width)) for i in (0, 1)])
    grey = rgb.mean(axis=-1, keepdims=True).astype(np.uint8)
    if channels < 3:
        return np.repeat(grey, channels, axis=-1)
    return np.concatenate([rgb, *[grey] * (channels - 3)], axis=-1)


def _frozen(model: keras.Model, input_dtype: str, then: Callable[[Any], Any] | None) -> Any:
    """Return the network as a function of constants, to ``then`` of its scores and the scores."""

    def answer(images: Any) -> Any:
        output = model(tf.cast(images, tf.float32), training=False)
        scores = tf.cast(logits_of(output), tf.float32)
        return [tf.identity(scores) if then is None else then(scores), scores]

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), input_dtype)]
    held = tf.function(with_constants(model, answer), signature, autograph=False)
    frozen = held.get_concrete_function()
    if frozen.captured_inputs:  # variables that Keras does not know of
        frozen = convert_variables_to_constants_v2(frozen)
    graph = frozen.graph.as_graph_def()
    _fold_batch_norms(graph)
    _keep_needed(graph, [_base(tensor.name) for tensor in frozen.inputs + frozen.outputs])
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    feeds, fetches = (
        [wrapped.graph.get_tensor_by_name(tensor.name) for tensor in tensors]
        for tensors in (frozen.inputs, frozen.outputs)
    )
    return wrapped.prune(feeds, fetches)


def _fold_batch_norms(graph: GraphDef) -> None:
    """Multiply each batch normalisation of fixed statistics into the convolution before it.

    scale * (x * k) + (beta - mean * scale) = x * (scale * k) + bias
    """
    nodes = {node.name: node for node in graph.node}
    uses = Counter(_base(name) for node in graph.node for name in node.input)
    for norm in [node for node in graph.node if node.op == "FusedBatchNormV3"]:
        path = [nodes[_base(norm.input[0])]]
        while path[-1].op in ("BatchToSpaceND", "BiasAdd"):
            path.append(nodes[_base(path[-1].input[0])])
        convolution, biases = path[-1], [node for node in path if node.op == "BiasAdd"]
        if (
            convolution.op not in ("Conv2D", "DepthwiseConv2dNative")
            or norm.attr["is_training"].b
            or any(uses[node.name] > 1 for node in path)
        ):
            continue
        sources = [convolution.input[1], *norm.input[1:5], *(node.input[1] for node in biases)]
        constants = [_constant(nodes, name) for name in sources]
        if any(value is None for value in constants) or constants[0].ndim != 4:
            continue
        kernel, gamma, beta, mean, variance, *added = constants
        scale = gamma / np.sqrt(variance + norm.attr["epsilon"].f)
        per_channel = scale if convolution.op == "Conv2D" else scale.reshape(kernel.shape[2:])
        kind = convolution.attr["T"].type
        convolution.input[1] = _add_constant(
            graph, f"{norm.name}/kernel", kernel * per_channel, kind
        )
        offset = beta + (sum(value.ravel() for value in added) - mean) * scale
        for bias in biases:  # part of the offset now
            bias.op = "Identity"
            del bias.input[1]
            del bias.attr["data_format"]
        name, before = norm.name, norm.input[0]
        norm.Clear()
        norm.name, norm.op = name, "BiasAdd"
        norm.input.extend([before, _add_constant(graph, f"{name}/bias", offset, kind)])
        norm.attr["T"].type = kind


def _keep_needed(graph: GraphDef, ends: list[str]) -> None:
    """Remove the nodes that none of ``ends`` depends on."""
    nodes = {node.name: node for node in graph.node}
    needed: set[str] = set()
    while ends:
        name = ends.pop()
        if name not in needed:
            needed.add(name)
            ends += [_base(source) for source in nodes[name].input]
    kept = [node for node in graph.node if node.name in needed]
    del graph.node[:]
    graph.node.extend(kept)


def _base(name: str) -> str:
    return name.lstrip("^").split(":")[0]


def _constant(nodes: dict[str, NodeDef], name: str) -> Any:
    """Return the value behind an input, before rounding and reshaping; None if it varies."""
    node = nodes[_base(name)]
    while node.op in ("Identity", "Cast", "Reshape", "Squeeze"):
        node = nodes[_base(node.input[0])]
    if node.op != "Const":
        return None
    return tf.make_ndarray(node.attr["value"].tensor).astype(np.float32)


def _add_constant(graph: GraphDef, name: str, value: NDArray[Any], kind: Any) -> str:
    node = graph.node.add()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = kind
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.as_dtype(kind)))
    return name
