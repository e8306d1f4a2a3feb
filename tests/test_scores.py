"""Hand-worked scores, the contract's edges, and the errors of `deeplab_fashion.scores`."""

import inspect
import json

import numpy as np
import pytest

from deeplab_fashion import scores
from deeplab_fashion.annotations import read_imaterialist
from deeplab_fashion.taxonomy import CCP_TO_MAIN, MAIN_CLASSES

NAN = float("nan")
# Truth 0 1 1 2 2 2 and prediction 0 0 1 2 2 3: class 3 is predicted but never true, 4 is absent.
HAND = np.array(
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
)


def test_hand_worked_counts_and_scores():
    counts = scores.confusion_matrix([0, 1, 1, 2, 2, 2], [0, 0, 1, 2, 2, 3], 5)
    np.testing.assert_array_equal(counts, HAND)
    np.testing.assert_allclose(scores.iou_per_class(HAND), [1 / 2, 1 / 2, 2 / 3, 0, NAN])
    np.testing.assert_allclose(scores.f1_per_class(HAND), [2 / 3, 2 / 3, 4 / 5, 0, NAN])
    np.testing.assert_allclose(scores.precision_per_class(HAND), [1 / 2, 1, 1, 0, NAN])
    np.testing.assert_allclose(scores.recall_per_class(HAND), [1, 1 / 2, 2 / 3, 0, NAN])
    assert scores.pixel_accuracy(HAND) == pytest.approx(4 / 6)
    assert scores.mean_iou(HAND) == pytest.approx((1 / 2 + 1 / 2 + 2 / 3 + 0) / 4)
    assert scores.mean_f1(HAND) == pytest.approx((2 / 3 + 2 / 3 + 4 / 5 + 0) / 4)


def test_a_true_class_that_is_never_predicted_scores_zero_throughout():
    counts = [[0, 3], [0, 5]]
    for per_class in (
        scores.iou_per_class,
        scores.f1_per_class,
        scores.precision_per_class,
        scores.recall_per_class,
    ):
        assert per_class(counts)[0] == 0


def test_nothing_counted_has_no_score():
    counts = scores.confusion_matrix(
        np.full((4, 4), 255), np.ones((4, 4), int), 3, ignore_index=255
    )
    assert counts.sum() == 0
    assert np.isnan(scores.iou_per_class(counts)).all()
    for score in (scores.mean_iou, scores.mean_f1, scores.pixel_accuracy):
        assert np.isnan(score(counts))
    empty = np.zeros((0, 4), np.uint8)
    assert scores.confusion_matrix(empty, empty, 3).sum() == 0


def test_scores_are_exact_where_float32_is_not():
    large = 2**40
    counts = np.array([[large + 1, 1], [0, large]])
    assert scores.pixel_accuracy(counts) == (2 * large + 1) / (2 * large + 2) != 1


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.uint64, ">i4"])
@pytest.mark.parametrize("size", [3, 50, 600])
def test_any_integer_dtype_order_and_layout(dtype, size):
    truth, predicted = np.random.default_rng(0).integers(0, 2, (2, size, 4)).astype(dtype)
    expected = scores.confusion_matrix(truth.astype(int), predicted.astype(int), 2)
    np.testing.assert_array_equal(scores.confusion_matrix(truth, predicted, 2), expected)
    np.testing.assert_array_equal(scores.confusion_matrix(truth.T, predicted.T, 2), expected)
    reverse = scores.confusion_matrix(truth[::-1], predicted[::-1], 2)
    np.testing.assert_array_equal(reverse, expected)


