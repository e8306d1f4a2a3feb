"""The trained networks that come with the package, and the format that they are kept in.

``NAME.npz`` holds the network's configuration, its class names and options, and its weights:
kernels as float16, the vectors of biases and batch statistics as float32. ``NAME.sha256`` holds
the checksum of that file, which is verified before anything in it is read.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeplab_fashion import layers  # noqa: F401 - registers the classes that a network is made of
from deeplab_fashion._collector import uncollected
from deeplab_fashion._files import replacing
from deeplab_fashion.errors import CheckpointError

__all__ = ["load", "names", "save"]

_FOLDER = Path(__file__).parent


def names(folder: Path = _FOLDER) -> list[str]:
    """Return the names of the networks in ``folder``, by default those that come along.

    Example:
        >>> names()
        ['fashion-main']
    """
    return sorted(path.stem for path in folder.glob("*.npz"))


def load(
    name: str = "fashion-main", *, folder: Path = _FOLDER
) -> tuple[keras.Model, tuple[str, ...], dict[str, Any]]:
    """Load a trained network without touching the internet.

    Args:
        name: One of ``names()``.
        folder: Where the files lie; by default in the package.

    Returns:
        The network, the names of its classes, and the options that `Segmenter` uses it with.

    Raises:
        ValueError: If there is no network of that name.
        CheckpointError: If the file is damaged: it is not the one that its checksum was taken of.

    Example:
        >>> network, class_names, options = load("fashion-main")
        >>> network.output_shape[-1] == len(class_names)
        True
    """
    path = folder / f"{name}.npz"
    if not path.is_file():
        found = ", ".join(names(folder)) or "none in this installation"
        raise ValueError(f"pretrained network must be one of: {found}; received {name!r}")
    content = path.read_bytes()
    try:
        expected = path.with_suffix(".sha256").read_text("ascii").split()[0]
    except (OSError, ValueError, IndexError) as error:
        raise CheckpointError(f"pretrained network {path} has no readable checksum") from error
    received = hashlib.sha256(content).hexdigest()
    if received != expected:
        raise CheckpointError(
            f"pretrained network {path} is damaged: its SHA-256 must be {expected}, "
            f"received {received}"
        )
    try:
        with np.load(io.BytesIO(content)) as file:
            about = json.loads(file["about"].tobytes(), object_hook=_for_any_keras)
            values = [file[f"weight{i}"].astype(np.float32) for i in range(about["weights"])]
        with uncollected():
            model = keras.saving.deserialize_keras_object(about["model"])
            model.set_weights(values)
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"pretrained network {path} cannot be read: {error}") from error
    return model, tuple(about["class_names"]), about["options"]


def _for_any_keras(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out options at rest that Keras 3.15 brought, and 3.14 refuses."""
    unknown = [name for name in ("input_axes", "output_axes") if config.get(name, 0) is None]
    return {name: value for name, value in config.items() if name not in unknown}


def save(
    model: keras.Model,
    name: str,
    *,
    folder: Path,
    class_names: Sequence[str],
    options: Mapping[str, Any],
) -> Path:
    """Write a trained network and its checksum in the form that ``load`` reads.

    Args:
        model: A network of this package, in float32.
        name: What it will be loaded by.
        folder: Where the two files go.
        class_names: The name of each class, background first.
        options: Options of `Segmenter` that the network was trained for.

    Returns:
        The path of the ``.npz`` file.

    Raises:
        ValueError: If a weight is not finite, or a kernel too large for float16.
    """
    arrays: dict[str, Any] = {}
    for position, weight in enumerate(model.weights):
        value = weight.numpy()
        stored = value.astype(np.float16) if value.ndim > 1 else value.astype(np.float32)
        if not np.isfinite(stored).all():
            raise ValueError(f"weight {weight.path} must be finite and fit float16")
        arrays[f"weight{position}"] = stored
    about = {
        "model": keras.saving.serialize_keras_object(model),
        "class_names": list(class_names),
        "options": dict(options),
        "weights": len(arrays),
    }
    text = json.dumps(about, sort_keys=True).encode()
    path = folder / f"{name}.npz"
    with replacing(path) as part:
        np.savez_compressed(part, about=np.frombuffer(text, np.uint8), **arrays)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    with replacing(path.with_suffix(".sha256")) as part:
        part.write_text(f"{checksum}  {path.name}\n", "ascii")
    return path
