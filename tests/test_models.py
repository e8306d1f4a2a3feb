import contextlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_fashion import DeepLabV3, DeepLabV3Plus, backbones, layers
from deeplab_fashion.errors import CheckpointError
from deeplab_fashion.models import in_precision, load_weights

SIZES = [(33, 33), (65, 97), (64, 64), (40, 101)]


def tiny_network(weights):
    """Five strided convolutions, each with the batch normalisation that a backbone has."""
    assert weights is None
    x = image = keras.Input((64, 64, 3))
    for stage, filters in enumerate((4, 8, 8, 12, 16), 1):
        x = keras.layers.Conv2D(filters, 3, 2, "same", use_bias=False, name=f"conv{stage}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{stage}")(x)
        x = keras.layers.ReLU(name=f"stage{stage}")(x)
    return keras.Model(image, x)


@pytest.fixture(scope="module", autouse=True)
def tiny_backbone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
        features = {4: "stage2", 8: "stage3", 16: "stage4", 32: "stage5"}
        backbones.register("tiny", tiny_network, features=features, mean=127.5, scale=127.5)
        yield


def tiny(num_classes=6, build=DeepLabV3Plus, **options):
    small = {"aspp_filters": 8} | ({"decoder_filters": 8} if build is DeepLabV3Plus else {})
    return build(num_classes, **{"backbone": "tiny", "weights": None, **small, **options})


