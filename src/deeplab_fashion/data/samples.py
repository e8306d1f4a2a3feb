"""Where samples come from: annotated photos, arrays that hold them, or TFRecord shards."""

import hashlib
import io
import json
import os
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion import photos
from deeplab_fashion._files import replacing
from deeplab_fashion._progress import progress
from deeplab_fashion.annotations import ImageAnnotation, SkippedRecord
from deeplab_fashion.data.augmentation import IGNORE, PADDING
from deeplab_fashion.errors import DeepLabFashionError, ImageError
from deeplab_fashion.taxonomy import LabelMap

__all__ = ["AnnotatedPhotos", "HeldSamples", "RecordShards", "Samples", "write_shards"]

Resize = Literal["squash", "pad"]
OnError = Literal["raise", "drop", "report"]
Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]
_Result = TypeVar("_Result")


class Samples(Protocol):
    """Photos with their label maps at one size, each read by its index."""

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The id of each photo."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that labels stand for."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every photo."""
        ...

    @property
    def present(self) -> NDArray[np.bool_]:
        """The classes that each photo is annotated with, shape (samples, classes)."""
        ...

    def read(self, index: int) -> Sample:
        """Return a photo (height, width, 3) and its labels (height, width)."""
        ...

    def digest(self) -> str:
        """Return a short text that differs where the samples do."""
        ...


@dataclass(frozen=True)
class AnnotatedPhotos:
    """Photos in files, and annotations that are painted when they are read."""

    records: tuple[ImageAnnotation, ...]
    label_map: LabelMap
    size: tuple[int, int]
    resize: Resize

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The id of each photo."""
        return tuple(record.image_id for record in self.records)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that labels stand for."""
        return tuple(self.label_map.target_names)

    @property
    def present(self) -> NDArray[np.bool_]:
        """The classes that each photo is annotated with."""
        table = np.zeros((len(self.records), len(self.class_names)), np.bool_)
        for row, record in zip(table, self.records, strict=True):
            for category_id in record.category_ids:
                label = self.label_map.label_of(category_id)
                if label is not None:
                    row[label] = True
        return table

    def read(self, index: int) -> Sample:
        """Return a photo and its labels at `size`."""
        record = self.records[index]
        self.check(index)
        if self.resize == "squash":
            image = photos.read(record.path, at_least=self.size)
            labels = record.to_labels(self.label_map, output_size=self.size)
            return photos.resize(image, self.size), labels
        height, width = self.size
        ratio = min(height / record.size[0], width / record.size[1])
        inner = (max(1, round(record.size[0] * ratio)), max(1, round(record.size[1] * ratio)))
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        place = np.s_[top : top + inner[0], left : left + inner[1]]
        framed = np.full((height, width, 3), PADDING, np.uint8)
        labels = np.full((height, width), IGNORE, np.uint8)
        image = photos.read(record.path, at_least=inner)
        framed[place] = photos.resize(image, inner)
        labels[place] = record.to_labels(self.label_map, output_size=inner)
        return framed, labels

    def digest(self) -> str:
        """Return a short text that differs where annotations, label map or size do."""
        content = hashlib.sha256(f"{self.label_map.to_json()}{self.size}{self.resize}".encode())
        for record in self.records:
            content.update(f"{record.image_id}{record.size}{record.category_ids}".encode())
            for region in record.regions:
                content.update(region.starts.tobytes())
                content.update(region.lengths.tobytes())
        return content.hexdigest()[:16]

    def subset(self, indices: Sequence[int]) -> "AnnotatedPhotos":
        """Return some of the samples."""
        chosen = tuple(self.records[index] for index in indices)
        return AnnotatedPhotos(chosen, self.label_map, self.size, self.resize)

    def check(self, index: int) -> None:
        """Compare a photo's size, from its header alone, with the annotation's."""
        record = self.records[index]
        size = photos.size_of(record.path)
        if size != tuple(record.size):
            raise ImageError(
                f"image {record.image_id}: photo {record.path} is {size[0]} x {size[1]} "
                f"(height x width), but its annotation is for {record.size[0]} x {record.size[1]}"
            )

    def files_digest(self) -> str:
        """Return a short text that differs where the photos' files were written again."""
        states = [os.stat(record.path) for record in self.records]
        content = "".join(f"{state.st_size} {state.st_mtime_ns}\n" for state in states)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def without_broken(
    samples: AnnotatedPhotos, on_error: OnError, *, show_progress: bool
) -> tuple[AnnotatedPhotos, tuple[SkippedRecord, ...]]:
    """Leave out the records that cannot be read, by reading every one."""
    dropped: list[SkippedRecord] = []
    kept: list[int] = []
    outcomes = _each(len(samples.records), lambda index: _reason(samples, index), show_progress)
    for index, reason in enumerate(outcomes):
        record = samples.records[index]
        if reason is None:
            kept.append(index)
        else:
            dropped.append(
                SkippedRecord(str(record.path), index + 1, record.image_id, reason, "image")
            )
    if dropped and on_error == "report":
        listed = "; ".join(f"{skipped.image_id}: {skipped.reason}" for skipped in dropped)
        warnings.warn(
            f"{len(dropped)} of {len(samples.records)} records are left out: {listed}",
            stacklevel=3,
        )
    if not kept:
        raise ImageError(f"every one of {len(dropped)} records is broken; {dropped[0].reason}")
    return samples.subset(kept), tuple(dropped)


