import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label as label_image

from deeplab_fashion.regions import find_regions, remove_specks
from deeplab_fashion.rle import polygons_to_mask

NAMES = ("background", "coat", "shoe")


@st.composite
def label_maps(draw):
    small = draw(
        hnp.arrays(
            np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)
        )
    )
    zoom = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return np.kron(small, np.ones(zoom, np.uint8))


@settings(max_examples=60, deadline=None)
@given(label_maps())
def test_regions_are_exactly_the_connected_pieces(labels):
    covered = np.zeros_like(labels)
    regions = find_regions(labels, NAMES)
    for region in regions:
        mask = region.mask.to_mask()
        assert not covered[mask].any()
        covered[mask] = region.label
        assert label_image(mask, connectivity=2).max() == 1
        assert region.area == mask.sum()
    np.testing.assert_array_equal(covered, labels)
    pieces = sum(label_image(labels == value, connectivity=2).max() for value in (1, 2))
    assert len(regions) == pieces


@settings(max_examples=60, deadline=None)
@given(label_maps())
def test_polygons_give_back_exactly_the_region(labels):
    for region in find_regions(labels, NAMES):
        np.testing.assert_array_equal(
            polygons_to_mask(region.polygons(), labels.shape), region.mask.to_mask()
        )


@settings(max_examples=60, deadline=None)
@given(label_maps(), st.integers(2, 12))
def test_no_speck_remains_and_cleaning_twice_changes_nothing(labels, min_area):
    clean = remove_specks(labels, min_area)
    areas = [
        int((pieces == number).sum())
        for value in range(3)
        for pieces in [label_image(clean == value, connectivity=2)]
        for number in range(1, pieces.max() + 1)
    ]
    assert len(areas) == 1 or min(areas) >= min_area
    np.testing.assert_array_equal(remove_specks(clean, min_area), clean)
