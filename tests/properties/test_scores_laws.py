"""Laws of `deeplab_fashion.scores`, and its counts against slow and foreign ones."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from deeplab_fashion import scores
from deeplab_fashion.taxonomy import CCP_TO_MAIN

IGNORED = 255
laws = settings(deadline=None, derandomize=True)
DTYPES = [np.uint8, np.int16, np.int32, np.int64, np.uint32]


@st.composite
def label_maps(draw, max_classes=50, ignored=True):
    """Truth, prediction and number of classes: noise, or blocks as in photos, of any size."""
    classes = draw(st.integers(1, max_classes))
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    coarse = draw(st.sampled_from([1, 1, 8]))
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = -(-height // coarse), -(-width // coarse)
    maps = seed.integers(0, classes, (2, *shape))
    maps = maps.repeat(coarse, axis=1).repeat(coarse, axis=2)[:, :height, :width]
    truth, predicted = maps.astype(draw(st.sampled_from(DTYPES)))
    if ignored and draw(st.booleans()):
        truth[seed.random(truth.shape) < 0.2] = IGNORED
    return truth, predicted, classes


def counted_one_by_one(truth, predicted, classes):
    counts = np.zeros((classes, classes), np.int64)
    for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if t != IGNORED:
            counts[t, p] += 1
    return counts


@laws
@given(label_maps())
def test_counts_equal_a_loop_over_the_pixels(maps):
    truth, predicted, classes = maps
    counts = scores.confusion_matrix(truth, predicted, classes, ignore_index=IGNORED)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, counted_one_by_one(truth, predicted, classes))


@laws
@given(label_maps())
def test_counts_and_scores_equal_scikit_learns(maps):
    truth, predicted, classes = maps
    counts = scores.confusion_matrix(truth, predicted, classes, ignore_index=IGNORED)
    known = truth != IGNORED
    assume(known.any() and classes > 1)  # scikit-learn refuses nothing, and warns of one class
    labels = list(range(classes))
    y_true, y_pred = truth[known], predicted[known]
    np.testing.assert_array_equal(counts, sklearn_confusion_matrix(y_true, y_pred, labels=labels))
    present = np.isin(labels, y_true) | np.isin(labels, y_pred)
    for ours, theirs in (
        (scores.iou_per_class, jaccard_score),
        (scores.f1_per_class, f1_score),
        (scores.precision_per_class, precision_score),
        (scores.recall_per_class, recall_score),
    ):
        expected = theirs(y_true, y_pred, labels=labels, average=None, zero_division=0)
        np.testing.assert_allclose(ours(counts), np.where(present, expected, np.nan), rtol=1e-12)


@laws
@given(label_maps(), st.integers(0, 24))
def test_any_split_adds_up_to_the_whole(maps, at):
    truth, predicted, classes = maps
    parts = [
        scores.confusion_matrix(t, p, classes, ignore_index=IGNORED)
        for t, p in ((truth[:at], predicted[:at]), (truth[at:], predicted[at:]))
    ]
    whole = scores.confusion_matrix(truth, predicted, classes, ignore_index=IGNORED)
    np.testing.assert_array_equal(sum(parts), whole)


@laws
@given(label_maps(), st.randoms(use_true_random=False))
def test_renaming_the_classes_renames_the_scores(maps, random):
    truth, predicted, classes = maps
    new = np.arange(256)
    new[:classes] = random.sample(range(classes), classes)
    before = scores.confusion_matrix(truth, predicted, classes, ignore_index=IGNORED)
    after = scores.confusion_matrix(new[truth], new[predicted], classes, ignore_index=IGNORED)
    order = new[:classes]
    np.testing.assert_array_equal(after[np.ix_(order, order)], before)
    np.testing.assert_array_equal(scores.iou_per_class(after)[order], scores.iou_per_class(before))
    assert scores.mean_iou(after) == pytest.approx(scores.mean_iou(before), nan_ok=True)


@laws
@given(label_maps())
def test_f1_follows_from_iou_and_is_the_harmonic_mean(maps):
    counts = scores.confusion_matrix(*maps, ignore_index=IGNORED)
    iou, f1 = scores.iou_per_class(counts), scores.f1_per_class(counts)
    np.testing.assert_allclose(f1, 2 * iou / (1 + iou), rtol=1e-12)
    precision, recall = scores.precision_per_class(counts), scores.recall_per_class(counts)
    both = precision + recall > 0
    harmonic = 2 * precision[both] * recall[both] / (precision[both] + recall[both])
    np.testing.assert_allclose(f1[both], harmonic, rtol=1e-12)


@laws
@given(label_maps(), st.integers(1, 40), st.integers(0, 255))
def test_ignored_pixels_change_nothing(maps, extra, predicted_there):
    truth, predicted, classes = maps
    more_truth = np.append(truth, [IGNORED] * extra)
    more_predicted = np.append(predicted, [predicted_there % classes] * extra)
    np.testing.assert_array_equal(
        scores.confusion_matrix(more_truth, more_predicted, classes, ignore_index=IGNORED),
        scores.confusion_matrix(truth, predicted, classes, ignore_index=IGNORED),
    )


@laws
@given(label_maps(ignored=False))
def test_swapping_truth_and_prediction_transposes(maps):
    truth, predicted, classes = maps
    counts = scores.confusion_matrix(truth, predicted, classes)
    swapped = scores.confusion_matrix(predicted, truth, classes)
    np.testing.assert_array_equal(swapped, counts.T)
    np.testing.assert_array_equal(
        scores.precision_per_class(swapped), scores.recall_per_class(counts)
    )


@laws
@given(label_maps())
def test_a_perfect_prediction_scores_one_where_a_class_is_present(maps):
    truth, _, classes = maps
    counts = scores.confusion_matrix(truth, truth, classes, ignore_index=IGNORED)
    present = np.isin(np.arange(classes), truth)
    np.testing.assert_array_equal(scores.iou_per_class(counts), np.where(present, 1, np.nan))


@laws
@given(
    hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 59)
    ),
    st.integers(0, 2**32 - 1),
)
def test_collapsed_counts_are_the_counts_of_collapsed_maps(truth, seed):
    predicted = np.random.default_rng(seed).integers(0, 60, truth.shape)
    ids = {category.id for category in CCP_TO_MAIN.taxonomy}
    truth, predicted = (np.where(np.isin(a, list(ids)), a, min(ids)) for a in (truth, predicted))
    fine = scores.confusion_matrix(truth, predicted, max(ids) + 1)
    coarse = scores.confusion_matrix(
        CCP_TO_MAIN.apply(truth), CCP_TO_MAIN.apply(predicted), len(CCP_TO_MAIN.target_names)
    )
    np.testing.assert_array_equal(CCP_TO_MAIN.collapse(fine), coarse)


def in_band(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Pixels of the mask with a pixel outside it, or outside the image, within the square."""
    band = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        top, left = row - distance, column - distance
        window = mask[max(top, 0) : row + distance + 1, max(left, 0) : column + distance + 1]
        band[row, column] = window.size < (2 * distance + 1) ** 2 or not window.all()
    return band


