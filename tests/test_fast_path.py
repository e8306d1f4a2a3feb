"""The frozen, folded network answers as the network it was made of."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_fashion import DeepLabV3, DeepLabV3Plus, fast_path, layers, pretrained, samples
from deeplab_fashion import photos as photo_files
from deeplab_fashion.fast_path import compile_inference, with_constants

SIZES = [(33, 33), (64, 97), (65, 65), (80, 48)]


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


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_auto_compares_on_photos_of_as_many_channels(
    monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.setattr(fast_path, "has_bfloat16", lambda: True)
    image = keras.Input((None, None, channels))
    model = keras.Model(image, keras.layers.Conv2D(3, 1, dtype="float32")(image))
    fast = fast_path.compile_inference(model, precision="auto")
    bright = np.full((1, 8, 8, channels), 200, np.float32)
    np.testing.assert_allclose(fast(bright), model(bright), rtol=0.02, atol=0.5)


def test_auto_leaves_a_network_as_it_is_that_cannot_be_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Closed(keras.layers.Conv2D):
        def get_config(self) -> dict[str, Any]:
            raise NotImplementedError("no configuration")

    monkeypatch.setattr(fast_path, "has_bfloat16", lambda: True)
    image = keras.Input((None, None, 3))
    model = keras.Model(image, Closed(3, 1)(image))
    with pytest.raises(ValueError, match=r"cannot be copied, .* no configuration; use a"):
        fast_path.compile_inference(model, precision="bfloat16")
    assert fast_path.compile_inference(model, precision="auto").precision == "float32"


@pytest.mark.parametrize("reason", ["unreadable", "other"])
def test_bfloat16_is_not_taken_for_granted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str
) -> None:
    (tmp_path / "cpuinfo").write_text("flags : fpu sse4_2 avx2")
    place = tmp_path / ("none" if reason == "unreadable" else "cpuinfo")
    monkeypatch.setattr(fast_path, "Path", lambda _: place)
    assert not fast_path.has_bfloat16()
    (tmp_path / "cpuinfo").write_text("flags : avx512f avx512_bf16")
    assert fast_path.has_bfloat16() == (reason == "other")


def test_wrong_options_are_refused(model: keras.Model) -> None:
    with pytest.raises(ValueError, match=r"precision must be .* 'float16'"):
        fast_path.compile_inference(model, precision="float16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"input_dtype must be .* 'int32'"):
        fast_path.compile_inference(model, input_dtype="int32")


def noise(*size: int, channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(7)
    return random.integers(0, 256, (*size, channels)).astype(np.float32)


def shuffled(model, seed=0):
    """Give a network random weights and, to each batch normalisation, statistics of its own."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            fan_in = np.prod(shape[:2] if "depthwise" in variable.path else shape[:-1])
            variable.assign(random.normal(0, (2 / fan_in) ** 0.5, shape))
        elif variable.name == "moving_mean" or "bet" in variable.name or "bias" in variable.name:
            variable.assign(random.normal(0, 0.3, shape))
        elif variable.dtype == "float32":
            variable.assign(random.uniform(0.5, 1.5, shape))
    return model


def assert_same(model, fast, image):
    expected = model(image, training=False).numpy()
    answer = fast(image)
    assert answer.shape == expected.shape
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(answer, expected, atol=1e-4 * max(1, np.abs(expected).max()))
    assert (answer.argmax(-1) == expected.argmax(-1)).mean() >= 0.999


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (DeepLabV3Plus, {"backbone": "efficientnetlite0"}),
        (DeepLabV3Plus, {"backbone": "mobilenetv2", "output_stride": 8, "separable": False}),
        (DeepLabV3, {"backbone": "mobilenetv2", "batch_norm_momentum": 0.9}),
    ],
)
def test_networks_give_the_same_answer_without_batch_normalisation(build, options):
    model = shuffled(build(6, weights=None, **options))
    fast = compile_inference(model, precision="float32")
    assert fast.precision == "float32"
    assert "FusedBatchNormV3" not in ops_of(fast)
    assert not {"ReadVariableOp", "Rsqrt"} & set(ops_of(fast))
    for count, (height, width) in enumerate(SIZES, 1):
        assert_same(model, fast, noise(count, height, width))


