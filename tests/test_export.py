import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import deeplab_fashion as df
from deeplab_fashion import export, photos, samples
from deeplab_fashion.errors import ExportError
from deeplab_fashion.inference import Segmenter

NAMES = ("background", "red", "green", "blue")


def needs(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"needs {', '.join(missing)}: the extras onnx and litert"
    )


needs_onnx = needs("onnx", "tf2onnx", "onnxruntime")
needs_litert = needs("ai_edge_litert")


@pytest.fixture(scope="module")
def dilated():
    """A small network with what exporters stumble over: dilation, odd sizes, free resizing."""
    from deeplab_fashion import layers

    keras.utils.set_random_seed(3)
    image = keras.Input((None, None, 3))
    x = layers.Preprocessing(mean=127.5, scale=127.5)(image)
    x = keras.layers.Conv2D(8, 3, 4, "same", activation="relu")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(4, 1)(x)
    model = keras.Model(image, layers.ResizeToMatch()([x, image]))
    return Segmenter(model, NAMES, working_size=96)


@pytest.fixture(scope="module")
def batch():
    small = photos.resize(photos.read(samples.photo()), (97, 66))
    return np.stack([small, small[::-1]])


def expected(segmenter, batch):
    logits = segmenter.model(batch.astype(np.float32), training=False)
    return keras.ops.convert_to_numpy(tf.nn.softmax(logits))


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_signature_runner()


def test_saved_model_takes_photos_of_any_size(dilated, batch, tmp_path):
    exported = export.to_saved_model(dilated, tmp_path / "served" / "1")
    assert exported.agreement == 1
    assert exported.path == tmp_path / "served" / "1"
    assert exported.size == sum(p.stat().st_size for p in exported.path.rglob("*") if p.is_file())
    loaded = tf.saved_model.load(exported.path)
    for photo in (batch, batch[:1, :50, :61]):
        answer = loaded.signatures["serving_default"](tf.constant(photo))
        truth = expected(dilated, photo)
        np.testing.assert_allclose(answer["probabilities"], truth, atol=1e-5)
        np.testing.assert_array_equal(answer["labels"], truth.argmax(axis=-1))
    about = json.loads((exported.path / "assets.extra" / "deeplab_fashion.json").read_text())
    assert about == {
        "class_names": list(NAMES),
        "working_size": [96, 96],
        "keep_aspect": True,
    }
    with pytest.raises(FileExistsError, match="empty folder"):
        export.to_saved_model(dilated, exported.path)


@needs_onnx
def test_onnx_takes_photos_of_any_size(dilated, batch, tmp_path):
    import onnx
    import onnxruntime

    exported = export.to_onnx(dilated, tmp_path / "net.onnx")
    assert exported.agreement >= 0.999
    assert exported.size == (tmp_path / "net.onnx").stat().st_size
    written = onnx.load(tmp_path / "net.onnx")
    assert [entry.version for entry in written.opset_import if entry.domain == ""] == [18]
    assert {node.op_type for node in written.graph.node}.isdisjoint({"SpaceToDepth", "Pad"})
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    assert (image.name, image.type) == ("image", "tensor(uint8)")
    assert image.shape == ["batch", "height", "width", 3]
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list(NAMES)
    for photo in (batch, batch[:1, :50, :61]):
        labels, probabilities = session.run(["labels", "probabilities"], {"image": photo})
        truth = expected(dilated, photo)
        np.testing.assert_allclose(probabilities, truth, atol=1e-4)
        assert (labels == truth.argmax(axis=-1)).mean() >= 0.999


@needs_onnx
def test_onnx_of_a_fixed_size_and_a_bare_model(colour_model, tmp_path):
    import onnxruntime

    exported = export.to_onnx(colour_model, tmp_path / "a.onnx", size=(40, 50), opset=17)
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 40, 50, 3]
    photo = np.zeros((1, 40, 50, 3), np.uint8)
    photo[:, :, 25:, 2] = 255
    np.testing.assert_array_equal(
        session.run(["labels"], {"image": photo})[0], np.where(photo[..., 2] > 0, 3, 0)
    )
    with pytest.raises(IsADirectoryError, match=r"path must be that of a file, but .* is a folder"):
        export.to_onnx(colour_model, tmp_path)
    with pytest.raises(ValueError, match="opset must be at least 17, got 16"):
        export.to_onnx(colour_model, tmp_path / "b.onnx", opset=16)


