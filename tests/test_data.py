"""The data pipeline: photos of every kind, painted labels, epochs that are pure functions."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import deeplab_fashion as df
from deeplab_fashion import photos
from deeplab_fashion.annotations import ImageAnnotation
from deeplab_fashion.data import IGNORE, PADDING, Augmentation, make_dataset
from deeplab_fashion.data.augmentation import warp
from deeplab_fashion.errors import ImageError
from deeplab_fashion.taxonomy import CCP_TO_MAIN

STILL = Augmentation(
    flip=0,
    scale=(1, 1),
    rotation=0,
    brightness=0,
    contrast=0,
    saturation=0,
    hue=0,
    blur=0,
    cutout=0,
)


def varied(**changes: Any) -> Augmentation:
    """Return an augmentation that does nothing but what is given."""
    return Augmentation(**{**STILL.__dict__, **changes})


def gradient_photo(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    photo = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1)
    return photo.astype(np.uint8)


def annotated(
    folder: Path, name: str, size: tuple[int, int] = (40, 30), category: str = "coat"
) -> ImageAnnotation:
    """Write a photo, and annotate its upper left quarter."""
    path = folder / f"{name}.png"
    Image.fromarray(gradient_photo(*size)).save(path)
    mask = np.zeros(size, bool)
    mask[: size[0] // 2, : size[1] // 2] = True
    region = df.rle.RunLengthMask.from_mask(mask)
    return ImageAnnotation(name, path, size, (region,), (df.taxonomy.CCP.index(category),))


def category_id(name: str) -> int:
    return df.taxonomy.CCP.index(name)


def arrays(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*[(x.numpy(), y.numpy()) for x, y in dataset], strict=True)
    return np.concatenate(images), np.concatenate(labels)


def same(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def records() -> Any:
    return df.samples.load()


class TestPhotos:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_honoured(self, tmp_path: Path, orientation: int) -> None:
        photo = gradient_photo(20, 30)
        upright = {
            1: photo,
            2: photo[:, ::-1],
            3: photo[::-1, ::-1],
            4: photo[::-1],
            5: photo.swapaxes(0, 1),
            6: photo[::-1].swapaxes(0, 1),
            7: photo[::-1, ::-1].swapaxes(0, 1),
            8: photo[:, ::-1].swapaxes(0, 1),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / "photo.png"
        Image.fromarray(photo).save(path, exif=exif)
        assert np.array_equal(photos.read(path), upright)
        assert photos.size_of(path) == upright.shape[:2]

    def test_a_turned_photo_trains_upright_under_its_labels(self, tmp_path: Path) -> None:
        record = annotated(tmp_path, "photo", (40, 30))
        upright = photos.read(record.path)
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = np.rot90(upright)
        Image.fromarray(np.ascontiguousarray(turned)).save(record.path, exif=exif)
        images, labels = arrays(make_dataset([record], CCP_TO_MAIN, size=(40, 30), batch_size=1))
        assert np.array_equal(images[0], upright)
        assert set(labels[0, :20, :15].ravel()) == {CCP_TO_MAIN.label_of(category_id("coat"))}

    def test_a_jpeg_is_what_tensorflow_decodes(self, records: Any) -> None:
        content = tf.io.read_file(str(records[0].path))
        decoded = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
        assert np.array_equal(photos.read(records[0].path), decoded.numpy())

    def test_a_jpeg_read_smaller_is_upright_large_enough_and_alike(
        self, tmp_path: Path, records: Any
    ) -> None:
        whole = photos.read(records[0].path)
        assert photos.read(records[0].path, at_least=whole.shape[:2]).shape == whole.shape
        wanted = (whole.shape[0] // 3, whole.shape[1] // 3)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.ascontiguousarray(np.rot90(whole))).save(
            tmp_path / "turned.jpg", exif=exif, quality=95
        )
        for path in (records[0].path, tmp_path / "turned.jpg"):
            small = photos.read(path, at_least=wanted)
            assert small.shape[0] == -(-whole.shape[0] // 2)
            assert small.shape[1] == -(-whole.shape[1] // 2)
            fast, slow = (photos.resize(image, wanted).astype(int) for image in (small, whole))
            assert np.abs(fast - slow).mean() < 2

    def test_grey_sixteen_bit_cmyk_and_transparent_photos(self, tmp_path: Path) -> None:
        grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
        cases = {
            "grey.png": (Image.fromarray(grey), np.repeat(grey[..., None], 3, 2)),
            "deep.png": (
                Image.fromarray(grey.astype(np.uint16) * 257),
                np.repeat(grey[..., None], 3, 2),
            ),
            "clear.png": (
                Image.fromarray(
                    np.dstack([grey] * 3 + [np.where(grey > 100, 255, 0)]).astype("u1")
                ),
                np.repeat(np.where(grey > 100, grey, 255)[..., None], 3, 2),
            ),
            "ink.tif": (
                Image.fromarray(np.dstack([grey, grey * 0, grey * 0, grey * 0]), "CMYK"),
                np.dstack([255 - grey, grey * 0 + 255, grey * 0 + 255]),
            ),
        }
        for name, (image, expected) in cases.items():
            image.save(tmp_path / name)
            assert np.array_equal(photos.read(tmp_path / name), expected), name

    def test_what_is_no_photo_is_named(self, tmp_path: Path, records: Any) -> None:
        (tmp_path / "text.jpg").write_text("no photo")
        whole = records[0].path.read_bytes()
        (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        for name in ("missing.jpg", "text.jpg", "cut.jpg"):
            with pytest.raises(ImageError, match=name):
                photos.read(tmp_path / name)
        Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "heat.tiff")
        with pytest.raises(ImageError, match=r"heat.tiff: .* this one holds floats \(mode F\)"):
            photos.read(tmp_path / "heat.tiff")


class TestBatches:
    def test_shapes_types_and_order(self, records: Any) -> None:
        dataset = make_dataset(records, CCP_TO_MAIN, size=(32, 24), batch_size=5)
        assert dataset.element_spec[0] == tf.TensorSpec((None, 32, 24, 3), tf.float32)
        assert dataset.element_spec[1] == tf.TensorSpec((None, 32, 24), tf.uint8)
        assert [len(x) for x, _ in dataset] == [5, 5, 2]
        assert int(dataset.cardinality()) == 3
        images, labels = arrays(dataset)
        for index, record in enumerate(records):
            photo = photos.resize(photos.read(record.path, at_least=(32, 24)), (32, 24))
            assert np.array_equal(images[index], photo)
            painted = record.to_labels(CCP_TO_MAIN, output_size=(32, 24))
            assert np.array_equal(labels[index], painted)
        assert dataset.source.batch_ids(0, 2) == [r.image_id for r in records[10:]]

    def test_padding_keeps_the_shape_and_is_ignored(self, tmp_path: Path) -> None:
        record = annotated(tmp_path, "tall", (40, 20))
        dataset = make_dataset([record], CCP_TO_MAIN, size=(40, 60), batch_size=1, resize="pad")
        images, labels = arrays(dataset)
        assert np.array_equal(images[0, :, 20:40], photos.read(record.path))
        assert (images[0, :, :20] == PADDING).all()
        assert (images[0, :, 40:] == PADDING).all()
        assert (labels[0, :, :20] == IGNORE).all()
        assert (labels[0, :, 40:] == IGNORE).all()
        coat = CCP_TO_MAIN.label_of(category_id("coat"))
        assert (labels[0, :20, 20:30] == coat).all()
        assert (labels[0, 20:, 20:40] == 0).all()

    def test_every_photo_comes_once_an_epoch_in_another_order(self, records: Any) -> None:
        dataset = make_dataset(records, CCP_TO_MAIN, size=(16, 16), batch_size=4, shuffle=True)
        orders = []
        for epoch in range(3):
            ids = [i for step in range(3) for i in dataset.source.batch_ids(epoch, step)]
            assert sorted(ids) == sorted(r.image_id for r in records)
            orders.append(ids)
        assert orders[0] != orders[1] != orders[2]

    def test_the_kth_pass_is_the_kth_epoch(self, records: Any) -> None:
        options: dict[str, Any] = {"size": (16, 16), "batch_size": 4, "shuffle": True}
        dataset = make_dataset(records, CCP_TO_MAIN, augment=True, seed=9, **options)
        passes = [arrays(dataset) for _ in range(3)]
        again = make_dataset(records, CCP_TO_MAIN, augment=True, seed=9, **options)
        for epoch, content in enumerate(passes):
            assert same(content, arrays(dataset.source.at_epoch(epoch)))
            assert same(content, arrays(again))
        assert not same(passes[0], passes[1])
        other = make_dataset(records, CCP_TO_MAIN, augment=True, seed=10, **options)
        assert not same(passes[0], arrays(other))

    def test_the_batch_size_does_not_change_what_is_drawn(self, records: Any) -> None:
        options: dict[str, Any] = {"size": (16, 16), "shuffle": True, "augment": True}
        small, large = (
            make_dataset(records, CCP_TO_MAIN, batch_size=size, **options) for size in (2, 6)
        )
        assert same(arrays(small), arrays(large))

    @pytest.mark.parametrize("of", [2, 3, 5])
    def test_pieces_deal_out_every_batch(self, records: Any, of: int) -> None:
        source = make_dataset(
            records[:11],
            CCP_TO_MAIN,
            size=(16, 16),
            batch_size=4,
            shuffle=True,
            augment=True,
            drop_remainder=False,
        ).source
        whole = list(source.at_epoch(2))
        parts = [list(source.at_epoch(2, pieces=range(i, i + 1), of=of)) for i in range(of)]
        together = list(source.at_epoch(2, pieces=range(of), of=of))
        assert len(together) == of * len(whole)
        for step, (images, labels) in enumerate(whole):
            for piece in range(of):
                x, y = parts[piece][step]
                own = len(images[piece::of])
                assert len(x) == -(-4 // of)
                assert np.array_equal(x[:own], images[piece::of])
                assert np.array_equal(y[:own], labels[piece::of])
                assert (y.numpy()[own:] == IGNORE).all()
                assert np.array_equal(together[step * of + piece][0], x)

    def test_the_last_batch(self, records: Any) -> None:
        options: dict[str, Any] = {"size": (8, 8), "batch_size": 5}

        def lengths(**more: Any) -> list[int]:
            return [len(x) for x, _ in make_dataset(records, CCP_TO_MAIN, **options, **more)]

        assert lengths(shuffle=True) == [5, 5]
        assert lengths(shuffle=True, drop_remainder=False) == [5, 5, 2]
        assert lengths(drop_remainder=True) == [5, 5]
        options["batch_size"] = 50
        assert lengths(shuffle=True) == [12]

    def test_label_counts(self, records: Any) -> None:
        dataset = make_dataset(records, CCP_TO_MAIN, size=(16, 16), batch_size=4)
        _, labels = arrays(dataset)
        assert (
            dataset.source.label_counts().tolist()
            == np.bincount(labels.ravel(), minlength=6).tolist()
        )


class TestBalance:
    def test_photos_with_rare_classes_come_more_often(self, tmp_path: Path) -> None:
        common = [annotated(tmp_path, f"coat{i}", (8, 8)) for i in range(9)]
        rare = annotated(tmp_path, "shoes", (8, 8), "shoes")
        data = [*common, rare]

        def share(balance: float) -> float:
            source = make_dataset(
                data, CCP_TO_MAIN, size=(8, 8), batch_size=10, shuffle=True, balance=balance
            ).source
            return float(np.mean([source.batch_ids(e, 0).count("shoes") for e in range(60)]))

        assert share(0.0) == 1
        # Weights (10 / 9) ** b for each of nine photos and 10 ** b for the one.
        assert share(1.0) == pytest.approx(10 * 10 / (10 + 9 * 10 / 9), abs=0.2)
        assert share(0.5) == pytest.approx(
            10 * math.sqrt(10) / (math.sqrt(10) + 9 * math.sqrt(10 / 9)), abs=0.2
        )

    def test_no_photo_is_left_out_for_long(self, records: Any) -> None:
        source = make_dataset(
            records, CCP_TO_MAIN, size=(8, 8), batch_size=12, shuffle=True, balance=0.5
        ).source
        seen = {i for epoch in range(8) for i in source.batch_ids(epoch, 0)}
        assert seen == set(source.image_ids)


class TestAugmentation:
    @pytest.fixture
    def record(self, tmp_path: Path) -> ImageAnnotation:
        return annotated(tmp_path, "photo", (40, 30))

    def batch(
        self, record: ImageAnnotation, augment: Augmentation | None, **options: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return sixteen draws for one photo."""
        return arrays(
            make_dataset(
                [record] * 16,
                CCP_TO_MAIN,
                **{"size": (40, 30), "batch_size": 16, "augment": augment, **options},
            )
        )

    def test_nothing_drawn_changes_nothing(self, record: ImageAnnotation) -> None:
        plain, still = self.batch(record, None), self.batch(record, STILL)
        np.testing.assert_allclose(plain[0], still[0], atol=0.01)
        assert np.array_equal(plain[1], still[1])

    def test_a_mirror_image_mirrors_both(self, record: ImageAnnotation) -> None:
        plain, mirrored = self.batch(record, None), self.batch(record, varied(flip=1))
        np.testing.assert_allclose(plain[0][:, :, ::-1], mirrored[0], atol=0.01)
        assert np.array_equal(plain[1][:, :, ::-1], mirrored[1])

    def test_a_zoom_of_two_shows_a_crop_of_half_the_sides(self, record: ImageAnnotation) -> None:
        images, labels = self.batch(record, varied(scale=(2, 2)))
        assert (labels != IGNORE).all()
        # One row of the photo is 255 / 40 brighter in red than the one above it.
        slopes = np.diff(images[:, 5:35, :, 0], axis=1).mean(axis=(1, 2))
        np.testing.assert_allclose(slopes, 255 / 40 / 2, rtol=0.1)
        corners = {(round(float(image[0, 0, 0])), round(float(image[0, 0, 1]))) for image in images}
        assert len(corners) > 8

    def test_a_zoom_of_a_half_frames_the_photo(self, record: ImageAnnotation) -> None:
        images, labels = self.batch(record, varied(scale=(0.5, 0.5)))
        inside = labels != IGNORE
        assert (images[~inside] == PADDING).all()
        np.testing.assert_allclose(inside.sum(axis=(1, 2)), 20 * 15, atol=40)
        places = {tuple(np.argwhere(part)[0]) for part in inside}
        assert len(places) > 8

    @pytest.mark.parametrize("angle", [90.0, 180.0])
    def test_rotation_turns_both_alike(self, tmp_path: Path, angle: float) -> None:
        record = annotated(tmp_path, "square", (32, 32))
        drawn = varied(rotation=angle).draw(np.ones((1, 16)), (32, 32), (32, 32))
        image, labels = photos.read(record.path), record.to_labels(CCP_TO_MAIN)
        one = {name: drawn[name][0] for name in ("warp", "sigma")}
        turned, turned_labels = warp(image, labels, one, (32, 32))
        quarter = round(angle / 90)
        np.testing.assert_allclose(turned.astype(int), np.rot90(image, quarter), atol=1)
        assert np.array_equal(turned_labels, np.rot90(labels, quarter))

    def test_photos_held_larger_are_seen_whole_and_sharper(self, tmp_path: Path) -> None:
        record = annotated(tmp_path, "large", (80, 60))
        options: dict[str, Any] = {"size": (40, 30), "held_size": (80, 60)}
        images, labels = self.batch(record, STILL, **options)
        expected = photos.resize(photos.read(record.path), (40, 30))
        np.testing.assert_allclose(images[0, 1:-1, 1:-1, :2], expected[1:-1, 1:-1, :2], atol=4)
        assert np.array_equal(labels[0], record.to_labels(CCP_TO_MAIN, output_size=(40, 30)))

    def test_brightness_scales_and_contrast_spreads(self, record: ImageAnnotation) -> None:
        plain = self.batch(record, None)[0]
        brighter = self.batch(record, varied(brightness=0.2))[0]
        middle = (plain > 20) & (plain < 200)
        ratios = np.array(
            [np.median(b[m] / p[m]) for b, p, m in zip(brighter, plain, middle, strict=True)]
        )
        assert (np.abs(ratios - 1) <= 0.2).all()
        assert ratios.std() > 0.05
        spread = self.batch(record, varied(contrast=0.2))[0]
        scale = (spread - 127.5) / (plain - 127.5)
        ratios = np.array([np.median(s[m]) for s, m in zip(scale, middle, strict=True)])
        assert (np.abs(ratios - 1) <= 0.21).all()
        assert ratios.std() > 0.05

    def test_colour_changes_leave_grey_as_it_is(self, tmp_path: Path) -> None:
        record = annotated(tmp_path, "grey", (16, 16))
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(record.path)
        colours = varied(saturation=1.0, hue=180)
        images, _ = self.batch(record, colours, size=(16, 16))
        np.testing.assert_allclose(images, 90, atol=0.5)

    def test_no_saturation_is_luma(self) -> None:
        drawn = varied(saturation=1.0).draw(np.zeros((1, 16)), (8, 8), (8, 8))
        grey = np.array([200.0, 100.0, 50.0]) @ drawn["colour"][0]
        np.testing.assert_allclose(grey, 0.299 * 200 + 0.587 * 100 + 0.114 * 50, atol=0.5)

    def test_a_blur_smooths_and_keeps_the_mean(self, tmp_path: Path) -> None:
        record = annotated(tmp_path, "noise", (32, 32))
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(noise).save(record.path)
        images, labels = self.batch(record, varied(blur=1.0), size=(32, 32))
        assert (images.std(axis=(1, 2, 3)) < 0.8 * noise.std()).all()
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), noise.mean(), rtol=0.02)
        assert np.array_equal(labels[0], record.to_labels(CCP_TO_MAIN, output_size=(32, 32)))

    def test_a_cutout_is_grey_and_ignored(self, record: ImageAnnotation) -> None:
        images, labels = self.batch(record, varied(cutout=1.0, cutout_size=0.5))
        hidden = labels == IGNORE
        assert (images[hidden] == PADDING).all()
        assert 0 < hidden.mean() < 0.25
        rows, columns = np.where(hidden[np.argmax(hidden.sum(axis=(1, 2)))])
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert box == len(rows)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"flip": 1.5}, r"flip is a probability in \[0, 1\], got 1.5"),
            ({"scale": (2.0, 1.0)}, "scale must be"),
            ({"scale": (0.0, 1.0)}, "scale must be"),
            ({"rotation": -1}, r"rotation must lie in \[0, 180\] degrees, got -1"),
            ({"brightness": 2}, r"brightness must lie in \[0, 1\], got 2"),
        ],
    )
    def test_bad_settings(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Augmentation(**changes)


class TestCaches:
    def test_every_cache_gives_the_same_batches(self, records: Any, tmp_path: Path) -> None:
        options: dict[str, Any] = {
            "size": (16, 16),
            "batch_size": 4,
            "augment": True,
            "held_size": (24, 24),
        }
        kinds = [
            arrays(make_dataset(records, CCP_TO_MAIN, cache=cache, **options))
            for cache in ("auto", "memory", None, tmp_path / "cache", tmp_path / "cache")
        ]
        assert all(same(kinds[0], kind) for kind in kinds[1:])

    def test_files_are_used_again_and_made_anew_when_something_changed(
        self, tmp_path: Path
    ) -> None:
        record = annotated(tmp_path, "photo")
        folder = tmp_path / "cache"
        options: dict[str, Any] = {"size": (16, 16), "batch_size": 1, "cache": folder}
        make_dataset([record], CCP_TO_MAIN, **options)
        files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert len(files) == 2
        make_dataset([record], CCP_TO_MAIN, **options)
        assert files == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(record.path)
        images, _ = arrays(make_dataset([record], CCP_TO_MAIN, **options))
        assert (images == 0).all()
        assert len(list(folder.iterdir())) == 4

    def test_a_failure_leaves_no_files(self, tmp_path: Path) -> None:
        record = annotated(tmp_path, "photo")
        whole = record.path.read_bytes()
        record.path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ImageError, match=r"photo\.png"):
            make_dataset([record], CCP_TO_MAIN, size=(8, 8), batch_size=1, cache=tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []


class TestShards:
    def test_files_give_the_batches_of_the_photos(self, records: Any, tmp_path: Path) -> None:
        files = df.data.write_tfrecords(
            records, CCP_TO_MAIN, tmp_path, size=(24, 24), photos_per_shard=5
        )
        assert [path.name for path in files] == [
            f"photos-{i:05d}-of-00003.tfrecord" for i in range(3)
        ]
        options: dict[str, Any] = {
            "batch_size": 4,
            "shuffle": True,
            "augment": True,
            "balance": 0.5,
            "seed": 3,
        }
        direct = make_dataset(records, CCP_TO_MAIN, size=(24, 24), **options)
        for cache in (None, "memory"):
            read = df.data.read_tfrecords(tmp_path, cache=cache, **options)
            assert same(arrays(direct.source.at_epoch(1)), arrays(read.source.at_epoch(1)))
            assert read.source.settings() == direct.source.settings()
            assert read.source.class_names == CCP_TO_MAIN.target_names

    def test_the_files_are_tensorflows_own(self, records: Any, tmp_path: Path) -> None:
        files = df.data.write_tfrecords(records, CCP_TO_MAIN, tmp_path, size=(8, 8))
        form = {name: tf.io.FixedLenFeature((), tf.string) for name in ("image_id", "labels")}
        rows = [
            tf.io.parse_single_example(row, form)
            for row in tf.data.TFRecordDataset([str(f) for f in files])
        ]
        assert [r["image_id"].numpy().decode() for r in rows] == [r.image_id for r in records]
        labels = tf.io.decode_png(rows[3]["labels"])[..., 0]
        assert np.array_equal(labels, records[3].to_labels(CCP_TO_MAIN, output_size=(8, 8)))

    def test_what_cannot_be_asked_of_files(self, records: Any, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="photos_per_shard must be at least 1, got 0"):
            df.data.write_tfrecords(records, CCP_TO_MAIN, tmp_path, size=(8, 8), photos_per_shard=0)
        df.data.write_tfrecords(records, CCP_TO_MAIN, tmp_path, size=(8, 8))
        with pytest.raises(ValueError, match=r"of the files, \(8, 8\), .* got \(16, 8\)"):
            df.data.read_tfrecords(tmp_path, size=(16, 8), batch_size=1)
        with pytest.raises(ValueError, match="'memory' or None for TFRecord files, got 'disk'"):
            df.data.read_tfrecords(tmp_path, batch_size=1, cache="disk")

    def test_damage_is_named(self, records: Any, tmp_path: Path) -> None:
        (file,) = df.data.write_tfrecords(records, CCP_TO_MAIN, tmp_path, size=(8, 8))
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        dataset = df.data.read_tfrecords(tmp_path, batch_size=1)
        with pytest.raises(ImageError, match=rf"image {records[11].image_id}: .*is damaged"):
            dataset.source.read(11)
        file.unlink()
        with pytest.raises(ImageError, match="holds no shards"):
            df.data.read_tfrecords(tmp_path, batch_size=1)
        with pytest.raises(ImageError, match="holds no shards"):
            df.data.read_tfrecords(tmp_path / "nowhere", batch_size=1)


class TestBrokenRecords:
    @pytest.fixture
    def mixed(self, tmp_path: Path) -> list[ImageAnnotation]:
        data = [annotated(tmp_path, name) for name in ("good", "cut", "gone", "wide")]
        content = data[1].path.read_bytes()
        data[1].path.write_bytes(content[: len(content) // 2])
        data[2].path.unlink()
        Image.fromarray(gradient_photo(40, 31)).save(data[3].path)
        return data

    @pytest.mark.parametrize("cache", ["memory", None])
    def test_raise_names_the_first(self, mixed: Any, cache: Any) -> None:
        options: dict[str, Any] = {"size": (8, 8), "batch_size": 1, "cache": cache}
        with pytest.raises(ImageError, match=r"gone\.png does not exist"):
            make_dataset([mixed[0], mixed[2]], CCP_TO_MAIN, **options)
        with pytest.raises(ImageError, match=r"image wide: .* 40 x 31 .* is for 40 x 30"):
            make_dataset([mixed[0], mixed[3]], CCP_TO_MAIN, **options)

    def test_drop_leaves_them_out_and_says_which(self, mixed: Any) -> None:
        dataset = make_dataset(mixed, CCP_TO_MAIN, size=(8, 8), batch_size=4, on_error="drop")
        assert dataset.source.image_ids == ("good",)
        assert [skipped.image_id for skipped in dataset.source.dropped] == ["cut", "gone", "wide"]
        assert "is for 40 x 30" in dataset.source.dropped[2].reason
        assert len(arrays(dataset)[0]) == 1

    def test_report_warns_of_each(self, mixed: Any) -> None:
        with pytest.warns(UserWarning, match=r"3 of 4 records are left out: cut: .*gone: .*wide: "):
            make_dataset(mixed, CCP_TO_MAIN, size=(8, 8), batch_size=1, on_error="report")

    def test_nothing_left_is_an_error(self, mixed: Any) -> None:
        with pytest.raises(ImageError, match="every one of 3 records is broken"):
            make_dataset(mixed[1:], CCP_TO_MAIN, size=(8, 8), batch_size=1, on_error="drop")

    def test_a_photo_that_breaks_later_is_named(self, records: Any, tmp_path: Path) -> None:
        record = annotated(tmp_path, "photo")
        dataset = make_dataset([record], CCP_TO_MAIN, size=(8, 8), batch_size=1, cache=None)
        record.path.unlink()
        with pytest.raises(tf.errors.OpError, match=r"photo\.png does not exist"):
            arrays(dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"size": (0, 8)}, r"size must be \(height, width\).*got \(0, 8\)"),
        ({"size": (8.5, 8)}, "size must be"),
        ({"size": (8, 8, 3)}, "size must be"),
        ({"size": 8}, r"size must be \(height, width\).*got 8"),
        ({"held_size": (8,)}, "held_size must be"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"resize": "crop"}, "resize must be one of .*got 'crop'"),
        ({"on_error": "ignore"}, "on_error must be one of .*got 'ignore'"),
        ({"balance": 0.5}, r"balance=0\.5 needs shuffle=True"),
        ({"balance": 2.0, "shuffle": True}, r"balance must lie in \[0, 1\], got 2"),
    ],
)
def test_bad_arguments(records: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_dataset(records, CCP_TO_MAIN, **{"size": (8, 8), "batch_size": 1, **options})


def test_names_in_place_of_a_label_map_are_refused(records: Any, tmp_path: Path) -> None:
    names: Any = ["shirt", "bag"]
    with pytest.raises(TypeError, match=r"must be a LabelMap, .*got \['shirt', 'bag'\]"):
        make_dataset(records, names, size=(8, 8), batch_size=1)
    with pytest.raises(TypeError, match="must be a LabelMap"):
        df.data.write_tfrecords(records, names, tmp_path, size=(8, 8))


def test_no_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="records is empty"):
        make_dataset([], CCP_TO_MAIN, size=(8, 8), batch_size=1)
    with pytest.raises(ValueError, match="records is empty"):
        df.data.write_tfrecords([], CCP_TO_MAIN, tmp_path, size=(8, 8))
