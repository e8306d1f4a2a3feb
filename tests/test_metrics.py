"""The Keras metrics against `deeplab_fashion.scores`, in every way that Keras runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_fashion import scores
from deeplab_fashion.metrics import (
    ClassIoU,
    MeanF1,
    MeanIoU,
    PixelAccuracy,
    SegmentationReport,
    SoftF1,
    SoftIoU,
)

CLASSES = 4
NAMES = ["background", "upper", "lower", "feet"]
OF_COUNTS = [MeanIoU, MeanF1, PixelAccuracy, ClassIoU, SegmentationReport]


def make_batch(seed=0, classes=CLASSES, shape=(3, 6, 5), ignored=0.2):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    truth[rng.random(shape) < ignored] = 255
    logits = rng.normal(size=(*shape, classes)).astype(np.float32)
    return truth, logits


def counts_of(truth, logits):
    return scores.confusion_matrix(truth, logits.argmax(-1), logits.shape[-1], ignore_index=255)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 30), st.booleans())
def test_results_equal_the_scores_of_the_same_counts(seed, classes, pixels, as_labels):
    truth, logits = make_batch(seed, classes, (2, pixels))
    counts = counts_of(truth, logits)
    expected = scores.report(counts)
    predicted = logits.argmax(-1) if as_labels else logits
    for make, value in (
        (MeanIoU, scores.mean_iou(counts)),
        (MeanF1, scores.mean_f1(counts)),
        (PixelAccuracy, scores.pixel_accuracy(counts)),
        (ClassIoU, scores.iou_per_class(counts)),
    ):
        metric = make(classes, dtype="float64")
        metric.update_state(truth[:1], predicted[:1])
        metric.update_state(truth[1:], predicted[1:])
        np.testing.assert_array_equal(metric.confusion_matrix, counts)
        np.testing.assert_allclose(metric.result(), value, rtol=1e-12)
    report = SegmentationReport(classes, dtype="float64")
    report.update_state(truth, predicted)
    result = {name: float(value) for name, value in report.result().items()}
    assert result == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert list(result) == list(expected)


@pytest.mark.parametrize("make", OF_COUNTS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_traced_and_eager_agree(make, jit_compile):
    eager, traced = make(CLASSES), make(CLASSES)
    labels = make(CLASSES)

    @tf.function(jit_compile=jit_compile)
    def step(truth, logits):
        traced.update_state(truth, logits)
        labels.update_state(truth, tf.argmax(logits, -1))
        return traced.result()

    for seed in range(3):
        truth, logits = make_batch(seed)
        eager.update_state(truth, logits)
        result = step(truth, logits)
    np.testing.assert_array_equal(eager.confusion_matrix, traced.confusion_matrix)
    np.testing.assert_array_equal(eager.confusion_matrix, labels.confusion_matrix)
    tf.nest.map_structure(np.testing.assert_allclose, result, eager.result())
    traced.reset_state()
    assert traced.confusion_matrix.sum() == 0


def one_hot(truth):
    return np.where((truth == 255)[..., None], 0, np.eye(CLASSES)[np.minimum(truth, 3)])


@pytest.mark.parametrize(
    ("of_truth", "of_prediction"),
    [
        (lambda t: t.astype(np.int64), lambda p: p),
        (lambda t: t[..., None], lambda p: p),
        (one_hot, lambda p: p),
        (lambda t: one_hot(t).astype(np.uint8), lambda p: p.astype(np.float16)),
        (lambda t: t, lambda p: tf.cast(p, tf.bfloat16)),
        (lambda t: t, tf.nn.softmax),
        (lambda t: t, lambda p: p.argmax(-1)),
        (lambda t: t.astype(np.uint16), lambda p: p.argmax(-1).astype(np.uint64)),
        (lambda t: np.where(t == 255, -1, t.astype(np.int8)), lambda p: p),
        (lambda t: t.astype(np.float32), lambda p: p),
        (lambda t: t.ravel(), lambda p: p.reshape(-1, CLASSES)),
        (lambda t: t.tolist(), lambda p: p.argmax(-1).astype(np.int8)),
    ],
)
def test_every_form_of_truth_and_prediction(of_truth, of_prediction):
    truth, logits = make_batch()
    given_truth = of_truth(truth)
    ignore_index = -1 if getattr(given_truth, "dtype", None) == np.int8 else 255
    metric = MeanIoU(CLASSES, ignore_index=ignore_index)
    metric.update_state(given_truth, of_prediction(logits))
    np.testing.assert_array_equal(metric.confusion_matrix, counts_of(truth, logits))


@pytest.mark.parametrize("classes", [2, 8, 9, 300])
def test_any_number_of_classes_and_ties_go_to_the_first(classes):
    logits = np.random.default_rng(0).integers(0, 3, (1, 40, classes)).astype(np.float32)
    truth = np.arange(40).reshape(1, 40) % min(classes, 200)
    metric = MeanIoU(classes)
    metric.update_state(truth.astype(np.uint8), logits)
    np.testing.assert_array_equal(metric.confusion_matrix, counts_of(truth, logits))


def test_binary_masks_and_an_ignored_class():
    metric = MeanIoU(2, ignore_index=None)
    metric.update_state([[True, True, False]], [[True, False, False]])
    np.testing.assert_array_equal(metric.confusion_matrix, [[1, 0], [1, 1]])
    foreground = MeanIoU(3, ignore_index=0)
    foreground.update_state([[0, 1, 2, 2]], [[1, 1, 0, 2]])
    expected = scores.confusion_matrix([0, 1, 2, 2], [1, 1, 0, 2], 3, ignore_index=0)
    np.testing.assert_array_equal(foreground.confusion_matrix, expected)


def test_counts_are_exact_beyond_float32_and_int32():
    metric = PixelAccuracy(2, dtype="float64")
    # As many pixels as a few weeks of evaluation would add.
    metric.variables[1].assign(np.array([[2**40, 0], [0, 2**24]], np.int64))
    metric.update_state([[0, 1, 1]], [[0, 1, 0]])
    np.testing.assert_array_equal(metric.confusion_matrix, [[2**40 + 1, 0], [1, 2**24 + 1]])
    assert float(metric.result()) == (2**40 + 2**24 + 2) / (2**40 + 2**24 + 3)
    assert metric.variables[1].dtype == "int64"


def test_sample_weight_counts_pixels_a_whole_number_of_times():
    truth, logits = make_batch()
    weights = np.random.default_rng(1).integers(0, 3, truth.shape)
    expected = sum(
        counts_of(np.where(weights > n, truth, 255).astype(np.uint8), logits) for n in range(2)
    )
    for weight in (weights, weights.astype(np.float32), weights[..., None]):
        metric = MeanIoU(CLASSES)
        metric.update_state(truth, logits, sample_weight=weight)
        np.testing.assert_array_equal(metric.confusion_matrix, expected)
    metric.reset_state()
    metric.update_state(truth, logits, sample_weight=[1.0, 0.0, 2.0])
    expected = counts_of(truth[0], logits[0]) + 2 * counts_of(truth[2], logits[2])
    np.testing.assert_array_equal(metric.confusion_matrix, expected)
    metric.reset_state()
    metric.update_state([[0, 9]], [[0, 0]], sample_weight=[[1, 0]])  # what is left out may be wrong
    assert metric.confusion_matrix.sum() == 1


@pytest.mark.parametrize("weight", [0.5, -1.0, np.nan])
def test_other_weights_are_refused(weight):
    metric = MeanIoU(CLASSES)
    truth, logits = make_batch()
    with pytest.raises(
        ValueError, match=r"sample_weight must hold whole numbers.*received 30 pixel"
    ):
        metric.update_state(truth, logits, sample_weight=[1.0, weight, 1.0])
    with pytest.raises(ValueError, match=r"sample_weight must have .*\(3, 6, 5\).*received \(5,\)"):
        metric.update_state(truth, logits, sample_weight=np.ones(5))


WRONG_LABELS = [
    ([[0, 9]], [[0, 0]], r"y_true must hold labels 0\.\.3 or ignore_index=255, received 1 pixels"),
    ([[0, -7]], [[0, 0]], r"y_true"),
    ([[0, 2**32]], [[0, 0]], r"y_true"),
    ([[0, 0.5, np.nan]], [[0, 0, 0]], r"y_true.*received 2 pixels"),
    ([[4, 4]], np.zeros((1, 2, CLASSES), np.float32), r"y_true.*received 2 pixels"),
    ([[0, 0]], [[0, 4]], r"y_pred must hold labels 0\.\.3 .*received 1 pixels"),
    ([[0, 0]], [[0, -1]], r"y_pred"),
    ([[0, 0]], [[0, 255]], r"y_pred"),
    ([[255, 0]], [[9, 0]], r"y_pred"),
]


@pytest.mark.parametrize(("truth", "predicted", "message"), WRONG_LABELS)
def test_wrong_labels_raise_at_once_in_eager_code(truth, predicted, message):
    metric = MeanIoU(CLASSES)
    metric.update_state([[1, 255]], [[1, 255]])
    with pytest.raises(ValueError, match=f"mean_iou: {message}"):
        metric.update_state(np.array(truth), predicted)
    np.testing.assert_array_equal(metric.confusion_matrix.sum(), 1)


@pytest.mark.parametrize(("truth", "predicted", "message"), WRONG_LABELS)
@pytest.mark.parametrize("make", [MeanIoU, SegmentationReport])
def test_wrong_labels_in_traced_code_make_nan_and_then_an_error(make, truth, predicted, message):
    metric = make(CLASSES)

    @tf.function
    def step(truth, predicted):
        metric.update_state(truth, predicted)
        return metric.result()

    traced = step(tf.constant(np.array(truth)), tf.constant(predicted))
    assert np.isnan(tf.nest.flatten(traced)).all()
    for ask in (metric.result, lambda: metric.confusion_matrix):
        with pytest.raises(ValueError, match=message):
            ask()
    metric.reset_state()
    metric.update_state([[1]], [[1]])
    assert metric.confusion_matrix.sum() == 1


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ((2, 3), (2, 3, 5), r"num_classes=4\), received \(2, 3, 5\)"),
        ((2, 3), (2, 3), r"predicted labels must be integers"),
        ((2, 5), (2, 3, 4), r"y_true must have shape \(2, 3\) or \(2, 3, 1\) or"),
        ((2, 3, 3), (2, 3, 4), r"received \(2, 3, 3\)"),
    ],
)
def test_wrong_shapes_are_refused_eagerly_and_when_traced(truth, predicted, message):
    metric = MeanIoU(CLASSES)
    y_true, y_pred = np.zeros(truth, np.int32), np.zeros(predicted, np.float32)
    for update in (metric.update_state, tf.function(metric.update_state, autograph=False)):
        with pytest.raises(ValueError, match=message):
            update(tf.constant(y_true), tf.constant(y_pred))


def test_wrong_labels_as_prediction_shape():
    with pytest.raises(ValueError, match=r"y_true must have shape \(2, 2\) beside.*\(2, 1\)"):
        MeanIoU(CLASSES).update_state([[0], [0]], [[0, 0], [0, 0]])


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"num_classes must be at least 1, received 0"):
        MeanIoU(0)
    with pytest.raises(TypeError, match=r"num_classes must be an integer, received 2.5"):
        MeanF1(2.5)
    with pytest.raises(TypeError, match=r"labels must be whole numbers, received dtype string"):
        MeanIoU(CLASSES).update_state([[0]], [["dress"]])
    with pytest.raises(ValueError, match=r"class_index must be a class, 0\.\.3, received 4"):
        ClassIoU(CLASSES, class_index=4)
    with pytest.raises(ValueError, match=r"4 distinct names"):
        SegmentationReport(CLASSES, class_names=NAMES[:3])
    with pytest.raises(ValueError, match=r"smooth must be at least 0, received -1"):
        SoftIoU(CLASSES, smooth=-1)
    with pytest.raises(
        TypeError, match=r"y_pred must be logits or probabilities, received dtype in"
    ):
        SoftIoU(CLASSES).update_state([[0]], [[0]])


@pytest.mark.parametrize(
    "metric",
    [
        MeanIoU(CLASSES, ignore_index=None, name="iou"),
        MeanF1(CLASSES, ignore_index=0),
        PixelAccuracy(CLASSES, dtype="float64"),
        ClassIoU(CLASSES, class_index=2),
        SegmentationReport(CLASSES, class_names=NAMES),
        SoftIoU(CLASSES, from_logits=False, smooth=1.0),
        SoftF1(CLASSES),
    ],
    ids=lambda metric: metric.name,
)
def test_a_metric_survives_serialisation(metric):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()


def soft_scores(truth, logits, smooth):
    """The study's scores of one batch, in plain numpy."""
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = exponents / exponents.sum(-1, keepdims=True)
    iou, f1 = [], []
    for c in range(logits.shape[-1]):
        t, p = (truth == c)[truth != 255], probabilities[truth != 255][:, c]
        both, total = (t * p).sum(), t.sum() + p.sum()
        iou.append((both + smooth) / (total - both + smooth))
        f1.append((2 * both + smooth) / (total + smooth))
    return np.mean(iou), np.mean(f1)


