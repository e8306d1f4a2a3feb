"""Laws of run-length masks, against plain arrays and against pycocotools."""

import copy
import json
import pickle

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as pycocotools

from deeplab_fashion.rle import (
    RunLengthMask,
    coco_to_mask,
    iou_matrix,
    kaggle_to_mask,
    mask_to_coco,
    mask_to_kaggle,
    paint_labels,
)

laws = settings(deadline=None, derandomize=True, max_examples=150)

SIDES = st.integers(0, 9)
SIZES = st.tuples(SIDES, SIDES)


@st.composite
def pictures(draw, size=SIZES):
    """Draw a bool array: noise of any density, or a box, which noise never gives."""
    height, width = draw(size) if isinstance(size, st.SearchStrategy) else size
    mask = np.zeros((height, width), bool)
    if draw(st.booleans()):
        top, left = draw(st.integers(0, height)), draw(st.integers(0, width))
        mask[top : draw(st.integers(top, height)), left : draw(st.integers(left, width))] = True
        return mask
    share = draw(st.sampled_from([0.05, 0.5, 0.95, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 2**32))).random((height, width)) < share


@st.composite
def groups(draw, least=1, most=4):
    size = draw(SIZES)
    return [draw(pictures(size)) for _ in range(draw(st.integers(least, most)))]


def encode(mask):
    return RunLengthMask.from_mask(mask)


def sampled(array, size):
    """Return the pixels of ``array`` under the pixel centres of a grid of another size."""
    rows, columns = (
        [(2 * place + 1) * old // (2 * new) for place in range(new)]
        for old, new in zip(array.shape, size, strict=True)
    )
    return array[np.ix_(rows, columns)] if rows and columns else np.zeros(size, array.dtype)


@laws
@given(pictures())
def test_every_form_returns_the_same_mask(mask):
    region = encode(mask)
    assert np.array_equal(region.to_mask(), mask)
    assert region.to_mask().dtype == bool
    assert np.array_equal(kaggle_to_mask(mask_to_kaggle(mask), mask.shape), mask)
    for compressed in (True, False):
        obj = mask_to_coco(mask, compressed=compressed)
        assert json.loads(json.dumps(obj)) == obj
        assert np.array_equal(coco_to_mask(obj), mask)
        assert RunLengthMask.from_coco(obj) == region
    assert RunLengthMask.from_kaggle(region.to_kaggle(), mask.shape) == region
    assert RunLengthMask(mask.shape, region.starts, region.lengths) == region


@laws
@given(pictures())
def test_runs_are_sorted_disjoint_non_empty_and_maximal(mask):
    region = encode(mask)
    stops = region.starts + region.lengths
    assert (region.lengths >= 1).all()
    assert (region.starts[1:] > stops[:-1]).all()
    inside = [pixel for a, b in zip(region.starts, stops, strict=True) for pixel in range(a, b)]
    assert np.array_equal(np.flatnonzero(mask.ravel(order="F")), inside)


@laws
@given(pictures())
def test_pycocotools_writes_what_we_write_and_reads_what_we_write(mask):
    theirs = pycocotools.encode(np.asfortranarray(mask, np.uint8))
    ours = mask_to_coco(mask)
    assert ours == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    assert np.array_equal(pycocotools.decode(ours), mask)
    assert np.array_equal(coco_to_mask(theirs), mask)
    counts = mask_to_coco(mask, compressed=False)
    if mask.size:
        from_list = pycocotools.frPyObjects(counts, *mask.shape)
        assert from_list["counts"] == theirs["counts"]


@laws
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int8, np.int16, np.uint32, np.int64, np.uint64]),
        SIZES,
        elements=st.sampled_from([0, 1, 2, 100]),
    ),
    st.sampled_from("CF"),
    st.booleans(),
)
def test_any_integer_type_and_memory_order_means_not_zero(values, order, cut):
    array = np.array(values, order=order)
    if cut:
        array = array[::-1, ::2]
    assert np.array_equal(encode(array).to_mask(), array != 0)


@laws
@given(groups(2, 2))
def test_operators_are_those_of_arrays(masks):
    (a, b), (p, q) = masks, [encode(mask) for mask in masks]
    for ours, arrays in ((p | q, a | b), (p & q, a & b), (p - q, a & ~b), (p ^ q, a ^ b), (~p, ~a)):
        assert ours == encode(arrays)


@laws
@given(groups(3, 3))
def test_algebra(masks):
    p, q, r = (encode(mask) for mask in masks)
    assert ~(p | q) == ~p & ~q
    assert ~(p & q) == ~p | ~q
    assert ~~p == p
    assert p | q == q | p
    assert p & q == q & p
    assert p ^ q == q ^ p
    assert (p | q) | r == p | (q | r)
    assert p & (q | r) == (p & q) | (p & r)
    assert p ^ q == (p | q) - (p & q)
    assert p - q == p & ~q
    assert (p | q).area + (p & q).area == p.area + q.area
    assert p.area + (~p).area == p.size[0] * p.size[1]
    assert p.union(q, r) == p | q | r
    assert p.intersection(q, r) == p & q & r
    assert p.union() == p.intersection() == p


@laws
@given(groups(2, 2))
def test_equal_masks_are_equal_values_and_others_are_not(masks):
    (a, b), (p, q) = masks, [encode(mask) for mask in masks]
    assert (p == q) == np.array_equal(a, b)
    twins = [pickle.loads(pickle.dumps(p)), copy.copy(p), copy.deepcopy(p)]
    for twin in twins:
        assert twin == p
        assert hash(twin) == hash(p)


