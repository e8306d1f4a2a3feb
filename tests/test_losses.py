import json
import math
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from deeplab_fashion import losses, scores, taxonomy
from deeplab_fashion.errors import TaxonomyError

CLASSES = 4
WEIGHTS = [0.5, 2.0, 1.0, 0.25]

# Every loss, with the options that change its path through the code.
EVERY = {
    "cross_entropy": losses.CrossEntropy(),
    "smoothed": losses.CrossEntropy(label_smoothing=0.1, class_weights=WEIGHTS),
    "ohem": losses.CrossEntropy(ohem=0.3, class_weights=WEIGHTS),
    "focal": losses.Focal(class_weights=WEIGHTS),
    "focal_root": losses.Focal(gamma=0.5),
    "dice": losses.Dice(smooth=1.0),
    "jaccard": losses.Jaccard(class_weights=WEIGHTS),
    "tversky": losses.Tversky(),
    "focal_tversky": losses.Tversky(gamma=0.75, class_weights=WEIGHTS),
    "lovasz_softmax": losses.LovaszSoftmax(class_weights=WEIGHTS),
    "boundary": losses.Boundary(radius=1, class_weights=WEIGHTS),
    "combined": losses.Combined([losses.CrossEntropy(), losses.Dice()], weights=[1.0, 0.5]),
}
every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY.keys())


def rebuilt(loss, **changes):
    return type(loss).from_config({**loss.get_config(), **changes})


def example(seed=0, shape=(3, 5, 6), classes=CLASSES, ignored=0.2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, shape).astype(np.uint8)
    labels[rng.random(shape) < ignored] = 255
    return labels, rng.normal(size=(*shape, classes)).astype(np.float32)


def confident(labels, classes=CLASSES, logit=200.0):
    """Logits whose softmax is exactly one-hot in float32."""
    return logit * np.eye(classes, dtype=np.float32)[np.where(labels == 255, 0, labels)]


