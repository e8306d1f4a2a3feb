"""What the rewriting of networks keeps: what they compute, and weights of every kind."""

import dataclasses
import re
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_fashion import backbones
from deeplab_fashion.backbones._surgery import dilate
from deeplab_fashion.errors import CheckpointError

# What a gate of squeeze-and-excitation says depends on every pixel, and there are more of them in
# dilated features. Where networks are compared, gates do not look.
GATE = re.compile(r"squeeze_excite_conv_1|_se_expand")
TINY_FEATURES = {stride: f"s{stride}_bn" for stride in (4, 8, 16, 32)}


def some_weight(layer, variable):
    """A value of the usual magnitude: with zero means and no offsets, borders would be no test."""
    rng = np.random.default_rng(zlib.crc32(backbones._key(layer, variable).encode()))
    shape = tuple(variable.shape)
    if variable.name in ("kernel", "depthwise_kernel", "pointwise_kernel"):
        if GATE.search(layer.name):
            return np.zeros(shape, np.float32)
        depthwise = variable.name == "depthwise_kernel" or shape[-1] == 1
        fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(1.5 / fan_in))
    if variable.name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.normal(0.0, 0.2, shape).astype(np.float32)


def with_weights(model):
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(some_weight(layer, variable))
    return model


def photo(height, width, channels=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (1, height, width, channels)).astype(np.float32)


def assert_same_features(actual, expected, tolerance=1e-4):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert expected.std() > 1e-3
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))


# What a network computes -------------------------------------------------------------------------


def hand_made(kernel, pool, block):
    """A small network of three stages at strides 2, 4 and 8, and its features' names."""
    layers = keras.layers
    x = inputs = keras.Input((None, None, 3))
    for stage, filters in enumerate((4, 6, 8), start=1):
        if stage == 3 and pool:
            x = layers.MaxPooling2D(pool, 2, padding="same", name=f"down{stage}")(x)
        else:
            x = layers.Conv2D(
                filters, kernel, 2, padding="same", use_bias=False, name=f"down{stage}"
            )(x)
        width = x.shape[-1]
        for position in range(2):
            name = f"stage{stage}_{position}"
            if block == "depthwise":
                y = layers.DepthwiseConv2D(3, padding="same", name=name)(x)
            elif block == "separable":
                y = layers.SeparableConv2D(width, 3, padding="same", name=name)(x)
            elif block == "grouped":
                y = layers.Conv2D(width, 3, padding="same", groups=width, name=name)(x)
            else:
                y = layers.Conv2D(width, block, padding="same", name=name)(x)
            y = layers.BatchNormalization(name=name + "_bn")(y)
            x = layers.Add(name=name + "_add")([x, layers.ReLU(name=name + "_relu")(y)])
    return keras.Model(inputs, x), {2**stage: f"stage{stage}_1_add" for stage in (1, 2, 3)}


def at_output_stride(network, features, output_stride, multi_grid=(1,)):
    image = keras.Input((None, None, 3))
    outputs, _ = dilate(
        network,
        image,
        features,
        output_stride=output_stride,
        multi_grid=multi_grid,
        batch_norm={},
    )
    return with_weights(keras.Model(image, outputs[-1]))


@pytest.mark.parametrize(
    ("kernel", "pool", "block", "size"),
    [
        (1, None, 3, (17, 9)),
        (2, 2, 5, (9, 25)),
        (3, None, "depthwise", (25, 17)),
        (3, 3, "separable", (9, 9)),
        (5, 3, "grouped", (33, 17)),
        (2, None, "grouped", (17, 33)),
    ],
)
def test_surgery_keeps_what_a_network_computes(kernel, pool, block, size):
    # At sizes of 8 k + 1 all strides start at the first pixel. The borders agree too: a spread-out
    # kernel reaches into the padding where the original one did.
    network, features = hand_made(kernel, pool, block)
    full = at_output_stride(network, features, 8)
    image = photo(*size) / 255
    if block != "grouped":  # which Keras cannot run on every processor
        assert_same_features(full(image), with_weights(network)(image))
    for output_stride in (2, 4):
        dilated = at_output_stride(network, features, output_stride)(image)
        step = 8 // output_stride
        assert_same_features(dilated[:, ::step, ::step], full(image))


def seen_pixels(model, size=97):
    """How many rows of the image one pixel of the deepest features depends on."""
    image = tf.Variable(photo(size, size) / 255)
    with tf.GradientTape() as tape:
        feature = model(image)
        centre = feature.shape[1] // 2
        value = tf.reduce_sum(feature[:, centre, centre])
    rows = np.flatnonzero(np.abs(tape.gradient(value, image)).max(axis=(0, 2, 3)))
    return rows[-1] - rows[0] + 1


