"""The segmentation networks: DeepLabV3+ and DeepLabV3 on any backbone."""

import warnings
import zipfile
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import h5py
import keras

from deeplab_fashion import backbones, layers
from deeplab_fashion.backbones._surgery import adapt_channels
from deeplab_fashion.errors import CheckpointError

__all__ = ["DeepLabV3", "DeepLabV3Plus", "in_precision", "load_weights", "logits_of"]

_RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
_HEADS = ("head", "auxiliary_head")
# What Keras and h5py raise on a damaged file.
_DAMAGES = (ValueError, TypeError, KeyError, OSError, RuntimeError, zipfile.BadZipFile)


def DeepLabV3Plus(  # noqa: N802 - reads as the class of network that it builds
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
    auxiliary_head: bool = False,
    multi_grid: Sequence[int] = (1,),
    batch_norm_momentum: float | None = None,
    freeze_batch_norm: bool = False,
    synchronized: bool = False,
) -> keras.Model:
    """Build a DeepLabV3+ network: dilated backbone, ASPP, decoder.

    It works on photos framed in grey up to whole multiples of ``output_stride``, where fine and
    coarse features lie alike at every size, and cuts the frame off its answer.

    Args:
        num_classes: Channels of the output, background included. At least 1.
        backbone: One of ``deeplab_fashion.backbones.names()``.
        input_size: (height, width) of the photos in pixels; None for any size, which may change
            from call to call.
        output_stride: Stride of the deepest features: 8, 16 or 32. Finer costs more.
        weights: "imagenet" (a pre-trained backbone, downloaded by Keras), the path of a backbone's
            weights or of a whole network saved as ``.keras`` or ``.weights.h5``, "fashion-main"
            (the trained network that comes with the package, whose backbone, filters and momentum
            stand for those that are left at their defaults), or None for random weights.
        activation: What follows the logits, such as "softmax"; None for logits.
        input_channels: 3 for RGB; see ``backbones.create`` for others.
        atrous_rates: Dilation rates of the ASPP; None for (6, 12, 18) at output stride 16, twice
            that at 8 and half of it at 32.
        aspp_filters: Channels of the ASPP.
        decoder_filters: Channels of the decoder.
        skip_filters: Channels to which the decoder reduces the features at stride 4.
        separable: Depthwise separable 3x3 kernels in ASPP and decoder; False for dense ones.
        dropout: Share of the ASPP's output dropped in training, in [0, 1).
        auxiliary_head: Whether a second head on the stage before the last is added for training.
        multi_grid: Factors of the dilation of the backbone's last stage, in turn.
        batch_norm_momentum: Of every batch normalisation; None keeps the backbone's own, and 0.99
            elsewhere.
        freeze_batch_norm: Whether the backbone's batch normalisations keep their statistics and
            stay untrained.
        synchronized: Whether replicas share their batch statistics.

    Returns:
        A model from photos (batch, height, width, input_channels), raw values in [0, 255], to
        float32 (batch, height, width, num_classes) at the photos' own size. With
        ``auxiliary_head`` the output is a dict of two such tensors, "logits" and "auxiliary".

    Raises:
        ValueError: If an argument is outside its range.
        CheckpointError: If the weights do not fit the network.

    Warns:
        UserWarning: If whole-network weights are of another number of classes: all but the heads
            are then loaded.

    References:
        Chen et al., Encoder-Decoder with Atrous Separable Convolution for Semantic Image
        Segmentation, 2018. The default backbone is that of the study this package grew from.

    Example:
        >>> import numpy as np
        >>> model = DeepLabV3Plus(6, backbone="mobilenetv2", weights=None)
        >>> model(np.zeros((1, 65, 80, 3), "float32")).shape
        TensorShape([1, 65, 80, 6])
    """
    return _build(
        num_classes,
        backbone=backbone,
        input_size=input_size,
        output_stride=output_stride,
        weights=weights,
        activation=activation,
        input_channels=input_channels,
        atrous_rates=atrous_rates,
        aspp_filters=aspp_filters,
        decoder=(decoder_filters, skip_filters),
        separable=separable,
        dropout=dropout,
        auxiliary_head=auxiliary_head,
        multi_grid=multi_grid,
        batch_norm_momentum=batch_norm_momentum,
        freeze_batch_norm=freeze_batch_norm,
        synchronized=synchronized,
    )


