import dataclasses
import json
import re
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import deeplab_fashion as df
from deeplab_fashion import _canvas, photos
from deeplab_fashion.errors import CheckpointError, ImageError
from deeplab_fashion.inference import Options, Segmenter, photos_in

NAMES = ("background", "red", "green", "blue")
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.fixture(scope="module")
def segmenter(colour_model):
    return Segmenter(colour_model, NAMES, working_size=256)


def scene(height, width):
    """Return a photo of coloured rectangles whose edges lie on tenths, and its labels."""
    labels = np.zeros((10, 10), np.uint8)
    labels[1:6, 1:4] = 1
    labels[4:9, 5:8] = 2
    labels[0:2, 8:] = 3
    rows, columns = np.arange(height) * 10 // height, np.arange(width) * 10 // width
    labels = labels[rows][:, columns]
    return COLOURS[labels], labels


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (120, 200), (333, 101), (16, 1000), (1, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tta": True},
        {"tta": (0.75, 1.0, 1.5)},
        {"tile": 64, "working_size": 64},
        {"tile": 50, "working_size": 100},
        {"tile": 50, "working_size": 64, "tta": True, "overlap": 0.5},
        {"working_size": (200, 150), "keep_aspect": False},
    ],
)
def test_every_way_of_looking_finds_the_same_colours(segmenter, size, options):
    photo, labels = scene(*size)
    result = segmenter(photo, **options)
    assert result.labels.shape == size
    assert result.labels.dtype == np.uint8
    edge = 1 + max(size) // 128  # pixels by which a resized edge may be off
    wrong = result.labels != labels
    assert wrong.sum() <= edge * 40 if min(size) < 100 else wrong.mean() < 0.02


def test_tiles_at_the_photos_own_resolution_are_exact(segmenter):
    random = np.random.default_rng(0)
    labels = np.kron(random.integers(0, 4, (23, 37)), np.ones((9, 7), int))
    result = segmenter(COLOURS[labels], tile=64, working_size=64)
    np.testing.assert_array_equal(result.labels, labels)


def test_tiles_blend_without_seams():
    """Each tile answers by its own left edge; blended, the answer changes gradually."""

    class FromTheLeft(keras.layers.Layer):
        def call(self, image):
            ramp = keras.ops.cumsum(keras.ops.ones_like(image[..., :1]), axis=2) / 64.0
            return keras.ops.concatenate([1 - ramp, ramp], axis=-1)

    image = keras.Input((64, 64, 3))
    model = keras.Model(image, keras.layers.Softmax()(FromTheLeft()(image)))
    result = Segmenter(model, ("background", "right"))(
        np.zeros((64, 300, 3), np.uint8), tile=64, overlap=0.5, probabilities=True
    )
    alone = 1 / (1 + np.exp(1 - 2 * np.arange(1, 65) / 64))
    jumps = np.abs(np.diff(result.probabilities[32, :, 1]))
    assert jumps.max() < (alone[-1] - alone[0]) / 10


def test_canvas_streams_the_same_rows_that_it_would_hold(colour_model):
    photo = np.random.default_rng(1).integers(0, 256, (301, 157, 3), np.uint8)
    segmenter = Segmenter(colour_model, NAMES)
    streamed = segmenter(photo, tile=40, working_size=31)
    kept = segmenter(photo, tile=40, working_size=31, probabilities=True)
    np.testing.assert_array_equal(streamed.labels, kept.labels)
    np.testing.assert_array_equal(kept.probabilities.argmax(axis=-1), kept.labels)
    best = kept.probabilities.max(axis=-1) * 255
    assert np.abs(best - streamed.confidence).max() <= 0.5001
    with pytest.raises(ValueError, match="probabilities=True"):
        _ = streamed.probabilities


