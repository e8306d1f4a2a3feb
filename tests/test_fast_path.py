"""The frozen, folded network answers as the network it was made of."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_fashion import fast_path, layers
from deeplab_fashion.models import DeepLabV3Plus


def stir(model: keras.Model) -> keras.Model:
    """Make every batch normalisation do something."""
    rng = np.random.default_rng(5)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A few layers of each kind that a network is made of."""
    keras.utils.set_random_seed(3)
    image = keras.Input((None, None, 3))
    x = layers.Preprocessing(mean=127.5, scale=127.5)(image)
    x = layers.ConvBlock(8, 3)(x)
    x = layers.ConvBlock(8, 3, dilation_rate=2, separable=True)(x)
    x = keras.layers.Conv2D(4, 1, dtype="float32", name="head")(x)
    return stir(keras.Model(image, layers.ResizeToMatch(name="logits")([x, image])))


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A whole network."""
    keras.utils.set_random_seed(3)
    options = {"weights": None, "aspp_filters": 16, "decoder_filters": 16}
    return stir(DeepLabV3Plus(4, backbone="mobilenetv2", **options))


def photos(*size: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (*size, 3), dtype=np.uint8)


def ops_of(fast: fast_path.CompiledInference) -> list[str]:
    return [operation.type for operation in fast._function.graph.get_operations()]


def test_the_folded_network_answers_as_the_model_at_any_size(network: keras.Model) -> None:
    fast = fast_path.compile_inference(network, precision="float32")
    for size in ((1, 64, 64), (2, 33, 47), (1, 65, 40)):
        image = photos(*size).astype(np.float32)
        expected = network(image).numpy()
        assert expected.std() > 1e-3
        np.testing.assert_allclose(fast(image), expected, atol=1e-5 * np.abs(expected).max())
    held = ops_of(fast)
    assert "FusedBatchNormV3" not in held
    assert "ReadVariableOp" not in held
    convolutions = held.count("Conv2D") + held.count("DepthwiseConv2dNative")
    assert held.count("BiasAdd") == convolutions - 5  # not the depthwise halves of ASPP, decoder
    assert fast.precision == "float32"


def test_biased_convolutions_of_keras_are_folded_too() -> None:
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(5, 3, bias_initializer="random_normal")(inputs)
    plain = keras.layers.BatchNormalization(
        moving_mean_initializer="random_normal", beta_initializer="random_normal"
    )
    x = layers.BatchNormalization.from_config(plain.get_config() | {"scale": False})(x)
    model = keras.Model(inputs, x)
    fast = fast_path.compile_inference(model, precision="float32")
    assert "FusedBatchNormV3" not in ops_of(fast)
    image = photos(1, 9, 9).astype(np.float32)
    np.testing.assert_allclose(fast(image), model(image), rtol=1e-4, atol=1e-3)


def test_a_feature_with_two_readers_is_not_folded_away() -> None:
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 1, use_bias=False)(inputs)
    norm = layers.BatchNormalization(moving_mean_initializer="ones")
    model = keras.Model(inputs, keras.layers.Add()([norm(x), x]))
    image = photos(1, 5, 5).astype(np.float32)
    fast = fast_path.compile_inference(model, precision="float32")
    np.testing.assert_allclose(fast(image), model(image), rtol=1e-5, atol=1e-4)


def test_later_training_does_not_change_the_function(model: keras.Model) -> None:
    fast = fast_path.compile_inference(model, precision="float32")
    image = photos(1, 40, 40).astype(np.float32)
    before = fast(image)
    head = model.get_layer("head")
    old = head.get_weights()
    head.set_weights([weight + 1 for weight in old])
    changed = model(image).numpy()
    head.set_weights(old)
    np.testing.assert_array_equal(fast(image), before)
    assert np.abs(changed - before).max() > 0.5


def test_bytes_in_and_labels_out(model: keras.Model) -> None:
    def labels(scores: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(scores, axis=-1, output_type=tf.int32), tf.uint8)

    fast = fast_path.compile_inference(model, precision="float32", input_dtype="uint8", then=labels)
    image = photos(1, 50, 34)
    assert fast(image).dtype == np.uint8
    np.testing.assert_array_equal(fast(image), np.argmax(model(image.astype("float32")), -1))


def test_bfloat16_stays_close(model: keras.Model) -> None:
    fast = fast_path.compile_inference(model, precision="bfloat16")
    image = photos(1, 64, 64).astype(np.float32)
    expected = model(image).numpy()
    assert fast.precision == "bfloat16"
    assert fast(image).dtype == np.float32
    assert 0 < np.abs(fast(image) - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("able", [True, False])
def test_auto_takes_bfloat16_only_where_the_labels_hold(
    model: keras.Model, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(fast_path, "has_bfloat16", lambda: able)
    check = photos(1, 48, 48)
    images = check.astype(np.float32)
    rounded = fast_path.compile_inference(model, precision="bfloat16")(images)
    agreement = np.mean(rounded.argmax(-1) == model(images).numpy().argmax(-1))
    for least, expected in ((agreement, "bfloat16"), (agreement + 1e-6, "float32")):
        monkeypatch.setattr(fast_path, "_AGREEMENT", least)
        fast = fast_path.compile_inference(model, precision="auto", check=check)
        assert fast.precision == (expected if able else "float32")


def test_wrong_options_are_refused(model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"precision must be .* 'float16'"):
        fast_path.compile_inference(model, precision="float16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"input_dtype must be .* 'int32'"):
        fast_path.compile_inference(model, input_dtype="int32")
