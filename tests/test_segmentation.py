import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from deeplab_fashion import plotting
from deeplab_fashion.annotations import read_fashionpedia, read_imaterialist, write_submission
from deeplab_fashion.rle import kaggle_to_mask, polygons_to_mask
from deeplab_fashion.segmentation import Segmentation

NAMES = ("background", "upper-body", "lower-body")


@pytest.fixture
def result():
    random = np.random.default_rng(0)
    labels = np.zeros((40, 30), np.uint8)
    labels[5:20, 5:25] = 1
    labels[10:12, 10:12] = 0
    labels[20:35, 8:14] = 2
    labels[20:35, 16:22] = 2
    photo = random.integers(0, 256, (40, 30, 3), np.uint8)
    confidence = np.full((40, 30), 204, np.uint8)
    return Segmentation(labels, NAMES, confidence, photo, "walk", file_name="walk.png")


def test_regions_are_worked_out_from_the_labels(result):
    assert [(r.class_name, r.area, r.bbox) for r in result.regions] == [
        ("upper-body", 296, (5, 5, 20, 25)),
        ("lower-body", 90, (20, 8, 35, 14)),
        ("lower-body", 90, (20, 16, 35, 22)),
    ]
    assert [r.score for r in result.regions] == pytest.approx([0.8] * 3)


def test_shares_sum_to_one(result):
    assert result.shares == pytest.approx(
        {"background": 724 / 1200, "upper-body": 296 / 1200, "lower-body": 180 / 1200}
    )


def test_cutouts_show_one_class_and_nothing_else(result):
    cutouts = result.cutouts()
    assert list(cutouts) == ["upper-body", "lower-body"]
    lower = cutouts["lower-body"]
    assert lower.shape == (15, 14, 4)
    np.testing.assert_array_equal(lower[..., 3] == 255, result.labels[20:35, 8:22] == 2)
    np.testing.assert_array_equal(lower[..., :3], result.photo[20:35, 8:22])


def test_overlay_is_the_pictures_own(result):
    np.testing.assert_array_equal(
        result.overlay(alpha=0.3, legend=False),
        plotting.overlay(result.photo, result.labels, NAMES, alpha=0.3, legend=False),
    )


@pytest.mark.parametrize("polygons", [False, True])
def test_coco_is_read_by_pycocotools(result, tmp_path, capsys, polygons):
    path = tmp_path / "regions.json"
    path.write_text(json.dumps(result.to_coco(polygons=polygons, image_id=7)))
    coco = COCO(path)
    capsys.readouterr()
    painted = np.zeros((40, 30), np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[7])):
        if polygons:
            mask = polygons_to_mask(annotation["segmentation"], (40, 30))
        else:
            mask = coco.annToMask(annotation).astype(bool)
        assert annotation["area"] == mask.sum()
        left, top, width, height = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        assert (top, left) == (rows.min(), columns.min())
        assert (height, width) == (np.ptp(rows) + 1, np.ptp(columns) + 1)
        painted[mask] = annotation["category_id"]
    np.testing.assert_array_equal(painted, result.labels)
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(NAMES[1:])


def test_kaggle_rows_are_a_submission(result, tmp_path):
    rows = result.to_kaggle_rows(image_id="0042")
    painted = np.zeros((40, 30), np.uint8)
    for row in rows:
        assert row["ImageId"] == "0042"
        painted[kaggle_to_mask(row["EncodedPixels"], (40, 30))] = row["ClassId"]
    np.testing.assert_array_equal(painted, result.labels)
    write_submission(tmp_path / "submission.csv", rows)
    Image.fromarray(result.photo).save(tmp_path / "0042.png")
    (record,) = read_imaterialist(tmp_path / "submission.csv", tmp_path, sizes="photos")
    assert record.category_ids == (1, 2, 2)


def test_save_writes_what_can_be_read_again(result, tmp_path):
    written = result.save(tmp_path / "new" / "folder")
    assert written == result.files
    assert {kind: path.name for kind, path in written.items()} == {
        "overlay": "walk_overlay.png",
        "labels": "walk_labels.png",
        "cutout upper-body": "walk_cutout_upper-body.png",
        "cutout lower-body": "walk_cutout_lower-body.png",
        "regions": "walk_regions.json",
    }
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(
        path.name for path in written.values()
    )
    with Image.open(written["labels"]) as labels:
        assert labels.mode == "P"
        np.testing.assert_array_equal(np.asarray(labels), result.labels)
        np.testing.assert_array_equal(
            np.asarray(labels.convert("RGB")), plotting.colorize(result.labels, 3)
        )
    with Image.open(written["cutout lower-body"]) as cutout:
        np.testing.assert_array_equal(np.asarray(cutout), result.cutouts()["lower-body"])
    Image.fromarray(result.photo).save(tmp_path / "walk.png")
    (record,) = read_fashionpedia(written["regions"], tmp_path)
    assert [region.area for region in record.regions] == [296, 90, 90]
    assert "cutout lower-body" not in result.save(tmp_path / "other", cutouts=False, name="b")


def test_save_removes_its_own_cutouts_that_are_no_longer_true(result, tmp_path):
    result.save(tmp_path)
    result.save(tmp_path, name="walk2")
    (tmp_path / "walk_cutout_hat.png").write_bytes(b"another's")
    upper = np.where(result.labels == 1, 1, 0).astype(np.uint8)
    dataclasses.replace(result, labels=upper, files={}).save(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*_cutout_*")) == [
        "walk2_cutout_lower-body.png",
        "walk2_cutout_upper-body.png",
        "walk_cutout_hat.png",
        "walk_cutout_upper-body.png",
    ]
    result.save(tmp_path, cutouts=False)
    assert not (tmp_path / "walk_cutout_upper-body.png").exists()


def test_a_photo_without_clothing_has_no_regions_and_saves(tmp_path):
    empty = Segmentation(
        np.zeros((20, 20), np.uint8),
        NAMES,
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 3), np.uint8),
    )
    assert empty.regions == ()
    assert empty.to_kaggle_rows() == []
    assert set(empty.save(tmp_path)) == {"overlay", "labels", "regions"}