def test_probabilities_are_the_softmax_at_the_photos_own_size(colour_model):
    photo = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    result = Segmenter(colour_model, NAMES, working_size=30)(photo)
    logits = np.concatenate([np.full((20, 30, 1), 12.0), photo * 0.1], axis=-1)
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)
    assert result.probabilities.dtype == np.float32


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_models_that_already_give_probabilities(colour_model, activation):
    head = keras.layers.Activation(activation)
    model = keras.Sequential([keras.Input((None, None, 3)), colour_model, head])
    photo = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    answer = keras.ops.convert_to_numpy(model(photo[None].astype(np.float32)))[0]
    result = Segmenter(model, NAMES, working_size=30)(photo)
    expected = answer / answer.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)


def test_mirror_image_is_averaged(colour_model):
    """A model that looks one pixel to the left becomes symmetric."""
    shift = keras.layers.Conv2D(4, (1, 3), padding="same")
    model = keras.Sequential([keras.Input((None, None, 3)), shift])
    kernel = np.zeros((1, 3, 3, 4), np.float32)
    kernel[0, 0] = colour_model.get_weights()[0][0, 0]
    model.set_weights([kernel, np.array([12, 0, 0, 0], np.float32)])
    photo = np.zeros((32, 32, 3), np.uint8)
    photo[:, 10:22] = 255, 0, 0
    one_sided = Segmenter(model, NAMES, working_size=32)(photo).probabilities[..., 1]
    both = Segmenter(model, NAMES, working_size=32)(photo, tta=True).probabilities[..., 1]
    np.testing.assert_allclose(both, (one_sided + one_sided[:, ::-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(both, both[:, ::-1], atol=1e-6)


def test_a_model_of_fixed_size_sees_the_photo_in_a_grey_frame(colour_model):
    image = keras.Input((96, 64, 3))
    model = keras.Model(image, colour_model(image))
    segmenter = Segmenter(model, NAMES)
    assert segmenter.options.working_size == (96, 64)
    photo, labels = scene(100, 200)
    assert (segmenter(photo).labels != labels).mean() < 0.05
    np.testing.assert_array_equal(segmenter(photo, tile=50).labels, labels)
    with pytest.raises(ValueError, match=r"fixed size \(96, 64\), got 128"):
        Segmenter(model, NAMES, working_size=128)
    with pytest.raises(ValueError, match="tta scales must fit the model's fixed size"):
        segmenter(photo, tta=(1.0, 1.5))


def saved(path, photo, **options):
    Image.fromarray(photo).save(path, **options)
    return path


def test_photos_of_every_kind_give_the_same_masks(segmenter, tmp_path):
    photo, labels = scene(120, 200)
    rgb = Image.fromarray(photo)
    rgb.save(tmp_path / "rgb.png")
    rgb.save(tmp_path / "lossy.jpg", quality=95, subsampling=0)
    rgb.convert("CMYK").save(tmp_path / "cmyk.tif")
    rgb.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    rgb.convert("RGBA").save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6
    for file in files:
        wrong = (segmenter(file).labels != labels).mean()
        assert wrong < 0.02, file.name
    for given in (rgb, rgb.convert("RGBA"), str(tmp_path / "rgb.png"), np.array(rgb)):
        np.testing.assert_array_equal(segmenter(given).labels, segmenter(photo).labels)


def test_transparent_and_grey_and_16_bit_photos(segmenter, tmp_path):
    photo, labels = scene(120, 200)
    see_through = np.dstack([photo, np.where(labels == 3, 0, 255).astype(np.uint8)])
    on_white = photo.copy()
    on_white[labels == 3] = 255
    np.testing.assert_array_equal(segmenter(see_through).labels, segmenter(on_white).labels)

    grey = photo.max(axis=2)
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    for name, picture in (
        ("grey.png", Image.fromarray(grey)),
        ("grey.jpg", Image.fromarray(grey)),
        ("sixteen.png", Image.fromarray(grey.astype(np.uint16) * 257)),
        ("sixteen.tif", Image.fromarray(grey.astype(np.uint16) * 257)),
    ):
        picture.save(tmp_path / name, quality=100)
        found = segmenter(tmp_path / name)
        assert (found.labels != segmenter(as_rgb).labels).mean() < 0.02, name
    for array in (grey, grey[..., None]):
        np.testing.assert_array_equal(segmenter(array).labels, segmenter(as_rgb).labels)


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (np.zeros((4, 4, 3)), TypeError, "must be uint8, 0 to 255, got float64"),
        (np.zeros((4, 4, 5), np.uint8), ValueError, r"got \(4, 4, 5\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, "use predict_many"),
        (np.zeros((0, 4, 3), np.uint8), ImageError, "at least one pixel"),
        ("a" * 300 + ".jpg", ImageError, "photo a+.jpg cannot be read"),
        (np.zeros((40, 40, 3), np.uint8), ImageError, "1600 pixels, more than max_pixels, 1000"),
        (Image.new("RGB", (40, 40)), ImageError, "1600 pixels, more than max_pixels, 1000"),
        (7, TypeError, "got int"),
        ("no/such/photo.jpg", ImageError, "photo no/such/photo.jpg does not exist"),
    ],
)
def test_what_is_no_photo_is_refused_by_name(segmenter, image, kind, message):
    with pytest.raises(kind, match=message):
        segmenter(image, max_pixels=1000)


@pytest.fixture
def cut_short(tmp_path):
    saved(tmp_path / "cut.jpg", scene(120, 200)[0])
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "cut.jpg"


def test_a_damaged_photo_is_named_and_left_out_even_if_it_was_opened_before(segmenter, cut_short):
    with pytest.raises(ImageError, match=r"photo .*cut\.jpg is damaged"):
        segmenter(cut_short)
    with Image.open(cut_short) as opened, pytest.raises(ImageError, match=r"cut\.jpg is damaged"):
        segmenter(opened)
    with Image.open(cut_short) as opened:
        stream = segmenter.predict_many([opened, scene(20, 30)[0]])
        assert [result.labels.shape for result in stream] == [(20, 30)]
    assert [failed.photo for failed in stream.failed] == ["photo_00000"]
    floats = Image.fromarray(np.zeros((4, 4), np.float32))
    with pytest.raises(ImageError, match="holds floats"):
        segmenter(floats)


def test_a_photo_that_cannot_be_looked_at_is_left_out_but_a_full_disk_stops(segmenter, tmp_path):
    good = saved(tmp_path / "good.png", scene(20, 30)[0])
    long = "a" * 300 + ".jpg"
    stream = segmenter.predict_many([long, tmp_path, good], out=tmp_path / "out")
    assert [result.name for result in stream] == ["good"]
    assert [failed.photo for failed in stream.failed] == [long, str(tmp_path)]
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        list(segmenter.predict_many([good], out=tmp_path / "file"))


def test_pixel_floods_are_refused_before_they_are_decoded(segmenter, tmp_path):
    flood = tmp_path / "flood.png"
    Image.new("1", (20_000, 20_000)).save(flood)
    with pytest.raises(ImageError, match=r"flood\.png has 400000000 pixels.*raise max_pixels"):
        segmenter(flood)
    small = saved(tmp_path / "small.png", scene(40, 40)[0])
    assert segmenter(small, max_pixels=1600).labels.shape == (40, 40)
    with pytest.raises(ImageError, match=r"small\.png has 1600 pixels"):
        segmenter(small, max_pixels=1599)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"working_size": 8}, "working_size must be .* at least 16, got 8"),
        ({"tile": 4}, "tile must be None or at least 16, got 4"),
        ({"overlap": 1.0}, "overlap must be at least 0 and below 1, got 1.0"),
        ({"tta": ()}, "tta must be True, False or scales"),
        ({"tta": (0.0,)}, r"tta must be .* got \(0.0,\)"),
        ({"min_area": -1}, "min_area must be at least 0, got -1"),
    ],
)
def test_options_name_their_rule(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"working_size": 512.0}, "working_size must be .* whole pixels, got 512.0"),
        ({"working_size": None}, "working_size must be .*, got None"),
        ({"working_size": "512"}, "working_size must be .*, got '512'"),
        ({"working_size": (256.7, 256.2)}, "working_size must be .*, got 256.7"),
        ({"tile": 64.5}, "tile must be None or a whole number of pixels, got 64.5"),
        ({"overlap": "0.5"}, "overlap must be a number, got '0.5'"),
        ({"tta": None}, "tta must be True, False or scales of 0.1 to 10, got None"),
        ({"tta": 1.5}, "tta must be .*, got 1.5"),
        ({"tta": "1"}, "tta must be .*, got '1'"),
        ({"tta": ("1", 1.5)}, "tta must be .*, got .'1', 1.5."),
        ({"min_area": None}, "min_area must be a whole number of pixels, got None"),
        ({"max_pixels": 1e8}, "max_pixels must be a whole number of pixels, got 100000000.0"),
    ],
)
def test_options_name_the_type_that_they_want(options, message):
    with pytest.raises(TypeError, match=message):
        Options(**options)