def DeepLabV3(  # noqa: N802 - reads as the class of network that it builds
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
    separable: bool = True,
    dropout: float = 0.1,
    auxiliary_head: bool = False,
    multi_grid: Sequence[int] = (1,),
    batch_norm_momentum: float | None = None,
    freeze_batch_norm: bool = False,
    synchronized: bool = False,
) -> keras.Model:
    """Build a DeepLabV3 network: dilated backbone and ASPP, without a decoder.

    Faster and coarser than ``DeepLabV3Plus``, whose arguments, output and errors it shares.

    Args:
        num_classes: As in ``DeepLabV3Plus``.
        backbone: As in ``DeepLabV3Plus``.
        input_size: As in ``DeepLabV3Plus``.
        output_stride: As in ``DeepLabV3Plus``.
        weights: As in ``DeepLabV3Plus``, but for "fashion-main", which has a decoder.
        activation: As in ``DeepLabV3Plus``.
        input_channels: As in ``DeepLabV3Plus``.
        atrous_rates: As in ``DeepLabV3Plus``.
        aspp_filters: As in ``DeepLabV3Plus``.
        separable: As in ``DeepLabV3Plus``.
        dropout: As in ``DeepLabV3Plus``.
        auxiliary_head: As in ``DeepLabV3Plus``.
        multi_grid: As in ``DeepLabV3Plus``.
        batch_norm_momentum: As in ``DeepLabV3Plus``.
        freeze_batch_norm: As in ``DeepLabV3Plus``.
        synchronized: As in ``DeepLabV3Plus``.

    Returns:
        As ``DeepLabV3Plus``.

    Raises:
        ValueError: If an argument is outside its range.
        CheckpointError: If the weights do not fit the network.

    References:
        Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017.

    Example:
        >>> DeepLabV3(6, backbone="mobilenetv2", weights=None, input_size=(64, 64)).output.shape
        (None, 64, 64, 6)
    """
    if weights == "fashion-main":
        raise ValueError("weights 'fashion-main' are of a DeepLabV3Plus, not of a DeepLabV3")
    return _build(
        num_classes,
        backbone=backbone,
        input_size=input_size,
        output_stride=output_stride,
        weights=weights,
        activation=activation,
        input_channels=input_channels,
        atrous_rates=atrous_rates,
        aspp_filters=aspp_filters,
        decoder=None,
        separable=separable,
        dropout=dropout,
        auxiliary_head=auxiliary_head,
        multi_grid=multi_grid,
        batch_norm_momentum=batch_norm_momentum,
        freeze_batch_norm=freeze_batch_norm,
        synchronized=synchronized,
    )


def logits_of(output: Any) -> Any:
    """Return the logits of what a network gives: all of it, or a part where it has two heads.

    Args:
        output: A tensor, or the dict of a network with an auxiliary head.

    Returns:
        The tensor, or the one named "logits".

    Example:
        >>> logits_of({"logits": 1, "auxiliary": 2})
        1
    """
    return output["logits"] if isinstance(output, dict) else output


