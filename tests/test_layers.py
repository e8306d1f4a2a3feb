"""The layers of the network: one contract for all, and what each is for."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_contract import check_layer

from deeplab_fashion import layers


CASES: dict[str, tuple[Any, Any, Any]] = {
    "batch_norm": (lambda: layers.BatchNormalization(), [(5, 7, 3)], [(4, 4, 3)]),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(3, padding="same", dilation_rate=2),
        [(5, 7, 3)],
        [(8, 4, 3)],
    ),
    "preprocessing": (
        lambda: layers.Preprocessing(mean=(0.1, 0.2, 0.3), scale=2.0, reverse_channels=True),
        [(5, 7, 3)],
        [(4, 4, 3)],
    ),
    "resize": (lambda: layers.ResizeToMatch(), [(3, 4, 2), (7, 5, 1)], [(6, 3, 2), (4, 9, 1)]),
    "pooling": (lambda: layers.DilatedMaxPooling2D(3, dilation_rate=2), [(6, 7, 2)], [(9, 5, 2)]),
    "conv_block": (lambda: layers.ConvBlock(4, 3, dilation_rate=2), [(6, 7, 3)], [(9, 5, 3)]),
    "separable_block": (lambda: layers.ConvBlock(4, 3, separable=True), [(6, 7, 3)], [(9, 5, 3)]),
    "image_pooling": (lambda: layers.ImagePooling(4), [(6, 7, 3)], [(9, 5, 3)]),
    "aspp": (lambda: layers.ASPP(4, rates=(1, 2), dropout=0.0), [(6, 7, 3)], [(9, 5, 3)]),
    "dense_aspp": (
        lambda: layers.ASPP(4, rates=(2,), separable=False, dropout=0.0),
        [(6, 7, 3)],
        [(9, 5, 3)],
    ),
    "decoder": (
        lambda: layers.DeepLabDecoder(4, skip_filters=3),
        [(3, 4, 3), (11, 13, 2)],
        [(4, 2, 3), (9, 9, 2)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_layer_keeps_the_contract(case: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    make, shapes, other_shapes = CASES[case]
    check_layer(make(), shapes, other_shapes, folder=tmp_path)


def test_every_public_layer_is_held_to_the_contract() -> None:
    checked = {type(make()).__name__ for make, _, _ in CASES.values()}
    assert checked == set(layers.__all__)


def test_fused_batch_norm_equals_that_of_keras_in_training_and_out_of_it() -> None:
    x = np.random.default_rng(2).normal(3, 2, (4, 5, 6, 3)).astype(np.float32)
    ours = layers.BatchNormalization(momentum=0.7)
    theirs = keras.layers.BatchNormalization(momentum=0.7)
    for training in (True, True, False):
        np.testing.assert_allclose(
            ours(x, training=training), theirs(x, training=training), atol=1e-5
        )
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5)


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    layer = layers.BatchNormalization(trainable=False)
    x = np.full((2, 3, 3, 1), 9.0, np.float32)
    np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1.001), rtol=1e-5)
    assert layer.moving_mean.numpy() == 0


def test_depthwise_gradients_in_mixed_precision_are_those_of_float32() -> None:
    x = tf.constant(np.random.default_rng(3).normal(size=(2, 9, 9, 4)).astype(np.float32))
    x = tf.cast(tf.cast(x, tf.bfloat16), tf.float32)
    slopes = {}
    for policy in ("float32", "mixed_bfloat16"):
        layer = layers.DepthwiseConv2D(3, strides=2, padding="same", dtype=policy)
        layer.build(x.shape)
        kernel = np.random.default_rng(4).integers(-2, 3, (3, 3, 4, 1))
        layer.kernel.assign(kernel)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.cast(layer(x, training=True), tf.float32))
        slopes[policy] = tape.gradient(loss, [x, layer.kernel])
    for exact, mixed in zip(*slopes.values(), strict=True):
        np.testing.assert_allclose(mixed, exact, rtol=0.01, atol=0.01)


def test_preprocessing_by_hand() -> None:
    layer = layers.Preprocessing(mean=(1, 2, 3), scale=(1, 2, 4), reverse_channels=True)
    np.testing.assert_allclose(layer(np.array([[[[7.0, 6.0, 5.0]]]])), [[[[4.0, 2.0, 1.0]]]])


def test_preprocessing_is_exact_in_mixed_precision() -> None:
    layer = layers.Preprocessing(mean=127.5, scale=127.5, dtype="mixed_bfloat16")
    pixels = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1)
    expected = tf.cast((pixels - 127.5) / 127.5, tf.bfloat16)
    np.testing.assert_array_equal(layer(pixels), expected)


def test_resize_aligns_pixel_centres() -> None:
    x = np.array([[[[0.0], [4.0]]]], np.float32)
    resized = layers.ResizeToMatch()([x, np.zeros((1, 1, 4, 1))])
    np.testing.assert_allclose(resized[0, 0, :, 0], [0.0, 1.0, 3.0, 4.0])


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_dilated_pooling_against_a_loop(rate: int) -> None:
    x = np.random.default_rng(5).normal(-4, 1, (1, 7, 8, 2)).astype(np.float32)
    expected = np.empty_like(x)
    for row in range(7):
        for column in range(8):
            rows = [r for r in (row - rate, row, row + rate) if 0 <= r < 7]
            columns = [c for c in (column - rate, column, column + rate) if 0 <= c < 8]
            expected[0, row, column] = x[0][np.ix_(rows, columns)].max(axis=(0, 1))
    pooled = layers.DilatedMaxPooling2D(3, dilation_rate=rate)(x)
    np.testing.assert_array_equal(pooled, expected)


def test_image_pooling_gives_one_value_per_image_whatever_its_size() -> None:
    layer = layers.ImagePooling(3)
    small = layer(np.full((1, 2, 3, 4), 0.5, np.float32)).numpy()
    large = layer(np.full((1, 9, 8, 4), 0.5, np.float32)).numpy()
    assert np.ptp(large, axis=(0, 1, 2)).max() == 0
    np.testing.assert_allclose(small[0, 0, 0], large[0, 0, 0], rtol=1e-5)


def test_aspp_branches_see_as_far_as_their_rates() -> None:
    keras.utils.set_random_seed(6)
    layer = layers.ASPP(8, rates=(2, 5), dropout=0.0)
    x = tf.constant(np.random.default_rng(6).normal(size=(1, 21, 21, 3)).astype(np.float32))
    layer(x)
    for branch, reach in zip(layer.branches[:3], (0, 2, 5), strict=True):
        with tf.GradientTape() as tape:
            tape.watch(x)
            middle = tf.reduce_sum(
                branch.convolution(x if branch.depthwise is None else branch.depthwise(x))[
                    :, 10, 10
                ]
            )
        touched = np.argwhere(np.abs(tape.gradient(middle, x)[0]).sum(-1) > 0)
        assert touched.min() == 10 - reach
        assert touched.max() == 10 + reach


def test_separable_layers_are_smaller() -> None:
    counts = []
    for separable in (True, False):
        layer = layers.ASPP(32, separable=separable)
        layer.build((1, 8, 8, 64))
        counts.append(layer.count_params())
    assert counts[0] < 0.4 * counts[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.ConvBlock(0), "filters must be at least 1, received 0"),
        (lambda: layers.ConvBlock(4, 3, dilation_rate=-1), "dilation_rate must be at least 1"),
        (lambda: layers.ASPP(4, rates=(6, 0)), "rates must be at least 1, received 0"),
        (lambda: layers.ASPP(4, dropout=1.0), r"dropout must be in \[0, 1\), received 1.0"),
        (lambda: layers.DeepLabDecoder(4, skip_filters=0), "skip_filters must be at least 1"),
        (lambda: layers.DilatedMaxPooling2D(3, padding="valid"), "padding must be 'same'"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_fractional_number_of_filters_is_refused() -> None:
    with pytest.raises(TypeError, match=r"filters must be a whole number, received 2\.5"):
        layers.ConvBlock(2.5)  # type: ignore[arg-type]