def test_numpys_numbers_are_options_and_can_be_saved(colour_model, tmp_path):
    given = {
        "working_size": np.int64(256),
        "tile": np.int64(64),
        "overlap": np.float32(0.5),
        "tta": (np.float64(0.75), 1),
        "min_area": np.uint8(3),
    }
    plain = {
        "working_size": 256,
        "tile": 64,
        "overlap": 0.5,
        "tta": (0.75, 1.0),
        "min_area": 3,
    }
    segmenter = Segmenter(colour_model, NAMES, **given)
    assert segmenter.options == Options(**plain)
    segmenter.save(tmp_path / "colours.keras")
    assert Segmenter.load(tmp_path / "colours.keras").options == Options(**plain)
    assert Options(working_size=(np.int64(32), 48)).working_size == (32, 48)
    assert Options(tta=np.True_).tta is True


def test_models_of_another_kind_are_refused(colour_model):
    class Own(keras.Model):
        def call(self, image):
            return colour_model(image)

    message = "functional or sequential Keras model whose shapes are known, got Own"
    with pytest.raises(ValueError, match=message):
        Segmenter(Own(), NAMES)
    image = keras.Input((None, None, 3))
    assert Segmenter(keras.Model(image, Own()(image)), NAMES).class_names == NAMES
    one = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(1, 1)])
    with pytest.raises(ValueError, match=r"at least 2 classes, but gives .*None, 1\)"):
        Segmenter(one, ("background",))


