import numpy as np
import pytest

from deeplab_fashion import regions
from deeplab_fashion.regions import find_regions, remove_specks

NAMES = ("background", "coat", "shoe")


def test_pieces_of_a_class_are_told_apart_and_ordered_by_area():
    labels = np.array(
        [
            [1, 1, 0, 2],
            [1, 0, 0, 2],
            [0, 0, 0, 0],
            [2, 0, 1, 0],
        ]
    )
    found = [(r.class_name, r.label, r.area, r.bbox) for r in find_regions(labels, NAMES)]
    assert found == [
        ("coat", 1, 3, (0, 0, 2, 2)),
        ("shoe", 2, 2, (0, 3, 2, 4)),
        ("shoe", 2, 1, (3, 0, 4, 1)),
        ("coat", 1, 1, (3, 2, 4, 3)),
    ]


def test_corners_connect_and_columns_do_not_run_into_each_other():
    assert len(find_regions(np.array([[1, 0], [0, 1]]), NAMES)) == 1
    # The last pixel of one column and the first of the next are neighbours in memory alone.
    assert len(find_regions(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]]), NAMES)) == 2
    assert len(find_regions(np.array([[0, 1], [0, 0], [1, 0]]), NAMES)) == 2


def test_score_is_the_mean_confidence():
    labels = np.array([[1, 1, 0, 2]])
    confidence = np.array([[255, 51, 255, 102]], np.uint8)
    scores = [region.score for region in find_regions(labels, NAMES, confidence=confidence)]
    assert scores == pytest.approx([0.6, 0.4])


def test_scores_do_not_depend_on_how_much_is_summed_at_once(monkeypatch):
    random = np.random.default_rng(0)
    labels = np.kron(random.integers(0, 3, (20, 20)), np.ones((5, 3), int))
    confidence = random.integers(0, 256, labels.shape, np.uint8)
    whole = find_regions(labels, NAMES, confidence=confidence)
    for region in whole:
        assert region.score == pytest.approx(confidence[region.mask.to_mask()].mean() / 255)
    for chunk in (1, 7, 100):
        monkeypatch.setattr(regions, "_CHUNK", chunk)
        assert find_regions(labels, NAMES, confidence=confidence) == whole


def test_labels_without_a_name_and_empty_maps_have_no_regions():
    assert find_regions(np.array([[255, 0]]), NAMES) == ()
    assert find_regions(np.zeros((0, 5), np.uint8), NAMES) == ()


def test_confidence_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"got \(2, 2\) and \(2, 3\)"):
        find_regions(np.zeros((2, 2), int), NAMES, confidence=np.zeros((2, 3), np.uint8))


def test_a_speck_takes_the_label_that_surrounds_it_most():
    labels = np.ones((7, 7), np.uint8)
    labels[:, 4:] = 2
    labels[3, 3] = 0  # three of its sides are coat
    labels[5, 5] = 1  # within the shoe
    expected = np.ones((7, 7), np.uint8)
    expected[:, 4:] = 2
    np.testing.assert_array_equal(remove_specks(labels, 2), expected)
    np.testing.assert_array_equal(remove_specks(labels, 1), labels)


def test_specks_within_specks_join_what_is_around_both():
    labels = np.ones((9, 9), np.uint8)
    labels[3:6, 3:6] = 2
    labels[4, 4] = 0
    np.testing.assert_array_equal(remove_specks(labels, 10), np.ones((9, 9)))


def test_negative_min_area_is_refused():
    with pytest.raises(ValueError, match="at least 0, got -1"):
        remove_specks(np.zeros((2, 2), np.uint8), -1)


def test_a_hole_survives_in_the_polygon_and_tolerance_simplifies():
    labels = np.zeros((60, 60), np.uint8)
    rows, columns = np.ogrid[:60, :60]
    radius = np.hypot(rows - 30, columns - 28)
    labels[(radius < 25) & (radius > 10)] = 1
    (ring,) = find_regions(labels, NAMES)
    from deeplab_fashion.rle import polygons_to_mask

    np.testing.assert_array_equal(polygons_to_mask(ring.polygons(), (60, 60)), labels == 1)
    with pytest.raises(ValueError, match="tolerance must be at least 0, got -1"):
        ring.polygons(tolerance=-1)
    simple = ring.polygons(tolerance=1.0)
    assert len(simple[0]) < len(ring.polygons()[0]) / 3
    differing = (polygons_to_mask(simple, (60, 60)) != (labels == 1)).mean()
    assert differing < 0.03