def in_precision(model: keras.Model, precision: str, *, synchronized: bool = False) -> keras.Model:
    """Copy a functional model into another precision, but for the way to its outputs.

    Args:
        model: A functional Keras model of serialisable layers.
        precision: "float32", "bfloat16" or "float16". The last layer with weights before each
            output, all behind it, and the weights themselves stay in float32, and so do layers
            that have a precision of their own.
        synchronized: Whether batch normalisations that can share their statistics between
            replicas do so.

    Returns:
        A model of its own with the same weights.

    Raises:
        ValueError: If the model cannot be copied.

    Example:
        >>> model = DeepLabV3Plus(6, backbone="mobilenetv2", weights=None)
        >>> half = in_precision(model, "bfloat16")
        >>> half.get_layer("aspp").compute_dtype, half.get_layer("head").compute_dtype
        ('bfloat16', 'float32')
    """
    exact: set[int] = set()
    ends = list(getattr(model, "outputs", None) or ())
    while ends:
        layer, node, _ = ends.pop()._keras_history
        if isinstance(layer, keras.Model):
            ends += layer.outputs
        elif id(layer) not in exact:
            exact.add(id(layer))
            if not layer.weights:
                ends += layer._inbound_nodes[node].input_tensors

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if "dtype" in config and layer.compute_dtype == layer.variable_dtype == "float32":
            mixed = precision != "float32" and id(layer) not in exact
            config["dtype"] = f"mixed_{precision}" if mixed else "float32"
        if synchronized and "synchronized" in config:
            config["synchronized"] = True
        pairs.append((layer, type(layer).from_config(config)))
        return pairs[-1][1]

    pairs: list[tuple[Any, Any]] = []
    try:
        other = keras.models.clone_model(model, clone_function=copy, recursive=True)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"model {model.name!r} cannot be copied, which another precision needs: {error}; "
            "use a functional model of serialisable layers"
        ) from error
    other.set_weights(model.get_weights())
    for pair in pairs:
        # from the outside in, for a layer passes its own on to those within it
        for old, new in zip(*(layer._flatten_layers() for layer in pair), strict=True):
            new.trainable = old.trainable
    return other


def load_weights(model: keras.Model, path: str | Path) -> list[str]:
    """Fill a network from another one that was saved, all but heads of other classes.

    Args:
        model: A network of this module.
        path: A ``.keras`` model or ``.weights.h5`` weights of the same network, which may have
            another number of classes. Code inside the file is never run.

    Returns:
        The names of the layers that kept their own weights.

    Raises:
        CheckpointError: If the file is missing, damaged, unsafe, or of another network.

    Warns:
        UserWarning: If a head was left out because its number of classes differs.

    Example:
        >>> import tempfile
        >>> trained = DeepLabV3Plus(backbone="mobilenetv2", weights=None)
        >>> fresh = DeepLabV3Plus(backbone="mobilenetv2", weights=None)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trained.save_weights(folder + "/trained.weights.h5")
        ...     load_weights(fresh, folder + "/trained.weights.h5")
        []
        >>> all(np.array_equal(*pair) for pair in zip(trained.get_weights(), fresh.get_weights()))
        True
    """
    return _transfer(_saved_in(Path(path), model), model, str(path), stacklevel=3)


