"""The layers: one contract for all, and what each promises of its own."""

import keras
import layer_contract
import numpy as np
import pytest
import tensorflow as tf

from deeplab_fashion import layers

IMAGE = (2, 7, 5, 6)
CASES = {
    "BatchNormalization": (lambda: layers.BatchNormalization(momentum=0.9), [IMAGE]),
    "BatchNormalization without scale": (
        lambda: layers.BatchNormalization(scale=False, epsilon=1e-2),
        [IMAGE],
    ),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(3, padding="same"), [IMAGE]),
    "DepthwiseConv2D with all": (
        lambda: layers.DepthwiseConv2D(
            3, padding="same", dilation_rate=2, depth_multiplier=2, activation="tanh"
        ),
        [IMAGE],
    ),
    "Preprocessing": (
        lambda: layers.Preprocessing(mean=(1, 2, 3), scale=(1, 2, 4.0), reverse_channels=True),
        [(2, 7, 5, 3)],
    ),
    "PadToMultiple": (lambda: layers.PadToMultiple(4, value=9.0), [IMAGE]),
    "CropToMatch": (layers.CropToMatch, [IMAGE, (2, 4, 3, 3)]),
    "ResizeToMatch": (layers.ResizeToMatch, [IMAGE, (2, 11, 4, 3)]),
    "DilatedMaxPooling2D": (lambda: layers.DilatedMaxPooling2D(3, dilation_rate=2), [IMAGE]),
    "ConvBlock": (lambda: layers.ConvBlock(4, 3, dilation_rate=2), [IMAGE]),
    "ConvBlock separable": (lambda: layers.ConvBlock(4, 3, separable=True), [IMAGE]),
    "ImagePooling": (lambda: layers.ImagePooling(4), [IMAGE]),
    "ASPP": (lambda: layers.ASPP(4, rates=(1, 2), dropout=0.0), [IMAGE]),
    "ASPP dense": (
        lambda: layers.ASPP(4, rates=(2,), separable=False, batch_norm_momentum=0.5),
        [IMAGE],
    ),
    "DeepLabDecoder": (lambda: layers.DeepLabDecoder(4, skip_filters=3), [IMAGE, (2, 13, 9, 5)]),
    "DeepLabDecoder dense": (
        lambda: layers.DeepLabDecoder(4, skip_filters=3, separable=False),
        [IMAGE, (2, 13, 9, 5)],
    ),
}


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("case", CASES)
def test_contract(case, tmp_path):
    build, shapes = CASES[case]
    layer_contract.check(build, shapes, tmp_path)


def test_every_public_layer_has_a_contract():
    assert {case.split()[0] for case in CASES} == set(layers.__all__)