@pytest.mark.parametrize("norm", [keras.layers.BatchNormalization, layers.BatchNormalization])
def test_every_place_of_a_batch_normalisation_is_right(norm):
    image = x = keras.Input((None, None, 3))
    x = norm(name="on_the_photo")(x)
    x = norm()(keras.layers.Conv2D(8, 3, padding="same", name="biased")(x))
    x = keras.layers.ReLU()(x)
    x = norm()(x)  # behind a ReLU: nothing to fold into
    x = norm()(keras.layers.Conv2D(8, 3, 2, "same", use_bias=False)(x))
    x = norm()(keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x))
    x = norm()(keras.layers.DepthwiseConv2D(3, padding="same", dilation_rate=3, use_bias=False)(x))
    x = norm()(keras.layers.Conv2D(8, 3, padding="same", dilation_rate=2)(x))
    x = norm()(keras.layers.SeparableConv2D(8, 3, padding="same")(x))
    x = norm(scale=False)(keras.layers.Conv2D(8, 1)(x))
    x = norm(center=False, epsilon=0.01)(keras.layers.Conv2D(8, 1)(x))
    shared = keras.layers.Conv2D(8, 1)(x)
    x = keras.layers.Add()([norm()(shared), shared])
    twice = keras.layers.Conv2D(8, 3, padding="same")
    x = norm()(twice(norm()(twice(x))))
    both = norm()
    x = both(keras.layers.Conv2D(8, 1)(both(keras.layers.Conv2D(8, 1)(x))))
    x = norm()(norm()(keras.layers.Conv2D(8, 1)(x)))
    x = norm()(keras.layers.Conv2DTranspose(8, 3, 2, "same")(x))
    model = shuffled(keras.Model(image, keras.layers.Conv2D(4, 1)(x)))
    fast = compile_inference(model, precision="float32")
    for height, width in [(32, 32), (18, 44), (34, 20)]:
        assert_same(model, fast, noise(2, height, width) / 255)
    if norm is layers.BatchNormalization:
        left = ops_of(fast).count("FusedBatchNormV3")
        assert 0 < left < len([1 for layer in model.layers if isinstance(layer, norm)]) / 2


def test_what_an_activation_and_a_second_head_add():
    options = {"backbone": "mobilenetv2", "weights": None, "aspp_filters": 8, "decoder_filters": 8}
    model = shuffled(DeepLabV3Plus(3, auxiliary_head=True, activation="softmax", **options))
    image = noise(1, 40, 40)
    expected = model(image)["logits"].numpy()
    np.testing.assert_allclose(
        compile_inference(model, precision="float32")(image), expected, atol=1e-4
    )
    planes = compile_inference(
        model,
        precision="float32",
        input_dtype="uint8",
        then=lambda scores: tf.transpose(scores, (0, 3, 1, 2)),
    )(image.astype(np.uint8))
    np.testing.assert_allclose(planes, expected.transpose(0, 3, 1, 2), atol=1e-4)


def test_a_fixed_size_and_other_channels():
    model = shuffled(
        DeepLabV3(2, backbone="mobilenetv2", weights=None, input_size=(48, 64), input_channels=4)
    )
    fast = compile_inference(model, precision="float32")
    assert_same(model, fast, noise(2, 48, 64, channels=4))
    assert fast_path._photos(model).shape == (2, 48, 64, 4)


def test_a_variable_that_keras_does_not_know_becomes_a_constant():
    class Gain(keras.layers.Layer):
        def build(self, input_shape):
            self.hidden = {"gain": tf.Variable(3.0, trainable=False)}

        def call(self, inputs):
            return inputs * self.hidden["gain"]

    model = keras.Sequential([keras.Input((None, None, 3)), Gain()])
    fast = compile_inference(model, precision="float32")
    image = noise(1, 5, 6)
    np.testing.assert_array_equal(fast(image), image * 3)
    assert "ReadVariableOp" not in ops_of(fast)


@pytest.mark.parametrize("largest", [None, 1000, 0])
def test_with_constants_holds_the_weights_as_they_were(network, largest):
    def call(image):
        return network(image, training=False)

    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    held = tf.function(with_constants(network, call, largest=largest), signature)
    concrete = held.get_concrete_function()
    assert "ReadVariableOp" not in [each.type for each in concrete.graph.get_operations()]
    sizes = [np.prod(tensor.shape) for tensor in concrete.captured_inputs]
    assert bool(sizes) is (largest is not None)
    assert all(size > largest for size in sizes)
    before = network.get_weights()
    expected = [call(noise(1, *size)).numpy() for size in SIZES[:2]]
    network.set_weights([weight * 0 for weight in before])
    answers = [held(noise(1, *size)).numpy() for size in SIZES[:2]]
    network.set_weights(before)
    for answer, scores in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer, scores, atol=1e-4 * max(1, np.abs(scores).max()))


def test_bfloat16_labels_the_sample_photos_as_float32_does():
    trained = pretrained.load("fashion-main")[0]
    image = np.stack(
        [photo_files.resize(photo_files.read(samples.photo(i)), (256, 256)) for i in (3, 8)]
    )
    exact = compile_inference(trained, precision="float32", input_dtype="uint8")
    half = compile_inference(trained, precision="bfloat16", input_dtype="uint8")
    assert half.precision == "bfloat16"
    labels, same = exact(image).argmax(-1), trained(image).numpy().argmax(-1)
    assert (labels == same).mean() >= 0.999
    assert (half(image).argmax(-1) == labels).mean() >= 0.995