def value_and_gradient(loss, y_true, y_pred):
    y_pred = tf.convert_to_tensor(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(y_true, y_pred)
    return value.numpy(), tape.gradient(value, y_pred).numpy()


# ---------------------------------------------------------------- a plain-numpy reference, by loops


def reference(loss, y_true, y_pred):
    """The mean over images with a valid pixel, in float64, one pixel and class after another."""
    options = loss.get_config()
    values = []
    for labels, logits in zip(y_true, np.asarray(y_pred, np.float64), strict=True):
        valid = labels != 255
        if valid.any():
            odds = np.exp(logits - logits.max(-1, keepdims=True))
            values.append(image_reference(loss, options, labels, odds, valid))
    return float(np.mean(values)) if values else 0.0


def image_reference(loss, options, labels, odds, valid):
    if isinstance(loss, losses.Combined):
        return sum(
            weight * image_reference(part, part.get_config(), labels, odds, valid)
            for part, weight in zip(loss._losses, loss._weights, strict=True)
        )
    p = odds / odds.sum(-1, keepdims=True)
    classes = p.shape[-1]
    weights = options["class_weights"] or [1.0] * classes
    places = [tuple(place) for place in np.argwhere(valid)]
    if isinstance(loss, losses.CrossEntropy | losses.Focal | losses.Boundary):
        terms = []
        for place in places:
            truth = labels[place]
            smoothing = options.get("label_smoothing", 0.0)
            q = np.full(classes, smoothing / classes)
            q[truth] += 1 - smoothing
            term = -(q * np.log(p[place])).sum() * weights[truth]
            if isinstance(loss, losses.Focal):
                term *= (1 - p[place][truth]) ** options["gamma"]
            terms.append(term)
        if options.get("ohem"):
            terms = sorted(terms)[-math.ceil(options["ohem"] * len(terms)) :]
        importance = np.ones(len(terms))
        if isinstance(loss, losses.Boundary):
            near = options["radius"]
            for number, (row, column) in enumerate(places):
                for other in places:
                    close = abs(other[0] - row) <= near and abs(other[1] - column) <= near
                    if close and labels[other] != labels[row, column]:
                        importance[number] = options["boundary_weight"]
        return np.dot(importance, terms) / importance.sum()
    total = share = 0.0
    for c in range(classes):
        t = (labels[valid] == c).astype(float)
        q = p[valid][:, c]
        if not t.any():
            continue
        if isinstance(loss, losses.LovaszSoftmax):
            term = lovasz_reference(t, q)
        elif isinstance(loss, losses.Dice):
            s = options["smooth"]
            term = 1 - (2 * (t * q).sum() + s) / (t.sum() + q.sum() + s)
        elif isinstance(loss, losses.Jaccard):
            s = options["smooth"]
            term = 1 - ((t * q).sum() + s) / (t.sum() + q.sum() - (t * q).sum() + s)
        else:
            tp, fp, fn = (t * q).sum(), ((1 - t) * q).sum(), (t * (1 - q)).sum()
            index = tp / (tp + options["alpha"] * fp + options["beta"] * fn)
            term = (1 - index) ** options["gamma"]
        total += weights[c] * term
        share += weights[c]
    return total / share


def lovasz_reference(truth, probability):
    """The Lovász extension, by evaluating the Jaccard loss of every set of worst pixels."""
    errors = np.abs(truth - probability)
    order = np.argsort(-errors, kind="stable")
    total, before = 0.0, 0.0
    for k in range(1, len(order) + 1):
        predicted = truth.astype(bool).copy()
        predicted[order[:k]] ^= True
        intersection = (predicted & (truth == 1)).sum()
        jaccard = 1 - intersection / (predicted | (truth == 1)).sum()
        total += errors[order[k - 1]] * (jaccard - before)
        before = jaccard
    return total


# ------------------------------------------------------------------------------------------ values


@every_loss
def test_equals_the_reference(loss):
    for seed, present in enumerate((CLASSES, 3, 1)):
        y_true, y_pred = example(seed)
        y_true = np.where(y_true == 255, 255, y_true % present)
        np.testing.assert_allclose(
            float(loss(y_true, y_pred)), reference(loss, y_true, y_pred), rtol=2e-5
        )


THREE_OF_FOUR = np.array([[[0, 0], [0, 1]]])  # worked by hand: p = 1/2 everywhere, or ...
HALF = np.full((1, 2, 2, 2), 0.5, np.float32)
SKEWED = np.array([[[[0.8, 0.2], [0.6, 0.4]], [[0.9, 0.1], [0.3, 0.7]]]], np.float32)


@pytest.mark.parametrize(
    ("loss", "y_pred", "expected"),
    [
        (losses.CrossEntropy(), HALF, math.log(2)),
        (losses.CrossEntropy(), SKEWED, -math.log(0.8 * 0.6 * 0.9 * 0.7) / 4),
        (losses.CrossEntropy(ohem=0.5), SKEWED, -math.log(0.6 * 0.7) / 2),
        (losses.CrossEntropy(ohem=0.25), SKEWED, -math.log(0.6)),
        (losses.CrossEntropy(ohem=0.26), SKEWED, -math.log(0.6 * 0.7) / 2),
        (losses.CrossEntropy(class_weights=[1, 3]), HALF, 6 / 4 * math.log(2)),
        (
            losses.CrossEntropy(label_smoothing=0.2),
            np.broadcast_to(np.float32([0.9, 0.1]), (1, 2, 2, 2)),
            -(3 * (0.9 * math.log(0.9) + 0.1 * math.log(0.1)) + 0.1 * math.log(0.9)) / 4
            - 0.9 * math.log(0.1) / 4,
        ),
        (losses.Focal(gamma=2), HALF, math.log(2) / 4),
        (
            losses.Focal(gamma=1),
            SKEWED,
            sum(-(1 - p) * math.log(p) for p in (0.8, 0.6, 0.9, 0.7)) / 4,
        ),
        (losses.Dice(), HALF, (2 / 5 + 2 / 3) / 2),
        (losses.Dice(smooth=1), HALF, (1 - 4 / 6 + 1 - 2 / 4) / 2),
        (losses.Dice(class_weights=[3, 1]), HALF, (3 * 2 / 5 + 2 / 3) / 4),
        (losses.Dice(), SKEWED, (1 - 4.6 / 5.6 + 1 - 1.4 / 2.4) / 2),
        (losses.Jaccard(), HALF, (1 - 1.5 / 3.5 + 1 - 0.5 / 2.5) / 2),
        (losses.Jaccard(smooth=1), HALF, (1 - 2.5 / 4.5 + 1 - 1.5 / 3.5) / 2),
        (losses.Tversky(alpha=0.2, beta=0.8), HALF, (1 - 1.5 / 2.8 + 1 - 0.5 / 1.2) / 2),
        (losses.Tversky(alpha=1, beta=0, gamma=2), HALF, (0.25**2 + 0.75**2) / 2),
        # Class 0: errors .4 .3 .2 .1, of which only .3 is a false positive (union 4).
        # Class 1: the same, of which only .3 is missed: its set leaves no intersection.
        (
            losses.LovaszSoftmax(),
            SKEWED,
            ((0.4 / 3 + 0.3 / 6 + (0.2 + 0.1) / 4) + 0.4 / 2 + 0.3 / 2) / 2,
        ),
        (
            losses.Boundary(radius=1, boundary_weight=3),
            SKEWED,
            -math.log(0.8 * 0.6 * 0.9 * 0.7) / 4,  # all are near the boundary
        ),
    ],
    ids=lambda value: value.name if isinstance(value, keras.losses.Loss) else "",
)
def test_values_worked_by_hand(loss, y_pred, expected):
    loss = rebuilt(loss, from_logits=False)
    assert float(loss(THREE_OF_FOUR, y_pred)) == pytest.approx(expected, rel=1e-5)
    loss = rebuilt(loss, from_logits=True)
    assert float(loss(THREE_OF_FOUR, np.log(y_pred))) == pytest.approx(expected, rel=1e-5)


def test_boundary_weighs_the_band_alone():
    y_true = np.array([[[0, 0, 0, 0, 1, 1]]])
    right, wrong = np.float32([0.9, 0.1]), np.float32([0.5, 0.5])
    y_pred = np.array([[[wrong, right, right, wrong, right[::-1], right[::-1]]]])
    band = rebuilt(losses.Boundary(radius=1, boundary_weight=10), from_logits=False)
    r, w = -math.log(0.9), -math.log(0.5)
    expected = (w + r + r + 10 * w + 10 * r + r) / 24
    assert float(band(y_true, y_pred)) == pytest.approx(expected, rel=1e-5)


def test_boundary_without_one_is_cross_entropy():
    y_true, y_pred = example()
    y_true = np.where(y_true == 255, 255, 2)
    assert float(losses.Boundary()(y_true, y_pred)) == pytest.approx(
        float(losses.CrossEntropy()(y_true, y_pred)), rel=1e-6
    )


def test_focal_without_gamma_is_cross_entropy():
    y_true, y_pred = example()
    assert float(losses.Focal(gamma=0)(y_true, y_pred)) == float(
        losses.CrossEntropy()(y_true, y_pred)
    )


@pytest.mark.parametrize("ignored", [0.0, 0.2])
def test_lovasz_of_hard_predictions_is_the_exact_jaccard_loss(ignored):
    y_true, y_pred = example(4, shape=(4, 9, 9), ignored=ignored)
    hard = y_pred.argmax(-1)
    expected = [
        1 - np.mean(scores.iou_per_class(scores.confusion_matrix(t, p, CLASSES, ignore_index=255)))
        for t, p in zip(y_true, hard, strict=True)
    ]
    np.testing.assert_allclose(losses.lovasz_softmax(y_true, confident(hard)), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.jaccard(y_true, confident(hard)), expected, rtol=1e-6)


@every_loss
@pytest.mark.parametrize("present", [[0], [2], [0, 3], [0, 1, 2, 3]], ids=str)
def test_a_perfect_prediction_is_the_minimum_whichever_classes_are_there(loss, present):
    y_true, noise = example(1)
    y_true = np.where(y_true == 255, 255, np.array(present)[y_true % len(present)])
    smoothing = loss.get_config().get("label_smoothing", 0.0)
    if smoothing:
        truth = np.eye(CLASSES)[np.where(y_true == 255, 0, y_true)]
        perfect = np.log(truth * (1 - smoothing) + smoothing / CLASSES).astype(np.float32)
    else:
        perfect = confident(y_true)
    value, gradient = value_and_gradient(loss, y_true, perfect)
    assert value == pytest.approx(0, abs=1e-7) or smoothing
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    for margin in (-3.0, 0.0, 3.0):
        assert value < float(loss(y_true, margin * np.sign(perfect - 1) + noise))


@every_loss
def test_a_good_prediction_is_better_than_a_bad_one(loss):
    y_true, y_pred = example(2)
    good = confident(y_true, logit=2.0) + y_pred
    bad = y_pred - confident(y_true, logit=2.0)
    assert float(loss(y_true, good)) < float(loss(y_true, y_pred)) < float(loss(y_true, bad))


# --------------------------------------------------------------------------------------- gradients


@every_loss
def test_gradient_equals_finite_differences(loss):
    loss = rebuilt(loss, dtype="float64")
    y_true, y_pred = example(3, shape=(2, 3, 4))
    y_pred = y_pred.astype(np.float64)
    value, gradient = value_and_gradient(loss, y_true, y_pred)
    assert value.dtype == gradient.dtype == np.float64
    step = 1e-6
    nudges = step * np.eye(y_pred.size).reshape(-1, *y_pred.shape)
    compute = tf.function(loss)
    numeric = [(compute(y_true, y_pred + n) - compute(y_true, y_pred - n)) / 2 for n in nudges]
    numeric = np.reshape(numeric, y_pred.shape) / step
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)
    assert np.abs(gradient).max() > 1e-3

    _, single = value_and_gradient(rebuilt(loss, dtype=None), y_true, y_pred.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, gradient, rtol=1e-3, atol=1e-6)