def _reason(samples: AnnotatedPhotos, index: int) -> str | None:
    try:
        samples.read(index)
    except DeepLabFashionError as error:
        return str(error)
    return None


def _each(count: int, work: Callable[[int], _Result], show_progress: bool) -> Iterable[_Result]:
    """Yield the result for every index, in order, worked out in threads."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(work, range(count))
        yield from progress(results, "Reading photos", total=count, show=show_progress)


@dataclass(frozen=True)
class HeldSamples:
    """Samples held in arrays, in memory or in a file that is mapped into it."""

    origin: Samples
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    @classmethod
    def in_memory(cls, origin: Samples, *, show_progress: bool = False) -> "HeldSamples":
        """Read every sample once."""
        count = len(origin.image_ids)
        images = np.empty((count, *origin.size, 3), np.uint8)
        labels = np.empty((count, *origin.size), np.uint8)
        return cls._filled(origin, images, labels, show_progress)

    @classmethod
    def on_disk(
        cls, origin: AnnotatedPhotos, folder: Path, *, show_progress: bool = False
    ) -> "HeldSamples":
        """Read every sample once into files; where they are there already, use them.

        The files' name holds a digest of annotations, photos and size, so that a change of any
        of them makes new files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{origin.digest()}-{origin.files_digest()}"
        paths = [folder / f"{name}.{part}.npy" for part in ("images", "labels")]
        if not all(path.exists() for path in paths):
            shape = (len(origin.image_ids), *origin.size)
            with replacing(paths[0]) as first, replacing(paths[1]) as second:
                images = np.lib.format.open_memmap(first, "w+", np.uint8, (*shape, 3))
                labels = np.lib.format.open_memmap(second, "w+", np.uint8, shape)
                cls._filled(origin, images, labels, show_progress)
                images.flush()
                labels.flush()
        return cls(origin, *(np.load(path, mmap_mode="r") for path in paths))

    @classmethod
    def _filled(
        cls,
        origin: Samples,
        images: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        show_progress: bool,
    ) -> "HeldSamples":
        def fill(index: int) -> None:
            images[index], labels[index] = origin.read(index)

        for _ in _each(len(images), fill, show_progress):
            pass
        return cls(origin, images, labels)

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The id of each photo."""
        return self.origin.image_ids

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that labels stand for."""
        return self.origin.class_names

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every photo."""
        return self.origin.size

    @property
    def present(self) -> NDArray[np.bool_]:
        """The classes that each photo is annotated with."""
        return self.origin.present

    def read(self, index: int) -> Sample:
        """Return a photo and its labels."""
        return self.images[index], self.labels[index]

    def digest(self) -> str:
        """Return the digest of what is held."""
        return self.origin.digest()


_INDEX = "index.json"
_LENGTH = struct.Struct("<Q")


def write_shards(
    samples: Samples, folder: Path, *, photos_per_shard: int, show_progress: bool
) -> list[Path]:
    """Write samples as TFRecord files, and beside them where in the files each one lies."""
    if photos_per_shard < 1:
        raise ValueError(f"photos_per_shard must be at least 1, got {photos_per_shard}")
    folder.mkdir(parents=True, exist_ok=True)
    count = len(samples.image_ids)
    shards = -(-count // photos_per_shard)
    names = [f"photos-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)]
    examples = iter(_each(count, lambda index: _to_example(samples, index), show_progress))
    places = []
    for shard, name in enumerate(names):
        with replacing(folder / name) as part, tf.io.TFRecordWriter(str(part)) as writer:
            offset = 0
            for _ in range(shard * photos_per_shard, min(count, (shard + 1) * photos_per_shard)):
                content = next(examples)
                writer.write(content)
                places.append([shard, offset, len(content)])
                offset += len(content) + 16  # length, its checksum, and the content's checksum
    index = {
        "class_names": samples.class_names,
        "size": samples.size,
        "digest": samples.digest(),
        "shards": names,
        "image_ids": samples.image_ids,
        "places": places,
        "present": samples.present.astype(int).tolist(),
    }
    with replacing(folder / _INDEX) as part:
        part.write_text(json.dumps(index), encoding="utf-8")
    return [folder / name for name in names]


def _to_example(samples: Samples, index: int) -> bytes:
    image, labels = samples.read(index)
    features = {
        "image_id": samples.image_ids[index].encode(),
        "image": _png(image),
        "labels": _png(labels),
    }
    wrapped = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
        for name, content in features.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=wrapped))
    return bytes(example.SerializeToString(deterministic=True))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


class RecordShards:
    """Samples in the TFRecord files that `write_shards` wrote, read one by one in any order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            self._places, self._digest = index["places"], index["digest"]
            self._paths = [folder / name for name in index["shards"]]
            self._files = [os.open(path, os.O_RDONLY) for path in self._paths]
            self.image_ids: tuple[str, ...] = tuple(index["image_ids"])
            self.class_names: tuple[str, ...] = tuple(index["class_names"])
            self.size: tuple[int, int] = (int(index["size"][0]), int(index["size"][1]))
            self.present: NDArray[np.bool_] = np.array(index["present"], np.bool_)
        except (OSError, ValueError, KeyError) as error:
            raise ImageError(
                f"{folder} holds no shards of write_tfrecords, or not all of them: {error}"
            ) from None

    def __del__(self) -> None:
        for file in getattr(self, "_files", ()):
            os.close(file)

    def read(self, index: int) -> Sample:
        """Return a photo and its labels."""
        from PIL import Image

        shard, offset, length = self._places[index]
        try:
            content = os.pread(self._files[shard], length + 16, offset)
            if len(content) != length + 16 or _LENGTH.unpack(content[:8])[0] != length:
                raise ValueError("it is cut short, or not the file that its index was written for")
            features = tf.train.Example.FromString(content[12:-4]).features.feature
            image, labels = (
                np.array(Image.open(io.BytesIO(features[name].bytes_list.value[0])))
                for name in ("image", "labels")
            )
        except Exception as error:  # protobuf and Pillow raise many kinds for damaged bytes
            raise ImageError(
                f"image {self.image_ids[index]}: {self._paths[shard]} is damaged: {error}"
            ) from None
        return image, labels

    def digest(self) -> str:
        """Return the digest of the samples that were written."""
        return str(self._digest)