def test_scores_of_another_size_than_the_photo_are_refused():
    def coarse(size):
        layer = keras.layers.Conv2D(4, 1, strides=4)
        return keras.Sequential([keras.Input((*size, 3)), layer])

    with pytest.raises(ValueError, match=r"answers to \(64, 96\) with \(16, 24\)"):
        Segmenter(coarse((64, 96)), NAMES)
    segmenter = Segmenter(coarse((None, None)), NAMES, working_size=40)
    with pytest.raises(ValueError, match=r"answers to \(20, 40\) with \(5, 10\)"):
        segmenter(np.zeros((20, 40, 3), np.uint8))


def test_class_names_must_fit_the_model(colour_model):
    with pytest.raises(ValueError, match=r"output is \(None, None, None, 4\), got 2"):
        Segmenter(colour_model, ("background", "red"))
    with pytest.raises(ValueError, match="different names"):
        Segmenter(colour_model, ("background", "red", "red", "blue"))
    flat = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="model must take"):
        Segmenter(flat, NAMES)


def test_scores_that_are_no_numbers_are_refused(colour_model):
    broken = keras.models.clone_model(colour_model)
    broken.set_weights([np.full((1, 1, 3, 4), np.nan, np.float32), np.zeros(4, np.float32)])
    with pytest.raises(ValueError, match="must be numbers, got NaN"):
        Segmenter(broken, NAMES)(np.zeros((20, 20, 3), np.uint8))