@every_loss
def test_gradient_descends(loss):
    y_true, y_pred = example(5)
    before, gradient = value_and_gradient(loss, y_true, y_pred)
    assert float(loss(y_true, y_pred - 0.1 * gradient)) < before


# ----------------------------------------------------------------------------------------- ignored


@every_loss
def test_ignored_pixels_have_no_gradient_and_no_influence(loss):
    y_true, y_pred = example(6)
    value, gradient = value_and_gradient(loss, y_true, y_pred)
    ignored = y_true == 255
    assert ignored.any()
    assert np.all(gradient[ignored] == 0)
    assert np.all(np.abs(gradient[~ignored]).max(-1) > 0) or loss is EVERY["ohem"]
    other = np.where(ignored[..., np.newaxis], 50 * y_pred + 7, y_pred)
    assert float(loss(y_true, other)) == value


@every_loss
def test_more_ignored_pixels_change_nothing(loss):
    y_true, y_pred = example(7)
    wider = np.pad(y_true, ((0, 0), (2, 3), (1, 4)), constant_values=255)
    padded = np.pad(y_pred, ((0, 0), (2, 3), (1, 4), (0, 0)), constant_values=3)
    np.testing.assert_allclose(loss(wider, padded), loss(y_true, y_pred), rtol=1e-6)


