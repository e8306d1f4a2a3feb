"""The backbones: their sizes, their dilation, their weights."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_fashion import backbones, layers
from deeplab_fashion.errors import CheckpointError
from deeplab_fashion.models import DeepLabV3Plus

NAMES = (
    "convnexttiny",
    "efficientnetlite0",
    "efficientnetv2b0",
    "efficientnetv2s",
    "inceptionresnetv2",
    "mobilenetv2",
    "mobilenetv3large",
    "resnet101",
    "resnet50",
    "xception",
)
LIGHT = ("efficientnetlite0", "mobilenetv2", "mobilenetv3large")
EVERY = [name if name in LIGHT else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (1, height, width, channels)).astype(np.float32)


def stir(backbone: keras.Model) -> None:
    """Give a network weights under which every part of the photo matters to the features.

    Gates that weigh channels by the mean of the whole image are opened for good: that mean is
    taken over another number of pixels once a stride is removed.
    """
    rng = np.random.default_rng(1)
    for layer in backbone.layers:
        for weight in layer.weights:
            if weight.name == "moving_variance":
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.name == "gamma":
                weight.assign(rng.uniform(0.2, 0.4, weight.shape) * (1 + len(layer.weights) // 3))
            elif weight.name in ("beta", "moving_mean", "bias"):
                weight.assign(rng.normal(0, 0.1, weight.shape))
            elif "kernel" in weight.name:
                single = isinstance(layer, keras.layers.DepthwiseConv2D)
                single |= "depthwise" in weight.name
                fan_in = np.prod(weight.shape[: 2 if single else -1])
                weight.assign(rng.normal(0, np.sqrt(2 / fan_in), weight.shape))
        if layer.name.endswith(("se_expand", "squeeze_excite_conv_1")):
            layer.kernel.assign(0 * layer.kernel)


def test_all_backbones_are_known() -> None:
    assert set(NAMES) <= set(backbones.names())


@pytest.mark.parametrize("name", EVERY)
def test_dilated_features_are_the_undilated_ones_sampled_more_densely(name: str) -> None:
    """At sizes of 32 k + 1 every stride starts at the first pixel: no phase, no border effect."""
    plain = backbones.create(name, None, 32, None)
    stir(plain)
    image = photo(97, 65)
    coarse = [feature.numpy() for feature in tf.function(plain)(image)]
    assert [feature.shape[1:3] for feature in coarse] == [(25, 17), (13, 9), (7, 5), (4, 3)]
    deepest = coarse[-1]
    assert deepest.std(axis=(1, 2)).mean() > 0.01 * deepest.std()  # the photo matters
    for output_stride, step in ((16, 2), (8, 4)):
        dilated = backbones.create(name, None, output_stride, None)
        dilated.set_weights(plain.get_weights())
        features = [feature.numpy() for feature in tf.function(dilated)(image)]
        scale = np.abs(deepest).max()
        np.testing.assert_allclose(
            features[-1][:, ::step, ::step], deepest, atol=2e-5 * scale, rtol=0
        )
        in_between = features[-1][:, 1::step, 1::step]
        assert np.abs(in_between - deepest[:, : in_between.shape[1], : in_between.shape[2]]).max()
        for fine, same in zip(features[:-1], coarse, strict=False):
            np.testing.assert_allclose(fine, same, atol=1e-5 * np.abs(same).max())


@pytest.mark.parametrize(("output_stride", "step"), [(16, 2), (8, 4)])
def test_at_even_sizes_the_phase_is_that_of_same_padding(output_stride: int, step: int) -> None:
    """A strided 3x3 or 5x5 kernel on an even size is centred on every second pixel, the last."""
    plain = backbones.create("efficientnetlite0", None, 32, None)
    stir(plain)
    dilated = backbones.create("efficientnetlite0", None, output_stride, None)
    dilated.set_weights(plain.get_weights())
    image = photo(96, 64)
    expected = plain(image)[-1].numpy()
    sampled = dilated(image)[-1].numpy()[:, step - 1 :: step, step - 1 :: step]
    np.testing.assert_allclose(sampled, expected, atol=2e-5 * np.abs(expected).max())


def reach(backbone: keras.Model) -> int:
    """Return how many pixels of a photo, from top to bottom, one of the features sees."""
    image = tf.constant(photo(513, 33))
    with tf.GradientTape() as tape:
        tape.watch(image)
        feature = backbone(image)[-1]
        middle = tf.reduce_sum(feature[:, (feature.shape[1] - 1) // 2])
    touched = np.flatnonzero(np.abs(tape.gradient(middle, image)[0]).sum((1, 2)))
    return int(touched.max() - touched.min()) + 1


def test_dilation_keeps_the_receptive_field_that_a_removed_stride_would_shrink() -> None:
    backbones.register(
        "toy",
        _toy,
        features={4: "stage4", 8: "stage8", 16: "stage16", 32: "stage32"},
    )
    reaches = {}
    for output_stride in (32, 16, 8):
        backbone = backbones.create("toy", None, output_stride, None)
        backbone.set_weights([np.ones(weight.shape) for weight in backbone.weights])
        reaches[output_stride] = reach(backbone)
        deepest = backbone.get_layer("last")
        assert deepest.dilation_rate == (32 // output_stride,) * 2
    # 3x3 kernels at strides 2, 4, 8, 16, 32 (their inputs at 1 ... 16), one more at 32
    assert reaches[32] == 1 + 2 * (1 + 2 + 4 + 8 + 16 + 32)
    assert reaches[16] == reaches[8] == reaches[32]
    spread = backbones.create("toy", None, 16, None, multi_grid=(3,))
    spread.set_weights([np.ones(weight.shape) for weight in spread.weights])
    assert spread.get_layer("last").dilation_rate == (6, 6)
    assert reach(spread) == reaches[32] + 2 * 32 * 2


def _toy(weights: str | None) -> keras.Model:
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(2, 3, 2, padding="same", use_bias=False)(image)
    for stride in (4, 8, 16, 32):
        x = keras.layers.Conv2D(
            2, 3, 2, padding="same", use_bias=False, name=f"stage{stride}" * (stride < 32) or None
        )(x)
    x = keras.layers.Conv2D(2, 3, padding="same", use_bias=False, name="last")(x)
    x = keras.layers.Activation("linear", name="stage32")(x)
    model = keras.Model(image, x)
    if weights == "imagenet":
        model.set_weights([np.full(weight.shape, 0.5) for weight in model.weights])
    return model


def test_an_own_backbone_can_be_registered_and_brings_its_weights() -> None:
    backbones.register(
        "toy",
        _toy,
        features={4: "stage4", 8: "stage8", 16: "stage16", 32: "stage32"},
        mean=(1.0, 2.0, 3.0),
    )
    assert "toy" in backbones.names()
    backbone = backbones.create("toy", (64, 64), 16)
    assert all((weight.numpy() == 0.5).all() for weight in backbone.weights)
    model = DeepLabV3Plus(3, backbone="toy", aspp_filters=4, decoder_filters=4)
    assert model(photo(33, 40)).shape == (1, 33, 40, 3)
    with pytest.raises(ValueError, match="features must name a layer for strides 4, 8, 16 and 32"):
        backbones.register("other", _toy, features={4: "stage4", 16: "stage16"})


@pytest.mark.parametrize("size", [(33, 33), (34, 47), (64, 65)])
@pytest.mark.parametrize("name", LIGHT)
def test_sizes_divide_exactly(name: str, size: tuple[int, int]) -> None:
    for output_stride in (8, 16):
        backbone = backbones.create(name, None, output_stride, None)
        for feature, stride in zip(backbone(photo(*size)), (4, 8, 16), strict=False):
            assert feature.shape[1:3] == tuple(-(-side // stride) for side in size)


def test_inceptionresnetv2_divides_exactly_and_takes_kerass_weights_by_layer(
    tmp_path: Path,
) -> None:
    keras.utils.set_random_seed(4)
    original = keras.applications.InceptionResNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    path = tmp_path / "inception.weights.h5"
    original.save_weights(path)
    backbone = backbones.create("inceptionresnetv2", (96, 64), 16, path)
    assert [tensor.shape[1:] for tensor in backbone.outputs] == [
        (24, 16, 192),
        (12, 8, 320),
        (6, 4, 1536),
    ]
    assert all(
        layer.padding == "same"
        for layer in backbone.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.MaxPooling2D))
    )
    named = {layer.name: layer for layer in original.layers if layer.weights}
    stable = [layer for layer in backbone.layers if layer.weights and layer.name in named]
    assert {"block35_1_conv", "block17_20_conv", "block8_10_conv", "conv_7b"} <= {
        layer.name for layer in stable
    }
    for layer in stable:
        if layer.name.startswith(("block", "conv_7b")):
            for ours, theirs in zip(layer.weights, named[layer.name].weights, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert sum(w.numpy().astype(float).sum() for w in backbone.weights) == pytest.approx(
        sum(w.numpy().astype(float).sum() for w in original.weights), rel=1e-9
    )


def test_names_do_not_depend_on_what_else_was_built() -> None:
    first = backbones.create("xception", None, 16, None)
    keras.layers.Conv2D(1, 1)
    second = backbones.create("xception", None, 16, None)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    assert [w.path for w in first.weights] == [w.path for w in second.weights]


def test_undilated_mobilenetv2_is_that_of_keras_and_preprocesses_as_it() -> None:
    image = photo(96, 64)
    original = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(96, 64, 3)
    )
    backbone = backbones.create("mobilenetv2", None, 32, None)
    used = {layer.name: layer for layer in backbone.layers}
    for layer in original.layers:
        if layer.name in used:
            used[layer.name].set_weights(layer.get_weights())
    expected = keras.Model(original.input, original.get_layer("block_16_project_BN").output)(
        keras.applications.mobilenet_v2.preprocess_input(image.copy())
    )
    np.testing.assert_allclose(backbone(image)[-1], expected, atol=1e-5)


def test_resnet50_preprocesses_as_keras() -> None:
    image = photo(8, 8)
    backbone = backbones.create("resnet50", None, 32, None)
    expected = keras.applications.resnet.preprocess_input(image.copy())
    np.testing.assert_allclose(backbone.get_layer("preprocessing")(image), expected, atol=1e-4)


def test_efficientnet_lite0_equals_its_reference(shared: Path) -> None:
    weights = shared / "weights" / "efficientnet_lite0_imagenet.npz"
    with np.load(shared / "weights" / "efficientnet_lite0_reference.npz") as reference:
        image = reference["image"][np.newaxis].astype(np.float32)
        features = backbones.create("efficientnetlite0", None, 32, weights)(image)
        for stride, feature in zip((4, 8, 16, 32), features, strict=True):
            np.testing.assert_allclose(feature[0], reference[f"features_stride{stride}"], atol=1e-3)
        network = backbones.efficientnet_lite0(include_top=True)
        with np.load(weights) as arrays:
            for layer in network.layers:
                for weight in layer.weights:
                    weight.assign(arrays[f"{layer.name}/{weight.name}"])
        logits = network((image - 127.5) / 127.5)
        np.testing.assert_allclose(logits[0], reference["logits"], atol=1e-3)


@pytest.mark.parametrize("kind", ["keras", "weights.h5", "npz"])
def test_weights_come_back_from_any_kind_of_file(kind: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(5)
    saved = backbones.create("efficientnetlite0", None, 16, None)
    path = tmp_path / f"weights.{kind}"
    if kind == "keras":
        saved.save(path)
    elif kind == "npz":
        np.savez(path, **{f"{la.name}/{w.name}": w for la in saved.layers for w in la.weights})
    else:
        saved.save_weights(path)
    loaded = backbones.create("efficientnetlite0", None, 8, path)
    for ours, theirs in zip(loaded.weights, saved.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def create(path: Path, name: str = "efficientnetlite0") -> None:
        backbones.create(name, None, 16, path)

    with pytest.raises(CheckpointError, match=r"there is no .*absent\.npz"):
        create(tmp_path / "absent.npz")
    np.savez(tmp_path / "some.npz", **{"stem_conv/kernel": np.zeros((3, 3, 3, 8))})
    with pytest.raises(CheckpointError, match=r"stem_conv/kernel must have shape \(3, 3, 3, 32\)"):
        create(tmp_path / "some.npz")
    np.savez(tmp_path / "few.npz", **{"stem_conv/kernel": np.zeros((3, 3, 3, 32))})
    with pytest.raises(CheckpointError, match="hold no stem_bn/gamma"):
        create(tmp_path / "few.npz")
    other = backbones.create("mobilenetv2", None, 16, None)
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(CheckpointError, match="fit neither the backbone efficientnetlite0"):
        create(tmp_path / "other.weights.h5")
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"must end in \.npz, \.keras or \.h5"):
        create(tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="Keras has none to download"):
        backbones.create("efficientnetlite0", None, 16, "imagenet")


def test_the_first_kernel_is_adapted_to_other_channels(tmp_path: Path) -> None:
    keras.utils.set_random_seed(6)
    rgb = backbones.create("efficientnetlite0", None, 16, None)
    path = tmp_path / "weights.npz"
    np.savez(path, **{f"{la.name}/{w.name}": w for la in rgb.layers for w in la.weights})
    grey = backbones.create("efficientnetlite0", None, 16, path, input_channels=1)
    image = photo(40, 40, 1)
    for ours, theirs in zip(grey(image), rgb(np.repeat(image, 3, axis=3)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    four = backbones.create("efficientnetlite0", None, 16, path, input_channels=4)
    image = photo(40, 40, 4)
    for ours, theirs in zip(four(image), rgb(image[..., :3]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_batch_norm_settings_reach_every_layer() -> None:
    backbone = backbones.create(
        "mobilenetv2", None, 16, None, batch_norm_momentum=0.9, freeze_batch_norm=True
    )
    norms = [la for la in backbone.layers if isinstance(la, keras.layers.BatchNormalization)]
    assert len(norms) > 50
    assert all(isinstance(norm, layers.BatchNormalization) for norm in norms)
    assert {norm.momentum for norm in norms} == {0.9}
    assert not any(norm.trainable for norm in norms)
    assert len(backbone.trainable_weights) == sum(
        len(la.weights) for la in backbone.layers if la not in norms
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg16"}, "backbone must be one of .*; received 'vgg16'"),
        ({"name": "mobilenetv2", "output_stride": 4}, "output_stride must be 8, 16 or 32"),
        ({"name": "mobilenetv2", "input_channels": 0}, "input_channels must be at least 1"),
        ({"name": "mobilenetv2", "multi_grid": ()}, "multi_grid must be factors of at least 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbones.create(**{"weights": None, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EVERY)
def test_each_backbone_builds_trains_a_step_and_predicts(name: str) -> None:
    keras.utils.set_random_seed(7)
    model = DeepLabV3Plus(
        3, backbone=name, weights=None, aspp_filters=8, decoder_filters=8, dropout=0.0
    )
    optimizer = keras.optimizers.SGD(0.01)
    labels = np.random.default_rng(8).integers(0, 3, (2, 33, 40))
    images = np.concatenate([photo(33, 40, seed=seed) for seed in (1, 2)])

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        slopes = tape.gradient(loss, model.trainable_variables)
        reached.extend(slope is not None for slope in slopes)
        optimizer.apply(slopes, model.trainable_variables)
        return loss

    reached: list[bool] = []
    optimizer.build(model.trainable_variables)
    before = [weight.numpy() for weight in model.trainable_variables]
    assert 0.2 < float(step()) < 20
    assert all(reached)
    moved = [np.any(a != b) for a, b in zip(before, model.trainable_variables, strict=True)]
    assert np.mean(moved) > 0.9  # some biases lie in front of a normalisation
    answer = model(images[:1], training=False)
    assert answer.shape == (1, 33, 40, 3)
    assert answer.dtype == tf.float32
    assert np.isfinite(answer).all()