def shuffled(model, seed=0):
    """Give every variable of a network, batch statistics included, a value of its own."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            variable.assign(random.normal(0, np.prod(shape[:-1]) ** -0.5, shape))
        elif variable.dtype == "float32":
            variable.assign(random.uniform(0.5, 1.5, shape))
    return model


def photos(height, width, count=1, channels=3):
    random = np.random.default_rng(height * 1000 + width)
    return random.uniform(0, 255, (count, height, width, channels)).astype(np.float32)


def norms(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


@pytest.mark.parametrize("backbone", ["efficientnetlite0", "mobilenetv2"])
def test_output_has_exactly_the_inputs_size_however_it_changes(backbone):
    model = DeepLabV3Plus(5, backbone=backbone, weights=None)
    assert model.output_shape == (None, None, None, 5)
    for count, (height, width) in enumerate(SIZES, 1):
        answer = model(photos(height, width, count)).numpy()
        assert answer.shape == (count, height, width, 5)
        assert answer.dtype == np.float32
        assert np.isfinite(answer).all()
        assert np.ptp(answer) > 0


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("build", [DeepLabV3Plus, DeepLabV3])
def test_every_output_stride_gives_the_inputs_size(build, output_stride):
    model = tiny(build=build, output_stride=output_stride)
    for height, width in SIZES:
        assert model(photos(height, width)).shape == (1, height, width, 6)


def test_default_rates_follow_the_output_stride():
    rates = {stride: tiny(output_stride=stride).get_layer("aspp").rates for stride in (8, 16, 32)}
    assert rates == {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}


def test_an_image_has_the_same_answer_in_any_batch():
    model = shuffled(tiny())
    batch = photos(45, 70, 3)
    alone = np.concatenate([model(batch[[i]]).numpy() for i in range(3)])
    np.testing.assert_allclose(model(batch).numpy(), alone, rtol=1e-5, atol=1e-5)


def test_a_fixed_input_size_is_kept():
    model = tiny(input_size=(40, 56))
    assert model.input_shape == (None, 40, 56, 3)
    assert model.output_shape == (None, 40, 56, 6)
    assert model(photos(40, 56)).shape == (1, 40, 56, 6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_logits_are_float32_under_mixed_precision(policy):
    exact = shuffled(tiny())
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = tiny(auxiliary_head=True)
        mixed = tiny()
        mixed.set_weights(exact.get_weights())
    finally:
        keras.config.set_dtype_policy(before)
    assert mixed.get_layer("aspp").compute_dtype == policy.removeprefix("mixed_")
    answer = model(photos(33, 47))
    assert {name: value.dtype for name, value in answer.items()} == {
        "logits": tf.float32,
        "auxiliary": tf.float32,
    }
    image = photos(64, 64)
    difference = np.abs(mixed(image).numpy() - exact(image).numpy())
    assert 0 < difference.max() < 0.05 * np.abs(exact(image).numpy()).max()


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
def test_another_precision_reaches_all_but_the_way_to_the_outputs(precision):
    model = shuffled(tiny(auxiliary_head=True, activation="softmax"))
    wrapped = keras.Model(model.input, list(model(model.input).values()))
    other = in_precision(wrapped, precision, synchronized=True)
    for weight, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    inner = {layer.name: layer for layer in other._flatten_layers()}
    exact = {"framed", "head", "resized", "logits", "scores"}
    exact |= {f"auxiliary_{name}" for name in exact - {"framed"}}
    in_float32 = {
        n for n, layer in inner.items() if layer.compute_dtype == "float32" and layer.weights
    }
    assert exact <= {n for n, layer in inner.items() if layer.compute_dtype == "float32"}
    if precision != "float32":
        assert {name for name in in_float32 if "head" in name} == {"head", "auxiliary_head"}
        assert inner["aspp"].compute_dtype == inner["stage2"].compute_dtype == precision
    assert {x.synchronized for x in norms(other)} == {True}
    image = photos(40, 50)
    for mine, theirs in zip(other(image), wrapped(image), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=0.05)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("build", [DeepLabV3Plus, DeepLabV3])
def test_a_photo_of_any_size_is_seen_in_a_frame_of_whole_strides(build, output_stride):
    model = shuffled(tiny(build=build, output_stride=output_stride))
    photo = photos(45, 66)
    height, width = (side + -side % output_stride for side in (45, 66))
    top, left = (height - 45) // 2, (width - 66) // 2
    framed = np.full((1, height, width, 3), 127, np.float32)
    framed[:, top : top + 45, left : left + 66] = photo
    expected = model(framed).numpy()[:, top : top + 45, left : left + 66]
    np.testing.assert_array_equal(model(photo).numpy(), expected)
    fixed = tiny(build=build, output_stride=output_stride, input_size=(45, 66))
    fixed.set_weights(model.get_weights())
    np.testing.assert_allclose(fixed(photo).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_softmax_gives_the_logits_as_probabilities():
    logits, scores = shuffled(tiny()), shuffled(tiny(activation="softmax"))
    image = photos(50, 61)
    expected = tf.nn.softmax(logits(image)).numpy()
    np.testing.assert_allclose(scores(image).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(expected.sum(-1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_configuration_of_the_study_trains_and_takes_odd_sizes():
    model = DeepLabV3Plus(6, weights=None, activation="softmax")
    assert "inceptionresnetv2" in [layer.name for layer in model.layers]
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss="categorical_crossentropy",
        run_eagerly=True,  # a graph of 780 layers takes longer to build than one step takes to run
    )
    truth = keras.utils.to_categorical(np.arange(256 * 256).reshape(1, 256, 256) % 6, 6)
    head = model.get_layer("head")
    before = head.get_weights()[0]
    loss = model.train_on_batch(photos(256, 256), truth)
    assert np.isfinite(loss)
    assert loss > 0
    assert np.abs(head.get_weights()[0] - before).max() > 1e-4
    scores = model(photos(75, 101)).numpy()
    assert scores.shape == (1, 75, 101, 6)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)


def test_training_lowers_the_loss_and_reaches_every_weight():
    keras.utils.set_random_seed(0)
    model = tiny(3, dropout=0.0)
    image = photos(48, 48, 2)
    truth = np.zeros((2, 48, 48), np.int32)
    truth[:, :, 24:], truth[:, 30:] = 1, 2
    before = [weight.numpy() for weight in model.trainable_weights]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss=loss)
    losses = [float(model.train_on_batch(image, truth)) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert np.abs(weight.numpy() - old).max() > 0, weight.path


def test_deeplabv3_has_no_decoder():
    plain, plus = tiny(build=DeepLabV3), tiny()
    assert (plain.name, plus.name) == ("deeplabv3", "deeplabv3plus")
    assert "decoder" not in [layer.name for layer in plain.layers]
    assert "decoder" in [layer.name for layer in plus.layers]
    assert plain.count_params() < plus.count_params()


@pytest.mark.parametrize("build", [DeepLabV3, DeepLabV3Plus])
def test_an_auxiliary_head_answers_beside_the_first(build):
    model = tiny(4, build=build, auxiliary_head=True, activation="softmax")
    answer = model(photos(39, 52))
    assert set(answer) == {"logits", "auxiliary"}
    for scores in answer.values():
        assert scores.shape == (1, 39, 52, 4)
        np.testing.assert_allclose(scores.numpy().sum(-1), 1, atol=1e-5)


def test_arguments_reach_their_layers():
    model = tiny(
        atrous_rates=(2, 5),
        aspp_filters=16,
        decoder_filters=24,
        skip_filters=7,
        separable=False,
        dropout=0.4,
        batch_norm_momentum=0.9,
    )
    aspp, decoder = model.get_layer("aspp"), model.get_layer("decoder")
    assert aspp.rates == (2, 5)
    assert [branch.dilation_rate for branch in aspp.branches[1:-1]] == [2, 5]
    assert aspp.filters == 16
    assert aspp.drop.rate == 0.4
    assert decoder.filters == 24
    assert decoder.reduction.filters == 7
    blocks = [layer for layer in model._flatten_layers() if isinstance(layer, layers.ConvBlock)]
    assert len(blocks) == 8
    assert all(block.depthwise is None for block in blocks)
    assert {norm.momentum for norm in norms(model)} == {0.9}
    assert tiny().get_layer("aspp").branches[1].depthwise is not None


def test_rates_and_dropout_change_the_answer():
    image = photos(96, 96)
    near = shuffled(tiny(atrous_rates=(1, 1, 1)))(image).numpy()
    far = shuffled(tiny(atrous_rates=(3, 3, 3)))(image).numpy()
    assert np.abs(near - far).max() > 1e-4
    dropping, keeping = shuffled(tiny(dropout=0.9)), shuffled(tiny(dropout=0.0))
    np.testing.assert_array_equal(dropping(image).numpy(), keeping(image).numpy())
    assert np.abs(dropping(image, training=True) - keeping(image, training=True)).max() > 1e-4


def test_frozen_batch_norms_of_the_backbone_stay_as_they_are():
    model = tiny(freeze_batch_norm=True)
    backbone = model.get_layer("tiny")
    before = [variable.numpy() for norm in norms(backbone) for variable in norm.variables]
    free = model.get_layer("aspp").branches[0].batch_norm.moving_mean.numpy()
    model.compile(optimizer="adam", loss="mse")
    model.train_on_batch(photos(64, 64, 2), np.ones((2, 64, 64, 6), np.float32))
    after = [variable.numpy() for norm in norms(backbone) for variable in norm.variables]
    assert len(before) >= 16
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.any(free != model.get_layer("aspp").branches[0].batch_norm.moving_mean.numpy())
    moving = tiny()
    start = norms(moving.get_layer("tiny"))[0].moving_mean.numpy()
    moving.compile(optimizer="adam", loss="mse")
    moving.train_on_batch(photos(64, 64, 2), np.ones((2, 64, 64, 6), np.float32))
    assert np.any(start != norms(moving.get_layer("tiny"))[0].moving_mean.numpy())


@pytest.mark.parametrize("channels", [1, 4])
def test_photos_of_other_channels(channels):
    model = tiny(input_channels=channels)
    assert model.input_shape == (None, None, None, channels)
    assert model(photos(37, 50, channels=channels)).shape == (1, 37, 50, 6)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
@pytest.mark.parametrize(
    "options", [{}, {"auxiliary_head": True}, {"build": DeepLabV3, "activation": "softmax"}]
)
def test_what_is_saved_comes_back_bit_by_bit(tmp_path, ending, options):
    model = shuffled(tiny(**options))
    path = tmp_path / f"model{ending}"
    (model.save if ending == ".keras" else model.save_weights)(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = tiny(**options, weights=path)
    image = photos(43, 58)
    ours, theirs = model(image), again(image)
    for old, new in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())
    if ending == ".keras":
        whole = keras.models.load_model(path)(image)
        for old, new in zip(tf.nest.flatten(ours), tf.nest.flatten(whole), strict=True):
            np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_a_real_network_comes_back_bit_by_bit(tmp_path):
    model = DeepLabV3Plus(6, backbone="mobilenetv2", weights=None)
    image = photos(65, 49)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    whole = keras.models.load_model(tmp_path / "model.keras")
    filled = DeepLabV3Plus(6, backbone="mobilenetv2", weights=tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(whole(image).numpy(), model(image).numpy())
    np.testing.assert_array_equal(filled(image).numpy(), model(image).numpy())


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
@pytest.mark.parametrize("auxiliary_head", [False, True])
def test_other_classes_keep_all_but_the_heads_and_say_so(tmp_path, ending, auxiliary_head):
    model = shuffled(tiny(6, auxiliary_head=auxiliary_head))
    path = tmp_path / f"model{ending}"
    (model.save if ending == ".keras" else model.save_weights)(path)
    with pytest.warns(UserWarning, match=r"but for .*head: it has 6 classes, .* now has 3") as said:
        other = tiny(3, auxiliary_head=auxiliary_head, weights=path)
    assert len(said) == 1
    assert ("auxiliary_head" in str(said[0].message)) is auxiliary_head
    for layer in model.layers:
        weights = other.get_layer(layer.name).get_weights()
        if layer.name.endswith("head"):
            assert weights[0].shape[-1] == 3
            continue
        for old, new in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(old, new)
    assert tf.nest.flatten(other(photos(40, 40)))[0].shape == (1, 40, 40, 3)


def test_load_weights_names_the_layers_that_kept_their_own(tmp_path):
    tiny(6).save(tmp_path / "model.keras")
    assert load_weights(tiny(6), tmp_path / "model.keras") == []
    with pytest.warns(UserWarning, match="but for head"):
        assert load_weights(tiny(2), tmp_path / "model.keras") == ["head"]


@pytest.mark.parametrize("whole", [True, False])
def test_code_inside_a_file_is_refused(tmp_path, whole):
    image = keras.Input((None, None, 3))
    x = keras.layers.Lambda(lambda x: x * 2)(image)
    x = layers.ASPP(4, rates=(1,), name="aspp")(x) if whole else x
    keras.Model(image, keras.layers.Conv2D(6, 1, name="head")(x)).save(tmp_path / "bad.keras")
    with pytest.raises(CheckpointError if whole else ValueError, match=r"(?i)lambda|unsafe"):
        tiny(weights=tmp_path / "bad.keras")


@pytest.mark.parametrize(
    "name", ["none.keras", "none.weights.h5", "none.npz", "none", "imagnet", "none.h5"]
)
def test_weights_that_do_not_exist_are_named(tmp_path, name):
    with pytest.raises(CheckpointError, match=f"'fashion-main', None or a file; .*{name}"):
        tiny(weights=tmp_path / name)


@pytest.mark.parametrize("name", ["bad.keras", "bad.weights.h5"])
def test_damaged_weights_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no model at all")
    with pytest.raises(CheckpointError, match=name):
        tiny(weights=tmp_path / name)
    with pytest.raises(CheckpointError, match=name):
        load_weights(tiny(), tmp_path / name)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_weights_of_another_network_are_refused(tmp_path, ending):
    model = tiny(aspp_filters=16)
    path = tmp_path / f"model{ending}"
    (model.save if ending == ".keras" else model.save_weights)(path)
    for options in ({}, {"build": DeepLabV3}):
        with pytest.raises(CheckpointError, match=f"model{ending} are of another network") as told:
            tiny(weights=path, **options)
        assert len(str(told.value)) < 400
        assert ("Segmenter.load(path).model" in str(told.value)) is (ending == ".keras")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"auxiliary_head": True}, {}),
        ({}, {"auxiliary_head": True}),
        ({}, {"build": DeepLabV3}),
        ({"build": DeepLabV3}, {}),
    ],
)
def test_weights_without_a_plan_fill_the_very_same_network_alone(tmp_path, options, wanted):
    path = tmp_path / "model.weights.h5"
    tiny(**options).save_weights(path)
    with pytest.raises(CheckpointError, match=r"of another network: it has \d+ variables"):
        tiny(weights=path, **wanted)


def test_an_auxiliary_head_may_come_and_go(tmp_path):
    plain, both = shuffled(tiny(), 1), shuffled(tiny(auxiliary_head=True), 2)
    plain.save(tmp_path / "plain.keras")
    both.save(tmp_path / "both.keras")
    image = photos(40, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without = tiny(weights=tmp_path / "both.keras")
    np.testing.assert_array_equal(without(image), both(image)["logits"])
    with pytest.warns(UserWarning, match="but for auxiliary and auxiliary_head: it does not hold"):
        with_both = tiny(auxiliary_head=True, weights=tmp_path / "plain.keras")
    np.testing.assert_array_equal(with_both(image)["logits"], plain(image))


def test_a_whole_network_is_fitted_to_other_channels(tmp_path):
    model = shuffled(tiny())
    model.save(tmp_path / "rgb.keras")
    rgb = photos(40, 40)
    more = tiny(weights=tmp_path / "rgb.keras", input_channels=4)
    with_depth = np.concatenate([rgb, photos(40, 40, channels=1)], axis=-1)
    np.testing.assert_allclose(more(with_depth), model(rgb), rtol=1e-4, atol=1e-4)
    one = tiny(weights=tmp_path / "rgb.keras", input_channels=1)
    grey = photos(40, 40, channels=1)
    np.testing.assert_allclose(one(grey), model(np.repeat(grey, 3, -1)), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_packaged_network_takes_the_options_of_any_other():
    given = DeepLabV3Plus(
        6,
        weights="fashion-main",
        output_stride=8,
        input_channels=4,
        auxiliary_head=False,
        freeze_batch_norm=True,
        batch_norm_momentum=0.5,
        dropout=0.3,
        activation="softmax",
        input_size=(64, 48),
    )
    assert given.input_shape == (None, 64, 48, 4)
    aspp, backbone = given.get_layer("aspp"), given.get_layer("efficientnetlite0")
    assert (aspp.dropout, aspp.rates, aspp.batch_norm_momentum) == (0.3, (12, 24, 36), 0.5)
    assert {norm.trainable for norm in norms(backbone)} == {False}
    own = DeepLabV3Plus(6, weights="fashion-main")
    assert own.get_layer("aspp").batch_norm_momentum == 0.97
    assert own.get_layer("decoder").filters == 128
    for mine, theirs in zip(aspp.get_weights(), own.get_layer("aspp").get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(given(photos(64, 48, channels=4)).numpy().sum(-1), 1, atol=1e-5)
    with pytest.raises(CheckpointError, match="layer 'aspp' is of another shape"):
        DeepLabV3Plus(6, weights="fashion-main", aspp_filters=64)


def test_what_is_frozen_stays_frozen_in_copies_and_files(tmp_path):
    model = tiny()
    model.get_layer("aspp").trainable = False
    model.get_layer("decoder").reduction.trainable = False
    model.get_layer("tiny").get_layer("conv1").trainable = False
    expected = [weight.path for weight in model.trainable_weights]
    assert len(expected) < len(tiny().trainable_weights) - 10
    copied = in_precision(model, "bfloat16")
    assert len(copied.trainable_weights) == len(expected)
    assert not copied.get_layer("decoder").reduction.trainable
    assert copied.get_layer("decoder").refinements[0].trainable
    model.get_layer("decoder").reduction.trainable = True
    model.save(tmp_path / "frozen.keras")
    loaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert len(loaded.trainable_weights) == len(model.trainable_weights)


@pytest.mark.parametrize("name", ["flipped.weights.h5", "flipped.keras"])
def test_a_damaged_part_of_a_file_is_named(tmp_path, name):
    model = tiny()
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    random = np.random.default_rng(0)
    told = []
    for _ in range(12):
        broken = content.copy()
        start = int(random.integers(0, len(broken) - 64))
        broken[start : start + 64] = random.bytes(64)
        (tmp_path / name).write_bytes(broken)
        with contextlib.suppress(CheckpointError):  # anything else is a failure
            tiny(weights=tmp_path / name)
            continue
        told.append(start)
    assert told


def test_whole_numbers_may_be_those_of_numpy():
    model = tiny(np.int64(3), input_size=tuple(np.array([40, 48])))
    assert model.output_shape == (None, 40, 48, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_classes": 0}, ValueError, r"num_classes.* at least 1.* 0"),
        ({"num_classes": 2.0}, ValueError, r"num_classes.* whole number.* 2\.0"),
        ({"num_classes": True}, ValueError, r"num_classes.* whole number.* True"),
        ({"backbone": "vgg"}, ValueError, r"backbone must be one of .*mobilenetv2.*'vgg'"),
        ({"input_size": 256}, ValueError, r"input_size must be None or \(height, width\).* 256"),
        ({"input_size": (0, 64)}, ValueError, r"input_size .*\(0, 64\)"),
        ({"input_size": (64, 64, 3)}, ValueError, r"input_size .*\(64, 64, 3\)"),
        ({"input_size": ("a", 64)}, ValueError, r"input_size .*\('a', 64\)"),
        ({"output_stride": 12}, ValueError, r"output_stride must be 8, 16 or 32.* 12"),
        ({"input_channels": 0}, ValueError, r"input_channels must be at least 1.* 0"),
        ({"atrous_rates": (6, 0)}, ValueError, r"rates must be at least 1.* 0"),
        ({"aspp_filters": 0}, ValueError, r"filters must be at least 1.* 0"),
        ({"decoder_filters": -1}, ValueError, r"filters must be at least 1.* -1"),
        ({"skip_filters": 0}, ValueError, r"filters must be at least 1.* 0"),
        ({"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\).* 1\.0"),
        ({"multi_grid": ()}, ValueError, r"multi_grid .* at least 1.* \(\)"),
        ({"multi_grid": (1.5,)}, ValueError, r"multi_grid .* at least 1.* \(1\.5,\)"),
        ({"batch_norm_momentum": 5.0}, ValueError, r"batch_norm_momentum .* \[0, 1\).* 5\.0"),
        ({"activation": "sofmax"}, ValueError, r"activation.*sofmax"),
    ],
)
def test_arguments_outside_their_range_are_named(options, error, message):
    with pytest.raises(error, match=message):
        tiny(**options)


def test_the_trained_network_loads_whole():
    model = DeepLabV3Plus(6, backbone="efficientnetlite0", weights="fashion-main")
    assert model.output_shape == (None, None, None, 6)
    again = DeepLabV3Plus(weights="fashion-main", activation="softmax", input_size=(65, 96))
    assert again.input_shape == (None, 65, 96, 3)
    image = photos(65, 96)
    expected = tf.nn.softmax(model(image)).numpy()
    np.testing.assert_allclose(again(image).numpy(), expected, atol=1e-5)


def test_the_trained_network_loads_for_other_classes():
    with pytest.warns(UserWarning, match="fashion-main but for head: it has 6 classes.* now has 9"):
        model = DeepLabV3Plus(9, weights="fashion-main")
    whole = DeepLabV3Plus(weights="fashion-main")
    for layer in whole.layers:
        if layer.weights and layer.name != "head":
            for old, new in zip(
                layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(old, new)
    assert model(photos(40, 33)).shape == (1, 40, 33, 9)


def test_the_trained_network_has_one_backbone_and_a_decoder():
    with pytest.raises(ValueError, match="'efficientnetlite0', got 'mobilenetv2'"):
        DeepLabV3Plus(backbone="mobilenetv2", weights="fashion-main")
    with pytest.raises(ValueError, match=r"DeepLabV3Plus.* not of a DeepLabV3"):
        DeepLabV3(weights="fashion-main")
