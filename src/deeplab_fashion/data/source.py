"""What each epoch holds, as a pure function of (seed, epoch): order, augmentation, batches."""

import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion.annotations import SkippedRecord
from deeplab_fashion.data.augmentation import (
    DRAWS,
    IGNORE,
    PADDING,
    Augmentation,
    recolour,
    warp,
)
from deeplab_fashion.data.samples import HeldSamples, Sample, Samples

__all__ = ["PhotoSource"]


class PhotoSource:
    """The samples behind a dataset: the batches of any epoch, and the images in each of them.

    The datasets of `make_dataset` carry it as ``dataset.source``.

    Attributes:
        image_ids: The id of each photo.
        class_names: The classes that labels stand for.
        num_classes: Their number.
        size: (height, width) of the batches.
        batch_size: Samples in a batch, over all replicas.
        steps: Batches in an epoch.
        dropped: The records that were left out as broken, with the reasons.

    Example:
        >>> dataset = df.data.make_dataset(
        ...     df.samples.load(), df.taxonomy.CCP_TO_MAIN, size=(64, 48), batch_size=4
        ... )
        >>> dataset.source.steps, dataset.source.batch_ids(epoch=0, step=0)
        (3, ['0007', '0035', '0064', '0141'])
    """

    def __init__(
        self,
        samples: Samples,
        *,
        size: tuple[int, int],
        batch_size: int,
        augmentation: Augmentation | None,
        shuffle: bool,
        balance: float,
        seed: int,
        drop_remainder: bool,
        dropped: Sequence[SkippedRecord] = (),
    ) -> None:
        self.samples = samples
        self.size: tuple[int, int] = size
        self.batch_size: int = batch_size
        self.augmentation: Augmentation | None = augmentation
        self.shuffle: bool = shuffle
        self.balance: float = balance
        self.seed: int = seed
        self.drop_remainder: bool = drop_remainder
        self.dropped: tuple[SkippedRecord, ...] = tuple(dropped)
        self.image_ids: tuple[str, ...] = samples.image_ids
        self.class_names: tuple[str, ...] = samples.class_names
        self.num_classes: int = len(self.class_names)
        whole, rest = divmod(len(self.image_ids), batch_size)
        self.steps: int = whole + (1 if rest and not drop_remainder else 0)
        self._weights = _rarity(samples.present) ** balance if balance else None
        self._plans: dict[int, tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]] = {}
        self._next_epoch = 0
        self._lock = threading.Lock()

    def settings(self) -> dict[str, Any]:
        """Return what an epoch's content depends on, as JSON types."""
        return {
            "samples": f"{len(self.image_ids)} with digest {self.samples.digest()}",
            "size": list(self.size),
            "held_size": list(self.samples.size),
            "batch_size": self.batch_size,
            "augmentation": None if self.augmentation is None else asdict(self.augmentation),
            "shuffle": self.shuffle,
            "balance": self.balance,
            "seed": self.seed,
            "drop_remainder": self.drop_remainder,
        }

    def read(self, index: int) -> Sample:
        """Return a photo (height, width, 3) and its labels as they are held, not augmented."""
        return self.samples.read(index)

    def label_counts(self) -> NDArray[np.int64]:
        """Return how many pixels have each label, over all samples and without augmentation."""
        total = np.zeros(IGNORE + 1, np.int64)
        for index in range(len(self.image_ids)):
            total += np.bincount(self.read(index)[1].ravel(), minlength=IGNORE + 1)
        return total[: self.num_classes]

    def _plan(self, epoch: int) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
        """Return which sample comes at each place of an epoch, and what is drawn for it."""
        with self._lock:
            if epoch not in self._plans:
                count = len(self.image_ids)
                order = np.arange(count)
                random = np.random.default_rng([self.seed, epoch, 0])
                if self._weights is not None:
                    shares = np.cumsum(self._weights) / self._weights.sum()
                    places = (np.arange(count) + random.random()) / count
                    order = np.minimum(np.searchsorted(shares, places, "right"), count - 1)
                if self.shuffle:
                    order = random.permutation(order)
                drawn = {}
                if self.augmentation:
                    numbers = np.random.default_rng([self.seed, epoch, 1]).random((count, DRAWS))
                    drawn = self.augmentation.draw(numbers, self.size, self.samples.size)
                self._plans = {epoch: (order, drawn)}
            return self._plans[epoch]

    def batch_ids(self, epoch: int, step: int) -> list[str]:
        """Return the ids of the images in one batch.

        Args:
            epoch: Counted from 0.
            step: Counted from 0 within the epoch.

        Returns:
            One id for each sample.
        """
        order, _ = self._plan(epoch)
        chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
        return [self.image_ids[index] for index in chosen]

    def at_epoch(
        self, epoch: int | None, *, pieces: range = range(1), of: int = 1
    ) -> tf.data.Dataset[tuple[tf.Tensor, tf.Tensor]]:
        """Return the batches of one epoch, or of every batch the pieces for some replicas.

        Args:
            epoch: Counted from 0; None is another epoch at every pass, from 0 on.
            pieces: Which of a batch's ``of`` pieces are wanted: one after the other for each
                batch. Pieces are of one length; what a batch lacks is filled with ignored pixels.
            of: The pieces that each batch is dealt into.

        Returns:
            Images float32 (batch, height, width, 3) in [0, 255], labels uint8
            (batch, height, width).
        """
        shapes: dict[str, tuple[int, ...]] = {}
        if self.augmentation:
            shapes = {"colour": (3, 3), "offset": (), "box": (4,)}
        share = -(-self.batch_size // of)
        length = share if self.drop_remainder or of > 1 else None

        def fetch(epoch: int, turn: int) -> list[NDArray[Any]]:
            order, drawn = self._plan(int(epoch))
            step, piece = turn // len(pieces), pieces[turn % len(pieces)]
            end = min(len(order), (step + 1) * self.batch_size)
            places = np.arange(step * self.batch_size, end)[piece::of]
            images, labels = self._load(order[places], places, drawn)
            rest = [drawn[name][places] for name in shapes]
            missing = share - len(places) if of > 1 else 0
            if missing:
                images = _filled_up(images, missing, PADDING)
                labels = _filled_up(labels, missing, IGNORE)
                rest = [_filled_up(part, missing, 0) for part in rest]
            return [images, labels, *rest]

        def load(epoch: tf.Tensor, turn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            kinds = [tf.uint8, tf.uint8, *[tf.float32] * len(shapes)]
            images, labels, *rest = tf.numpy_function(fetch, [epoch, turn], kinds)
            images = tf.ensure_shape(images, (length, *self.size, 3))
            labels = tf.ensure_shape(labels, (length, *self.size))
            if not shapes:
                return tf.cast(images, tf.float32), labels
            drawn = {
                name: tf.ensure_shape(tensor, (length, *shape))
                for (name, shape), tensor in zip(shapes.items(), rest, strict=True)
            }
            return recolour(images, labels, **drawn)

        def begin(epoch: tf.Tensor) -> tf.data.Dataset[tuple[tf.Tensor, tf.Tensor]]:
            if endless:
                epoch = tf.ensure_shape(tf.numpy_function(self._advance, [], tf.int64), ())
            turns = tf.data.Dataset.range(self.steps * len(pieces))
            return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(epoch).repeat(), turns)

        endless = epoch is None
        first = tf.constant(epoch or 0, tf.int64)
        as_written = tf.autograph.experimental.do_not_convert  # no branch hangs on a tensor
        dataset = tf.data.Dataset.from_tensors(first).flat_map(as_written(begin))
        dataset = dataset.map(
            as_written(load), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        count = tf.data.experimental.assert_cardinality(self.steps * len(pieces))
        return dataset.apply(count).prefetch(2)

    def _load(
        self,
        indices: NDArray[np.int64],
        places: NDArray[np.int64],
        drawn: dict[str, NDArray[np.float32]],
    ) -> Sample:
        if isinstance(self.samples, HeldSamples) and not drawn:
            return self.samples.images[indices], self.samples.labels[indices]
        images = np.empty((len(indices), *self.size, 3), np.uint8)
        labels = np.empty((len(indices), *self.size), np.uint8)
        for row, (index, place) in enumerate(zip(indices, places, strict=True)):
            image, painted = self.read(index)
            if drawn:
                mine = {name: drawn[name][place] for name in ("warp", "sigma")}
                image, painted = warp(image, painted, mine, self.size)
            images[row], labels[row] = image, painted
        return images, labels

    def _advance(self) -> np.int64:
        with self._lock:
            self._next_epoch += 1
            return np.int64(self._next_epoch - 1)


def _rarity(present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for each sample the inverse share of samples with its rarest class."""
    shares = present.mean(axis=0)
    inverse = np.divide(1.0, shares, out=np.zeros_like(shares), where=shares > 0)
    rarest: NDArray[np.float64] = (present * inverse).max(axis=1)
    return np.maximum(1.0, rarest)


def _filled_up(array: NDArray[Any], missing: int, value: float) -> NDArray[Any]:
    extra = np.full((missing, *array.shape[1:]), value, array.dtype)
    return np.concatenate([array, extra])