def test_soft_scores_are_means_over_batches():
    batches = [make_batch(0), make_batch(1, ignored=0), make_batch(2, shape=(1, 2, 2))]
    iou, f1, sure = SoftIoU(CLASSES), SoftF1(CLASSES), SoftIoU(CLASSES, from_logits=False)
    for truth, logits in batches:
        for metric in (iou, f1):
            tf.function(metric.update_state)(truth, logits)
        sure.update_state(truth, tf.nn.softmax(logits))
    expected = np.mean([soft_scores(*batch, 1e-5) for batch in batches], axis=0)
    assert float(iou.result()) == pytest.approx(expected[0], rel=1e-5)
    assert float(f1.result()) == pytest.approx(expected[1], rel=1e-5)
    assert float(sure.result()) == pytest.approx(expected[0], rel=1e-5)


def test_soft_scores_of_nothing_of_weighted_pixels_and_of_wrong_labels():
    metric = SoftIoU(CLASSES)
    assert np.isnan(metric.result())
    truth, logits = make_batch()
    metric.update_state(np.full_like(truth, 255), logits)
    assert np.isnan(metric.result())
    metric.update_state(truth, logits, sample_weight=[1, 0, 1])
    expected = soft_scores(truth[[0, 2]], logits[[0, 2]], 1e-5)[0]
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"soft_iou: y_true must hold labels 0\.\.3"):
        metric.update_state(truth + 7, logits)
    tf.function(metric.update_state)(truth + 7, logits)
    with pytest.raises(ValueError, match=r"soft_iou: y_true must hold labels 0\.\.3"):
        metric.result()


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_fit_and_evaluate_log_the_data_sets_scores(run_eagerly):
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).random((5, 6, 7, 3)).astype(np.float32)
    truth, _ = make_batch(0, shape=(5, 6, 7))
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(CLASSES, 1)(inputs))
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
        metrics=[
            MeanIoU(CLASSES),
            ClassIoU(CLASSES, class_index=1, name="upper"),
            SegmentationReport(CLASSES, class_names=NAMES),
            SoftF1(CLASSES),
        ],
        weighted_metrics=[PixelAccuracy(CLASSES, name="weighted")],
        run_eagerly=run_eagerly,
    )
    history = model.fit(
        images, truth, batch_size=2, epochs=2, validation_data=(images, truth), verbose=0
    ).history
    logs = model.evaluate(images, truth, batch_size=2, verbose=0, return_dict=True)
    expected = scores.report(counts_of(truth, model.predict(images, verbose=0)), NAMES)
    assert {name: logs[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert logs["upper"] == pytest.approx(expected["iou/upper"], rel=1e-6)
    assert logs["weighted"] == pytest.approx(expected["pixel_accuracy"], rel=1e-6)
    assert history["val_iou/feet"][-1] == pytest.approx(expected["iou/feet"], rel=1e-6)
    assert len(history["soft_f1"]) == 2
    weights = np.ones((5, 6, 7), np.float32) * np.array([1, 0, 0, 2, 1])[:, None, None]
    logs = model.evaluate(
        images, truth, sample_weight=weights, batch_size=2, verbose=0, return_dict=True
    )
    assert logs["mean_iou"] == pytest.approx(expected["mean_iou"], rel=1e-6)
    repeated = [0, 3, 3, 4]
    counts = counts_of(truth[repeated], model.predict(images, verbose=0)[repeated])
    assert logs["weighted"] == pytest.approx(scores.pixel_accuracy(counts), rel=1e-6)


def test_fit_raises_at_the_end_of_an_epoch_with_wrong_labels():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", "mse", metrics=[MeanIoU(2)])
    one_hot, wrong = np.eye(2, dtype=np.float32), np.array([[0], [5]])
    model.fit(one_hot, one_hot, verbose=0)
    model.compile("sgd", lambda y, p: tf.reduce_mean(p, -1), metrics=[MeanIoU(2)])
    with pytest.raises(ValueError, match=r"mean_iou: y_true must hold labels 0\.\.1.*1 pixels"):
        model.fit(one_hot, wrong, epochs=1, verbose=0)


REPLICAS = """
import json, sys
import keras, numpy as np, tensorflow as tf
from deeplab_fashion.metrics import MeanIoU, SegmentationReport, SoftIoU
from deeplab_fashion.scores import confusion_matrix, report

device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
images = rng.random((6, 4, 5, 3)).astype(np.float32)
truth = rng.integers(0, 3, (6, 4, 5)).astype(np.uint8)
truth[:2], truth[3, :2] = 0, 255  # the two replicas see different content
with strategy.scope():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    metrics = [SegmentationReport(3), SoftIoU(3)]
    model.compile("sgd", loss, metrics=metrics)
    custom, wrong = MeanIoU(3), MeanIoU(2)
data = tf.data.Dataset.from_tensor_slices((images, truth)).batch(4)  # then a batch of 2
logs = model.evaluate(data, verbose=0, return_dict=True)
predicted = model(images).numpy().argmax(-1)
expected = report(confusion_matrix(truth, predicted, 3, ignore_index=255))

@tf.function
def step(images, truth):
    logits = model(images)
    custom.update_state(truth, logits)
    wrong.update_state(truth, logits[..., :2])

for batch in strategy.experimental_distribute_dataset(data):
    strategy.run(step, args=batch)
try:
    wrong.result()
except ValueError as error:
    message = str(error)
result = {
    "replicas": strategy.num_replicas_in_sync,
    "logs": {name: float(value) for name, value in logs.items()},
    "expected": expected,
    "custom": float(custom.result()),
    "pixels": int(custom.confusion_matrix.sum()),
    "known": int((truth != 255).sum()),
    "twos": int((truth == 2).sum()),
    "message": message,
}
json.dump(result, sys.stdout)
"""


def test_replicas_add_up_to_the_whole_batch(tmp_path):
    script = tmp_path / "replicas.py"
    script.write_text(REPLICAS)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["replicas"] == 2
    expected = result["expected"]
    assert {name: result["logs"][name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert 0 < result["logs"]["soft_iou"] < 1
    assert result["custom"] == pytest.approx(expected["mean_iou"], rel=1e-6)
    assert result["pixels"] == result["known"]
    assert "mean_iou: y_true must hold labels 0..1" in result["message"]
    assert f"received {result['twos']} pixels" in result["message"]