@every_loss
def test_an_image_more_that_is_ignored_throughout_changes_nothing(loss):
    y_true, y_pred = example(8)
    value, gradient = value_and_gradient(loss, y_true, y_pred)
    more_true = np.concatenate([np.full_like(y_true[:1], 255), y_true])
    more_pred = np.concatenate([y_pred[:1], y_pred])
    more, more_gradient = value_and_gradient(loss, more_true, more_pred)
    assert more == pytest.approx(value, rel=1e-6)
    assert np.all(more_gradient[0] == 0)
    np.testing.assert_allclose(more_gradient[1:], gradient, rtol=1e-5, atol=1e-9)


@every_loss
@pytest.mark.parametrize("traced", [False, True])
def test_nothing_to_learn_from_gives_zero(loss, traced):
    y_true, y_pred = example()
    value, gradient = value_and_gradient(
        tf.function(loss) if traced else loss, np.full_like(y_true, 255), y_pred
    )
    assert value == 0
    assert np.all(gradient == 0)


def test_uniform_predictions_are_not_diluted():
    y_true = np.full((2, 4, 4), 255)
    y_true[0, :2] = 1
    loss = losses.CrossEntropy()(y_true, np.zeros((2, 4, 4, 3), np.float32))
    assert float(loss) == pytest.approx(math.log(3))