def _build(
    num_classes: int,
    *,
    backbone: str,
    input_size: tuple[int, int] | None,
    output_stride: int,
    weights: str | Path | None,
    activation: str | None,
    input_channels: int,
    atrous_rates: Sequence[int] | None,
    aspp_filters: int,
    decoder: tuple[int, int] | None,
    separable: bool,
    dropout: float,
    auxiliary_head: bool,
    multi_grid: Sequence[int],
    batch_norm_momentum: float | None,
    freeze_batch_norm: bool,
    synchronized: bool,
) -> keras.Model:
    if isinstance(num_classes, bool) or not isinstance(num_classes, Integral) or num_classes < 1:
        raise ValueError(f"num_classes must be a whole number of at least 1, got {num_classes!r}")
    num_classes = int(num_classes)
    given = (None, None) if input_size is None else input_size
    if not isinstance(given, Sequence) or len(given) != 2 or not all(map(_is_side, given)):
        raise ValueError(f"input_size must be None or (height, width), got {input_size!r}")
    size = [None if side is None else int(side) for side in given]
    if batch_norm_momentum is not None and not 0 <= batch_norm_momentum < 1:
        raise ValueError(f"batch_norm_momentum must be in [0, 1), got {batch_norm_momentum}")
    trained = None
    if weights == "fashion-main":
        from deeplab_fashion import pretrained

        trained, _, _ = pretrained.load(str(weights))
        own = next(layer.name for layer in trained.layers if isinstance(layer, keras.Model))
        if backbone not in ("inceptionresnetv2", own):  # the default stands for the network's own
            raise ValueError(f"weights {weights!r} have the backbone {own!r}, got {backbone!r}")
        backbone = own
        if decoder is not None and decoder == (256, 48):
            decoder = (trained.get_layer("decoder").filters, decoder[1])
        if batch_norm_momentum is None:
            batch_norm_momentum = trained.get_layer("aspp").batch_norm_momentum
    from_file = trained is None and weights not in (None, "imagenet")
    if from_file and not Path(str(weights)).is_file():
        raise CheckpointError(
            "weights must be 'imagenet', 'fashion-main', None or a file; "
            f"there is no file {weights}"
        )
    whole = from_file and _is_whole_network(Path(str(weights)))
    body = backbones.create(
        backbone,
        output_stride=output_stride,
        weights=None if whole or trained is not None else weights,
        input_channels=input_channels,
        multi_grid=multi_grid,
        batch_norm_momentum=batch_norm_momentum,
        freeze_batch_norm=freeze_batch_norm,
        synchronized=synchronized,
        penultimate=auxiliary_head,
    )
    image = keras.Input((*size, input_channels), name="image")
    framed = layers.PadToMultiple(output_stride, dtype="float32", name="framed")(image)
    features = body(framed)
    common: dict[str, Any] = {
        "batch_norm_momentum": 0.99 if batch_norm_momentum is None else batch_norm_momentum,
        "synchronized": synchronized,
    }
    side = []
    if auxiliary_head:
        hidden = layers.ConvBlock(aspp_filters, 3, separable=separable, name="auxiliary", **common)(
            features.pop()
        )
        side.append(_scores(hidden, framed, image, num_classes, activation, prefix="auxiliary_"))
    x = layers.ASPP(
        aspp_filters,
        rates=_RATES[output_stride] if atrous_rates is None else atrous_rates,
        separable=separable,
        dropout=dropout,
        name="aspp",
        **common,
    )(features[-1])
    if decoder is not None:
        x = layers.DeepLabDecoder(
            decoder[0], skip_filters=decoder[1], separable=separable, name="decoder", **common
        )([x, features[0]])
    outputs = _scores(x, framed, image, num_classes, activation)
    if auxiliary_head:
        outputs = {"logits": outputs, "auxiliary": side[0]}
    name = "deeplabv3" if decoder is None else "deeplabv3plus"
    model = keras.Model(image, outputs, name=name)
    if trained is not None:
        _transfer(trained, model, str(weights), stacklevel=4)
    elif whole:
        _transfer(_saved_in(Path(str(weights)), model), model, str(weights), stacklevel=4)
    return model


def _is_side(side: Any) -> bool:
    if side is None:
        return True
    return isinstance(side, Integral) and not isinstance(side, bool) and int(side) >= 1


def _scores(
    x: Any,
    framed: Any,
    image: Any,
    num_classes: int,
    activation: str | None,
    *,
    prefix: str = "",
) -> Any:
    """Turn features into scores at the photo's size, in float32 whatever the precision."""
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name=f"{prefix}head")(x)
    x = layers.ResizeToMatch(dtype="float32", name=f"{prefix}resized")([x, framed])
    x = layers.CropToMatch(dtype="float32", name=f"{prefix}logits")([x, image])
    if activation is None:
        return x
    return keras.layers.Activation(activation, dtype="float32", name=f"{prefix}scores")(x)


def _with_classes(model: keras.Model, num_classes: int) -> keras.Model:
    """Return a copy of a network for another number of classes, with random weights."""

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name in _HEADS:
            config["filters"] = num_classes
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copy)