@needs_litert
@pytest.mark.parametrize(
    ("precision", "least", "close"), [("float32", 0.999, 1e-4), ("float16", 0.99, 1e-2)]
)
def test_litert_in_floats(dilated, batch, tmp_path, precision, least, close):
    exported = export.to_litert(
        dilated, tmp_path / "net.tflite", precision=precision, min_agreement=least
    )
    runner = litert(exported.path)
    for photo in (batch[:1], batch[:1, :50, 3:], batch[1:]):
        answer = runner(image=photo)
        truth = expected(dilated, photo)
        np.testing.assert_allclose(answer["probabilities"], truth, atol=close)
        assert (answer["labels"] == truth.argmax(axis=-1)).mean() >= least


@needs_litert
def test_litert_in_integers_takes_and_gives_plain_types(colour_model, tmp_path):
    random = np.random.default_rng(0)
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    photo = palette[np.kron(random.integers(0, 4, (6, 8)), np.ones((10, 10), int))]
    exported = export.to_litert(
        Segmenter(colour_model, NAMES),
        tmp_path / "net.tflite",
        size=(60, 80),
        precision="int8",
        representative=[photo],
        check_photos=[photo],
    )
    assert exported.agreement == 1
    assert exported.pixels == 4800
    runner = litert(exported.path)
    assert runner.get_input_details()["image"]["dtype"] == np.uint8
    answer = runner(image=photo[None])
    assert answer["labels"].dtype == np.int32
    assert answer["probabilities"].dtype == np.float32
    np.testing.assert_array_equal(palette[answer["labels"][0]], photo)


@needs_litert
def test_litert_of_a_fixed_size(dilated, tmp_path):
    exported = export.to_litert(dilated, tmp_path / "net.tflite", size=(40, 96))
    assert exported.pixels == 12 * 40 * 96
    shape = litert(exported.path).get_input_details()["image"]["shape"]
    assert shape.tolist() == [1, 40, 96, 3]
    with pytest.raises(ValueError, match="precision must be float32, float16 or int8, got 'int4'"):
        export.to_litert(dilated, tmp_path / "net.tflite", precision="int4")


@needs_litert
@needs_onnx
@pytest.mark.slow
def test_a_whole_network_frames_photos_of_any_size_in_every_format(tmp_path):
    keras.utils.set_random_seed(0)
    model = df.DeepLabV3Plus(
        4, backbone="mobilenetv2", weights=None, aspp_filters=8, decoder_filters=8
    )
    segmenter = Segmenter(model, NAMES, working_size=96)
    check = [photos.resize(photos.read(samples.photo(0)), size) for size in ((90, 61), (64, 49))]
    for write in (export.to_onnx, export.to_litert, export.to_saved_model):
        exported = write(segmenter, tmp_path / write.__name__, check_photos=check)
        assert exported.agreement >= 0.999
        assert exported.pixels == 96 * 65 + 96 * 74


@needs_litert
def test_integers_are_learnt_and_checked_on_different_photos(dilated, tmp_path, monkeypatch):
    seen = []

    def looked_at(network, given, *rest):
        seen.append(given)
        return whole(network, given, *rest)

    whole = export._looked_at
    monkeypatch.setattr(export, "_looked_at", looked_at)
    exported = export.to_litert(
        dilated, tmp_path / "net.tflite", size=(40, 96), precision="int8", min_agreement=0
    )
    paths = [record.path for record in samples.load()]
    assert seen == [paths[:6], paths[6:]]
    assert exported.pixels == 6 * 40 * 96


def test_photos_to_check_with_are_read_as_the_segmenter_reads_them(dilated):
    picture = Image.fromarray(photos.read(samples.photo()))
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    grey = np.asarray(picture.convert("L"))
    given = [picture, turned, picture.convert("RGBA"), np.asarray(picture.convert("RGBA"))]
    *coloured, gray, array, palette = (
        batch[0]
        for batch in export._looked_at(
            dilated.model,
            [*given, Image.fromarray(grey), grey, picture.convert("P")],
            {"working_size": (96, 96)},
        )
    )
    for seen in coloured:
        np.testing.assert_array_equal(seen, coloured[0])
    np.testing.assert_array_equal(gray, array)
    assert gray.shape == palette.shape == coloured[0].shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((0, 5), ValueError),
        ((3,), ValueError),
        ((3, 4, 3), ValueError),
        (256, TypeError),
        ("64", TypeError),
        ((40.0, 50), TypeError),
    ],
)
def test_size_must_be_two_whole_numbers(colour_model, size, kind):
    with pytest.raises(kind, match=r"size must be two whole numbers of at least 1.*, got "):
        export._signature(colour_model, size)