def test_another_ignore_index_and_none():
    y_true, y_pred = example(ignored=0)
    without_zero = np.where(y_true == 0, 255, y_true)
    assert float(losses.CrossEntropy(ignore_index=0)(y_true, y_pred)) == float(
        losses.CrossEntropy()(without_zero, y_pred)
    )
    one_hot = np.eye(CLASSES)[y_true]
    assert float(losses.CrossEntropy(ignore_index=0)(one_hot, y_pred)) == float(
        losses.CrossEntropy()(without_zero, y_pred)
    )
    assert float(losses.CrossEntropy(ignore_index=None)(y_true, y_pred)) == float(
        losses.CrossEntropy()(y_true, y_pred)
    )
    with pytest.raises(ValueError, match=r"labels 0 to 3; received 255 at \[0, 0\] of image 1"):
        losses.CrossEntropy(ignore_index=None)(
            np.where(np.arange(3)[:, np.newaxis, np.newaxis] == 1, 255, y_true), y_pred
        )


# ------------------------------------------------------------------------ forms of truth and types


@every_loss
def test_forms_of_truth_agree(loss):
    y_true, y_pred = example(9)
    expected = float(loss(y_true, y_pred))
    one_hot = np.eye(256, dtype=np.uint8)[y_true][..., :CLASSES]  # zeros where ignored
    for form in (
        one_hot,
        one_hot.astype(np.float32),
        one_hot.astype(bool),
        y_true[..., np.newaxis],
        y_true.astype(np.int64),
        y_true.astype(np.float32),
    ):
        assert float(loss(form, y_pred)) == expected


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(loss, dtype):
    y_true, y_pred = example(10)
    half = tf.cast(20 * y_pred, dtype)
    y_pred = tf.cast(half, tf.float32)
    assert loss(y_true, half).dtype == tf.float32
    assert float(loss(y_true, half)) == float(loss(y_true, y_pred))
    assert loss.call(y_true, half).dtype == tf.float32
    np.testing.assert_array_equal(loss.call(y_true, half), loss.call(y_true, y_pred))


def test_flat_samples_and_volumes():
    rng = np.random.default_rng(0)
    for shape in ((5,), (2, 3), (2, 3, 4, 2)):
        y_true, y_pred = rng.integers(0, 3, shape), rng.normal(size=(*shape, 3))
        for function in (losses.cross_entropy, losses.dice, losses.lovasz_softmax):
            values = function(y_true, y_pred)
            assert values.shape == shape[:1]
            flat = function(y_true.reshape(shape[0], -1), y_pred.reshape(shape[0], -1, 3))
            np.testing.assert_array_equal(values, flat)


