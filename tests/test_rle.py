"""Run-length masks: numbers worked by hand, what is refused and why, sizes beyond memory."""

import contextlib
import copy
import inspect
import json
import pickle
import random
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as pycocotools
from skimage.draw import polygon as skimage_polygon

from deeplab_fashion import rle
from deeplab_fashion.errors import RleFormatError, RleTypeError
from deeplab_fashion.rle import (
    RunLengthMask,
    coco_to_mask,
    iou_matrix,
    kaggle_to_mask,
    mask_to_coco,
    mask_to_kaggle,
    paint_labels,
    polygons_to_mask,
)

#   column-major numbers   0 3 6
#   of a 3 x 3 image:      1 4 7
#                          2 5 8
HOOK = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 1]], bool)
HUGE = (3_000_000_000, 2_000_000_000)  # 6e18 pixels, close to what 64 bits hold


@contextlib.contextmanager
def peak_memory(*, below):
    """Check that no more bytes than this are held at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < below
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------ by hand


def test_kaggle_text_counts_from_one_down_the_columns():
    assert mask_to_kaggle(HOOK) == "2 4 9 1"
    assert np.array_equal(kaggle_to_mask("2 4 9 1", (3, 3)), HOOK)
    assert mask_to_kaggle(np.zeros((3, 3), bool)) == ""
    assert not kaggle_to_mask("", (3, 3)).any()


def test_coco_counts_begin_outside():
    assert mask_to_coco(HOOK, compressed=False) == {"size": [3, 3], "counts": [1, 4, 3, 1]}
    assert mask_to_coco(HOOK)["counts"] == "143M"  # the fourth is written as 1 - 4
    for counts in ([1, 4, 3, 1], (1, 4, 3, 1), np.array([1, 4, 3, 1], np.uint8), "143M", b"143M"):
        assert np.array_equal(coco_to_mask({"size": [3, 3], "counts": counts}), HOOK)
    assert mask_to_coco(HOOK[:, :1], compressed=False)["counts"] == [1, 2]
    assert mask_to_coco(~HOOK[1:, :1], compressed=False)["counts"] == [2]


def test_runs_box_and_area():
    region = RunLengthMask.from_mask(HOOK)
    assert region.size == (3, 3)
    assert region.starts.tolist() == [1, 8]
    assert region.lengths.tolist() == [4, 1]
    assert region.area == 5
    assert region.bbox == (0, 0, 3, 3)
    assert RunLengthMask((3, 3), [4], [1]).bbox == (1, 1, 2, 2)
    assert RunLengthMask((3, 3), [5], [2]).bbox == (0, 1, 3, 3)
    assert RunLengthMask((3, 3), [], []).bbox == (0, 0, 0, 0)
    assert repr(region) == "<RunLengthMask size=(3, 3) runs=2 area=5>"


def test_iou_by_hand_and_nan_where_both_are_empty():
    region, column = RunLengthMask.from_mask(HOOK), RunLengthMask((3, 3), [0], [3])
    assert region.iou(column) == 2 / 6
    empty = RunLengthMask((3, 3), [], [])
    assert empty.iou(column) == 0
    assert np.isnan(empty.iou(empty))
    matrix = iou_matrix([region, empty], [column, empty, region])
    assert np.array_equal(matrix, [[1 / 3, 0, 1], [0, np.nan, 0]], equal_nan=True)
    assert iou_matrix([], [region]).shape == (0, 1)
    assert iou_matrix([region], []).shape == (1, 0)


def test_resize_by_hand():
    region = RunLengthMask.from_mask(HOOK)
    assert np.array_equal(region.resize((6, 3)).to_mask(), HOOK.repeat(2, axis=0))
    assert np.array_equal(region.resize((3, 9)).to_mask(), HOOK.repeat(3, axis=1))
    assert np.array_equal(region.resize((1, 1)).to_mask(), HOOK[1:2, 1:2])
    # Of 3 pixels, the centres 0.75 and 2.25 of a grid of 2 lie in the first and the last.
    assert np.array_equal(region.resize((2, 2)).to_mask(), HOOK[::2, ::2])


def test_overlaps_are_settled_by_the_rule_asked_for():
    large, middle, small = (
        RunLengthMask((1, 6), start, length)
        for start, length in (([0], [5]), ([1], [4]), ([2], [2]))
    )
    regions, labels = [middle, large, small], [9, 1, 4]
    painted = {
        rule: paint_labels(regions, labels, overlap=rule).tolist()
        for rule in ("last", "maximum", "smallest")
    }
    assert painted == {
        "last": [[1, 1, 4, 4, 1, 0]],
        "maximum": [[1, 9, 9, 9, 9, 0]],
        "smallest": [[1, 9, 4, 4, 9, 0]],
    }
    twins = [RunLengthMask((1, 2), [0], [1])] * 2
    assert paint_labels(twins, [5, 3], overlap="smallest").tolist() == [[3, 0]]
    assert paint_labels(twins, [5, 0]).tolist() == [[0, 0]]


def test_any_number_of_regions_is_painted():
    count = 300
    pixels = [RunLengthMask((1, count), [place], [2]) for place in range(count - 1)]
    painted = paint_labels(pixels, range(1, count), dtype=np.uint16)
    assert painted.tolist() == [[*range(1, count), count - 1]]
    everything = RunLengthMask((1, count), [0], [count])
    assert (paint_labels([*pixels, everything], [7] * count) == 7).all()
    assert (paint_labels([everything, *pixels], [1] * count, overlap="smallest") == 1).all()


def test_painting_has_the_size_and_dtype_asked_for():
    region = RunLengthMask.from_mask(HOOK)
    assert paint_labels([], [], size=(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert paint_labels([], [], size=(2, 3), output_size=(1, 4)).shape == (1, 4)
    assert paint_labels([region], [1], size=(3, 3), output_size=(0, 5)).shape == (0, 5)
    painted = paint_labels(iter([region]), iter([70_000]), dtype=np.int32)
    assert painted.dtype == np.int32
    assert painted[1, 1] == 70_000
    assert np.array_equal(paint_labels([region], [np.uint8(7)]), HOOK * 7)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_images_of_no_pixel(size):
    region = RunLengthMask.from_mask(np.zeros(size, bool))
    assert region.to_mask().shape == size
    assert region == ~region == region | region == region.resize(size)
    assert kaggle_to_mask("", size).shape == size
    for counts in ([], [0], "", "0", b"0"):
        assert coco_to_mask({"size": list(size), "counts": counts}).shape == size
    assert mask_to_coco(np.zeros(size, bool)) == {"size": list(size), "counts": "0"}
    assert polygons_to_mask([[0, 0, 4, 0, 4, 4]], size).shape == size
    assert paint_labels([region], [1]).shape == size
    assert np.isnan(region.iou(region))
    with pytest.raises(RleFormatError, match="no pixel to sample"):
        region.resize((1, 1))
    with pytest.raises(RleFormatError, match="no pixel to sample"):
        paint_labels([region], [1], output_size=(1, 1))


def test_masks_of_any_type_and_order():
    strided = np.zeros((6, 9), np.int16)
    strided[::2, ::3] = HOOK * -5
    for mask in (
        HOOK.tolist(),
        np.asfortranarray(HOOK),
        strided[::2, ::3],
        HOOK.astype(np.uint8) * 2,
        HOOK.astype(">i4") * 256,
        HOOK.astype(np.uint64) << 63,
    ):
        assert mask_to_kaggle(mask) == "2 4 9 1"
    # 1, 2 and 255 are all inside: no run ends between them.
    assert mask_to_kaggle(np.array([[1], [2], [255], [0]], np.uint8)) == "1 3"
    wide = np.arange(4 * 33).reshape(4, 33) % 5 > 1
    assert np.array_equal(kaggle_to_mask(mask_to_kaggle(wide), wide.shape), wide)


def test_results_are_of_plain_types_in_fortran_order():
    mask = kaggle_to_mask("2 4 9 1", (3, 3))
    assert mask.dtype == bool
    assert mask.flags.f_contiguous
    assert mask.flags.writeable
    for obj in (mask_to_coco(HOOK), mask_to_coco(HOOK, compressed=False)):
        assert json.loads(json.dumps(obj)) == obj
        assert {type(value) for value in obj["size"]} == {int}


# ------------------------------------------------------------------- a frozen value


def test_a_region_cannot_be_changed():
    region = RunLengthMask.from_mask(HOOK)
    with pytest.raises(AttributeError, match="immutable"):
        region.size = (1, 1)
    with pytest.raises(AttributeError, match="immutable"):
        del region._edges
    for array in (region.starts, region.lengths):
        assert array.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_region_does_not_follow_the_arrays_it_was_made_of():
    starts, lengths = np.array([1, 8]), np.array([4, 1])
    region = RunLengthMask((3, 3), starts, lengths)
    counts = np.array([1, 4, 3, 1])
    other = RunLengthMask.from_coco({"size": [3, 3], "counts": counts})
    starts[:] = lengths[:] = counts[:] = 0
    assert region == other == RunLengthMask.from_mask(HOOK)


def test_a_region_is_compared_hashed_and_copied_by_value():
    region = RunLengthMask.from_mask(HOOK)
    twin = RunLengthMask((3, 3), [1, 3, 8], [2, 2, 1])  # runs that touch are one run
    assert region == twin
    assert len({region, twin, ~region}) == 2
    assert region != RunLengthMask((9, 1), [1, 8], [4, 1])
    assert region != "2 4 9 1"
    for same in (copy.copy(region), copy.deepcopy(region), pickle.loads(pickle.dumps(region))):
        assert same == region
        assert not same.starts.flags.writeable


def test_operators_take_regions_alone():
    region = RunLengthMask.from_mask(HOOK)
    for operate in (region.__or__, region.__and__, region.__sub__, region.__xor__):
        assert operate(HOOK) is NotImplemented
    with pytest.raises(TypeError):
        region | 3
    with pytest.raises(RleTypeError, match="RunLengthMask"):
        region.union(HOOK)
    other = RunLengthMask((3, 4), [], [])
    for combine in (
        lambda: region | other,
        lambda: region ^ other,
        lambda: region - other,
        lambda: region.iou(other),
        lambda: iou_matrix([region], [other]),
        lambda: paint_labels([region, other], [1, 2]),
    ):
        with pytest.raises(RleFormatError, match=r"\(3, 3\).*\(3, 4\)"):
            combine()


# ----------------------------------------------------------- sizes beyond any memory


def test_runs_of_huge_images_are_worked_on_without_their_pixels():
    height, width = HUGE
    pixels = height * width
    text = f"1 5 {2**40} {2**35} {pixels} 1"
    with peak_memory(below=2_000_000):
        region = RunLengthMask.from_kaggle(text, HUGE)
        assert region.to_kaggle() == text
        for compressed in (True, False):
            assert RunLengthMask.from_coco(region.to_coco(compressed)) == region
        assert region.area == 2**35 + 6
        assert (~region).area == pixels - 2**35 - 6
        assert region.bbox == (0, 0, height, width)
        assert region ^ region == region & ~region == RunLengthMask(HUGE, [], [])
        assert region.iou(region) == 1
        assert iou_matrix([region], [region, ~region]).tolist() == [[1, 0]]
        small = region.resize((300, 200))
        assert small == RunLengthMask.from_mask(paint_labels([region], [1], output_size=(300, 200)))
        half = RunLengthMask(HUGE, [2**59], [2**59])
        assert iou_matrix([half], [RunLengthMask(HUGE, [0], [2**60])]).tolist() == [[0.5]]
        everything = RunLengthMask(HUGE, [0], [pixels])
        assert everything.resize(HUGE) == everything
        assert everything.resize((7, 5)).area == 35


def test_a_huge_resize_counts_exactly():
    region = RunLengthMask((1, 3_037_000_493), [1_518_500_246], [1])  # the one in the middle
    assert region.resize((1, 3_037_000_499)).starts.tolist() == [1_518_500_249]
    # The centre of all lies on the edge between two pixels, and counts to the lower one.
    column = (2**62, 1)
    assert RunLengthMask(column, [0], [2**61]).resize((1, 1)).area == 0
    assert RunLengthMask(column, [2**61], [1]).resize((1, 1)).area == 1


def test_pycocotools_agrees_beyond_16_bits_of_groups():
    size = (60_000, 60_000)
    counts = [1_200_000_000, 7, 1_000_000_000, 3, 3_600_000_000 - 2_200_000_010]
    theirs = pycocotools.frPyObjects({"size": list(size), "counts": counts}, *size)
    assert RunLengthMask.from_coco(theirs).to_coco(False)["counts"] == counts
    assert RunLengthMask.from_coco(theirs).to_coco()["counts"].encode() == theirs["counts"]


def test_no_array_follows_a_size_that_the_data_made_up():
    with peak_memory(below=1_000_000):
        bomb = {"size": [2**20, 2**20], "counts": [2**40]}
        for build in (
            lambda: coco_to_mask(bomb),
            lambda: kaggle_to_mask("", (2**20, 2**20)),
            lambda: polygons_to_mask([], (2**31, 2**31)),
            lambda: paint_labels([RunLengthMask.from_coco(bomb)], [1]),
            lambda: polygons_to_mask([[0, 0, 1e12, 0, 0, 1e6]], (2**20, 2**40)),
            lambda: RunLengthMask((2, 2), [0], [1]).resize((2**30, 2**30)),
        ):
            with pytest.raises(RleFormatError):
                build()
    with pytest.raises(RleFormatError, match=r"\(3, 3\) has 9 pixels, more than max_pixels=8"):
        RunLengthMask((3, 3), [], []).to_mask(max_pixels=8)
    assert RunLengthMask((3, 3), [], []).to_mask(max_pixels=9).shape == (3, 3)


def test_painting_a_large_photo_takes_little_memory():
    size = (2400, 3600)
    texts = []
    for turn in range(8):
        column = np.arange(100 * turn, 100 * turn + 2500)
        starts = column * size[0] + 200 + (column * 7919) % 61
        texts.append(RunLengthMask(size, starts, 900 + column % 977).to_kaggle())
    with peak_memory(below=4_000_000):
        regions = [RunLengthMask.from_kaggle(text, size) for text in texts]
        paint_labels(regions, range(1, 9), output_size=(256, 256))


# ------------------------------------------------------------------------- polygons


def test_polygons_hold_pixel_centres():
    box = [1, 1, 3, 1, 3, 4, 1, 4]
    expected = np.zeros((5, 6), bool)
    expected[1:4, 1:3] = True
    assert np.array_equal(polygons_to_mask([box], (5, 6)), expected)
    # A centre on the left or upper edge is inside, on the right or lower edge outside.
    half = [0.5, 0.5, 2.5, 0.5, 2.5, 1.5, 0.5, 1.5]
    assert RunLengthMask.from_polygons([half], (3, 3)).to_kaggle() == "1 1 4 1"
    beyond = [-50, -50, 50, -50, 50, 50, -50, 50]
    assert polygons_to_mask([beyond], (4, 4)).all()


def test_polygons_are_even_odd_in_a_part_and_united_between_parts():
    bow = [0, 0, 6, 6, 6, 0, 0, 6]
    twice = [0, 0, 4, 0, 4, 4, 0, 4, 0, 0, 4, 0, 4, 4, 0, 4]
    assert not polygons_to_mask([twice], (4, 4)).any()
    assert polygons_to_mask([bow], (6, 6)).sum() == 18
    box = [0, 0, 4, 0, 4, 4, 0, 4]
    assert polygons_to_mask([box, box], (4, 4)).all()
    assert not polygons_to_mask([], (4, 4)).any()


def test_polygons_agree_with_skimage_and_pycocotools_but_for_the_outline():
    random = np.random.default_rng(3)
    for _ in range(20):
        size = (120, 150)
        angle = np.sort(random.uniform(0, 2 * np.pi, 24))
        radius = random.uniform(15, 55, 24)
        x, y = 75 + radius * np.cos(angle), 60 + radius * np.sin(angle)
        part = np.column_stack((x, y)).ravel()
        ours = polygons_to_mask([part], size)
        theirs = np.zeros(size, bool)
        theirs[skimage_polygon(y - 0.5, x - 0.5, size)] = True
        assert (ours != theirs).sum() <= 2  # centres on an edge, up to rounding
        # pycocotools rounds vertices to a fifth of a pixel and walks the edges in whole steps.
        coarse = pycocotools.decode(pycocotools.frPyObjects([part.tolist()], *size))[..., 0]
        assert (ours != coarse).sum() < 0.02 * ours.sum()


# -------------------------------------------------------------- what is refused, and why


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1", "run 1 has no length"),
        ("1 2 5", "run 2 has no length"),
        ("0 2", "run 1: start must be at least 1 .* got '0'"),
        ("1 0", "run 1: length must be at least 1 .* got '0'"),
        ("1 2 7 0", "run 2: length"),
        ("01 2", "without leading zeros; got '01'"),
        ("5 2 1 2", "run 2 of 2 must come after the run before it, which starts at 5; got start 1"),
        ("1 4 3 2", "run 2 of 2 must not overlap the run before it, which ends before 5; got st"),
        ("8 3", "run 1 of 1 must end within the 9 pixels of size .3, 3.; got start 8, length 3"),
        ("10 1", "must end within the 9 pixels"),
        ("1 99999999999999999999999", "must end within the 9 pixels"),
        ("99999999999999999999999 1", "must end within the 9 pixels"),
        ("9223372036854775807 9223372036854775807", "must end within the 9 pixels"),
        ("-1 2", "digits and spaces alone; got '-' at character 1"),
        ("1 +2", "got '\\+' at character 3"),
        ("1.0 2", "got '\\.' at character 2"),
        ("1 2_0", "got '_' at character 4"),
        ("1 ٣", "got '٣' at character 3"),
        ("1 2\n", r"got '\\n' at character 4"),
        ("1\t2", r"got '\\t'"),
        ("1,2", "got ','"),
        ("nan", "got 'n' at character 1"),
        ("1 2 \x00", r"got '\\x00'"),
        ("\ud800", r"got '\\ud800'"),
    ],
)
def test_kaggle_text_that_is_refused(text, reason):
    with pytest.raises(RleFormatError, match=reason):
        kaggle_to_mask(text, (3, 3))


@pytest.mark.parametrize("text", [None, float("nan"), 5, b"1 2", ["1 2"], np.array([1, 2])])
def test_kaggle_text_of_another_type(text):
    with pytest.raises(RleTypeError, match="text must be str"):
        kaggle_to_mask(text, (3, 3))
    with pytest.raises(TypeError):
        kaggle_to_mask(text, (3, 3))


def test_spaces_and_runs_that_touch_are_accepted():
    assert RunLengthMask.from_kaggle("  2   4 9 1 ", (3, 3)).to_kaggle() == "2 4 9 1"
    assert RunLengthMask.from_kaggle("2 1 3 3 9 1", (3, 3)).to_kaggle() == "2 4 9 1"
    assert RunLengthMask.from_kaggle("   ", (3, 3)).area == 0
    touching = RunLengthMask.from_coco({"size": [3, 3], "counts": [1, 2, 0, 2, 3, 1, 0]})
    assert touching.to_kaggle() == "2 4 9 1"


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([], "must sum to the 9 pixels of size .3, 3.; the 0 sum to 0"),
        ([1, 4, 3], "the 3 sum to 8"),
        ([1, 4, 3, 2], "count 4 of 4 must end within the 9 pixels of size .3, 3.; got 2"),
        ([1, 0, 8], "count 2 of 3 must be at least 1, being the length of a run; got 0"),
        ([1, -4, 12], "count 2 of 3 must be at least 0; got -4"),
        ([-1, 10], "count 1 of 2 must be at least 0; got -1"),
        ([2**63 - 1, 2**63 - 1, 11], "count 1 of 3 must end within"),
        ([2**64 + 9], "must fit 64 bits; got int 18446744073709551625"),
        (np.array([2**64 - 1], np.uint64), "must fit 64 bits"),
        ([[1, 8]], "number 1 of 1 is list"),
        (np.array([[1, 8]]), r"one dimension; got shape \(1, 2\)"),
        ([1.0, 8], "number 1 of 2 is float 1.0"),
        ([1, float("nan")], "number 2 of 2 is float nan"),
        ([True, 8], "number 1 of 2 is bool True"),
        ([1, "8"], "number 2 of 2 is str '8'"),
        (np.array([1.0, 8.0]), "dtype float64"),
        ({1: 8}, "list of integers; got dict"),
        (None, "list of integers; got NoneType"),
        (9, "list of integers; got int"),
        ("1 8", "got b' ' at byte 2"),
        ("18\n", r"got b'\\n' at byte 3"),
        ("9é", "at byte 2"),
        ("9\ud800", "at byte 2"),
        ("1p", "got b'p' at byte 2"),
        ("1X", "must end with a whole number"),
        (b"14", "sum to 5"),
        ("190", "count 2 of 3 must end within"),
        ("Y0", "count 1 of 1 must be written without needless characters .* got b'Y0'"),
        ("Y" + "P" * 11 + "0", "without needless"),
        ("X" * 40 + "1", "fit 64 bits; got b'XXXX"),
        ("P" * 12 + "8", "fit 64 bits"),
        ("P" * 12 + "7", "count 1 of 1 must end within"),
        ("P" * 12 + "G", "fit 64 bits"),
        ("P" * 12 + "H", "count 1 of 1 must be at least 0; got -9223372036854775808"),
        ("12Y03", "count 3 of 4 must be written without needless characters .* got b'Y0'$"),
        ("P" * 12 + "1", "count 1 of 1 must end within"),
        ("1O", "count 2 of 2 must be at least 0; got -1"),
        ("", "the 0 sum to 0"),
    ],
)
def test_coco_counts_that_are_refused(counts, reason):
    with pytest.raises(RleFormatError, match=reason):
        coco_to_mask({"size": [3, 3], "counts": counts})


@pytest.mark.parametrize(
    ("obj", "error", "reason"),
    [
        ({"size": [3, 3]}, RleFormatError, "must have the key 'counts'; got .'size'."),
        ({"counts": [9]}, RleFormatError, "must have the key 'size'"),
        ([9], RleTypeError, "must be a dict"),
        ("143M", RleTypeError, "must be a dict"),
        (None, RleTypeError, "must be a dict"),
    ],
)
def test_coco_objects_that_are_refused(obj, error, reason):
    with pytest.raises(error, match=reason):
        coco_to_mask(obj)


@pytest.mark.parametrize(
    "size",
    [(3,), (3, 3, 1), (-3, -3), (-1, 3), (3, -1), (3.0, 3), ("3", "3"), "33", None, 9, (True, 9),
     {3, 4}, (3, None),
     (2**32, 2**32), (2**70, 0), (float("nan"), 3), np.array([3.0, 3.0]), [[3], [3]]],
)  # fmt: skip
def test_sizes_that_are_refused(size):
    with pytest.raises(RleFormatError, match="size must be"):
        kaggle_to_mask("", size)
    with pytest.raises(RleFormatError, match="size must be"):
        coco_to_mask({"size": size, "counts": [9]})
    with pytest.raises(RleFormatError, match="size must be"):
        polygons_to_mask([], size)
    with pytest.raises(RleFormatError, match="size must be"):
        RunLengthMask(size, [], [])


def test_integers_too_long_to_be_written_are_refused():
    endless = 10**5000
    for build in (
        lambda: coco_to_mask({"size": [3, 3], "counts": [endless]}),
        lambda: coco_to_mask({"size": [endless, 3], "counts": [9]}),
        lambda: paint_labels([], [endless], size=(3, 3)),
        lambda: kaggle_to_mask("1 1" + "0" * 5000, (3, 3)),
    ):
        with pytest.raises(RleFormatError, match=r"got .*(too long to write|or more)"):
            build()


@pytest.mark.parametrize("length", [59, 60, 61, 100])
def test_a_message_shows_at_most_sixty_characters_of_a_value(length):
    with pytest.raises(RleTypeError) as caught:
        kaggle_to_mask(b"x" * (length - 3), (3, 3))
    shown = str(caught.value).partition("got bytes ")[2]
    whole = repr(b"x" * (length - 3))
    assert len(whole) == length
    assert shown == (whole if length <= 60 else whole[:57] + "...")


def test_numbers_of_numpy_are_accepted():
    starts, lengths = [np.int64(1), np.uint8(8)], [4, np.int32(1)]
    assert RunLengthMask((3, 3), starts, lengths) == RunLengthMask.from_mask(HOOK)
    with pytest.raises(RleTypeError, match="starts must be integers; number 2 of 2 is"):
        RunLengthMask((3, 3), [np.int64(1), np.float64(8)], lengths)


def test_sizes_of_numpy_are_accepted():
    assert kaggle_to_mask("", np.array([3, 4])).shape == (3, 4)
    assert RunLengthMask((np.int32(3), np.uint8(4)), [], []).size == (3, 4)


@pytest.mark.parametrize(
    ("starts", "lengths", "reason"),
    [
        ([0, 4], [2], "equally many; got 2 and 1"),
        ([0], [2, 1], "equally many; got 1 and 2"),
        ([-1], [2], "run 1 of 1 must start at 0 or later"),
        ([4, 0], [1, 1], "run 2 of 2 must come after"),
        ([0, 1], [2, 1], "run 2 of 2 must not overlap"),
        ([0], [0], "length of at least 1"),
        ([0], [10], "must end within the 9 pixels"),
        ([2**63 - 1], [2**63 - 1], "must end within"),
        ([0.0], [1], "starts must be integers"),
        ([0], "1", "lengths must be a list of integers"),
        ([0], [None], "lengths must be integers; number 1 of 1 is NoneType"),
    ],
)
def test_runs_that_are_refused(starts, lengths, reason):
    with pytest.raises(RleFormatError, match=reason):
        RunLengthMask((3, 3), starts, lengths)


@pytest.mark.parametrize(
    ("polygons", "reason"),
    [
        ([[0, 0, 1, 1]], "polygon 1 must be .* at least three points; got shape .4,"),
        ([[0, 0, 1, 1, 2]], "at least three points"),
        ([[0, 0, 4, 0, 4, 4], [0, 0, 4, 0, 4, 4, 2]], "polygon 2 must be"),
        ([[0, 0, float("nan"), 0, 4, 4]], "polygon 1 must have finite .* coordinate 3 is nan"),
        ([[0, 0, 4, float("inf"), 4, 4]], "coordinate 4 is inf"),
        ([[0, 0, 1e300, 0, 4, 4]], "at most 2.*52"),
        ([[0, 0, "4", 0, 4, 4]], "polygon 1 must be a list of numbers"),
        ([[0, 0, None, 0, 4, 4]], "list of numbers"),
        ([[0, 0, 1j, 0, 4, 4]], "list of numbers"),
        ([[True, False, True, True, False, True]], "list of numbers"),
        ([[[0, 0], [4, 0], [4, 4]]], "got shape .3, 2."),
        ([[0, 0, [4], 0, 4, 4]], "list of numbers"),
        ([[]], "got shape .0,"),
        ([0, 0, 4, 0, 4, 4], "polygon 1 must be a list of numbers; got int 0"),
        ("polygon", "must be a list of lists"),
        ({"size": [3, 3], "counts": []}, "must be a list of lists"),
        (None, "must be a list of lists"),
    ],
)
def test_polygons_that_are_refused(polygons, reason):
    with pytest.raises(RleFormatError, match=reason):
        polygons_to_mask(polygons, (4, 4))


@pytest.mark.parametrize(
    ("mask", "error", "reason"),
    [
        (np.zeros((2, 2)), TypeError, "bool or integers; got dtype float64"),
        (np.full((2, 2), np.nan), TypeError, "float64"),
        (np.array([["a"]]), TypeError, "<U1"),
        (np.zeros((2, 2, 1), bool), RleFormatError, r"\(height, width\); got \(2, 2, 1\)"),
        (np.zeros(4, bool), RleFormatError, r"got \(4,\)"),
        (True, RleFormatError, r"got \(\)"),
    ],
)
def test_masks_that_are_refused(mask, error, reason):
    with pytest.raises(error, match=reason):
        mask_to_kaggle(mask)
    with pytest.raises(error, match=reason):
        mask_to_coco(mask)


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"labels": [1, 2]}, RleFormatError, "as many as regions; got 2 and 1"),
        ({"labels": [256]}, RleFormatError, "from 0 to 255 .uint8.; got int 256"),
        ({"labels": [-1]}, RleFormatError, "got int -1"),
        ({"labels": [1.0]}, RleTypeError, "labels must be integers; got float 1.0"),
        ({"dtype": np.float32}, RleTypeError, "dtype must be of integers; got float32"),
        ({"overlap": "first"}, RleFormatError, "'last', 'maximum' or 'smallest'; got 'first'"),
        ({"size": (3, 4)}, RleFormatError, r"must have size \(3, 4\); region 0: \(3, 3\)"),
        ({"output_size": (3,)}, RleFormatError, "size must be"),
        ({"output_size": (2**16, 2**16)}, RleFormatError, "MAX_MASK_PIXELS"),
        ({"output_size": (2**40, 1)}, RleFormatError, "MAX_MASK_PIXELS"),
        ({"output_size": (1, 2**40)}, RleFormatError, "MAX_MASK_PIXELS"),
        ({"regions": [HOOK]}, RleTypeError, "regions must be RunLengthMask"),
        ({"regions": [], "labels": []}, RleFormatError, "size must be given"),
    ],
)
def test_painting_that_is_refused(changes, error, reason):
    arguments = {"regions": [RunLengthMask.from_mask(HOOK)], "labels": [1], **changes}
    with pytest.raises(error, match=reason):
        paint_labels(arguments.pop("regions"), arguments.pop("labels"), **arguments)


PAGE = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "run_length_forms.md"
ROWS = re.findall(r"^\| (?P<form>[^|]+) \| `(?P<call>.+?)` \| (?P<outcome>[^|]+) \|$",
                  PAGE.read_text(encoding="utf-8"), re.MULTILINE)  # fmt: skip


@pytest.mark.parametrize(("form", "call", "outcome"), ROWS, ids=[form for form, _, _ in ROWS])
def test_the_page_of_doubtful_forms_tells_the_truth(form, call, outcome):
    names = {"np": np, "nan": float("nan"), "RunLengthMask": RunLengthMask}
    for kind in ("kaggle", "coco", "polygons", "mask"):
        names[kind] = getattr(RunLengthMask, f"from_{kind}")
    if outcome.startswith("refused: "):
        with pytest.raises(RleFormatError) as caught:
            eval(call, names)
        assert outcome.removeprefix("refused: ") == str(caught.value).replace("|", "")
    else:
        assert outcome == f'accepted: "{eval(call, names).to_kaggle()}"'


def test_the_page_has_a_row_for_every_form():
    assert len(ROWS) > 40


# ---------------------------------------------------------------------------- damage


def read_kaggle(text, size):
    """Read Kaggle text by the book: a set of pixels, or None where the book forbids it."""
    if not re.fullmatch(r" *([1-9][0-9]*( +[1-9][0-9]*)* *)?", text, re.ASCII):
        return None
    numbers = [int(token) for token in text.split()]
    if len(numbers) % 2:
        return None
    end, pixels = 1, set()
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        if start < end or start + length - 1 > size[0] * size[1]:
            return None
        end = start + length
        pixels.update(range(start - 1, end - 1))
    return pixels


def read_counts(counts, size):
    if any(type(count) is not int for count in counts):
        return None
    if any(count < place % 2 for place, count in enumerate(counts)):
        return None
    if sum(counts) != size[0] * size[1]:
        return None
    ends = [sum(counts[: place + 1]) for place in range(len(counts))]
    return {p for place in range(1, len(counts), 2) for p in range(ends[place - 1], ends[place])}


def read_compressed(data, size):
    counts, groups = [], []
    for code in data:
        if not 48 <= code < 112:
            return None
        groups.append(code - 48)
        if code - 48 < 32:
            value = sum((group & 31) << (5 * place) for place, group in enumerate(groups))
            if groups[-1] & 16:
                value -= 1 << (5 * len(groups))
            if len(groups) > 1 and -(1 << (5 * len(groups) - 6)) <= value < 1 << (
                5 * len(groups) - 6
            ):
                return None
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            groups = []
    return None if groups else read_counts(counts, size)


NUMBERS = [0, 1, -1, 2, 9, 31, 32, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30]


def damaged(random, items, alphabet):
    """Return a copy of a list with one to three small accidents."""
    items = list(items)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        place = random.randrange(len(items) + 1)
        accident = random.randrange(6)
        if accident == 0:
            items.insert(place, random.choice(alphabet))
        elif accident == 1:
            del items[place:]
        elif accident == 2:
            del items[:place]
        elif accident == 3:
            items[place:place] = items[place - 3 : place]
        elif place < len(items):
            if accident == 4:
                del items[place]
            else:
                items[place] = random.choice(alphabet)
    return items


def outcome(read, *arguments):
    """Return the pixels that were read, or None where they were refused."""
    try:
        region = read(*arguments)
    except RleFormatError:
        return None
    return {
        pixel
        for start, length in zip(region.starts.tolist(), region.lengths.tolist(), strict=True)
        for pixel in range(start, start + length)
    }


def test_damage_is_refused_or_read_by_the_book():
    """Over 50,000 damaged inputs: each gives what a slow, plain reader gives, or is refused."""
    rng = random.Random(20_260_101)
    codes = [chr(code) for code in range(48, 112)]
    tried, refused = dict.fromkeys(("text", "list", "str", "bytes"), 0), 0
    while sum(tried.values()) < 52_000:
        size = rng.randrange(1, 9), rng.randrange(1, 9)
        bits = rng.getrandbits(64)
        mask = np.array([bits >> i & 1 for i in range(size[0] * size[1])], bool).reshape(size)
        region = RunLengthMask.from_mask(mask)
        if rng.random() < 0.1:
            size = size[1], size[0] + rng.randrange(-1, 2)
        text = "".join(damaged(rng, region.to_kaggle(), [*"0123456789 -+._eE,x\t\n٣²", " "]))
        counts = damaged(rng, region.to_coco(False)["counts"], [*NUMBERS, 1.0, float("nan"), None])
        string = "".join(damaged(rng, region.to_coco()["counts"], [*codes, "p", "/", " ", "é"]))
        data = bytes(damaged(rng, region.to_coco()["counts"].encode(), range(256)))
        for form, ours, book in (
            ("text", (RunLengthMask.from_kaggle, text, size), read_kaggle(text, size)),
            ("list", counts, read_counts(counts, size)),
            ("str", string, read_compressed(string.encode(), size)),
            ("bytes", data, read_compressed(data, size)),
        ):
            if form != "text":
                ours = RunLengthMask.from_coco, {"size": list(size), "counts": ours}
            read = outcome(*ours)
            assert read == book, (form, ours, size)
            tried[form] += 1
            refused += read is None
    assert min(tried.values()) >= 13_000
    assert refused > 40_000  # the accidents are real ones


def test_damaged_polygons_are_refused_or_filled_by_the_book():
    rng = random.Random(7)
    values = [*NUMBERS, 0.5, -3.25, 1e18, float("nan"), float("inf"), None, "4", [1]]
    tried = refused = 0
    for _ in range(3_000):
        parts = [
            [rng.randrange(0, 20) / 2 for _ in range(2 * rng.randrange(3, 7))]
            for _ in range(rng.randrange(1, 3))
        ]
        number = rng.randrange(len(parts))
        parts[number] = damaged(rng, parts[number], values)
        valid = all(
            len(part) >= 6
            and len(part) % 2 == 0
            and all(type(v) in (int, float) and abs(v) <= 2**52 for v in part)
            for part in parts
        )
        read = outcome(RunLengthMask.from_polygons, parts, (6, 5))
        assert (read is not None) == valid, parts
        tried += 1
        refused += read is None
        if valid and max(abs(value) for part in parts for value in part) < 1e6:
            book = {
                column * 6 + row
                for column in range(5)
                for row in range(6)
                if any(inside(part, column + 0.5, row + 0.5) for part in parts)
            }
            assert read == book, parts
    assert tried == 3_000
    assert refused > 1_000


def inside(part, x, y):
    points = list(zip(part[0::2], part[1::2], strict=True))
    crossings = 0
    for a, b in zip(points, points[1:] + points[:1], strict=True):
        (x0, y0), (x1, y1) = sorted((a, b))
        crossings += x0 <= x < x1 and y0 + (x - x0) * (y1 - y0) / (x1 - x0) <= y
    return crossings % 2 == 1


# -------------------------------------------------------------------------- the module


def test_the_module_needs_numpy_alone():
    code = (
        "import sys; import deeplab_fashion.rle; "
        "print({'tensorflow', 'keras', 'skimage', 'scipy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_surface_is_what_was_promised():
    assert {
        "RunLengthMask",
        "coco_to_mask",
        "kaggle_to_mask",
        "mask_to_coco",
        "mask_to_kaggle",
        "paint_labels",
        "polygons_to_mask",
    } <= set(rle.__all__)
    assert all(getattr(rle, name).__doc__ for name in rle.__all__ if name.islower())


@pytest.mark.parametrize(
    ("function", "by_place", "by_name"),
    [
        (mask_to_coco, "mask", "compressed"),
        (paint_labels, "regions labels", "size output_size overlap dtype"),
        (RunLengthMask.to_mask, "self", "max_pixels"),
    ],
)
def test_options_are_given_by_name_alone(function, by_place, by_name):
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.kind for p in parameters} == {
        **dict.fromkeys(by_place.split(), inspect.Parameter.POSITIONAL_OR_KEYWORD),
        **dict.fromkeys(by_name.split(), inspect.Parameter.KEYWORD_ONLY),
    }