def test_where_a_sigmoid_underflows_no_class_is_likelier(colour_model):
    conv = keras.layers.Conv2D(4, 1, activation="sigmoid")
    model = keras.Sequential([keras.Input((None, None, 3)), conv])
    kernel, _ = colour_model.get_weights()
    model.set_weights([10 * kernel, np.full(4, -120, np.float32)])
    photo, labels = scene(40, 50)
    result = Segmenter(model, NAMES, working_size=50)(photo)
    np.testing.assert_array_equal(result.labels, labels)
    np.testing.assert_allclose(result.probabilities[labels == 0], 0.25)
    dark = Segmenter(model, NAMES, working_size=50)(np.zeros((20, 30, 3), np.uint8))
    assert not dark.labels.any()


def test_of_scores_below_an_even_share_the_largest_wins():
    planes = np.full((3, 2, 2), 0.1, np.float32)
    planes[1, 0] = planes[2, 1] = 0.2
    labels, confidence, _ = _canvas.label(iter([planes]), (2, 2), (2, 2), keep=False)
    assert labels.tolist() == [[1, 1], [2, 2]]
    assert confidence.tolist() == [[51, 51], [51, 51]]


def test_specks_are_cleaned_on_request(segmenter):
    photo, labels = scene(100, 100)
    photo[50, 95] = 255
    speckled = segmenter(photo, tile=64, working_size=64)
    assert (speckled.labels != labels).sum() == 1
    clean = segmenter(photo, tile=64, working_size=64, min_area=10)
    np.testing.assert_array_equal(clean.labels, labels)


def test_resizing_in_pieces_is_resizing_the_whole(monkeypatch):
    photo = photos.read(df.samples.photo())
    height, width = photo.shape[:2]
    whole = photos.resize(photo, (300, 211))
    np.testing.assert_array_equal(_canvas.resized(photo, (0, 0, height, width), (300, 211)), whole)
    monkeypatch.setattr(_canvas, "_CHUNK", 20_000)
    pieces = _canvas.resized(photo, (0, 0, height, width), (300, 211))
    assert np.abs(pieces.astype(int) - whole).max() <= 1