@every_loss
def test_call_gives_one_value_for_each_image(loss):
    y_true, y_pred = example(11)
    alone = [float(loss(y_true[i : i + 1], y_pred[i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(loss.call(y_true, y_pred), alone, rtol=1e-6)
    np.testing.assert_allclose(loss(y_true, y_pred), np.mean(alone), rtol=1e-6)
    np.testing.assert_allclose(
        rebuilt(loss, reduction="sum")(y_true, y_pred), np.sum(alone), rtol=1e-6
    )
    y_true[1] = 255
    alone[1] = 0
    np.testing.assert_allclose(rebuilt(loss, reduction="none")(y_true, y_pred), alone, rtol=1e-6)


def test_the_function_is_the_class_image_by_image():
    y_true, y_pred = example(12)
    y_true[2] = 255
    pairs = [
        (losses.cross_entropy, losses.CrossEntropy, {"label_smoothing": 0.2}),
        (losses.focal, losses.Focal, {"gamma": 1.5}),
        (losses.dice, losses.Dice, {"smooth": 2.0}),
        (losses.jaccard, losses.Jaccard, {"class_weights": WEIGHTS}),
        (losses.tversky, losses.Tversky, {"alpha": 0.9}),
        (losses.lovasz_softmax, losses.LovaszSoftmax, {}),
        (losses.boundary, losses.Boundary, {"radius": 3}),
    ]
    for function, loss, options in pairs:
        np.testing.assert_array_equal(
            function(y_true, y_pred, **options), loss(reduction="none", **options)(y_true, y_pred)
        )


def test_sample_weight_is_one_number_for_each_image():
    y_true, y_pred = example(13)
    loss = losses.CrossEntropy()
    values = losses.cross_entropy(y_true, y_pred).numpy()
    weights = np.float32([1, 0, 3])
    for form in (weights, weights[:, np.newaxis], tf.constant(weights), weights.tolist()):
        assert float(loss(y_true, y_pred, form)) == pytest.approx(np.dot(values, weights) / 3)
    with pytest.raises(ValueError, match=r"one number for each image.*received shape \(3, 5, 6\)"):
        loss(y_true, y_pred, np.ones((3, 5, 6)))


# -------------------------------------------------------------------------------------- serialising


@every_loss
def test_serialises(loss):
    y_true, y_pred = example(14)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    assert config["registered_name"] == f"deeplab_fashion>{type(loss).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config()
    assert float(again(y_true, y_pred)) == float(loss(y_true, y_pred))


def test_options_come_back_as_plain_numbers():
    loss = losses.Tversky(
        alpha=np.float32(0.25), class_weights=np.ones(2, np.float32), reduction="sum", name="mine"
    )
    config = json.loads(json.dumps(loss.get_config()))
    assert config == {
        "name": "mine",
        "reduction": "sum",
        "dtype": "float32",
        "alpha": 0.25,
        "beta": 0.7,
        "gamma": 1.0,
        "smooth": 0.0,
        "class_weights": [1.0, 1.0],
        "ignore_index": 255,
        "from_logits": True,
    }
    assert losses.Tversky.from_config(config).get_config() == config


def test_trains_and_reloads_with_a_compiled_model(tmp_path):
    y_true, _ = example(15, shape=(4, 8, 8))
    images = np.eye(256, dtype=np.float32)[y_true][..., :3]
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(CLASSES, 3, padding="same")]
    )
    loss = losses.Combined(
        [losses.CrossEntropy(class_weights=WEIGHTS), losses.LovaszSoftmax(), losses.Boundary()]
    )
    model.compile(keras.optimizers.Adam(0.1), loss=loss)
    history = model.fit(images, y_true, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == loss.get_config()
    assert again.evaluate(images, y_true, verbose=0) == model.evaluate(images, y_true, verbose=0)


def test_trains_in_mixed_precision():
    y_true, _ = example(15, shape=(4, 8, 8))
    images = np.eye(256, dtype=np.float32)[y_true][..., :3]
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(CLASSES, 1, dtype="mixed_bfloat16"),
        ]
    )
    model.compile("adam", loss=EVERY["combined"])
    assert model(images).dtype == tf.bfloat16
    history = model.fit(images, y_true, epochs=3, verbose=0).history["loss"]
    assert history[2] < history[0]


@every_loss
def test_one_trace_serves_every_size(loss):
    spec = tf.TensorSpec((None, None, None), tf.uint8)
    compute = tf.function(
        loss.__call__,
        input_signature=[spec, tf.TensorSpec((None, None, None, CLASSES), tf.float32)],
    )
    for shape in ((1, 4, 7), (3, 9, 2), (2, 1, 1)):
        y_true, y_pred = example(16, shape=shape, ignored=0)
        np.testing.assert_allclose(compute(y_true, y_pred), loss(y_true, y_pred), rtol=1e-6)


# ------------------------------------------------------------------------------------------- errors


@every_loss
@pytest.mark.parametrize("label", [CLASSES, -1])
def test_a_label_that_is_no_class_raises_or_is_nan(loss, label):
    y_true, y_pred = example(17)
    y_true = y_true.astype(np.int32)
    y_true[1, 2, 3] = label
    rule = rf"labels 0 to 3 or ignore_index=255; received {label} at \[2, 3\] of image 1"
    with pytest.raises(ValueError, match=rule):
        loss(y_true, y_pred)
    value, gradient = value_and_gradient(tf.function(loss), y_true, y_pred)
    assert np.isnan(value)
    assert np.all(gradient[1] == 0)
    assert np.all(np.isfinite(gradient))


def test_a_label_that_is_no_whole_number_raises():
    with pytest.raises(ValueError, match=r"received 0\.5 at \[1\] of image 0"):
        losses.Dice()(np.array([[0.0, 0.5]]), np.zeros((1, 2, 2), np.float32))


@pytest.mark.parametrize("row", [[0.5, 0.5, 0], [1, 1, 0], [2, 0, 0], [1, 1, -1]])
def test_truth_that_is_not_one_hot_raises(row):
    y_true = np.array([[[1, 0, 0], row]], np.float32)
    y_pred = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"one-hot: a 1 among zeros.*received \[.*\] at \[1\] of image 0"
    ):
        losses.CrossEntropy()(y_true, y_pred)
    assert np.isnan(tf.function(losses.CrossEntropy())(y_true, y_pred))


