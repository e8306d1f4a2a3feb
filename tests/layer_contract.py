"""What every layer of the package must do, as one check.

``check(build, shapes)`` takes a function that returns a new layer, and the shapes of its inputs.
"""

import keras
import numpy as np
import tensorflow as tf


def inputs_of(shapes, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=shape), dtype) for shape in shapes]


def _call(layer, inputs, **options):
    return layer(inputs if len(inputs) > 1 else inputs[0], **options)


def check(build, shapes, tmp_path, *, half_precision_tolerance=0.1):
    """Hold a layer to its contract; ``shapes`` are (batch, height, width, channels) each."""
    layer, inputs = build(), inputs_of(shapes)
    expected = _call(layer, inputs).numpy()
    assert expected.std() > 0
    _survives_its_config(layer, inputs, expected)
    model = _agrees_with_its_symbolic_form(layer, shapes, inputs, expected)
    _is_saved_and_loaded(model, inputs, expected, tmp_path)
    _is_the_same_in_a_graph(layer, shapes, inputs, expected)
    _runs_in_half_precision(layer, inputs, expected, half_precision_tolerance)
    _learns_with_every_variable(layer, inputs)


def _survives_its_config(layer, inputs, expected):
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"].startswith("deeplab_fashion>")
    twin = keras.saving.deserialize_keras_object(config)
    assert type(twin) is type(layer)
    assert twin.get_config() == layer.get_config()
    _call(twin, inputs)
    assert [w.shape for w in twin.weights] == [w.shape for w in layer.weights]
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(_call(twin, inputs), expected)


def _agrees_with_its_symbolic_form(layer, shapes, inputs, expected):
    symbols = [keras.Input((None, None, shape[3])) for shape in shapes]
    output = _call(layer, symbols)
    assert output.dtype == layer.compute_dtype
    assert output.shape == (None, None, None, expected.shape[3])
    fixed = layer.compute_output_shape([tuple(s) for s in shapes] if shapes[1:] else shapes[0])
    assert tuple(fixed) == expected.shape
    model = keras.Model(symbols, output)
    np.testing.assert_array_equal(model(inputs), expected)
    return model


def _is_saved_and_loaded(model, inputs, expected, tmp_path):
    path = tmp_path / "layer.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(inputs), expected)
    for before, after in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(before, after)


def _is_the_same_in_a_graph(layer, shapes, inputs, expected):
    anything = [tf.TensorSpec((None, None, None, shape[3])) for shape in shapes]
    graph = tf.function(lambda *x: _call(layer, list(x)), input_signature=anything)
    np.testing.assert_allclose(graph(*inputs), expected, rtol=1e-5, atol=1e-5)
    # One graph for all sizes; each input larger by another odd number.
    others = inputs_of([(b + 1, h + 3, w + 5, c) for b, h, w, c in shapes], seed=1)
    np.testing.assert_allclose(graph(*others), _call(layer, others), rtol=1e-5, atol=1e-5)


def _runs_in_half_precision(layer, inputs, expected, tolerance):
    for policy in ("mixed_bfloat16", "mixed_float16"):
        half = type(layer).from_config(layer.get_config() | {"dtype": policy})
        output = _call(half, inputs)
        half.set_weights(layer.get_weights())
        output = _call(half, inputs)
        assert output.dtype == half.compute_dtype == policy.removeprefix("mixed_")
        assert all(variable.dtype == "float32" for variable in half.weights)
        spread = np.abs(expected).max()
        assert np.abs(tf.cast(output, tf.float32) - expected).max() < tolerance * spread
        if half.trainable_variables:
            gradients = _gradients(half, inputs)
            assert all(g.dtype == tf.float32 and np.isfinite(g).all() for g in gradients)


def _gradients(layer, inputs):
    inputs = [tf.cast(x, layer.compute_dtype) for x in inputs]
    with tf.GradientTape() as tape:
        outputs = tf.cast(_call(layer, inputs, training=True), tf.float32)
        weights = np.random.default_rng(2).normal(size=outputs.shape)
        value = tf.reduce_sum(outputs * tf.constant(weights, tf.float32))
    return tape.gradient(value, [v.value for v in layer.trainable_variables])


def _learns_with_every_variable(layer, inputs):
    if layer.trainable_variables:
        gradients = _gradients(layer, inputs)
        for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
            assert gradient is not None, variable.path
            assert np.abs(gradient).max() > 0, variable.path
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = _call(layer, inputs)
        value = tf.reduce_sum(outputs * np.random.default_rng(3).normal(size=outputs.shape))
    features, *others = tape.gradient(value, inputs)
    assert features is not None
    for gradient in (features, *others):
        if gradient is not None:  # of the others, a tensor may only give a size
            assert np.abs(gradient).max() > 0