@settings(laws, max_examples=60)
@given(label_maps(max_classes=6), st.floats(0.01, 1))
def test_boundary_scores_equal_one_class_at_a_time(maps, width):
    truth, predicted, classes = maps
    distance = max(1, round(width * float(np.hypot(*truth.shape))))
    matrix = scores.boundary_confusion_matrix(
        truth, predicted, classes, width=width, ignore_index=IGNORED
    )
    known = truth != IGNORED
    assert matrix.sum() == known.sum()
    expected_iou, expected_f1 = [], []
    for c in range(classes):
        of_truth = in_band(truth == c, distance)
        of_prediction = in_band((predicted == c) & known, distance)
        both, either = (of_truth & of_prediction).sum(), (of_truth | of_prediction).sum()
        expected_iou.append(both / either if either else np.nan)
        expected_f1.append(2 * both / (both + either) if either else np.nan)
    np.testing.assert_allclose(scores.boundary_iou_per_class(matrix), expected_iou, rtol=1e-12)
    np.testing.assert_allclose(scores.boundary_f1_per_class(matrix), expected_f1, rtol=1e-12)


@laws
@given(label_maps())
def test_a_width_of_the_whole_image_leaves_the_plain_scores(maps):
    truth, predicted, classes = maps
    matrix = scores.boundary_confusion_matrix(
        truth, predicted, classes, width=1, ignore_index=IGNORED
    )
    plain = scores.confusion_matrix(truth, predicted, classes, ignore_index=IGNORED)
    np.testing.assert_array_equal(matrix[:-1, :-1], plain)


@laws
@given(label_maps())
def test_boundary_counts_do_not_see_what_is_predicted_at_ignored_pixels(maps):
    truth, predicted, classes = maps
    other = np.where(truth == IGNORED, 0, predicted)
    one, two = (
        scores.boundary_confusion_matrix(truth, p, classes, ignore_index=IGNORED)
        for p in (predicted, other)
    )
    np.testing.assert_array_equal(one, two)


@laws
@given(label_maps(max_classes=3), st.integers(1, 4))
def test_the_sum_of_the_images_counts_is_the_stacks(maps, images):
    truth, predicted, classes = maps
    truths = [np.roll(truth, i) for i in range(images)]
    predictions = [predicted] * images
    each = scores.confusion_matrices(truths, predictions, classes, ignore_index=IGNORED)
    assert each.shape == (images, classes, classes)
    whole = scores.confusion_matrix(truths, predictions, classes, ignore_index=IGNORED)
    np.testing.assert_array_equal(each.sum(axis=0), whole)
    statistics = scores.image_statistics(each, scores.pixel_accuracy)
    single = [scores.pixel_accuracy(matrix) for matrix in each]
    np.testing.assert_array_equal(statistics.values, single)
    if not np.isnan(single).any():
        ordered = [min(single), statistics.worst_decile, statistics.mean, max(single)]
        assert (np.diff(ordered) >= -1e-12).all()