@pytest.mark.parametrize(
    ("true_shape", "pred_shape", "rule"),
    [
        ((2, 4, 5), (2, 4, 6, 3), r"labels.*one-hot.*\(2, 4, 5\).*\(2, 4, 6, 3\)"),
        ((2, 4, 6, 4), (2, 4, 6, 3), r"one-hot.*\(2, 4, 6, 4\)"),
        ((2, 4, 6, 3, 1), (2, 4, 6, 3), r"labels.*\(2, 4, 6, 3, 1\)"),
        ((2, 4), (2, 4, 6, 3), r"labels.*\(2, 4\)"),
        ((2, 4, 6), (2, 4, 6, 1), r"at least 2 classes.*\(2, 4, 6, 1\)"),
        ((2,), (2,), r"at least 2 classes"),
    ],
)
@pytest.mark.parametrize("traced", [False, True])
def test_shapes_that_do_not_match_raise(true_shape, pred_shape, rule, traced):
    loss = losses.Combined([losses.Jaccard()])
    with pytest.raises(ValueError, match=rule):
        (tf.function(loss) if traced else loss)(
            np.zeros(true_shape, np.int32), np.zeros(pred_shape, np.float32)
        )


def test_a_number_of_axes_that_is_not_known_is_refused():
    of_any = [tf.TensorSpec(None, tf.int32), tf.TensorSpec(None, tf.float32)]
    dice = tf.function(losses.dice, input_signature=of_any, autograph=False)
    with pytest.raises(ValueError, match="must have a known number of axes; received"):
        dice(*example())


def test_more_that_does_not_match_raises():
    y_true, y_pred = example()
    with pytest.raises(ValueError, match=r"class_weights .* y_pred's 4 classes, received 3"):
        losses.Focal(class_weights=[1, 1, 1])(y_true, y_pred)
    with pytest.raises(ValueError, match=r"for a boundary, received \(3, 30, 4\)"):
        losses.Boundary()(y_true.reshape(3, -1), y_pred.reshape(3, -1, 4))
    with pytest.raises(TypeError, match="y_pred must be floating point, received int64"):
        losses.dice(y_true, y_pred.astype(np.int64))
    with pytest.raises(TypeError, match="y_true must be numbers, received string"):
        losses.dice(y_true.astype(str), y_pred)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: losses.CrossEntropy(label_smoothing=1.0),
            r"label_smoothing must be in \[0, 1\), received 1.0",
        ),
        (lambda: losses.CrossEntropy(label_smoothing=-0.1), "label_smoothing"),
        (lambda: losses.CrossEntropy(ohem=0), r"ohem must be None or in \(0, 1\], received 0"),
        (lambda: losses.CrossEntropy(ohem=1.5), "ohem"),
        (
            lambda: losses.CrossEntropy(class_weights=[1, -1]),
            "class_weights must be finite numbers",
        ),
        (lambda: losses.CrossEntropy(class_weights=[1, math.nan]), "class_weights"),
        (lambda: losses.CrossEntropy(class_weights=[[1, 1]]), "class_weights"),
        (lambda: losses.Focal(gamma=-1), "gamma must be a number of at least 0, received -1"),
        (lambda: losses.Focal(gamma=math.nan), "gamma"),
        (lambda: losses.Dice(smooth=-1), "smooth"),
        (lambda: losses.Tversky(alpha=-1), "alpha"),
        (lambda: losses.Tversky(beta=math.inf), "beta"),
        (lambda: losses.Jaccard(ignore_index=255.0), "ignore_index must be None or a whole number"),
        (lambda: losses.Boundary(radius=0), "radius must be a whole number of at least 1"),
        (lambda: losses.Boundary(radius=1.5), "radius"),
        (lambda: losses.Boundary(boundary_weight=0.5), "boundary_weight"),
        (lambda: losses.Combined([]), "at least one"),
        (lambda: losses.Combined([losses.Dice()], weights=[1, 2]), "1 losses and 2 weights"),
        (lambda: losses.Combined([losses.Dice()], weights=[-1]), "weights must be finite numbers"),
    ],
)
def test_options_out_of_range_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types_raise():
    with pytest.raises(TypeError, match="gamma must be a number of at least 0, received '2'"):
        losses.Focal(gamma="2")
    with pytest.raises(TypeError, match="class_weights must be a sequence of numbers"):
        losses.CrossEntropy(class_weights="balanced")
    with pytest.raises(TypeError, match=r"losses must be losses of deeplab_fashion\.losses"):
        losses.Combined([losses.Dice(), keras.losses.MeanSquaredError()])