class Forgetful(keras.layers.Layer):
    """Breaks the contract: ``get_config`` leaves its argument out."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {"name": self.name}


def test_the_contract_can_be_broken(tmp_path):
    keras.saving.register_keras_serializable(package="deeplab_fashion")(Forgetful)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        layer_contract.check(lambda: Forgetful(3.0), [IMAGE], tmp_path)


# Batch normalisation -----------------------------------------------------------------------------


def image(shape=IMAGE, dtype="float32", seed=0):
    return tf.constant(np.random.default_rng(seed).normal(1.0, 2.0, shape), dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.5, "epsilon": 1.001e-5}, {"scale": False}, {"center": False}],
)
def test_batch_normalisation_is_keras_own(training, options):
    ours, theirs = layers.BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    x = image()
    rng = np.random.default_rng(1)
    for layer in (ours, theirs):
        layer.build(x.shape)
    values = [rng.uniform(0.5, 1.5, w.shape) for w in ours.weights]
    results = []
    for layer in (ours, theirs):
        layer.set_weights(values)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            value = tf.reduce_sum(y * tf.reshape(tf.range(tf.size(y), dtype=tf.float32), y.shape))
        gradients = tape.gradient(value, [x, *(v.value for v in layer.trainable_variables)])
        results.append([y, *gradients, *layer.get_weights()])
    for actual, expected in zip(*results, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * scale)


def test_frozen_batch_normalisation_keeps_its_statistics():
    layer = layers.BatchNormalization(trainable=False)
    layer.build(IMAGE)
    layer(image(), training=True)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(6))
    np.testing.assert_allclose(layer(image(), training=True), image() / np.sqrt(1.001), rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 6), (2, 5, 6), (2, 3, 4, 2, 6)])
def test_batch_normalisation_of_other_ranks_takes_keras_way(shape):
    x = image(shape)
    actual = layers.BatchNormalization()(x, training=True)
    np.testing.assert_allclose(
        actual, keras.layers.BatchNormalization()(x, training=True), atol=1e-5
    )


@pytest.mark.parametrize("epsilon", [1e-7, 1e-3])
def test_batch_normalisation_follows_axis_and_epsilon(epsilon):
    x, options = image() / 1000, {"axis": 1, "epsilon": epsilon}
    actual = layers.BatchNormalization(**options)(x, training=True)
    expected = keras.layers.BatchNormalization(**options)(x, training=True)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    last = {"epsilon": epsilon}
    actual = layers.BatchNormalization(**last)(x, training=True)
    expected = keras.layers.BatchNormalization(**last)(x, training=True)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


# The other layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_depthwise_gradients_in_half_precision_are_those_of_float32(policy):
    exact = layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)
    half = layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, dtype=policy)
    x = image()
    results = []
    for layer in (exact, half):
        layer.build(x.shape)
        layer.set_weights([image(w.shape, seed=i) for i, w in enumerate(exact.weights)])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(layer(x, training=True), tf.float32)
            value = tf.reduce_sum(y * image(y.shape, seed=5))
        results.append([y, *tape.gradient(value, [x, *(v.value for v in layer.weights)])])
    for expected, actual in zip(*results, strict=True):
        assert np.abs(actual - expected).max() < 0.02 * np.abs(expected).max()


def by_hand(feature, height, width):
    """Bilinear resizing with half-pixel centres, of one channel."""
    out = np.empty((height, width))
    for i, j in np.ndindex(height, width):
        y, x = (
            np.clip((p + 0.5) * old / new - 0.5, 0, old - 1)
            for p, old, new in [(i, feature.shape[0], height), (j, feature.shape[1], width)]
        )
        a, b = int(y), int(x)
        c, d = min(a + 1, feature.shape[0] - 1), min(b + 1, feature.shape[1] - 1)
        upper = feature[a, b] * (1 - (x - b)) + feature[a, d] * (x - b)
        lower = feature[c, b] * (1 - (x - b)) + feature[c, d] * (x - b)
        out[i, j] = upper * (1 - (y - a)) + lower * (y - a)
    return out


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (3, 3), (9, 13), (11, 4), (33, 32)])
def test_resize_to_match_any_size(size):
    feature = image((1, 3, 4, 1))
    resized = layers.ResizeToMatch()([feature, tf.zeros((1, *size, 2))])
    assert resized.shape == (1, *size, 1)
    np.testing.assert_allclose(resized[0, ..., 0], by_hand(feature[0, ..., 0], *size), atol=1e-5)


def test_resize_to_match_leaves_equal_sizes_as_they_are():
    feature = image((1, 5, 3, 2))
    np.testing.assert_array_equal(layers.ResizeToMatch()([feature, feature]), feature)


@pytest.mark.parametrize("window", [1, 2, 3, (2, 3)])
@pytest.mark.parametrize("rate", [1, 2, 3])
def test_dilated_max_pooling_by_hand(window, rate):
    x = image((2, 6, 5, 2)) - 20  # all below 0: the border would win if it took part
    pooled = layers.DilatedMaxPooling2D(window, dilation_rate=rate)(x).numpy()
    height, width = (window, window) if isinstance(window, int) else window
    for i, j in np.ndindex(6, 5):
        rows = [i + rate * (k - (height - 1) // 2) for k in range(height)]
        columns = [j + rate * (k - (width - 1) // 2) for k in range(width)]
        seen = [x[:, r, c] for r in rows for c in columns if 0 <= r < 6 and 0 <= c < 5]
        np.testing.assert_array_equal(pooled[:, i, j], np.max(seen, axis=0))
    if rate == 1:
        plain = keras.layers.MaxPooling2D(window, 1, padding="same")(x)
        np.testing.assert_array_equal(pooled, plain)


def test_preprocessing_keeps_raw_pixels_exact_in_half_precision():
    layer = layers.Preprocessing(mean=127.5, scale=127.5, dtype="mixed_bfloat16")
    pixels = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1)
    expected = tf.cast((pixels - 127.5) / 127.5, tf.bfloat16)
    np.testing.assert_array_equal(layer(pixels), expected)


def test_preprocessing_takes_bytes():
    layer = layers.Preprocessing(mean=(0, 100, 200), scale=50.0, reverse_channels=True)
    pixels = np.array([[[[250, 150, 50]]]], np.uint8)
    np.testing.assert_allclose(layer(pixels), [[[[1, 1, 1]]]], atol=1e-6)


def test_image_pooling_is_the_same_everywhere_and_the_order_of_pixels_does_not_matter():
    layer, x = layers.ImagePooling(4), image()
    pooled = layer(x).numpy()
    np.testing.assert_array_equal(pooled, np.broadcast_to(pooled[:, :1, :1], pooled.shape))
    np.testing.assert_allclose(layer(x[:, ::-1, ::-1]), pooled, atol=1e-5)


def test_separable_branches_are_smaller():
    counts = []
    for separable in (True, False):
        layer = layers.ASPP(32, separable=separable)
        layer.build((1, 8, 8, 64))
        counts.append(layer.count_params())
    assert counts[0] < 0.4 * counts[1]


def test_a_separable_block_of_one_pixel_is_a_plain_one():
    assert layers.ConvBlock(4, 1, separable=True).depthwise is None


@pytest.mark.parametrize("separable", [True, False])
def test_the_rates_of_aspp_are_those_of_its_kernels(separable):
    layer = layers.ASPP(1, rates=(2, 3), separable=separable, dropout=0.0)
    x = tf.Variable(image((1, 15, 15, 2)))
    layer(x)
    for branch, rate in zip(layer.branches[1:3], (2, 3), strict=True):
        kernel = branch.depthwise if separable else branch.convolution
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(kernel(x)[:, 7, 7])
        reached = np.argwhere(np.abs(tape.gradient(value, x)).max(axis=(0, 3)))
        assert set(map(tuple, reached)) == {
            (7 + a, 7 + b) for a in (-rate, 0, rate) for b in (-rate, 0, rate)
        }


def test_dropout_of_aspp_acts_in_training_alone():
    layer, x = layers.ASPP(8, rates=(1,), dropout=0.5), image()
    np.testing.assert_array_equal(layer(x), layer(x, training=False))
    zeros = [float(np.mean(layer(x, training=t) == 0)) for t in (False, True)]
    assert zeros[1] > zeros[0] + 0.1


def test_momentum_reaches_every_batch_normalisation():
    for layer, shape in [
        (layers.ASPP(4, rates=(1,), batch_norm_momentum=0.7, synchronized=True), IMAGE),
        (layers.DeepLabDecoder(4, batch_norm_momentum=0.7, synchronized=True), [IMAGE, IMAGE]),
    ]:
        layer.build(shape)
        found = [
            part
            for part in layer._flatten_layers()
            if isinstance(part, keras.layers.BatchNormalization)
        ]
        assert len(found) >= 3
        assert {(part.momentum, part.synchronized) for part in found} == {(0.7, True)}


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: layers.ConvBlock(0), ValueError, "filters must be at least 1, received 0"),
        (lambda: layers.ConvBlock(4.0), TypeError, "filters must be a whole number, received 4.0"),
        (lambda: layers.ConvBlock(True), TypeError, "filters must be a whole number, received Tr"),
        (lambda: layers.ConvBlock(4, 0), ValueError, "kernel_size must be at least 1, received 0"),
        (
            lambda: layers.ConvBlock(4, dilation_rate=-1),
            ValueError,
            "dilation_rate must be at least 1, received -1",
        ),
        (lambda: layers.ImagePooling(-2), ValueError, "filters must be at least 1, received -2"),
        (lambda: layers.ASPP(rates=(6, 0)), ValueError, "rates must be at least 1, received 0"),
        (lambda: layers.ASPP(rates=(1.5,)), TypeError, "rates must be a whole number, received"),
        (lambda: layers.ASPP(dropout=1.0), ValueError, "dropout must be in .0, 1., received 1.0"),
        (
            lambda: layers.DeepLabDecoder(skip_filters=0),
            ValueError,
            "skip_filters must be at least 1, received 0",
        ),
        (
            lambda: layers.DilatedMaxPooling2D(3, padding="valid"),
            ValueError,
            "padding must be 'same', received 'valid'",
        ),
        (
            lambda: layers.DilatedMaxPooling2D(3, dilation_rate=0),
            ValueError,
            "dilation_rate must be at least 1, received 0",
        ),
    ],
)
def test_wrong_arguments(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (9, 12), (1, 1), (11, 4)])
def test_a_frame_is_even_and_cropping_takes_it_away_again(size):
    image = tf.reshape(tf.range(1.0, 1 + 2 * np.prod(size) * 3), (2, *size, 3))
    framed = layers.PadToMultiple(4, value=-1.0)(image)
    height, width = (side + -side % 4 for side in size)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    expected = np.full((2, height, width, 3), -1, np.float32)
    expected[:, top : top + size[0], left : left + size[1]] = image
    np.testing.assert_array_equal(framed, expected)
    np.testing.assert_array_equal(layers.CropToMatch()([framed, image]), image)
