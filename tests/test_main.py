import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from PIL import Image

import deeplab_fashion as df
from deeplab_fashion.__main__ import main
from deeplab_fashion.inference import Segmenter

NAMES = ("background", "red", "green", "blue")
SAMPLES = df.samples.annotations_path().parent


@pytest.fixture(scope="module")
def model_file(colour_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "colours.keras"
    Segmenter(colour_model, NAMES, working_size=128).save(path)
    return path


@pytest.fixture(scope="module")
def main_model_file(colour_model, tmp_path_factory):
    """Return a model of the main classes that finds background everywhere."""
    import keras

    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(6, 1)])
    model.set_weights([np.zeros((1, 1, 3, 6)), np.array([9.0, 0, 0, 0, 0, 0])])
    path = tmp_path_factory.mktemp("model") / "main.keras"
    Segmenter(model, df.taxonomy.MAIN_CLASSES, working_size=64).save(path)
    return path


@pytest.fixture
def photo(tmp_path):
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, 40:] = 255, 0, 0
    Image.fromarray(picture).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(*arguments):
    return main([str(argument) for argument in arguments])


def usage_error(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def error_line(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("deeplab-fashion: error: ")
    return lines[0]


def test_segment_writes_masks_and_tells_where(photo, model_file, tmp_path, capsys):
    out = tmp_path / "masks"
    assert run("segment", photo, "--model", model_file, "--out", out) == 0
    printed = capsys.readouterr()
    assert printed.out == f"photo: red 50.0 % -> {out / 'photo_overlay.png'}\n"
    assert "1/1" in printed.err
    with Image.open(out / "photo_labels.png") as labels:
        np.testing.assert_array_equal(np.unique(np.asarray(labels)[:, 42:]), [1])
    regions = json.loads((out / "photo_regions.json").read_text())
    assert [r["category_id"] for r in regions["annotations"]] == [1]


def test_segment_answers_a_program(photo, model_file, tmp_path, capsys):
    arguments = ("segment", photo, "--model", model_file, "--out", tmp_path / "m", "--json")
    assert run(*arguments, "--quiet", "--no-cutouts") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    answer = json.loads(printed.out)
    assert answer["failed"] == []
    (found,) = answer["photos"]
    assert found["name"] == "photo"
    assert found["size"] == [60, 80]
    assert set(found["files"]) == {"overlay", "labels", "regions"}
    assert [(r["class"], r["bbox"]) for r in found["regions"]] == [("red", [0, 40, 60, 80])]
    assert run(*arguments, "--quiet", "--no-cutouts") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["photos"] == []
    assert again["already_done"] == {str(photo): str(tmp_path / "m" / "photo_regions.json")}


def test_a_submission_holds_finished_and_new_photos(photo, model_file, tmp_path):
    shutil.copy(photo, tmp_path / "second.png")
    common = ("--model", model_file, "--out", tmp_path / "m", "--quiet")
    assert run("segment", photo, *common) == 0
    csv = tmp_path / "submission.csv"
    assert run("segment", photo, tmp_path / "second.png", *common, "--kaggle", csv) == 0
    records = df.annotations.read_imaterialist(csv, tmp_path, sizes="photos")
    assert sorted(record.image_id for record in records) == ["photo", "second"]
    for record in records:
        assert record.regions[0].bbox == (0, 40, 60, 80)


def test_what_is_done_already_is_counted_and_done_again_if_asked(
    photo, model_file, tmp_path, capsys
):
    arguments = ("segment", photo, "--model", model_file, "--out", tmp_path / "m")
    assert run(*arguments) == 0
    done = capsys.readouterr().out
    assert run(*arguments) == 0
    assert capsys.readouterr().out.startswith("1 already done and left as they were (--fresh does")
    assert run(*arguments, "--fresh") == 0
    assert capsys.readouterr().out == done


def test_segment_goes_on_after_a_broken_photo(photo, model_file, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    out = tmp_path / "masks"
    arguments = ("--model", model_file, "--out", out, "--quiet")
    assert run("segment", tmp_path / "broken.jpg", photo, *arguments) == 1
    assert "broken.jpg is not an image of a known format" in error_line(capsys)
    assert (out / "photo_overlay.png").is_file()
    assert not list(out.glob("broken*"))


def test_segment_passes_its_options_on(photo, model_file, tmp_path, capsys):
    arguments = ("segment", photo, "--model", model_file, "--out", tmp_path / "m", "--quiet")
    options = ("--tile", "32", "--working-size", "32x48", "--tta", "--scales", "1", "1.5")
    assert run(*arguments, *options, "--min-area", "20") == 0
    info = json.loads((tmp_path / "m" / "photo_regions.json").read_text())["info"]["options"]
    assert info["tile"] == 32
    assert info["working_size"] == [32, 48]
    assert info["tta"] == [1.0, 1.5]
    assert info["min_area"] == 20
    assert run(*arguments, "--scales", "0.5") == 0
    info = json.loads((tmp_path / "m" / "photo_regions.json").read_text())["info"]["options"]
    assert info["tta"] == [0.5]
    assert run(*arguments, "--max-megapixels", "0.004") == 1
    assert "4800 pixels, more than max_pixels, 4000" in error_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "COMMAND"),
        (("segment",), "PHOTO"),
        (("segment", "a.jpg", "--tile", "3"), "--tile: must be a number, at least 16, got '3'"),
        (("segment", "a.jpg", "--working-size", "12xx"), "HEIGHTxWIDTH of at least 16 pixels"),
        (("train", "--images", "a"), "--annotations"),
        (("train", "--epochs", "some"), "--epochs: must be a number, at least 1, got 'some'"),
        (("train", "--validation-share", "1"), "must be a number, 0 to 0.9, got '1'"),
        (("segment", "a.jpg", "--tile", "nan"), "must be a number, at least 16, got 'nan'"),
        (("segment", "a.jpg", "--max-megapixels", "inf"), "must be a finite number, at least 0"),
        (
            ("export", "onnx", "a", "--precision", "int8"),
            "error: --precision int8 is for litert alone, not onnx",
        ),
        (("export", "pdf", "a"), "invalid choice: 'pdf'"),
        (("unheard-of",), "invalid choice: 'unheard-of'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, message, capsys):
    assert message in usage_error(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segment", "{photo}", "--model", "none.keras"), "model none.keras does not exist"),
        (("segment", "{photo}", "--model", "{photo}"), "photo.png must be a .keras file"),
        (("segment", "{photo}", "--model", "."), "model . is a folder; name the file in it"),
        (("segment", "{empty}", "--model", "{model}"), "no photo found in"),
        (("evaluate", "--annotations", "a.txt", "--images", "."), ".csv or .json file, got a.txt"),
        (("evaluate", "--annotations", "none.csv", "--images", "."), "none.csv"),
        (("evaluate", "--annotations", "{csv}", "--images", "."), "0007"),
        (
            ("evaluate", "--annotations", "{header}", "--images", "."),
            "header.csv holds no annotated",
        ),
        (
            ("evaluate", "--annotations", "{csv}", "--images", "{samples}"),
            "its ids lie between 0 and 45; give categories of another data set by --label-map",
        ),
        (
            ("train", "--annotations", "{csv}", "--images", "{samples}", "--label-map", "mine"),
            "--label-map must be one of main, notebook, fashionpedia, ccp or a JSON file, got mine",
        ),
    ],
)
def test_failed_work_exits_with_1_and_one_line(
    arguments, message, photo, model_file, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    header = df.samples.annotations_path().read_text().partition("\n")[0]
    (tmp_path / "header.csv").write_text(header)
    places = {
        "header": tmp_path / "header.csv",
        "photo": photo,
        "model": model_file,
        "empty": tmp_path / "empty",
        "csv": df.samples.annotations_path(),
        "samples": SAMPLES,
    }
    assert run(*(argument.format(**places) for argument in arguments)) == 1
    assert message in error_line(capsys)


def test_evaluate_counts_at_the_photos_own_size(main_model_file, tmp_path, capsys):
    arguments = ("--annotations", df.samples.annotations_path(), "--images", SAMPLES)
    arguments += ("--label-map", "ccp", "--model", main_model_file, "--quiet")
    assert run("evaluate", *arguments, "--json", "--out", tmp_path / "report") == 0
    answer = json.loads(capsys.readouterr().out)
    truth = [r.to_labels(df.taxonomy.CCP_TO_MAIN) for r in df.samples.load()]
    background = sum(int((labels == 0).sum()) for labels in truth)
    pixels = sum(labels.size for labels in truth)
    assert answer["photos"] == 12
    assert answer["scores"]["iou/background"] == pytest.approx(background / pixels)
    assert answer["scores"]["iou/feet"] == 0
    assert np.sum(answer["confusion"]) == pixels
    assert json.loads((tmp_path / "report" / "scores.json").read_text()) == answer
    with Image.open(tmp_path / "report" / "confusion.png") as picture:
        assert picture.mode == "RGB"

    assert run("evaluate", *arguments) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["class", "IoU", "%", "F1", "%"]
    iou, f1 = background / pixels, 2 * background / (pixels + background)
    assert table[1].split() == ["background", f"{100 * iou:.1f}", f"{100 * f1:.1f}"]
    assert table[-1].startswith("pixel accuracy")


def test_faulty_photos_are_left_out_and_named_if_asked(main_model_file, tmp_path, capsys):
    for path in SAMPLES.glob("*.jpg"):
        shutil.copy(path, tmp_path)
    (tmp_path / "0007.jpg").unlink()
    arguments = ("--annotations", df.samples.annotations_path(), "--images", tmp_path, "--quiet")
    arguments += ("--label-map", "ccp", "--model", main_model_file, "--json", "--skip-broken")
    assert run("evaluate", *arguments) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["photos"] == 11
    assert "left out: " in printed.err
    assert "0007" in printed.err


@pytest.fixture
def tiny_backbone(monkeypatch):
    import keras

    from deeplab_fashion import backbones

    def tiny(weights):
        x = image = keras.Input((None, None, 3))
        for stride in (2, 4, 8, 16, 32):
            x = keras.layers.Conv2D(4, 3, 2, "same", activation="relu", name=f"to_{stride}")(x)
        return keras.Model(image, x)

    monkeypatch.setattr(backbones, "_REGISTRY", {})
    backbones.register("tiny", tiny, features={s: f"to_{s}" for s in (4, 8, 16, 32)})


def test_training_is_validated_on_other_files_or_not_at_all(tiny_backbone, tmp_path, capsys):
    csv = df.samples.annotations_path()
    arguments = ["train", "--annotations", csv, "--images", SAMPLES, "--label-map", "ccp"]
    arguments += ["--backbone", "tiny", "--weights", "none", "--size", "32", "--epochs", "1"]
    lines = csv.read_text().splitlines()
    few = [line for line in lines if line.startswith(("ImageId", lines[1].partition(",")[0]))]
    (tmp_path / "few.csv").write_text("\n".join(few))
    own = ["--validation-annotations", tmp_path / "few.csv", "--run-dir", tmp_path / "own"]
    assert run(*arguments, *own) == 0
    heading, *classes, told, score = capsys.readouterr().out.splitlines()
    assert heading == "Regions of each class on 12 photos, by category:"
    assert [line.split(":")[0].strip() for line in classes] == list(df.taxonomy.MAIN_CLASSES)
    tags = [df.taxonomy.CCP.category(i).name for r in df.samples.load() for i in r.category_ids]
    assert f"dress {tags.count('dress')}" in classes[3]
    assert f"skin {tags.count('skin')}" in classes[0]
    model = tmp_path / "own" / "segmenter.keras"
    assert told == f"Trained on 12 photos; the model of epoch 1 lies in {model}"
    assert score.startswith("Mean IoU on 1 validation photos: ")

    assert run(*arguments, *own) == 0
    assert "own, where 1 of 1 epochs are done" in capsys.readouterr().err

    none = [
        "--validation-share",
        "0",
        "--run-dir",
        tmp_path / "none",
        "--out",
        tmp_path / "x.keras",
    ]
    assert run(*arguments, *none) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == f"Trained on 12 photos; the model of epoch 1 lies in {tmp_path / 'x.keras'}"
    assert Segmenter.load(tmp_path / "x.keras").class_names == df.taxonomy.MAIN_CLASSES


def test_a_class_without_a_region_and_a_warning_are_told(tiny_backbone, tmp_path, capsys):
    label_map = df.taxonomy.LabelMap.from_names(
        {"bodysuit": ["bodysuit"], "shoes": ["shoes"]}, taxonomy=df.taxonomy.CCP
    )
    label_map.to_json(tmp_path / "classes.json")
    df.DeepLabV3Plus(6, backbone="tiny", weights=None).save(tmp_path / "six.keras")
    arguments = ["--annotations", df.samples.annotations_path(), "--images", SAMPLES]
    arguments += ["--label-map", tmp_path / "classes.json", "--backbone", "tiny", "--size", "32"]
    arguments += ["--weights", tmp_path / "six.keras", "--run-dir", tmp_path / "run"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run("train", *arguments, "--epochs", "1") == 0
    printed = capsys.readouterr()
    assert "  bodysuit: none\n" in printed.out
    assert printed.err.startswith("deeplab-fashion: warning: loaded all weights of ")


def test_train_then_segment(tiny_backbone, tmp_path, capsys):
    arguments = ["--annotations", df.samples.annotations_path(), "--images", SAMPLES, "--quiet"]
    arguments += ["--label-map", "ccp", "--backbone", "tiny", "--weights", "none", "--json"]
    arguments += ["--size", "32", "--epochs", "1", "--batch-size", "6", "--no-augmentation"]
    arguments += ["--validation-share", "0.25", "--loss", "dice", "--run-dir", tmp_path / "run"]
    status = run("train", *arguments)
    answer = json.loads(capsys.readouterr().out)
    assert status == 0
    assert answer["model"] == str(tmp_path / "run" / "segmenter.keras")
    assert answer["best_epoch"] == 1
    assert 0 <= answer["mean_iou"] <= 1
    assert len(answer["history"]["loss"]) == 1
    segmenter = Segmenter.load(answer["model"])
    assert segmenter.class_names == df.taxonomy.MAIN_CLASSES
    assert segmenter.options.working_size == (32, 32)
    assert not segmenter.options.keep_aspect
    assert segmenter(df.samples.photo()).labels.shape == df.samples.load()[0].size


def test_info_describes_the_package_and_a_model(model_file, capsys):
    assert run("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["version"] == df.__version__
    assert tuple(facts["class_names"]) == df.taxonomy.MAIN_CLASSES
    assert run("info", "--quiet", "--model", model_file) == 0
    printed = capsys.readouterr().out
    assert "background, red, green, blue" in printed
    assert "parameters      16\n" in printed


@pytest.mark.parametrize("command", ["segment", "train", "evaluate", "export", "info"])
def test_help_shows_examples_that_parse(command, capsys):
    from deeplab_fashion.__main__ import _parser

    with pytest.raises(SystemExit) as stopped:
        run(command, "--help")
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    examples = printed.split("examples:\n")[1].replace("\\\n", " ").strip().splitlines()
    for example in examples:
        words = example.split()
        assert words[:2] == ["deeplab-fashion", command]
        _parser().parse_args(words[1:])


def test_the_installed_program_says_one_line_when_it_fails(tmp_path):
    program = [sys.executable, "-m", "deeplab_fashion"]
    result = subprocess.run(
        [*program, "segment", "none.jpg", "--model", tmp_path / "none.keras"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines == [f"deeplab-fashion: error: model {tmp_path / 'none.keras'} does not exist"]
    version = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"deeplab-fashion {df.__version__}\n"


@pytest.mark.skipif(os.name == "nt", reason="sends a signal of POSIX")
def test_ctrl_c_leaves_no_half_written_file(photo, model_file, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for index in range(3000):
        os.link(photo, many / f"{index:04d}.png")
    out = tmp_path / "out"
    program = [sys.executable, "-m", "deeplab_fashion"]
    process = subprocess.Popen(
        [*program, "segment", many, "--quiet", "--model", model_file, "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # where the tests run in the background, the signal is ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(600):
        if process.poll() is not None or (out / "0002_regions.json").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (
        1,
        "deeplab-fashion: error: stopped; files already written are whole; "
        "the same command goes on from them\n",
    )
    written = sorted(out.iterdir())
    assert 9 <= len(written) < 3000
    for path in written:
        assert path.suffix in (".png", ".json")
        assert not path.name.startswith(".")
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            with Image.open(path) as picture:
                picture.load()


def test_ctrl_c_while_tensorflow_loads_shows_nothing_of_what_it_said(capfd):
    from deeplab_fashion.__main__ import _heavy_imports

    def load(stopped):
        with _heavy_imports():
            os.write(2, b"chatter\n")
            raise stopped

    with pytest.raises(KeyboardInterrupt):
        load(KeyboardInterrupt)
    assert capfd.readouterr().err == ""
    with pytest.raises(ImportError):
        load(ImportError)
    assert capfd.readouterr().err == "chatter\n"


def test_a_reader_that_has_gone_is_no_failure_to_report():
    program = [sys.executable, "-m", "deeplab_fashion", "info"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(program, env=buffered, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_what_tensorflow_says_is_shown_if_it_does_not_load(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import sys\nprint('no such instruction', file=sys.stderr)\nraise ImportError('broken')\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "deeplab_fashion", "segment", "photo.jpg"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["no such instruction", "deeplab-fashion: error: broken"]