# ----------------------------------------------------------------------------------- class weights


def test_balanced_class_weights_of_counts():
    labels = np.repeat([0, 1, 2], [70, 25, 5])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(losses.balanced_class_weights([70, 25, 5]), expected)
    confusion = np.array([[60, 5, 5], [0, 25, 0], [5, 0, 0]])
    np.testing.assert_allclose(losses.balanced_class_weights(confusion), expected)
    np.testing.assert_allclose(losses.balanced_class_weights([70, 25, 5], power=0), 1)
    root = losses.balanced_class_weights([90, 10], power=0.5)
    np.testing.assert_allclose(root[1] / root[0], 3)
    np.testing.assert_allclose(np.dot(root, [90, 10]), 100)


def test_balanced_class_weights_give_every_class_the_same_share():
    y_true, _ = example(ignored=0, shape=(1, 40, 40))
    y_true[:, :20] = 0
    weights = losses.balanced_class_weights(np.bincount(y_true.ravel()))
    y_pred = np.zeros((*y_true.shape, CLASSES), np.float32)
    _, gradient = value_and_gradient(losses.CrossEntropy(class_weights=weights), y_true, y_pred)
    pull = [np.abs(gradient[y_true == c]).sum() for c in range(CLASSES)]
    np.testing.assert_allclose(pull, pull[0], rtol=1e-5)


def test_balanced_class_weights_of_an_absent_class_are_the_largest():
    weights = losses.balanced_class_weights([90, 0, 10])
    np.testing.assert_allclose(weights, [100 / 180, 5, 5])


def test_balanced_class_weights_of_a_dataset():
    y_true, y_pred = example(18)
    expected = losses.balanced_class_weights(np.bincount(y_true[y_true < 255]))
    dataset = tf.data.Dataset.from_tensor_slices((y_pred, y_true))
    for form in (dataset, dataset.batch(2)):
        weights = losses.balanced_class_weights(form, num_classes=CLASSES)
        np.testing.assert_allclose(weights, expected)
    with pytest.raises(TypeError, match="needs num_classes"):
        losses.balanced_class_weights(dataset)
    with pytest.raises(ValueError, match="finite dataset"):
        losses.balanced_class_weights(dataset.repeat(), num_classes=CLASSES)
    with pytest.raises(ValueError, match=r"labels 0 to 1 or ignore_index=255, received 0 to 3"):
        losses.balanced_class_weights(dataset, num_classes=2)


def test_balanced_class_weights_of_annotations():
    from deeplab_fashion import samples

    records = samples.load()[:3]
    label_map = taxonomy.CCP_TO_MAIN
    counts = sum(
        np.bincount(record.to_labels(label_map).ravel(), minlength=6) for record in records
    )
    weights = losses.balanced_class_weights(records, label_map=label_map)
    np.testing.assert_allclose(weights, losses.balanced_class_weights(counts))
    assert weights[0] == min(weights)
    with pytest.raises(TypeError, match="annotations with label_map, received"):
        losses.balanced_class_weights(records)
    with pytest.raises(TaxonomyError):
        losses.balanced_class_weights(records, label_map=taxonomy.IMATERIALIST_TO_MAIN)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ([0, 0], {}, "at least one pixel"),
        ([3, -1], {}, "counts of at least 0"),
        ([3, math.nan], {}, "counts of at least 0"),
        ([3, 1], {"power": 2}, r"power must be in \[0, 1\], received 2"),
    ],
)
def test_balanced_class_weights_refuse(source, options, message):
    with pytest.raises(ValueError, match=message):
        losses.balanced_class_weights(source, **options)


# ----------------------------------------------------------------------------------------- replicas


def test_replicas_with_uneven_content_give_the_gradient_of_one_device():
    program = Path(__file__).parent / "replicas" / "losses_on_two_replicas.py"
    configs = {name: keras.saving.serialize_keras_object(loss) for name, loss in EVERY.items()}
    done = subprocess.run(
        [sys.executable, str(program)],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(" equal") == len(EVERY) + 2
