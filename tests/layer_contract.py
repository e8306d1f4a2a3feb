"""What every layer of the package promises, as one check."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Shapes = Sequence[tuple[int, int, int]]


def _images(shapes: Shapes, batch: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [rng.normal(0.2, 1.0, (batch, *shape)).astype(np.float32) for shape in shapes]


def _given(values: list[Any]) -> Any:
    """Return what a layer of one input, or of several, is called with."""
    return values[0] if len(values) == 1 else values


def check_layer(
    layer: keras.layers.Layer,
    shapes: Shapes,
    other_shapes: Shapes,
    *,
    folder: Path,
    trains_input: bool = True,
) -> None:
    """Check that a layer keeps its promises.

    It is rebuilt from its configuration; its symbolic shape is the real one; it gives the same
    eagerly and in a graph, and takes another size afterwards; it runs in mixed precision; a saved
    model gives exactly the same; and every variable, and its input, receives a gradient.
    """
    kind = type(layer)
    rebuilt = kind.from_config(layer.get_config())
    assert rebuilt.get_config() == layer.get_config()
    assert keras.saving.get_registered_name(kind) == f"deeplab_fashion>{kind.__name__}"

    symbols = [keras.Input((None, None, shape[2])) for shape in shapes]
    model = keras.Model(_given(symbols), layer(_given(symbols)))
    values = _images(shapes)
    eager = layer(_given(values), training=False)
    np.testing.assert_allclose(tf.function(model)(_given(values)), eager, rtol=1e-4, atol=1e-4)
    held = tf.function(lambda x: layer(x, training=False))
    for sizes in (shapes, other_shapes):
        outputs = held(_given(_images(sizes)))
        symbolic = layer.compute_output_shape(_given([(2, *shape) for shape in sizes]))
        assert tuple(outputs.shape) == tuple(symbolic)
        assert outputs.dtype == tf.float32

    policy = layer.dtype_policy.name
    mixed = kind.from_config(layer.get_config() | {"dtype": "mixed_bfloat16"})
    mixed(_given(values))
    mixed.set_weights(layer.get_weights())
    rounded = mixed(_given(values), training=False)
    assert policy == "float32"
    assert rounded.dtype == tf.bfloat16
    assert all(weight.dtype == "float32" for weight in mixed.weights)
    scale = float(np.abs(eager).max())
    np.testing.assert_allclose(tf.cast(rounded, tf.float32), eager, atol=0.05 * scale)

    path = folder / "layer.keras"
    model.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_array_equal(again(_given(values)), model(_given(values)))

    tensors = [tf.constant(value) for value in values]
    weighting = tf.random.stateless_normal(eager.shape, (1, 2))
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = tf.reduce_sum(layer(_given(tensors), training=True) * weighting)
    watched = [*layer.trainable_variables, *(tensors[:1] if trains_input else [])]
    for variable, slope in zip(watched, tape.gradient(loss, watched), strict=True):
        name = getattr(variable, "path", "input")
        assert slope is not None, f"no gradient reaches {name}"
        assert np.isfinite(slope).all(), f"the gradient of {name} is not finite"
        assert np.abs(slope).max() > 0, f"the gradient of {name} is zero"