@pytest.mark.parametrize("classes", [1, 2, 6, 16, 17, 47, 128, 129, 256, 257, 300])
@pytest.mark.parametrize("run", [1, 3, 16, 64])
def test_every_way_of_counting_gives_the_same(classes, run):
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, (2, 30_011 // run)).repeat(run, axis=1)
    truth, predicted = labels.astype(np.uint16)
    expected = np.bincount(labels[0] * classes + labels[1], minlength=classes**2)
    counts = scores.confusion_matrix(truth, predicted, classes)
    np.testing.assert_array_equal(counts.ravel(), expected)
    truth[::7] = 999
    expected = np.bincount(
        labels[0][truth != 999] * classes + labels[1][truth != 999], minlength=classes**2
    )
    counts = scores.confusion_matrix(truth, predicted, classes, ignore_index=999)
    np.testing.assert_array_equal(counts.ravel(), expected)


def test_the_arguments_are_left_as_they_were():
    truth, predicted = (
        np.array([[0, 255], [1, 1]], np.uint8),
        np.array([[0, 255], [1, 0]], np.uint8),
    )
    for array in (truth, predicted):
        array.flags.writeable = False
    scores.confusion_matrix(truth, predicted, 2, ignore_index=255)
    scores.boundary_confusion_matrix(truth, predicted, 2, ignore_index=255)


def test_ignored_is_decided_by_truth_alone():
    counts = scores.confusion_matrix([0, 255, 255], [1, 255, 0], 2, ignore_index=255)
    np.testing.assert_array_equal(counts, [[0, 1], [0, 0]])
    with pytest.raises(
        ValueError, match=r"y_pred.*received 255 where y_true is known at index \(1,"
    ):
        scores.confusion_matrix([0, 1], [0, 255], 2, ignore_index=255)


@pytest.mark.parametrize("ignore_index", [-1, -100, 0, 1, 2, 255, 70_000])
def test_any_label_may_be_the_ignored_one(ignore_index):
    truth, predicted = np.array([0, 1, ignore_index, 2, 0]), np.array([0, 2, 1, 1, 2])
    counts = scores.confusion_matrix(truth, predicted, 3, ignore_index=ignore_index)
    by_hand = np.zeros((3, 3), int)
    for true, guess in zip(truth, predicted, strict=True):
        if true != ignore_index:
            by_hand[true, guess] += 1
    np.testing.assert_array_equal(counts, by_hand)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([0, 3], [0, 0], r"y_true must hold labels 0\.\.2 .*255, received 3 at index \(1,\)"),
        ([0, -1], [0, 0], r"y_true.*received -1 at index \(1,\)"),
        ([0, 0], [0, 7], r"y_pred.*received 7 at index \(1,\)"),
        ([255, 0], [9, 0], r"y_pred.*received 9 at index \(0,\)"),
        ([0, 0], [-2, -2], r"y_pred.*received -2 at index \(0,\); 2 such pixels"),
        ([0, 2**32], [0, 0], r"y_true.*received 4294967296"),
        (np.array([0, -1], np.int8), [0, 0], r"y_true.*received -1"),
        ([[0, 0]], [0, 0], r"same shape, received \(1, 2\) and \(2,\)"),
    ],
)
def test_wrong_labels_are_refused(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        scores.confusion_matrix(y_true, y_pred, 3, ignore_index=255)


@pytest.mark.parametrize("classes", [100, 128, 200, 256, 300])
def test_a_negative_label_is_no_class_however_many_there_are(classes):
    for dtype in (np.int8, np.int16, np.int64):
        labels = np.array([0, 1, -1, -1], dtype)
        with pytest.raises(ValueError, match=r"y_true.*received -1 at index \(2,\); 2 such pixels"):
            scores.confusion_matrix(labels, np.zeros(4, dtype), classes)
        with pytest.raises(ValueError, match=r"y_pred.*received -1 at index \(2,\); 2 such pixels"):
            scores.confusion_matrix(np.zeros(4, dtype), labels, classes)
        counts = scores.confusion_matrix(labels, np.ones(4, dtype), classes, ignore_index=-1)
        assert counts[:2, :2].tolist() == [[0, 1], [0, 1]]
        assert counts.sum() == 2


@pytest.mark.parametrize(("dtype", "classes"), [(np.int8, 128), (np.uint8, 256), (np.int8, 300)])
def test_the_greatest_label_of_a_type_is_a_class(dtype, classes):
    greatest = np.iinfo(dtype).max
    labels = np.array([0, greatest, greatest], dtype)
    counts = scores.confusion_matrix(labels, labels[[1, 1, 0]], classes)
    assert counts[0, greatest] == counts[greatest, greatest] == counts[greatest, 0] == 1
    assert counts.sum() == 3


def test_single_labels_are_counted():
    np.testing.assert_array_equal(scores.confusion_matrix(1, 0, 2), [[0, 0], [1, 0]])


def test_wrong_types_and_options_are_refused():
    with pytest.raises(TypeError, match=r"y_true must hold integer labels, received dtype float64"):
        scores.confusion_matrix([0.0], [0], 2)
    with pytest.raises(TypeError, match=r"y_pred must hold integer labels"):
        scores.confusion_matrix([0], ["0"], 2)
    with pytest.raises(ValueError, match=r"num_classes must be at least 1, received 0"):
        scores.confusion_matrix([0], [0], 0)
    with pytest.raises(TypeError, match=r"num_classes must be an integer, received 2.5"):
        scores.confusion_matrix([0], [0], 2.5)
    with pytest.raises(ValueError, match=r"width must be .* received 0"):
        scores.boundary_confusion_matrix([[0]], [[0]], 2, width=0)
    with pytest.raises(ValueError, match=r"shape \(\.\.\., height, width\), received \(1,\)"):
        scores.boundary_confusion_matrix([0], [0], 2)
    with pytest.raises(ValueError, match=r"zip"):
        scores.confusion_matrices([[0], [0]], [[0]], 2)
    with pytest.raises(ValueError, match=r"shape \(C, C\), received \(2, 2, 2\)"):
        scores.mean_iou(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"at least 0, received -1"):
        scores.mean_iou([[1, -1], [0, 0]])
    with pytest.raises(ValueError, match=r"shape \(images, C, C\), received \(2, 2\)"):
        scores.image_statistics(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"shape \(images, C, C\), received \(1, 2, 3\)"):
        scores.image_statistics(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match=r"2 distinct names"):
        scores.report(np.eye(2), ["dress", "dress"])
    none = np.zeros((0, 2, 2), np.int64)
    with pytest.raises(ValueError, match=r"at least one image"):
        scores.bootstrap_interval(none)
    with pytest.raises(ValueError, match=r"confidence must be above 0 and below 1, received 95"):
        scores.bootstrap_interval(np.ones((2, 2, 2)), confidence=95)
    with pytest.raises(ValueError, match=r"resamples must be at least 1, received 0"):
        scores.bootstrap_interval(np.ones((2, 2, 2)), resamples=0)


def test_report_is_plain_json_and_names_every_score():
    names = ["background", "upper", "lower", "feet", "bag"]
    named = scores.report(HAND, names)
    assert len(named) == 5 + 4 * 5
    assert named["iou/lower"] == pytest.approx(2 / 3)
    assert named["precision/upper"] == 1
    assert named["mean_recall"] == pytest.approx((1 + 1 / 2 + 2 / 3 + 0) / 4)
    assert np.isnan(named["f1/bag"])
    assert all(type(value) is float for value in named.values())
    assert json.loads(json.dumps(named))["pixel_accuracy"] == named["pixel_accuracy"]


def test_boundary_of_a_shifted_square_worked_by_hand():
    y_true = np.zeros((12, 12), np.uint8)
    y_true[4:8, 4:8] = 1
    y_pred = np.zeros((12, 12), np.uint8)
    y_pred[4:8, 5:9] = 1
    # Width 0.02 of a diagonal of 17 pixels rounds to nothing, so it is one pixel: rings of 12. Of
    # these, rows 4 and 7 share three pixels each, columns 5 to 7.
    matrix = scores.boundary_confusion_matrix(y_true, y_pred, 2)
    assert matrix.shape == (3, 3)
    assert matrix.dtype == np.int64
    assert matrix[1].sum() == matrix[:, 1].sum() == 12
    assert scores.boundary_iou_per_class(matrix)[1] == pytest.approx(6 / 18)
    assert scores.boundary_f1_per_class(matrix)[1] == pytest.approx(12 / 24)
    # The background's band: the ring of 20 around the square, and the image's edge of 44.
    assert matrix[0].sum() == 20 + 44
    # Three pixels instead: the whole square is band.
    wide = scores.boundary_confusion_matrix(y_true, y_pred, 2, width=3 / 17)
    assert wide[1].sum() == 16


def test_boundary_means_leave_the_inner_pixels_out():
    matrix = [[3, 1, 0], [0, 3, 0], [0, 0, 10**6]]
    assert scores.mean_boundary_iou(matrix) == pytest.approx(3 / 4)
    assert scores.mean_boundary_f1(matrix) == pytest.approx(6 / 7)


def test_boundary_counts_of_a_stack_add_up():
    truth, predicted = np.random.default_rng(0).integers(0, 3, (2, 4, 40, 30))
    stack = scores.boundary_confusion_matrix(truth, predicted, 3)
    single = [
        scores.boundary_confusion_matrix(t, p, 3) for t, p in zip(truth, predicted, strict=True)
    ]
    np.testing.assert_array_equal(stack, sum(single))


@pytest.mark.parametrize("classes", [254, 255, 256, 300])
def test_boundary_counts_are_the_same_with_more_classes(classes):
    truth, predicted = np.random.default_rng(1).integers(0, 3, (2, 20, 30))
    truth[:5] = 900
    few = scores.boundary_confusion_matrix(truth, predicted, 3, ignore_index=900)
    many = scores.boundary_confusion_matrix(truth, predicted, classes, ignore_index=900)
    kept = [0, 1, 2, classes]
    np.testing.assert_array_equal(many[np.ix_(kept, kept)], few)
    assert many.sum() == few.sum() == (truth != 900).sum()


def test_images_of_many_classes_are_scored():
    counts = np.zeros((2, 300, 300), np.int64)
    counts[:, 299, 299] = 5
    counts[1, 0, 299] = 15
    statistics = scores.image_statistics(counts, scores.pixel_accuracy)
    assert statistics.values.tolist() == [1, 0.25]


def test_image_statistics_worked_by_hand():
    correct = np.arange(1, 22)
    images = [[[n, 100 - n], [0, 0]] for n in correct] + [[[0, 0], [0, 0]]]
    statistics = scores.image_statistics(images, scores.pixel_accuracy)
    np.testing.assert_allclose(statistics.values[:-1], correct / 100)
    assert np.isnan(statistics.values[-1])
    assert statistics.mean == pytest.approx(0.11)
    assert statistics.worst_decile == pytest.approx(0.02)  # of 21: the lowest three
    none = scores.image_statistics([[[0]]])
    assert np.isnan([none.mean, none.worst_decile]).all()


def test_bootstrap_interval():
    rng = np.random.default_rng(1)
    correct = rng.binomial(1000, 0.8, 60)
    images = np.array([[[n, 1000 - n], [0, 0]] for n in correct])
    interval = scores.bootstrap_interval(images, scores.pixel_accuracy, seed=3)
    assert interval == scores.bootstrap_interval(images, scores.pixel_accuracy, seed=3)
    assert interval != scores.bootstrap_interval(images, scores.pixel_accuracy, seed=4)
    assert interval.estimate == correct.sum() / 60_000
    # The mean of 60 equally large photos: its interval is 1.96 standard errors to either side.
    error = 1.96 * correct.std() / 1000 / np.sqrt(60)
    assert interval.low == pytest.approx(interval.estimate - error, abs=0.2 * error)
    assert interval.high == pytest.approx(interval.estimate + error, abs=0.2 * error)
    narrow = scores.bootstrap_interval(images, scores.pixel_accuracy, confidence=0.5, seed=3)
    assert interval.low < narrow.low < narrow.high < interval.high


def test_bootstrap_draws_without_a_score_are_left_out():
    images = [[[4, 0], [0, 0]], [[2, 0], [1, 1]]]
    interval = scores.bootstrap_interval(images, lambda counts: scores.iou_per_class(counts)[1])
    assert interval.low == interval.high == interval.estimate == 0.5
    never = scores.bootstrap_interval([[[4, 0], [0, 0]]], lambda c: scores.recall_per_class(c)[1])
    assert np.isnan([never.estimate, never.low, never.high]).all()


def test_real_label_maps_collapse_from_tags_to_main_classes(shared):
    folder = shared / "data" / "ccp"
    photos = read_imaterialist(folder / "val.csv", folder / "val")[:2]
    fine = CCP_TO_MAIN.taxonomy
    identity = np.arange(len(fine))
    total, coarse = 0, 0
    for photo in photos:
        assert set(photo.category_ids) <= set(identity.tolist())
        tags = np.zeros(photo.size, np.uint8)
        for region, category in zip(photo.regions, photo.category_ids, strict=True):
            tags[region.to_mask()] = category
        guess = np.roll(tags, 5, axis=1)
        total += scores.confusion_matrix(tags, guess, len(fine))
        coarse += scores.confusion_matrix(
            CCP_TO_MAIN.apply(tags), CCP_TO_MAIN.apply(guess), len(MAIN_CLASSES)
        )
    np.testing.assert_array_equal(CCP_TO_MAIN.collapse(total), coarse)
    assert 0 < scores.mean_iou(coarse) < 1


@pytest.mark.parametrize(
    ("function", "by_place", "by_name"),
    [
        ("confusion_matrix", "y_true y_pred num_classes", "ignore_index"),
        ("confusion_matrices", "y_true y_pred num_classes", "ignore_index"),
        ("boundary_confusion_matrix", "y_true y_pred num_classes", "width ignore_index"),
        ("bootstrap_interval", "confusions score", "confidence resamples seed"),
    ],
)
def test_options_are_given_by_name_alone(function, by_place, by_name):
    parameters = inspect.signature(getattr(scores, function)).parameters.values()
    assert {p.name: p.kind for p in parameters} == {
        **dict.fromkeys(by_place.split(), inspect.Parameter.POSITIONAL_OR_KEYWORD),
        **dict.fromkeys(by_name.split(), inspect.Parameter.KEYWORD_ONLY),
    }