def test_dilation_keeps_the_receptive_field_and_multi_grid_widens_it():
    network, features = hand_made(3, None, 3)
    full, dilated, wide = (
        at_output_stride(network, features, 8),
        at_output_stride(network, features, 2),
        at_output_stride(network, features, 2, multi_grid=(1, 2)),
    )
    # Each stage: its strided kernel, then two more, at twice the distance.
    assert seen_pixels(full) == 1 + 2 * (1 + 2 * 2) + 2 * (2 + 4 * 2) + 2 * (4 + 8 * 2)
    assert seen_pixels(dilated) == seen_pixels(full)
    assert seen_pixels(wide) == seen_pixels(full) + 2 * 8


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        # 3 x 3 kernels start behind the first pixel of an even size; 1 x 1 and 2 x 2 ones on it.
        ("mobilenetv2", 3),
        pytest.param("resnet50", 0, marks=pytest.mark.slow),
        pytest.param("convnexttiny", 0, marks=pytest.mark.slow),
    ],
)
def test_even_sizes_agree_at_the_phase_of_their_padding(name, phase):
    image = photo(64, 96)
    coarse, fine = (
        with_weights(backbones.create(name, None, stride, None))(image)[-1].numpy()
        for stride in (32, 8)
    )
    assert_same_features(fine[:, phase::4, phase::4], coarse)
    elsewhere = fine[:, (phase + 1) % 4 :: 4, phase::4]
    assert np.abs(elsewhere - coarse).max() > 0.1 * coarse.std()


def test_average_pooling_that_would_need_dilation_is_refused():
    x = inputs = keras.Input((None, None, 3))
    for _ in range(2):
        x = keras.layers.Conv2D(2, 3, 2, padding="same")(x)
    x = keras.layers.AveragePooling2D(3, 1, padding="same", name="mean")(x)
    with pytest.raises(ValueError, match="layer mean: only max pooling can be dilated"):
        at_output_stride(keras.Model(inputs, x), {2: "conv2d_0", 4: "mean"}, 2)


# Weights of Keras --------------------------------------------------------------------------------

_of = keras.applications
KERAS_NETWORKS = {
    "mobilenetv2": (_of.MobileNetV2, _of.mobilenet_v2, "block_16_project_BN"),
    "resnet50": (_of.ResNet50, _of.resnet50, "conv5_block3_out"),
    "mobilenetv3large": (_of.MobileNetV3Large, _of.mobilenet_v3, "expanded_conv_14_add"),
    "efficientnetv2b0": (_of.EfficientNetV2B0, _of.efficientnet_v2, "block6h_add"),
    "convnexttiny": (_of.ConvNeXtTiny, _of.convnext, None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS_NETWORKS)
def test_raw_photos_and_keras_weights_give_what_keras_gives(tmp_path, name):
    build, module, last = KERAS_NETWORKS[name]
    network = with_weights(build(include_top=False, weights=None, input_shape=(64, 64, 3)))
    if last is None:
        last = network.layers[-1].name
    expected = keras.Model(network.input, network.get_layer(last).output)(
        module.preprocess_input(photo(64, 64))
    )
    network.save_weights(tmp_path / "keras.weights.h5")
    backbone = backbones.create(name, None, 32, tmp_path / "keras.weights.h5")
    assert_same_features(backbone(photo(64, 64))[-1], expected)


@pytest.mark.slow
def test_inceptionresnetv2_takes_keras_weights_layer_by_layer(own_registry):
    network = with_weights(_of.InceptionResNetV2(weights=None, include_top=False))
    backbones._REGISTRY["inceptionresnetv2"] = dataclasses.replace(
        backbones._REGISTRY["inceptionresnetv2"], build=lambda weights: network
    )
    backbone = backbones.create("inceptionresnetv2", None, 16, "imagenet")
    theirs, ours = (
        [layer for layer in model.layers if layer.weights] for model in (network, backbone)
    )
    for old, new in zip(theirs, ours, strict=True):
        for old_weight, new_weight in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_array_equal(new_weight, old_weight)


# Weights of files, and own backbones -------------------------------------------------------------


def tiny(weights):
    """A network of one layer a stage; "imagenet" gives it weights that can be told."""
    x = inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="stem")(x)
    for stride in (4, 8, 16, 32):
        x = keras.layers.Conv2D(4, 3, 2, padding="same", activation="tanh", name=f"s{stride}")(x)
        x = keras.layers.BatchNormalization(name=f"s{stride}_bn")(x)
    network = keras.Model(inputs, x)
    return network if weights is None else with_weights(network)


@pytest.fixture
def tiny_registered(own_registry):
    backbones.register("tiny", tiny, features=TINY_FEATURES, mean=127.5, scale=127.5)


