"""Write a network for other runtimes, and check each file against the network on real photos.

Every export takes a photo as uint8 RGB, shape (batch, height, width, 3), with all preprocessing
inside, and gives ``labels``, shape (batch, height, width), and ``probabilities``, shape
(batch, height, width, classes), at the photo's own size. Bring photos to the network's working
size first, as `Segmenter` does.
"""

import importlib
import json
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion import photos, samples
from deeplab_fashion._files import replacing
from deeplab_fashion.errors import ExportError
from deeplab_fashion.inference import (
    Segmenter,
    checked_network,
    other_size,
    photo_of,
    probabilities_of,
    whole_number,
)

__all__ = ["Exported", "to_litert", "to_onnx", "to_saved_model"]

_Batch = NDArray[np.uint8]
_Run = Callable[[_Batch], NDArray[Any]]


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked.

    Attributes:
        path: The file, or the folder of a SavedModel.
        agreement: Share of the checked pixels that got the network's own label, 0 to 1.
        pixels: How many pixels were checked.
        size: Bytes written.
    """

    path: Path
    agreement: float
    pixels: int
    size: int


def to_saved_model(
    model: keras.Model | Segmenter,
    path: str | Path,
    *,
    check_photos: Iterable[Any] | None = None,
    min_agreement: float = 0.999,
) -> Exported:
    """Write a TensorFlow SavedModel, for TensorFlow Serving and every TensorFlow language.

    Args:
        model: A segmenter, or a Keras model that `Segmenter` takes.
        path: The folder to write; it must not exist, or be an empty folder.
        check_photos: Photos to check with, as `Segmenter` takes them; the packaged sample photos
            when left out.
        min_agreement: Least share of pixels whose label must be the network's own.

    Returns:
        What was written, and how far it agrees.

    Raises:
        ExportError: If the result differs more; nothing is left behind then.
        FileExistsError: If ``path`` holds something.
        ValueError: If the model is of another kind.

    Example:
        >>> import tempfile
        >>> paint = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exported = to_saved_model(paint, folder + "/paint")
        ...     loaded = tf.saved_model.load(folder + "/paint")
        ...     loaded.serve(np.zeros((1, 20, 30, 3), np.uint8))["labels"].shape
        TensorShape([1, 20, 30])
        >>> exported.agreement
        1.0
    """
    network, about = _taken_apart(model)
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"path must not exist or be an empty folder, got {target}")
    with _replacing_folder(target) as part:
        archive: Any = keras.export.ExportArchive()  # its class depends on Keras' backend
        archive.track(network)
        archive.add_endpoint("serve", _served(network), input_signature=[_signature(network)])
        archive.write_out(part, verbose=False)
        (part / "assets.extra").mkdir()
        (part / "assets.extra" / "deeplab_fashion.json").write_text(json.dumps(about))
        loaded = tf.saved_model.load(part)

        def run(batch: _Batch) -> NDArray[Any]:
            labels: NDArray[Any] = loaded.serve(tf.constant(batch))["labels"].numpy()
            return labels

        agreement, pixels = _compare(network, run, _looked_at(network, check_photos, about))
        _demand(agreement, min_agreement, "SavedModel")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    return Exported(target, agreement, pixels, size)


def to_onnx(
    model: keras.Model | Segmenter,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    opset: int = 18,
    check_photos: Iterable[Any] | None = None,
    min_agreement: float = 0.999,
) -> Exported:
    """Write an ONNX file. Its metadata hold ``class_names`` and ``working_size`` as JSON.

    Args:
        model: A segmenter, or a Keras model that `Segmenter` takes.
        path: The file to write.
        size: (height, width) of the photos, at least 1; None leaves both free where the model does.
        opset: Version of ONNX's operators, at least 17.
        check_photos: Photos to check with, as `Segmenter` takes them; the packaged sample photos
            when left out.
        min_agreement: Least share of pixels whose label must be the network's own.

    Returns:
        What was written, and how far it agrees.

    Raises:
        ExportError: If the result differs more; no file is left behind then.
        ImportError: If the extra ``deeplab-fashion[onnx]`` is not installed.
        TypeError: If ``size`` is not two whole numbers.
        ValueError: If ``opset`` is too low, ``size`` is not the model's or the model is of another
            kind.
    """
    if opset < 17:
        raise ValueError(f"opset must be at least 17, got {opset}")
    tf2onnx, onnx, onnxruntime = _needed("onnx", "tf2onnx", "onnx", "onnxruntime")
    network, about = _taken_apart(model)
    signature = _signature(network, size)
    with _whole_dilated_convolutions():
        written, _ = tf2onnx.convert.from_function(
            tf.function(_served(network)), [signature], opset=opset
        )
    for node in written.graph.node:
        _state_padding(node, onnx.helper)
    for value in (*written.graph.input, *written.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        for dimension, name in zip(dimensions, ("batch", "height", "width"), strict=False):
            if not dimension.dim_value:
                dimension.dim_param = name
    onnx.helper.set_model_props(written, {name: json.dumps(value) for name, value in about.items()})
    onnx.checker.check_model(written, full_check=True)
    with replacing(path) as part:
        part.write_bytes(written.SerializeToString())
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])

        def run(batch: _Batch) -> NDArray[Any]:
            labels: NDArray[Any] = session.run(["labels"], {"image": batch})[0]
            return labels

        agreement, pixels = _compare(network, run, _looked_at(network, check_photos, about, size))
        _demand(agreement, min_agreement, "ONNX file")
    return Exported(Path(path), agreement, pixels, Path(path).stat().st_size)


def to_litert(
    model: keras.Model | Segmenter,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    precision: Literal["float32", "float16", "int8"] = "float32",
    representative: Iterable[Any] | None = None,
    check_photos: Iterable[Any] | None = None,
    min_agreement: float | None = None,
) -> Exported:
    """Write a LiteRT (TensorFlow Lite) file for phones and small devices.

    Args:
        model: A segmenter, or a Keras model that `Segmenter` takes.
        path: The file to write.
        size: (height, width) of the photos, at least 1; None leaves both free where the model does.
        precision: "float16" halves the file; "int8" quarters it and computes in integers.
        representative: Photos from which "int8" learns the range of each value, as `Segmenter`
            takes them; the packaged sample photos when left out.
        check_photos: Photos to check with, as `Segmenter` takes them; the packaged sample photos
            when left out. Where "int8" is given neither, it learns from the first half of the
            packaged photos and is checked on the other half.
        min_agreement: Least share of pixels whose label must be the network's own; 0.999 when left
            out, and 0.98 for "int8".

    Returns:
        What was written, and how far it agrees.

    Raises:
        ExportError: If the result differs more; no file is left behind then.
        ImportError: If the extra ``deeplab-fashion[litert]`` is not installed.
        TypeError: If ``size`` is not two whole numbers.
        ValueError: If ``precision`` is unknown, ``size`` is not the model's or the model is of
            another kind.
    """
    if precision not in ("float32", "float16", "int8"):
        raise ValueError(f"precision must be float32, float16 or int8, got {precision!r}")
    (interpreter,) = _needed("litert", "ai_edge_litert.interpreter")
    network, about = _taken_apart(model)
    module: Any = tf.Module()
    # The converter finds a network's weights through TensorFlow's own tracking alone.
    module.weights = [variable.value for variable in network.variables]
    module.serve = tf.function(_served(network), [_signature(network, size, batch=1)])
    with _whole_dilated_convolutions():
        traced = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        if representative is None and check_photos is None:
            paths = [record.path for record in samples.load()]
            half = len(paths) // 2
            representative, check_photos = paths[:half], paths[half:]
        examples = list(_looked_at(network, representative, about, size))
        converter.representative_dataset = lambda: ([example] for example in examples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    with replacing(path) as part:
        part.write_bytes(converter.convert())
        runner = interpreter.Interpreter(str(part)).get_signature_runner()

        def run(batch: _Batch) -> NDArray[Any]:
            labels: NDArray[Any] = runner(image=batch)["labels"]
            return labels

        agreement, pixels = _compare(network, run, _looked_at(network, check_photos, about, size))
        least = {"int8": 0.98}.get(precision, 0.999) if min_agreement is None else min_agreement
        _demand(agreement, least, f"LiteRT file in {precision}")
    return Exported(Path(path), agreement, pixels, Path(path).stat().st_size)


def _taken_apart(model: keras.Model | Segmenter) -> tuple[keras.Model, dict[str, Any]]:
    """Return the network, and what a user of its file must know."""
    if isinstance(model, Segmenter):
        options = model.options
        return model.model, {
            "class_names": list(model.class_names),
            "working_size": list(options.frame),
            "keep_aspect": options.keep_aspect,
        }
    network = checked_network(model)
    names = [str(index) for index in range(network.output_shape[-1])]
    return _taken_apart(Segmenter(network, names))


def _fixed_size(network: keras.Model) -> tuple[int, int] | None:
    height, width = network.input_shape[1:3]
    return None if height is None or width is None else (height, width)


def _signature(
    network: keras.Model, size: tuple[int, int] | None = None, *, batch: int | None = None
) -> tf.TensorSpec:
    own = network.input_shape[1:3]
    if size is not None:
        rule = "size must be two whole numbers of at least 1, (height, width)"
        if not isinstance(size, Sequence) or isinstance(size, str):
            raise TypeError(f"{rule}, got {size!r}")
        sides = [whole_number(side, rule) for side in size]
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"{rule}, got {size}")
        if any(mine not in (None, wanted) for mine, wanted in zip(own, sides, strict=True)):
            raise ValueError(f"size must be the model's own, {own}, got {size}")
    return tf.TensorSpec((batch, *(size or own), 3), tf.uint8, name="image")


def _served(network: keras.Model) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    to_probabilities = probabilities_of(network)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tf.cast(network(tf.cast(image, tf.float32), training=False), tf.float32)
        # LiteRT knows no keras.ops.argmax, and int8 scores tell classes apart better than
        # their probabilities in 256 steps.
        labels = tf.math.argmax(scores, axis=-1, output_type=tf.int32)
        return {"labels": labels, "probabilities": to_probabilities(scores)}

    return serve


def _state_padding(node: Any, helper: Any) -> None:
    """Replace "same" padding of a dilated convolution, which onnxruntime refuses, by its numbers.

    Only convolutions of stride 1 are dilated here, so the numbers do not depend on the size.
    """
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type != "Conv" or max(attributes.get("dilations", [1])) == 1:
        return
    if attributes.get("auto_pad", b"NOTSET") not in (b"SAME_UPPER", b"SAME_LOWER"):
        return
    reach = [
        rate * (side - 1)
        for rate, side in zip(attributes["dilations"], attributes["kernel_shape"], strict=True)
    ]
    del node.attribute[[each.name for each in node.attribute].index("auto_pad")]
    before = [each // 2 for each in reach]
    after = [each - half for each, half in zip(reach, before, strict=True)]
    node.attribute.append(helper.make_attribute("pads", [*before, *after]))


@contextmanager
def _whole_dilated_convolutions() -> Generator[None, None, None]:
    """Trace a dilated depthwise convolution as one operation.

    TensorFlow cuts it into SpaceToBatchND, a plain convolution and BatchToSpaceND, which other
    runtimes carry out literally, and slowly.
    """
    nn: Any = tf.nn
    in_pieces = nn.depthwise_conv2d

    def whole(
        input: Any,
        filter: Any,
        strides: Any,
        padding: str,
        data_format: str | None = None,
        dilations: Any = None,
        name: str | None = None,
    ) -> Any:
        if dilations is None or max(dilations) == 1 or data_format not in (None, "NHWC"):
            return in_pieces(input, filter, strides, padding, data_format, dilations, name)
        return tf.raw_ops.DepthwiseConv2dNative(
            input=input,
            filter=filter,
            strides=strides,
            padding=padding,
            dilations=[1, *dilations, 1],
            name=name,
        )

    nn.depthwise_conv2d = whole
    try:
        yield
    finally:
        nn.depthwise_conv2d = in_pieces


def _looked_at(
    network: keras.Model,
    given: Iterable[Any] | None,
    about: dict[str, Any],
    size: tuple[int, int] | None = None,
) -> Iterator[_Batch]:
    """Yield photos as batches of one, at the size at which the network sees them."""
    for photo in [record.path for record in samples.load()] if given is None else given:
        pixels, _ = photo_of(photo, photos.MAX_PIXELS)
        wanted = size or _fixed_size(network)
        if wanted is None:
            ratio = min(
                most / side for most, side in zip(about["working_size"], pixels.shape, strict=False)
            )
            wanted = round(pixels.shape[0] * ratio), round(pixels.shape[1] * ratio)
        yield photos.resize(pixels, (wanted[0], wanted[1]))[None]


def _compare(network: keras.Model, run: _Run, batches: Iterator[_Batch]) -> tuple[float, int]:
    own = tf.function(_served(network), [_signature(network)])
    same = pixels = 0
    for batch in batches:
        labels = own(tf.constant(batch))["labels"].numpy()
        if labels.shape != batch.shape[:3]:
            raise ValueError(other_size(batch.shape[1:3], labels.shape[1:]))
        same += int((run(batch) == labels).sum())
        pixels += labels.size
    if pixels == 0:
        raise ValueError("check_photos must hold at least one photo")
    return same / pixels, pixels


def _demand(agreement: float, least: float, what: str) -> None:
    if agreement < least:
        raise ExportError(
            f"the {what} gives the model's own label on {100 * agreement:.3f} % of the pixels, "
            f"but at least {100 * least:g} % are demanded; nothing was written"
        )


def _needed(extra: str, *modules: str) -> list[Any]:
    try:
        return [importlib.import_module(module) for module in modules]
    except ModuleNotFoundError as error:
        raise ImportError(
            f"this export needs {error.name}: pip install 'deeplab-fashion[{extra}]'"
        ) from error


@contextmanager
def _replacing_folder(path: Path) -> Generator[Path, None, None]:
    """Yield a folder beside ``path`` to fill, which takes its place once the block has ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        yield Path(folder) / path.name
        (Path(folder) / path.name).replace(path)
