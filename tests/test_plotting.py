import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from deeplab_fashion import plotting

NAMES = ("background", "coat", "shoe")


def test_palette_colours_differ_and_do_not_depend_on_their_number():
    colours = plotting.palette(256)
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    np.testing.assert_array_equal(plotting.palette(7), colours[:7])


def seen_with(rgb, deficiency):
    """Return Lab of the colour as seen without one kind of cone (Machado et al. 2009)."""
    matrices = {
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    from skimage.color import rgb2lab

    linear = (rgb / 255.0) ** 2.2
    seen = np.clip(np.array(matrices[deficiency]) @ linear, 0, 1) ** (1 / 2.2)
    return rgb2lab(seen)


@pytest.mark.parametrize("deficiency", ["protan", "deutan", "tritan"])
def test_main_classes_stay_apart_for_the_colour_blind(deficiency):
    seen = [seen_with(colour, deficiency) for colour in plotting.palette(6)]
    distances = [
        np.linalg.norm(first - second)
        for index, first in enumerate(seen)
        for second in seen[:index]
    ]
    assert min(distances) > 10


@pytest.mark.parametrize("count", [0, 257])
def test_palette_refuses_what_labels_cannot_hold(count):
    with pytest.raises(ValueError, match=f"num_classes must be 1 to 256, got {count}"):
        plotting.palette(count)


def test_overlay_blends_by_alpha_and_leaves_the_background_alone():
    photo = np.full((60, 60, 3), 100, np.uint8)
    labels = np.zeros((60, 60), np.uint8)
    labels[20:50, 20:50] = 1
    labels[0, 0] = 255
    picture = plotting.overlay(photo, labels, NAMES, alpha=0.25, legend=False)
    blended = np.rint(0.75 * 100 + 0.25 * plotting.palette(2)[1]).astype(np.uint8)
    np.testing.assert_array_equal(picture[35, 35], blended)
    np.testing.assert_array_equal(picture[20, 35], plotting.palette(2)[1])
    np.testing.assert_array_equal(picture[labels != 1], 100)
    assert (photo == 100).all()


def test_legend_takes_the_emptiest_corner_and_names_only_what_is_there():
    photo = np.full((300, 300, 3), 200, np.uint8)
    labels = np.zeros((300, 300), np.uint8)
    labels[:, :150] = 2
    labels[:150] = 2
    plain = plotting.overlay(photo, labels, NAMES, legend=False)
    drawn = plotting.overlay(photo, labels, NAMES)
    rows, columns = np.nonzero((plain != drawn).any(axis=2))
    assert rows.min() > 150
    assert columns.min() > 150
    box = drawn[rows.min() : rows.max(), columns.min() : columns.max()].reshape(-1, 3).tolist()
    assert plotting.palette(3)[2].tolist() in box
    assert plotting.palette(3)[1].tolist() not in box


def test_a_photo_too_small_for_a_legend_gets_none():
    photo, labels = np.zeros((16, 16, 3), np.uint8), np.ones((16, 16), np.uint8)
    np.testing.assert_array_equal(
        plotting.overlay(photo, labels, NAMES), plotting.overlay(photo, labels, NAMES, legend=False)
    )


@pytest.mark.parametrize(
    ("image", "labels", "alpha", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4), int), 0.5, r"\(4, 4, 3\).*\(4, 5, 3\)"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4), int), 0.5, "uint8.*float64"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), 0.5, "integer array, got float64"),
        (
            np.zeros((4, 4, 3), np.uint8),
            np.zeros((4, 4), int),
            1.5,
            "alpha must be 0 to 1, got 1.5",
        ),
    ],
)
def test_overlay_names_the_broken_rule(image, labels, alpha, message):
    with pytest.raises(ValueError, match=message):
        plotting.overlay(image, labels, NAMES, alpha=alpha)


def test_confusion_cells_darken_with_their_share():
    picture = plotting.confusion_matrix_image(np.array([[9, 1], [0, 0]]), ("on", "off"))
    cell = 56
    left = picture.shape[1] - 10 - 2 * cell
    right, wrong, empty = (
        picture[30 + row * cell + 2, left + column * cell + 2].astype(int)
        for row, column in ((0, 0), (0, 1), (1, 0))
    )
    np.testing.assert_array_equal(right, np.rint(255 + 0.9 * (np.array([0, 68, 120]) - 255)))
    np.testing.assert_array_equal(wrong, np.rint(255 + 0.1 * (np.array([0, 68, 120]) - 255)))
    np.testing.assert_array_equal(empty, 255)


def test_confusion_must_fit_its_names():
    with pytest.raises(ValueError, match=r"each of 3 class names, got shape \(2, 2\)"):
        plotting.confusion_matrix_image(np.zeros((2, 2), int), NAMES)


def points_of(svg):
    root = ElementTree.fromstring(svg)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in lines
    ]


def test_curves_keep_proportion_and_break_where_a_value_is_missing():
    up, after = points_of(plotting.curves({"a": [0.0, 1.0, 4.0, float("nan"), 2.0, 2.0]}))
    assert up[0][1] - up[2][1] == pytest.approx(4 * (up[0][1] - up[1][1]), abs=0.3)
    assert up[2][0] - up[1][0] == pytest.approx(up[1][0] - up[0][0], abs=0.2)
    assert len(after) == 2
    assert after[0][1] == after[1][1]
    nan = float("nan")
    gap = points_of(plotting.curves({"a": [nan, 1.0, 2.0, nan, nan, 2.0, 1.0, nan]}))
    assert [len(run) for run in gap] == [2, 2]


def test_curves_escape_names_and_draw_a_lone_value():
    svg = plotting.curves({"a < b": [3.0]}, title="x & y")
    root = ElementTree.fromstring(svg)
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 1
    assert {"a < b", "x & y"} <= {
        text.text for text in root.iter("{http://www.w3.org/2000/svg}text")
    }


def test_curves_need_a_finite_value():
    with pytest.raises(ValueError, match="must hold a finite value"):
        plotting.curves({"loss": [float("nan")]})
    with pytest.raises(ValueError, match=r"size must be at least \(120, 200\), got \(119, 200\)"):
        plotting.curves({"loss": [1.0, 2.0]}, size=(119, 200))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_png_gives_back_the_picture(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(plotting.png_bytes(picture))) as read:
        np.testing.assert_array_equal(np.asarray(read), picture)