def arrays_of(model):
    return {f"{la.name}/{v.name}": v.numpy() for la in model.layers for v in la.weights}


@pytest.mark.parametrize("reverse_channels", [False, True])
def test_an_own_backbone_sees_photos_as_it_was_trained(own_registry, reverse_channels):
    backbones.register(
        "tiny",
        tiny,
        features=TINY_FEATURES,
        mean=(1, 2, 3),
        scale=50.0,
        reverse_channels=reverse_channels,
    )
    image = photo(65, 33)
    expected = tiny("imagenet")((image[..., :: -1 if reverse_channels else 1] - [1, 2, 3]) / 50)
    assert_same_features(backbones.create("tiny", None, 32)(image)[-1], expected, 1e-5)
    dilated = backbones.create("tiny", None, 8)(image)
    assert [f.shape[1:3].as_list() for f in dilated] == [[17, 9], [9, 5]]
    assert_same_features(dilated[-1][:, ::4, ::4], expected, 1e-5)


def test_weights_none_are_random(tiny_registered):
    a, b = (backbones.create("tiny", weights=None)(photo(33, 33))[-1] for _ in range(2))
    assert np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize("kind", ["npz", "keras", "nested keras", "h5", "h5 of Keras' network"])
def test_weights_of_a_file(tmp_path, tiny_registered, kind):
    source = backbones.create("tiny")
    path = tmp_path / "backbone.npz"
    if kind == "npz":
        np.savez(path, **arrays_of(source))
    elif kind.endswith("keras"):
        path = path.with_suffix(".keras")
        if kind.startswith("nested"):
            inputs = keras.Input((None, None, 3))
            source = keras.Model(inputs, source(inputs)[-1])
        source.save(path)
    else:
        path = path.with_suffix(".weights.h5")
        (source if kind == "h5" else tiny("imagenet")).save_weights(path)
    expected = arrays_of(backbones.create("tiny", None, 8))
    for given_path in (path, str(path)):
        for key, value in arrays_of(backbones.create("tiny", None, 8, given_path)).items():
            np.testing.assert_array_equal(value, expected[key], key)


class Nameless(keras.layers.Layer):
    """Has a variable that it gives no name, as a layer scale of ConvNeXt."""

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


def test_what_a_layer_leaves_unnamed_is_found_whatever_else_was_built(tmp_path, own_registry):
    keras.saving.register_keras_serializable(package="test")(Nameless)

    def build(weights):
        network = tiny("imagenet")
        return keras.Model(network.input, Nameless(name="scale")(network.output))

    backbones.register("nameless", build, features=TINY_FEATURES | {32: "scale"})
    source = backbones.create("nameless")
    source.get_layer("scale").factor.assign([1, 2, 3, 4])
    source.save(tmp_path / "w.keras")
    loaded = backbones.create("nameless", weights=tmp_path / "w.keras")
    np.testing.assert_array_equal(loaded.get_layer("scale").factor, [1, 2, 3, 4])


@pytest.mark.parametrize("suffix", ["npz", "keras", "weights.h5"])
def test_a_damaged_weights_file_is_refused_by_name(tmp_path, tiny_registered, suffix):
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(b"PK\x03\x04 not what it says")
    with pytest.raises(CheckpointError, match="damaged"):
        backbones.create("tiny", weights=path)


def test_h5_weights_of_another_network_are_refused(tmp_path, tiny_registered):
    other = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(5, 3)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(CheckpointError, match="fit neither the backbone tiny nor Keras' network"):
        backbones.create("tiny", weights=tmp_path / "other.weights.h5")


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_with_the_weights_that_a_backbone_brings(tiny_registered, channels):
    image = photo(33, 47, channels)
    actual = backbones.create("tiny", input_channels=channels)(image)[-1]
    rgb = np.repeat(image, 3, axis=-1) if channels == 1 else image[..., :3]
    assert_same_features(actual, backbones.create("tiny")(rgb)[-1], 1e-5)


def test_penultimate_features_follow_at_the_end(tiny_registered):
    plain = backbones.create("tiny", None, 8)(photo(33, 33))
    *features, last = backbones.create("tiny", None, 8, penultimate=True)(photo(33, 33))
    for actual, expected in zip(features, plain, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    undilated = backbones.create("tiny", None, 16, penultimate=True)(photo(33, 33))[-1]
    assert_same_features(last[:, ::2, ::2], undilated, 1e-5)


def test_a_feature_that_is_not_there_is_named(own_registry):
    backbones.register("mine", tiny, features=TINY_FEATURES | {16: "absent"})
    with pytest.raises(ValueError, match="features name absent, which the network does not have"):
        backbones.create("mine", weights=None)