@laws
@given(pictures())
def test_area_and_box(mask):
    region = encode(mask)
    assert region.area == mask.sum()
    if mask.any():
        rows, columns = np.nonzero(mask)
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert region.bbox == box
    else:
        assert region.bbox == (0, 0, 0, 0)


@laws
@given(groups(0, 12), st.integers(0, 12))
def test_iou_is_symmetric_and_that_of_arrays_and_pycocotools(masks, cut):
    regions = [encode(mask) for mask in masks]
    first, second = regions[:cut], regions[cut:]
    matrix = iou_matrix(first, second)
    assert matrix.shape == (len(first), len(second))
    assert np.array_equal(matrix, iou_matrix(second, first).T, equal_nan=True)
    for row, (a, p) in enumerate(zip(masks[:cut], first, strict=True)):
        for column, (b, q) in enumerate(zip(masks[cut:], second, strict=True)):
            union = (a | b).sum()
            expected = (a & b).sum() / union if union else np.nan
            assert np.array_equal(matrix[row, column], expected, equal_nan=True)
            assert np.array_equal(p.iou(q), expected, equal_nan=True)
    if first and second and masks[0].size:
        theirs = pycocotools.iou(
            [region.to_coco() for region in first],
            [region.to_coco() for region in second],
            [False] * len(second),
        )
        assert np.allclose(np.nan_to_num(matrix), theirs, rtol=0, atol=1e-12)


@laws
@given(pictures(), st.tuples(st.integers(0, 25), st.integers(0, 25)))
def test_resize_takes_the_pixel_under_each_centre(mask, size):
    assume(mask.size or not size[0] * size[1])
    region = encode(mask).resize(size)
    assert region == encode(sampled(mask, size))
    assert encode(mask).resize(mask.shape) == encode(mask)


@laws
@given(
    groups(1, 6),
    st.lists(st.integers(0, 255), min_size=6, max_size=6),
    st.one_of(st.none(), st.tuples(st.integers(0, 25), st.integers(0, 25))),
)
def test_painting_is_painting_every_mask_and_sampling(masks, labels, output_size):
    size = masks[0].shape
    assume(output_size is None or masks[0].size or not output_size[0] * output_size[1])
    labels = labels[: len(masks)]
    regions = [encode(mask) for mask in masks]
    last, maximum, smallest = (np.zeros(size, np.uint8) for _ in range(3))
    area = np.full(size, np.iinfo(np.int64).max)
    for mask, label in zip(masks, labels, strict=True):
        last[mask] = label
        maximum[mask] = np.maximum(maximum[mask], label)
        smaller = mask & (mask.sum() <= area)
        smallest[smaller] = label
        area[smaller] = mask.sum()
    wanted = output_size or size
    for overlap, full in (("last", last), ("maximum", maximum), ("smallest", smallest)):
        painted = paint_labels(regions, labels, output_size=output_size, overlap=overlap)
        assert painted.dtype == np.uint8
        assert np.array_equal(painted, sampled(full, wanted) if output_size else full)


@settings(laws, max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(["last", "maximum", "smallest"]))
def test_painting_of_many_regions(seed, overlap):
    random = np.random.default_rng(seed)
    masks = random.random((120, 6, 7)) < 0.1
    labels = random.integers(0, 60_000, 120)
    order = {
        "last": np.arange(120),
        "maximum": np.argsort(labels, kind="stable"),
        "smallest": np.argsort(-masks.sum((1, 2)), kind="stable"),
    }[overlap]
    expected = np.zeros((6, 7), np.uint16)
    for number in order:
        expected[masks[number]] = labels[number]
    regions = [encode(mask) for mask in masks]
    painted = paint_labels(regions, labels, overlap=overlap, dtype=np.uint16)
    assert np.array_equal(painted, expected)


@st.composite
def figures(draw):
    """Draw a polygon on a grid of quarters, so that vertices and edges meet pixel centres."""
    points = draw(st.lists(st.tuples(*[st.integers(-8, 44)] * 2), min_size=3, max_size=9))
    return [value / 4 for point in points for value in point]


def crossed(part, x, y):
    """Tell by the even-odd rule whether a point lies inside: count the edges above it."""
    points = list(zip(part[0::2], part[1::2], strict=True))
    inside = False
    for a, b in zip(points, points[1:] + points[:1], strict=True):
        (x0, y0), (x1, y1) = sorted((a, b))
        if x0 <= x < x1 and y0 + (x - x0) * (y1 - y0) / (x1 - x0) <= y:
            inside = not inside
    return inside


@laws
@given(st.lists(figures(), max_size=3), SIZES)
def test_polygons_hold_the_centres_inside_any_part(parts, size):
    expected = [
        [any(crossed(part, column + 0.5, row + 0.5) for part in parts) for column in range(size[1])]
        for row in range(size[0])
    ]
    region = RunLengthMask.from_polygons(parts, size)
    assert np.array_equal(region.to_mask(), np.array(expected, bool).reshape(size))


@laws
@given(st.lists(figures(), min_size=1, max_size=1), st.integers(-8, 44))
def test_polygons_cut_in_two_neither_overlap_nor_leave_a_gap(parts, quarter):
    size, (part,) = (9, 9), parts
    points = list(zip(part[0::2], part[1::2], strict=True))
    # Any point p splits a polygon into two by the chain first - p - middle, in the even-odd sense.
    p, middle = (quarter / 4, 3.25), len(points) // 2
    one = [*points[: middle + 1], p]
    other = [*points[middle:], points[0], p]
    halves = [
        RunLengthMask.from_polygons([[value for point in half for value in point]], size)
        for half in (one, other)
    ]
    assert halves[0] ^ halves[1] == RunLengthMask.from_polygons(parts, size)
