import hashlib
import json

import keras
import numpy as np
import pytest

from deeplab_fashion import Segmenter, pretrained, samples
from deeplab_fashion.errors import CheckpointError
from deeplab_fashion.scores import confusion_matrix, iou_per_class, mean_iou
from deeplab_fashion.taxonomy import CCP_TO_MAIN, MAIN_CLASSES

FOLDER = pretrained._FOLDER


@pytest.fixture(scope="module")
def saved(tmp_path_factory, colour_model):
    """A folder with one small network, saved as the bundled one is."""
    folder = tmp_path_factory.mktemp("networks")
    pretrained.save(
        colour_model,
        "colours",
        folder=folder,
        class_names=("background", "red", "green", "blue"),
        options={"working_size": 64},
    )
    return folder


def copied(saved, folder, content=None, checksum=None):
    (folder / "colours.npz").write_bytes(content or (saved / "colours.npz").read_bytes())
    if checksum is None:
        checksum = (saved / "colours.sha256").read_text()
    (folder / "colours.sha256").write_text(checksum)
    return folder


def test_names_lists_the_networks_of_a_folder(saved, tmp_path):
    assert "fashion-main" in pretrained.names()
    assert pretrained.names(saved) == ["colours"]
    assert pretrained.names(tmp_path) == []


def test_an_unknown_name_is_answered_with_the_known_ones(saved):
    with pytest.raises(ValueError, match=r"must be one of: .*fashion-main.*'fashion-mian'"):
        pretrained.load("fashion-mian")
    with pytest.raises(ValueError, match="must be one of: colours; received 'x'"):
        pretrained.load("x", folder=saved)
    with pytest.raises(ValueError, match="none in this installation"):
        pretrained.load("x", folder=saved / "missing")


def test_what_is_saved_comes_back_to_half_precision(saved, colour_model):
    model, class_names, options = pretrained.load("colours", folder=saved)
    assert class_names == ("background", "red", "green", "blue")
    assert options == {"working_size": 64}
    for old, new in zip(colour_model.get_weights(), model.get_weights(), strict=True):
        assert new.dtype == np.float32
        np.testing.assert_allclose(new, old, rtol=2**-11)
    image = np.random.default_rng(0).uniform(0, 255, (1, 20, 30, 3)).astype(np.float32)
    np.testing.assert_allclose(model(image).numpy(), colour_model(image).numpy(), rtol=1e-3)


def test_vectors_keep_full_precision(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.BatchNormalization()])
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(1e4, 1e6, 3).astype(np.float32) for _ in range(4)])
    pretrained.save(model, "norm", folder=tmp_path, class_names=("a", "b", "c"), options={})
    again, _, _ = pretrained.load("norm", folder=tmp_path)
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_a_kernel_beyond_half_precision_is_not_saved(tmp_path, colour_model, value):
    model = keras.models.clone_model(colour_model)
    kernel, bias = colour_model.get_weights()
    kernel = kernel.copy()
    kernel[0, 0, 0, 0] = value
    model.set_weights([kernel, bias])
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match=r"kernel must be finite and fit float16"),
    ):
        pretrained.save(model, "bad", folder=tmp_path, class_names="abcd", options={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_damaged_byte_is_noticed(saved, tmp_path, place):
    content = bytearray((saved / "colours.npz").read_bytes())
    content[place] ^= 1
    copied(saved, tmp_path, bytes(content))
    with pytest.raises(CheckpointError, match=r"colours\.npz is damaged: its SHA-256 must be"):
        pretrained.load("colours", folder=tmp_path)


def test_a_missing_or_empty_checksum_is_noticed(saved, tmp_path):
    copied(saved, tmp_path, checksum=" ")
    with pytest.raises(CheckpointError, match="no readable checksum"):
        pretrained.load("colours", folder=tmp_path)
    (tmp_path / "colours.sha256").unlink()
    with pytest.raises(CheckpointError, match="no readable checksum"):
        pretrained.load("colours", folder=tmp_path)


def test_a_file_of_another_kind_is_noticed(saved, tmp_path):
    content = b"not a network"
    copied(saved, tmp_path, content, hashlib.sha256(content).hexdigest())
    with pytest.raises(CheckpointError, match="cannot be read"):
        pretrained.load("colours", folder=tmp_path)


def test_the_bundled_network_is_small_and_licensed():
    assert (FOLDER / "fashion-main.npz").stat().st_size <= 10_000_000
    assert "Apache License" in (FOLDER / "LICENSE").read_text("utf-8")
    assert (FOLDER / "NOTICE").read_text("utf-8").strip()


def test_the_bundled_network_says_what_it_is():
    with np.load(FOLDER / "fashion-main.npz") as file:
        about = json.loads(file["about"].tobytes())
    assert about["class_names"] == list(MAIN_CLASSES)


def test_the_bundled_network_finds_the_clothes_of_the_samples():
    segmenter = Segmenter.from_pretrained("fashion-main")
    total = np.zeros((6, 6), np.int64)
    for record in samples.load():
        truth = record.to_labels(CCP_TO_MAIN)
        labels = segmenter(record.path).labels
        assert labels.shape == truth.shape
        total += confusion_matrix(truth, labels, 6)
    assert mean_iou(total) > 0.55
    assert min(iou_per_class(total)) > 0.2
