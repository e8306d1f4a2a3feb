"""Laws that every loss obeys, whatever the labels and logits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_fashion import losses, scores

FUNCTIONS = {
    "cross_entropy": (losses.cross_entropy, {}),
    "ohem": (losses.cross_entropy, {"ohem": 0.5}),
    "focal": (losses.focal, {"gamma": 1.5}),
    "dice": (losses.dice, {}),
    "jaccard": (losses.jaccard, {}),
    "focal_tversky": (losses.tversky, {"gamma": 0.75}),
    "lovasz_softmax": (losses.lovasz_softmax, {}),
    "boundary": (losses.boundary, {}),
}
IN_UNIT_RANGE = {"dice", "jaccard", "focal_tversky", "lovasz_softmax"}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
few = settings(max_examples=15, deadline=None, derandomize=True)


@st.composite
def batches(draw, ignored=True):
    """Labels of 1 to 3 images, some pixels ignored, and logits, from flat to certain."""
    shape = tuple(draw(st.integers(1, high)) for high in (3, 4, 5))
    classes = draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, draw(st.integers(1, classes)), shape)
    if ignored:
        labels[rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 255
    scale = draw(st.sampled_from([0.1, 2.0, 30.0]))
    return labels, scale * rng.normal(size=(*shape, classes))


def values_of(name, y_true, y_pred, **options):
    function, own = FUNCTIONS[name]
    return function(y_true, y_pred, **own, **options).numpy()


@every_function
@few
@given(batch=batches())
def test_range_and_empty_case(name, batch):
    y_true, y_pred = batch
    values = values_of(name, y_true, y_pred)
    assert values.shape == y_true.shape[:1]
    assert np.all(values >= 0)
    assert np.all(np.isfinite(values))
    if name in IN_UNIT_RANGE:
        assert np.all(values <= 1 + 1e-12)
    assert np.all(values[(y_true == 255).all((1, 2))] == 0)


@every_function
@few
@given(batch=batches(), data=st.data())
def test_the_order_of_classes_does_not_matter(name, batch, data):
    y_true, y_pred = batch
    classes = y_pred.shape[-1]
    order = np.array(data.draw(st.permutations(range(classes))))
    weights = np.linspace(0.5, 2, classes)
    renamed = np.append(np.argsort(order), np.full(256 - classes, 255))[y_true]
    np.testing.assert_allclose(
        values_of(name, renamed, y_pred[..., order], class_weights=weights[order]),
        values_of(name, y_true, y_pred, class_weights=weights),
        rtol=1e-9,
        atol=1e-15,
    )


@every_function
@few
@given(batch=batches(), data=st.data())
def test_mirroring_does_not_matter_nor_the_order_of_images(name, batch, data):
    y_true, y_pred = batch
    images = np.array(data.draw(st.permutations(range(len(y_true)))))
    np.testing.assert_allclose(
        values_of(name, y_true[images, :, ::-1], y_pred[images, :, ::-1]),
        values_of(name, y_true, y_pred)[images],
        rtol=1e-9,
        atol=1e-15,
    )


@every_function
@few
@given(batch=batches(), shift=st.floats(-50, 50))
def test_a_constant_added_to_the_logits_changes_nothing(name, batch, shift):
    y_true, y_pred = batch
    np.testing.assert_allclose(
        values_of(name, y_true, y_pred + shift),
        values_of(name, y_true, y_pred),
        rtol=1e-9,
        atol=1e-13,
    )


@few
@given(batch=batches(ignored=False))
def test_one_class_alone_relates_dice_and_jaccard(batch):
    y_true, y_pred = np.zeros_like(batch[0]), batch[1]
    dice, jaccard = values_of("dice", y_true, y_pred), values_of("jaccard", y_true, y_pred)
    np.testing.assert_allclose(1 - dice, 2 * (1 - jaccard) / (2 - jaccard), rtol=1e-9, atol=1e-15)


@few
@given(batch=batches())
def test_lovasz_of_hard_predictions_is_one_minus_the_iou_of_the_true_classes(batch):
    y_true, y_pred = batch
    classes = y_pred.shape[-1]
    predicted = y_pred.argmax(-1)
    hard = np.eye(classes)[predicted]
    values = losses.lovasz_softmax(y_true, hard, from_logits=False).numpy()
    for value, truth, prediction in zip(values, y_true, predicted, strict=True):
        confusion = scores.confusion_matrix(truth, prediction, classes, ignore_index=255)
        present = confusion.sum(axis=1) > 0
        expected = np.mean(1 - scores.iou_per_class(confusion)[present]) if present.any() else 0
        np.testing.assert_allclose(value, expected, atol=1e-12)


@few
@given(batch=batches(), mix=st.floats(0, 1))
def test_lovasz_is_convex_in_the_probabilities(batch, mix):
    y_true, y_pred = batch
    a = np.exp(y_pred - y_pred.max(-1, keepdims=True))
    a /= a.sum(-1, keepdims=True)
    b = a[..., ::-1]
    between, at_a, at_b = (
        losses.lovasz_softmax(y_true, p, from_logits=False).numpy()
        for p in (mix * a + (1 - mix) * b, a, b)
    )
    assert np.all(between <= mix * at_a + (1 - mix) * at_b + 1e-12)


@few
@given(
    counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any),
    power=st.floats(0, 1),
)
def test_balanced_weights_keep_the_mean_and_favour_the_rare(counts, power):
    weights = losses.balanced_class_weights(counts, power=power)
    np.testing.assert_allclose(np.dot(weights, counts), sum(counts), rtol=1e-9)
    assert np.all(weights > 0)
    order = np.argsort(counts)
    assert np.all(np.diff(weights[order]) <= 1e-9 * weights.max())