def _saved_in(path: Path, model: keras.Model) -> keras.Model:
    """Return the whole network in a file, built as ``model`` where the file holds weights alone."""
    if not path.is_file():
        raise CheckpointError(f"weights {path} do not exist")
    try:
        if path.suffix == ".keras":
            saved: Any = keras.models.load_model(path, compile=False)
        else:
            saved = _with_classes(model, _classes_in(path))
            _fill(saved, path)
    except CheckpointError:
        raise
    except _DAMAGES as error:
        raise CheckpointError(f"weights {path} cannot be loaded: {error}") from error
    return saved


def _fill(model: keras.Model, path: Path) -> None:
    """Load ``.weights.h5`` weights of the very same network."""
    found: list[str] = []
    with h5py.File(path) as file:
        # Keras fills layer by layer, and passes over what is left.
        held: Any = file["layers"]
        held.visititems(
            lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None
        )
    if len(found) != len(model.weights):
        raise CheckpointError(
            f"weights {path} are of another network: it has {len(found)} variables, "
            f"this one has {len(model.weights)}"
        )
    with warnings.catch_warnings():
        # Of each layer that it cannot fill, Keras warns or lists all that it holds.
        warnings.simplefilter("error", UserWarning)
        try:
            model.load_weights(path)
        except (ValueError, UserWarning) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"weights {path} are of another network: {reason}") from error


def _transfer(saved: keras.Model, model: keras.Model, source: str, *, stacklevel: int) -> list[str]:
    """Copy all weights from one network to another, but for heads that differ."""
    theirs = {layer.name: layer for layer in saved.layers if layer.weights}
    ours = {layer.name: layer for layer in model.layers if layer.weights}
    channels = model.input_shape[3]
    kept = []
    for name in sorted(theirs.keys() | ours.keys()):
        missing = name not in theirs or name not in ours
        values = theirs[name].get_weights() if name in theirs else []
        shapes = [tuple(weight.shape) for weight in ours[name].weights] if name in ours else []
        if saved.input_shape[3] == 3 != channels and len(values) == len(shapes):
            values = [
                adapt_channels(value, channels)
                if len(shape) == 4 and value.shape[2] == 3 != shape[2] == channels
                else value
                for value, shape in zip(values, shapes, strict=True)
            ]
        if [value.shape for value in values] == shapes:
            ours[name].set_weights(values)
        elif (missing and name in (*_HEADS, "auxiliary")) or (
            name in _HEADS and values[1].shape != shapes[1]
        ):
            kept += [name] * (name in ours)
        else:
            raise CheckpointError(
                f"weights {source} are of another network: its layer {name!r} is "
                + ("in only one of the two" if missing else "of another shape")
                + (
                    "; to train that network further, give Segmenter.load(path).model to fit"
                    if source.endswith(".keras")
                    else ""
                )
            )
    if kept:
        classes = [network.get_layer("head").filters for network in (saved, model)]
        reason = (
            "it does not hold them"
            if classes[0] == classes[1]
            else f"it has {classes[0]} classes, the network now has {classes[1]}"
        )
        warnings.warn(
            f"loaded all weights of {source} but for {' and '.join(kept)}: {reason}",
            UserWarning,
            stacklevel=stacklevel,
        )
    return kept


def _is_whole_network(path: Path) -> bool:
    """Whether a weights file holds a network of this module, not a backbone alone."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return b"deeplab_fashion>ASPP" in archive.read("config.json")
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                return "layers/aspp" in file
    except _DAMAGES as error:
        raise CheckpointError(f"weights {path} cannot be read: {error}") from error
    return False


def _classes_in(path: Path) -> int:
    """Return the number of classes of a network saved as ``.weights.h5``."""
    with h5py.File(path) as file:
        bias: Any = file["layers/conv2d/vars/1"]
        return len(bias)
