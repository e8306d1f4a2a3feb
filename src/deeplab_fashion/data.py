"""Training data: annotated photos -> batches of images and label maps, augmented together.

What an epoch holds is a pure function of (seed, epoch, sample): a run that is stopped and resumed
sees exactly the batches that it would have seen.
"""

import hashlib
import json
import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion import photos
from deeplab_fashion.annotations import ImageAnnotation
from deeplab_fashion.errors import ImageError
from deeplab_fashion.taxonomy import LabelMap

__all__ = ["IGNORE", "PADDING", "Augmentation", "PhotoSource", "make_dataset"]

IGNORE = 255
"""The label of pixels that no loss and no score counts: padding and what lies beyond the photo."""

PADDING = 127
"""The grey of such pixels: what a backbone's own zero padding looks like in its input."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How photos and their label maps are varied, together, from epoch to epoch.

    Args:
        flip: The probability of a mirror image.
        scale: The smallest and largest zoom; above 1 a random crop is seen, below 1 the photo
            lies at a random place in a grey frame whose pixels are ignored.
        rotation: The largest angle to either side, in degrees.
        brightness: The largest relative change of brightness.
        contrast: The largest relative change of contrast.
        saturation: The largest relative change of saturation.
        hue: The largest turn of the colour circle to either side, in degrees.
        blur: The probability of a Gaussian blur, standard deviation 0.5 to 1.5 pixels.
        cutout: The probability that a rectangle is hidden: grey, its labels ignored.
        cutout_size: The largest side of that rectangle, as a part of the image's side.

    Raises:
        ValueError: If a probability lies outside [0, 1], or a range is empty or negative.

    Example:
        >>> Augmentation(rotation=0).flip
        0.5
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.5, 2.0)
    rotation: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 6.0
    blur: float = 0.1
    cutout: float = 0.1
    cutout_size: float = 0.3

    def __post_init__(self) -> None:
        for name in ("flip", "blur", "cutout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability in [0, 1], got {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation", "cutout_size"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("rotation", "hue"):
            if not 0 <= getattr(self, name) <= 180:
                raise ValueError(f"{name} must lie in [0, 180] degrees, got {getattr(self, name)}")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high, got {self.scale}")

    def draw(
        self, random: NDArray[np.float64], size: tuple[int, int], held: tuple[int, int]
    ) -> dict[str, NDArray[np.float32]]:
        """Turn uniform random numbers into each sample's transform, colour matrix and so on."""
        draws = iter(random.T)

        def between(low: float, high: float) -> NDArray[np.float64]:
            return low + (high - low) * next(draws)

        (height, width), (held_height, held_width) = size, held
        mirror = np.where(next(draws) < self.flip, -1.0, 1.0)
        zoom = np.exp(between(math.log(self.scale[0]), math.log(self.scale[1])))
        angle = np.radians(between(-self.rotation, self.rotation))
        room = np.abs(1 - 1 / zoom) / 2
        shift_x, shift_y = room * between(-1, 1) * width, room * between(-1, 1) * height
        # From an output pixel's index to the held photo's: centre, mirror, turn, zoom, shift.
        to_x, to_y = held_width / width, held_height / height
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        a, b, d, e = mirror * cos * to_x, -sin * to_x, mirror * sin * to_y, cos * to_y
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        c = shift_x * to_x + (held_width - 1) / 2 - a * middle_x - b * middle_y
        f = shift_y * to_y + (held_height - 1) / 2 - d * middle_x - e * middle_y
        zero = np.zeros_like(a)
        transform = np.stack([a, b, c, d, e, f, zero, zero], axis=1)

        gain = 1 + between(-self.brightness, self.brightness)
        contrast = 1 + between(-self.contrast, self.contrast)
        saturation = 1 + between(-self.saturation, self.saturation)
        matrix = _colour_matrices(saturation, np.radians(between(-self.hue, self.hue)))
        matrix *= (gain * contrast)[:, None, None]
        offset = 127.5 * (1 - contrast)

        blurred = next(draws) < self.blur
        sigma = np.where(blurred, between(0.5, 1.5), 0.0)
        hidden = next(draws) < self.cutout
        sides = [next(draws) * self.cutout_size * hidden for _ in range(2)]
        starts = [next(draws) * (1 - side) for side in sides]
        box = np.stack([*starts, starts[0] + sides[0], starts[1] + sides[1]], axis=1)
        return {
            "transform": transform.astype(np.float32),
            "colour": matrix.astype(np.float32),
            "offset": offset.astype(np.float32),
            "sigma": sigma.astype(np.float32),
            "box": (box * [height, width, height, width]).astype(np.float32),
        }


