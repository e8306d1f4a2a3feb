"""The photos in the package: complete, small, licensed, and enough to try everything on."""

import hashlib

import numpy as np
import pytest

from deeplab_fashion import photos, samples
from deeplab_fashion.taxonomy import CCP, CCP_TO_MAIN, MAIN_CLASSES

FOLDER = samples.photo().parent


def test_twelve_records_each_with_its_photo():
    records = samples.load()
    assert len(records) == 12
    assert not records.skipped
    for number, record in enumerate(records):
        assert record.path == samples.photo(number)
        assert photos.read(record.path).shape == (*record.size, 3)
        assert all(0 < category_id < len(CCP) for category_id in record.category_ids)
    assert samples.photo(-1) == samples.photo(11)


@pytest.mark.parametrize("index", [12, -13])
def test_there_is_no_thirteenth_photo(index):
    with pytest.raises(IndexError, match="index must lie between -12 and 11"):
        samples.photo(index)


def test_every_main_class_is_on_most_photos():
    seen = np.zeros(len(MAIN_CLASSES), int)
    for record in samples.load():
        counts = np.bincount(record.to_labels(CCP_TO_MAIN).ravel(), minlength=len(MAIN_CLASSES))
        seen += counts >= 0.005 * counts.sum()
    assert seen.tolist() == [12, 11, 11, 11, 11, 11]


def test_licence_and_origin_lie_beside_them():
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    notice = (FOLDER / "NOTICE").read_text()
    assert "Clothing Co-Parsing" in notice
    assert "Changes:" in notice


def test_they_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 1_500_000


def test_they_are_the_original_files(shared):
    original = shared / "data/ccp/val"
    for record in samples.load():
        ours = hashlib.sha256(record.path.read_bytes()).digest()
        assert ours == hashlib.sha256((original / record.path.name).read_bytes()).digest()
    rows = (shared / "data/ccp/val.csv").read_text().splitlines()
    assert set(samples.annotations_path().read_text().splitlines()) <= set(rows)