def test_models_that_a_segmenter_refuses_are_not_exported(colour_model, tmp_path):
    class Own(keras.Model):
        def call(self, image):
            return colour_model(image)

    with pytest.raises(ValueError, match="functional or sequential Keras model"):
        export.to_saved_model(Own(), tmp_path / "net")
    coarse = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 1, strides=4)])
    photo = np.zeros((20, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=r"answers to \(256, 512\) with \(64, 128\)"):
        export.to_saved_model(coarse, tmp_path / "net", check_photos=[photo])
    assert list(tmp_path.iterdir()) == []
    image = keras.Input((None, None, 3))
    logits = colour_model(image)
    headed = keras.Model(image, {"logits": logits, "auxiliary": -logits})
    assert export.to_saved_model(headed, tmp_path / "net", check_photos=[photo]).agreement == 1


def test_size_must_be_the_models_own(tmp_path, colour_model):
    image = keras.Input((32, 48, 3))
    fixed = keras.Model(image, colour_model(image))
    with pytest.raises(ValueError, match=r"size must be the model's own, \(32, 48\)"):
        export._signature(fixed, (32, 40))
    exported = export.to_saved_model(fixed, tmp_path / "fixed")
    assert exported.pixels == 12 * 32 * 48


def test_an_export_that_disagrees_leaves_nothing(colour_model, tmp_path, monkeypatch):
    class Wrong:
        def serve(self, image):
            return {"labels": tf.zeros_like(image[..., 0], tf.int32)}

    monkeypatch.setattr(tf.saved_model, "load", lambda path: Wrong())
    red = np.full((20, 20, 3), (255, 0, 0), np.uint8)
    with pytest.raises(ExportError, match=r"label on 0\.000 % of the pixels, but at least 99\.9 %"):
        export.to_saved_model(colour_model, tmp_path / "net", check_photos=[red])
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_check_with_is_refused(colour_model, tmp_path):
    with pytest.raises(ValueError, match="check_photos must hold at least one photo"):
        export.to_saved_model(colour_model, tmp_path / "net", check_photos=[])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("write", "extra"), [(export.to_onnx, "onnx"), (export.to_litert, "litert")]
)
def test_a_missing_extra_is_named(colour_model, tmp_path, monkeypatch, write, extra):
    real = importlib.import_module

    def without(name, *rest):
        if name.startswith(("tf2onnx", "ai_edge_litert")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ImportError, match=rf"pip install 'deeplab-fashion\[{extra}\]'"):
        write(colour_model, tmp_path / "net")


def test_the_command_says_how_far_the_file_agrees(dilated, tmp_path, capsys):
    from deeplab_fashion.__main__ import main

    dilated.save(tmp_path / "net.keras")
    common = ["--model", str(tmp_path / "net.keras")]
    assert main(["export", "saved-model", str(tmp_path / "a"), *common]) == 0
    assert "same label as the model on 100.00 % of the pixels" in capsys.readouterr().out
    assert main(["export", "saved-model", str(tmp_path / "b"), *common, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["agreement"] == 1
    assert answer["file"] == str(tmp_path / "b")
    assert main(["export", "saved-model", str(tmp_path / "a"), *common]) == 1
    assert "empty folder" in capsys.readouterr().err


@needs_onnx
def test_the_how_to_runs_with_onnxruntime_alone(tmp_path):
    page = Path(__file__).parents[1] / "docs" / "how_to" / "export.md"
    if not page.is_file():
        pytest.skip("the documentation is not beside these tests")
    (code,) = re.findall(r"```python\n(import json\n.+?)```", page.read_text("utf-8"), re.DOTALL)
    segmenter = Segmenter.from_pretrained("fashion-main")
    photo = samples.photo(1)
    shutil.copy(photo, tmp_path / "photo.jpg")
    export.to_onnx(segmenter, tmp_path / "fashion.onnx", check_photos=[photo])
    alone = "import sys\nsys.modules.update(tensorflow=None, keras=None, deeplab_fashion=None)\n"
    saved = "\nnp.save('labels.npy', labels)\n"
    script = [sys.executable, "-c", alone + code + saved]
    ran = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in ran.stdout.splitlines()] == list(segmenter.class_names)
    labels = np.load(tmp_path / "labels.npy")
    assert (labels == segmenter(photo).labels).mean() >= 0.999
