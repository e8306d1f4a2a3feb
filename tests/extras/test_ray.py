"""The example for Ray, run for real on this machine; needs the extra "ray"."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deeplab_fashion as df

pytest.importorskip("ray", reason="needs the extra 'ray'")

EXAMPLE = Path(__file__).parents[2] / "examples" / "predict_with_ray.py"


@pytest.mark.slow
def test_rows_are_those_of_the_segmenter_and_broken_photos_are_named(tmp_path: Path) -> None:
    photos = [df.samples.photo(i) for i in range(3)]
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos:
        shutil.copy(photo, folder)
    (folder / "broken.jpg").write_bytes(b"no photo")
    out = tmp_path / "masks.csv"
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(folder), "--out", str(out), "--workers", "2"],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "broken.jpg is not an image of a known format" in done.stderr
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["ImageId"] for row in rows} == {photo.stem for photo in photos}
    segmenter = df.Segmenter.from_pretrained("fashion-main")
    for photo in photos:
        expected = segmenter(photo)
        mine = [row for row in rows if row["ImageId"] == photo.stem]
        assert len(mine) == len(expected.regions)
        size = expected.labels.shape
        for row in mine:
            mask = df.rle.kaggle_to_mask(row["EncodedPixels"], size)
            inside = expected.labels[mask]
            assert np.mean(inside == int(row["ClassId"])) > 0.99