_DRAWS = 16  # random numbers that one sample may use; more than `Augmentation.draw` takes today


def _colour_matrices(
    saturation: NDArray[np.float64], hue: NDArray[np.float64]
) -> NDArray[np.float64]:
    """RGB -> RGB matrices, shape (n, 3, 3), for row vectors: turn and stretch the colour plane."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    turn = np.zeros((len(hue), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * np.cos(hue)
    turn[:, 1, 2] = -saturation * np.sin(hue)
    turn[:, 2, 1] = saturation * np.sin(hue)
    return np.swapaxes(np.linalg.inv(to_yiq) @ turn @ to_yiq, 1, 2)


def _augment(
    images: tf.Tensor,
    labels: tf.Tensor,
    drawn: dict[str, tf.Tensor],
    size: tuple[int, int],
) -> tuple[tf.Tensor, tf.Tensor]:
    warp = {"transforms": drawn["transform"], "output_shape": size, "fill_mode": "CONSTANT"}
    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        interpolation="BILINEAR",
        fill_value=float(PADDING),
        **warp,
    )
    labels = tf.raw_ops.ImageProjectiveTransformV3(
        images=labels[..., None], interpolation="NEAREST", fill_value=float(IGNORE), **warp
    )[..., 0]

    flat = tf.reshape(images, (-1, size[0] * size[1], 3))
    flat = tf.matmul(flat, drawn["colour"]) + drawn["offset"][:, None, None]
    images = tf.reshape(tf.clip_by_value(flat, 0.0, 255.0), (-1, *size, 3))

    chosen = tf.where(drawn["sigma"] > 0)
    images = tf.cond(
        tf.size(chosen) > 0,
        lambda: tf.tensor_scatter_nd_update(
            images,
            chosen,
            _blur(tf.gather_nd(images, chosen), tf.gather_nd(drawn["sigma"], chosen)),
        ),
        lambda: images,
    )

    top, left, bottom, right = (edge[:, None] for edge in tf.unstack(drawn["box"], axis=1))
    rows, columns = tf.range(size[0], dtype=tf.float32), tf.range(size[1], dtype=tf.float32)
    in_rows, in_columns = (
        (rows >= top) & (rows < bottom),
        (columns >= left) & (columns < right),
    )
    hidden = in_rows[:, :, None] & in_columns[:, None, :]
    outside = labels == IGNORE
    images = tf.where((hidden | outside)[..., None], float(PADDING), images)
    labels = tf.where(hidden, tf.constant(IGNORE, tf.uint8), labels)
    return images, labels


def _blur(images: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    reach = 4
    steps = tf.range(-reach, reach + 1, dtype=tf.float32)
    weights = tf.nn.softmax(-tf.square(steps) / (2 * tf.square(sigma[:, None])))
    for axis in (1, 2):
        padding = [[0, 0]] * 4
        padding[axis] = [reach, reach]
        padded = tf.pad(images, padding, "SYMMETRIC")
        length = tf.shape(images)[axis]
        images = tf.add_n(
            [
                tf.gather(padded, tf.range(k, k + length), axis=axis)
                * weights[:, k, None, None, None]
                for k in range(2 * reach + 1)
            ]
        )
    return images


class PhotoSource:
    """The records behind a dataset: any epoch's batches, and the image ids in each of them.

    `make_dataset` builds it; the dataset carries it as ``dataset.source``.

    Attributes:
        image_ids: The id of each record that is used.
        size: (height, width) of the batches.
        batch_size: Samples in a batch, over all workers.
        num_classes: Classes of the label map.
        class_names: Their names.
    """

    def __init__(
        self,
        records: Sequence[ImageAnnotation],
        label_map: LabelMap,
        *,
        size: tuple[int, int],
        batch_size: int,
        augment: Augmentation | None,
        shuffle: bool,
        seed: int,
        resize: Literal["pad", "squash"],
        cache: bool,
        held_size: tuple[int, int],
        drop_remainder: bool,
    ) -> None:
        self.records = tuple(records)
        self.label_map = label_map
        self.size, self.held_size = size, held_size
        self.batch_size = batch_size
        self.augment, self.shuffle, self.seed = augment, shuffle, seed
        self.resize = resize
        self.drop_remainder = drop_remainder
        self.image_ids = tuple(record.image_id for record in self.records)
        self.class_names = tuple(label_map.target_names)
        self.num_classes = len(self.class_names)
        self._held: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
        self._plans: dict[int, tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]] = {}
        self._lock = threading.Lock()
        self._next_epoch = 0
        if cache:
            self._held = self._hold()

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.records), self.batch_size)
        return whole + (1 if rest and not self.drop_remainder else 0)

    def settings(self) -> dict[str, Any]:
        """Return what an epoch's content depends on, as JSON types."""
        ids = hashlib.sha256("\n".join(self.image_ids).encode()).hexdigest()[:16]
        mapping = hashlib.sha256(self.label_map.to_json().encode()).hexdigest()[:16]
        return {
            "images": f"{len(self.image_ids)} with digest {ids}",
            "label_map": mapping,
            "size": list(self.size),
            "held_size": list(self.held_size),
            "batch_size": self.batch_size,
            "augment": json.loads(json.dumps(asdict(self.augment))) if self.augment else None,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "resize": self.resize,
            "drop_remainder": self.drop_remainder,
        }

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return one record's photo and label map at the size in which they are held."""
        record = self.records[index]
        image = photos.read(record.path)
        if image.shape[:2] != tuple(record.size):
            raise ImageError(
                f"image {record.image_id}: photo {record.path} is {image.shape[0]} x "
                f"{image.shape[1]} (height x width), but its annotation is for "
                f"{record.size[0]} x {record.size[1]}"
            )
        height, width = self.held_size
        if self.resize == "squash":
            labels = record.to_labels(self.label_map, output_size=(height, width))
            return photos.resize(image, (height, width)), labels
        ratio = min(height / image.shape[0], width / image.shape[1])
        inner = tuple(max(1, round(side * ratio)) for side in image.shape[:2])
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        place = np.s_[top : top + inner[0], left : left + inner[1]]
        framed = np.full((height, width, 3), PADDING, np.uint8)
        labels = np.full((height, width), IGNORE, np.uint8)
        framed[place] = photos.resize(image, inner)
        labels[place] = record.to_labels(self.label_map, output_size=inner)
        return framed, labels

    def _hold(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        count = len(self.records)
        images = np.empty((count, *self.held_size, 3), np.uint8)
        labels = np.empty((count, *self.held_size), np.uint8)

        def hold(index: int) -> None:
            images[index], labels[index] = self.read(index)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(hold, range(count)):
                pass
        return images, labels

    def _plan(self, epoch: int) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
        """Return an epoch's order and, row by row in the records' order, what is drawn."""
        with self._lock:
            if epoch not in self._plans:
                count = len(self.records)
                order = np.arange(count)
                if self.shuffle:
                    order = np.random.default_rng([self.seed, epoch, 0]).permutation(count)
                drawn = {}
                if self.augment:
                    random = np.random.default_rng([self.seed, epoch, 1]).random((count, _DRAWS))
                    drawn = self.augment.draw(random, self.size, self.held_size)
                self._plans = {epoch: (order, drawn)}
            return self._plans[epoch]

    def batch_ids(self, epoch: int, step: int) -> list[str]:
        """Return the ids of the images in one batch.

        Args:
            epoch: Counted from 0.
            step: Counted from 0 within the epoch.

        Returns:
            One id per sample.
        """
        order, _ = self._plan(epoch)
        chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
        return [self.image_ids[index] for index in chosen]

    def at_epoch(self, epoch: int | None, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """Return the batches of one epoch.

        Args:
            epoch: Counted from 0; None starts another epoch with every pass.
            shard: (worker, workers): this worker's part of every batch.

        Returns:
            Image float32 (batch, height, width, 3) in [0, 255] and labels uint8
            (batch, height, width).
        """
        worker, workers = shard
        names = () if self.augment is None else tuple(self._plan(0)[1])
        shapes = {
            "transform": (8,),
            "colour": (3, 3),
            "offset": (),
            "sigma": (),
            "box": (4,),
        }

        def fetch(epoch: int, step: int) -> list[NDArray[Any]]:
            order, drawn = self._plan(int(epoch))
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size][worker::workers]
            if self._held is not None:
                images, labels = (array[chosen] for array in self._held)
            else:
                pairs = [self.read(index) for index in chosen]
                images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
            return [images, labels, *(drawn[name][chosen] for name in names)]

        def load(epoch: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            kinds = [tf.uint8, tf.uint8, *[tf.float32] * len(names)]
            images, labels, *rest = tf.numpy_function(fetch, [epoch, step], kinds)
            length = self.batch_size // workers if self.drop_remainder else None
            images.set_shape((length, *self.held_size, 3))
            labels.set_shape((length, *self.held_size))
            if not names:
                return tf.cast(images, tf.float32), labels
            drawn = dict(zip(names, rest, strict=True))
            for name, tensor in drawn.items():
                tensor.set_shape((length, *shapes[name]))
            images, labels = _augment(images, labels, drawn, self.size)
            return tf.ensure_shape(images, (length, *self.size, 3)), labels

        def start(epoch: tf.Tensor) -> tf.data.Dataset:
            if epoch < 0:
                epoch = tf.numpy_function(self._advance, [], tf.int64)
                epoch.set_shape(())
            steps = tf.data.Dataset.range(self.steps)
            return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(epoch).repeat(), steps)

        first = tf.constant(-1 if epoch is None else epoch, tf.int64)
        dataset = tf.data.Dataset.from_tensors(first).flat_map(start)
        dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(self.steps))
        return dataset.prefetch(2)

    def _advance(self) -> NDArray[np.int64]:
        with self._lock:
            self._next_epoch += 1
            return np.int64(self._next_epoch - 1)


def make_dataset(
    records: Sequence[ImageAnnotation],
    label_map: LabelMap,
    *,
    size: tuple[int, int],
    batch_size: int,
    augment: Augmentation | bool | None = None,
    shuffle: bool = False,
    seed: int = 0,
    resize: Literal["pad", "squash"] = "squash",
    cache: bool = True,
    held_size: tuple[int, int] | None = None,
    drop_remainder: bool | None = None,
) -> tf.data.Dataset:
    """Turn annotated photos into batches for training or validation."""
    if augment is True:
        augment = Augmentation()
    size = (int(size[0]), int(size[1]))
    held = size if held_size is None or not augment else (int(held_size[0]), int(held_size[1]))
    if len(records) == 0:
        raise ValueError("records is empty: a dataset needs at least one annotated photo")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if drop_remainder is None:
        drop_remainder = shuffle and len(records) >= batch_size
    source = PhotoSource(
        records,
        label_map,
        size=size,
        batch_size=batch_size,
        augment=augment or None,
        shuffle=shuffle,
        seed=seed,
        resize=resize,
        cache=cache,
        held_size=held,
        drop_remainder=drop_remainder,
    )
    dataset = source.at_epoch(None)
    dataset.source = source
    return dataset