def test_saved_and_loaded_it_is_the_same(segmenter, tmp_path):
    path = tmp_path / "colours.keras"
    segmenter.save(path)
    loaded = Segmenter.load(path)
    assert loaded.class_names == NAMES
    assert loaded.options == segmenter.options
    photo = photos.read(df.samples.photo())
    np.testing.assert_array_equal(loaded(photo).probabilities, segmenter(photo).probabilities)
    assert Segmenter.load(path, tile=99).options.tile == 99
    plain = keras.models.load_model(path)
    np.testing.assert_array_equal(plain.get_weights()[0], segmenter.model.get_weights()[0])
    with pytest.raises(ValueError, match=r"path must end in \.keras, got .*colours\.h5"):
        segmenter.save(tmp_path / "colours.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["colours.keras"]


def test_a_model_file_that_is_not_whole_is_refused(segmenter, tmp_path):
    path = tmp_path / "colours.keras"
    segmenter.save(path)
    whole = path.read_bytes()
    for name, content in (
        ("short.keras", whole[: len(whole) // 2]),
        ("empty.keras", b""),
        ("changed.keras", whole.replace(b"keras_version", b"keras_vErsion")),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            Segmenter.load(tmp_path / name)
    segmenter.model.save(tmp_path / "plain.keras")
    with pytest.raises(CheckpointError, match=r"plain\.keras .* names no classes"):
        Segmenter.load(tmp_path / "plain.keras")
    with pytest.raises(CheckpointError, match="does not exist"):
        Segmenter.load(tmp_path / "none.keras")
    with pytest.raises(CheckpointError, match="is a folder; name the file in it"):
        Segmenter.load(tmp_path)
    with pytest.raises(TypeError, match="class_names must be several names, got the text 'a'"):
        Segmenter(segmenter.model, "a")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("deeplab_fashion.json", '{"class_names": ["a"]}')
    with pytest.raises(CheckpointError, match=r"colours\.keras cannot be loaded"):
        Segmenter.load(path)


def test_an_interrupted_save_leaves_the_old_file(segmenter, tmp_path, monkeypatch):
    path = tmp_path / "colours.keras"
    path.write_bytes(b"old")

    def interrupted(part):
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(segmenter.model, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        segmenter.save(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("colours.keras", b"old")]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    (root / "below").mkdir(parents=True)
    saved(root / "a.png", scene(40, 50)[0])
    saved(root / "a.bmp", scene(30, 50)[0])
    saved(root / "below" / "c.png", scene(50, 40)[0])
    (root / "broken.jpg").write_bytes(b"no photo")
    (root / ".hidden.png").write_bytes(b"")
    (root / "notes.txt").write_text("no photo")
    return root


def test_a_folder_is_segmented_past_its_broken_photo(segmenter, folder, tmp_path, capsys):
    out = tmp_path / "out"
    stream = segmenter.predict_many(folder, out=out, show_progress=True)
    assert stream.total == 4
    results = {result.name: result for result in stream}
    assert {name: r.labels.shape for name, r in results.items()} == {
        "a.bmp": (30, 50),
        "a.png": (40, 50),
        "c": (50, 40),
    }
    assert [failure.photo for failure in stream.failed] == [str(folder / "broken.jpg")]
    assert "is not an image of a known format" in stream.failed[0].reason
    assert "4/4" in capsys.readouterr().err
    for name, result in results.items():
        with Image.open(out / f"{name}_labels.png") as labels:
            assert labels.mode == "P"
            np.testing.assert_array_equal(np.asarray(labels), result.labels)


TOGETHER = []


class Counting(keras.layers.Layer):
    """Passes its input on and notes how many photos came together."""

    def call(self, photo):
        tf.py_function(lambda count: TOGETHER.append(int(count)), [tf.shape(photo)[0]], [])
        return photo


@pytest.mark.parametrize("options", [{}, {"tta": (0.8, 1.0)}, {"precision": "auto"}])
def test_photos_of_one_size_go_through_the_network_together(colour_model, options):
    TOGETHER.clear()
    image = keras.Input((None, None, 3))
    together = Segmenter(keras.Model(image, colour_model(Counting()(image))), NAMES)
    sizes = [(40, 60), (40, 60), (40, 60), (60, 40), (40, 60), (40, 60)]
    photos = [
        scene(*size)[0] if i else COLOURS[np.zeros(size, int)] for i, size in enumerate(sizes)
    ]
    photos.insert(2, np.zeros((4, 4, 7), np.uint8))
    stream = together.predict_many(photos, batch_size=2, working_size=60, **options)
    alone = Segmenter(colour_model, NAMES, working_size=60)
    good = [photo for i, photo in enumerate(photos) if i != 2]
    for result, photo in zip(stream, good, strict=True):
        expected = alone(photo, **options)
        np.testing.assert_array_equal(result.photo, photo)
        np.testing.assert_array_equal(result.labels, expected.labels)
        np.testing.assert_allclose(result.probabilities, expected.probabilities, atol=1e-5)
    assert [failed.photo for failed in stream.failed] == ["photo_00002"]
    if "precision" not in options:
        seen = [2, 1, 1, 2]
        scales, mirrored = (2, 2) if "tta" in options else (1, 1)
        assert np.repeat(seen, scales).tolist() == [count / mirrored for count in TOGETHER]
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        together.predict_many(photos, batch_size=0)


def test_precision_chooses_how_the_network_computes(colour_model):
    photo, labels = scene(64, 64)
    segmenter = Segmenter(colour_model, NAMES, working_size=64)
    exact = segmenter(photo)
    for precision in ("bfloat16", "auto"):
        result = segmenter(photo, precision=precision)
        np.testing.assert_array_equal(result.labels, labels)
        np.testing.assert_allclose(result.probabilities, exact.probabilities, atol=0.05)
    with pytest.raises(ValueError, match=r"precision must be one of .*, got 'int8'"):
        segmenter(photo, precision="int8")


def test_a_folder_resumes_where_it_stopped(segmenter, folder, tmp_path):
    out = tmp_path / "out"
    stream = segmenter.predict_many(folder, out=out)
    next(stream)
    del stream  # stopped after one photo
    again = segmenter.predict_many(folder, out=out)
    assert len(list(again)) == 2
    assert list(again.resumed) == [str(folder / "a.bmp")]
    assert list(segmenter.predict_many(folder, out=out)) == []
    # Another option, a changed photo or no wish to resume: the work is done anew.
    assert len(list(segmenter.predict_many(folder, out=out, tta=True))) == 3
    saved(folder / "a.png", scene(44, 50)[0])
    assert [r.labels.shape for r in segmenter.predict_many(folder, out=out, tta=True)] == [(44, 50)]
    assert len(list(segmenter.predict_many(folder, out=out, tta=True, resume=False))) == 3
    (out / "c_labels.png").unlink()
    assert [r.name for r in segmenter.predict_many(folder, out=out, tta=True)] == ["c"]
    without = {"out": out, "tta": True, "cutouts": False}
    assert len(list(segmenter.predict_many(folder, **without))) == 3
    assert len(list(segmenter.predict_many(folder, **without))) == 0
    assert not list(out.glob("*_cutout_*"))
    assert len(list(segmenter.predict_many(folder, out=out, tta=True))) == 3
    assert list(out.glob("c_cutout_*"))
    (out / "c_regions.json").write_text("{half")
    assert [r.name for r in segmenter.predict_many(folder, out=out, tta=True, resume=True)] == ["c"]


def test_many_arrays_and_stopping_at_the_first_fault(segmenter):
    batch = np.stack([scene(40, 50)[0]] * 3)
    results = list(segmenter.predict_many(batch))
    assert [result.name for result in results] == ["photo_00000", "photo_00001", "photo_00002"]
    for result in results:
        np.testing.assert_array_equal(result.labels, segmenter(batch[0]).labels)
    with pytest.raises(ImageError, match="does not exist"):
        list(segmenter.predict_many(["none.png"], on_error="raise"))
    with pytest.raises(ImageError, match="folder no-folder does not exist"):
        segmenter.predict_many("no-folder")
    with pytest.raises(ValueError, match="on_error"):
        segmenter.predict_many([], on_error="ignore")


def test_one_photo_is_not_taken_for_many(segmenter, tmp_path):
    message = "for one photo call the segmenter itself, got an array of shape (20, 30, 3)"
    with pytest.raises(TypeError, match=re.escape(message)):
        segmenter.predict_many(scene(20, 30)[0])
    with pytest.raises(TypeError, match="got a PIL image of 30 x 20 pixels"):
        segmenter.predict_many(Image.new("RGB", (30, 20)))
    paths = np.array([str(saved(tmp_path / "a.png", scene(20, 30)[0]))])
    assert [result.name for result in segmenter.predict_many(paths)] == ["a"]


def test_probabilities_of_many_photos_in_tiles_are_kept_on_request(segmenter):
    photo = scene(60, 90)[0]
    options = {"tile": 40, "working_size": 40}
    (result,) = segmenter.predict_many([photo], probabilities=True, **options)
    alone = segmenter(photo, probabilities=True, **options)
    np.testing.assert_array_equal(result.probabilities, alone.probabilities)


def test_photos_in_a_folder_are_found_by_their_ending(folder):
    names = [path.relative_to(folder).as_posix() for path in photos_in(folder)]
    assert names == ["a.bmp", "a.png", "below/c.png", "broken.jpg"]


def test_results_within_the_folder_are_not_taken_for_photos(segmenter, folder):
    first = [r.name for r in segmenter.predict_many(folder, out=folder / "below" / "masks")]
    again = segmenter.predict_many(folder, out=folder / "below" / "masks", resume=False)
    assert [r.name for r in again] == first == ["a.bmp", "a.png", "c"]
    assert photos_in(folder / "below", leave_out=folder) == [
        *sorted((folder / "below").glob("*.png")),
        *sorted((folder / "below" / "masks").glob("*.png")),
    ]
    with pytest.raises(ValueError, match="results must go to another folder than the photos"):
        segmenter.predict_many(folder, out=folder)


def test_confusion_counts_every_pixel_at_its_own_size(colour_model, tmp_path):
    categories = [df.taxonomy.Category(i, name, "") for i, name in enumerate(NAMES)]
    label_map = df.taxonomy.LabelMap.from_names(
        {name: [name] for name in NAMES}, taxonomy=df.taxonomy.Taxonomy("colours", categories)
    )
    photo, labels = scene(60, 90)
    truth = labels.copy()
    truth[labels == 3] = 2
    regions = tuple(df.rle.RunLengthMask.from_mask(truth == label) for label in (1, 2))
    record = df.annotations.ImageAnnotation(
        "one", saved(tmp_path / "one.png", photo), (60, 90), regions, (1, 2)
    )
    segmenter = Segmenter(colour_model, NAMES, tile=64, working_size=64)
    confusion = segmenter.confusion([record, record], label_map)
    np.testing.assert_array_equal(confusion, 2 * df.scores.confusion_matrix(truth, labels, 4))
    with pytest.raises(ValueError, match="label_map must lead to the classes"):
        segmenter.confusion([record], df.taxonomy.CCP_TO_MAIN)
    turned = dataclasses.replace(
        record, size=(90, 60), regions=[region.resize((90, 60)) for region in regions]
    )
    with pytest.raises(ImageError, match=r"image one: .* size \(60, 90\), .* is for \(90, 60\)"):
        segmenter.confusion([turned], label_map)


def test_of_a_network_with_an_auxiliary_head_the_first_answers(colour_model):
    image = keras.Input((None, None, 3))
    logits = colour_model(image)
    model = keras.Model(image, {"logits": logits, "auxiliary": -logits})
    photo, labels = scene(40, 50)
    np.testing.assert_array_equal(Segmenter(model, NAMES, working_size=50)(photo).labels, labels)


@pytest.mark.parametrize("error", [MemoryError("no room"), ValueError("no room")])
def test_a_photo_that_fails_on_the_way_is_left_out_alone(segmenter, monkeypatch, error):
    whole = Segmenter._segment

    def fail_once(self, view, *arguments, **options):
        if view.name == "photo_00001":
            raise error
        return whole(self, view, *arguments, **options)

    monkeypatch.setattr(Segmenter, "_segment", fail_once)
    stream = segmenter.predict_many([scene(20, 30)[0]] * 3)
    assert [result.name for result in stream] == ["photo_00000", "photo_00002"]
    assert [(failed.photo, failed.reason) for failed in stream.failed] == [
        ("photo_00001", "no room")
    ]


def test_written_regions_name_what_they_were_made_from(segmenter, folder, tmp_path):
    list(segmenter.predict_many([folder / "a.png"], out=tmp_path / "out"))
    info = json.loads((tmp_path / "out" / "a_regions.json").read_text())["info"]
    assert info["photo"] == "a.png"
    assert info["bytes"] == (folder / "a.png").stat().st_size
    assert info["options"]["working_size"] == 256


def test_written_regions_lead_back_to_the_photos(segmenter, folder, tmp_path):
    list(segmenter.predict_many(folder, out=tmp_path / "out"))
    for name, photo in (("a.bmp", "a.bmp"), ("a.png", "a.png"), ("c", "c.png")):
        regions = json.loads((tmp_path / "out" / f"{name}_regions.json").read_text())
        assert regions["images"][0]["file_name"] == photo
    with Image.open(folder / "a.png") as opened:
        result = segmenter(opened)
    assert (result.name, result.file_name) == ("a", "a.png")
    result = segmenter(scene(20, 30)[0])
    assert result.to_coco()["images"][0]["file_name"] == "photo"
