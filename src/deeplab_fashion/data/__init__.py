"""Training data: annotated photos -> batches of images and label maps, augmented together.

What an epoch holds is a pure function of (seed, epoch): a run that is stopped and resumed sees
exactly the batches that it would have seen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import tensorflow as tf

from deeplab_fashion.annotations import ImageAnnotation, SkippedRecord
from deeplab_fashion.data.augmentation import IGNORE, PADDING, Augmentation
from deeplab_fashion.data.samples import (
    AnnotatedPhotos,
    HeldSamples,
    OnError,
    RecordShards,
    Resize,
    Samples,
    without_broken,
    write_shards,
)
from deeplab_fashion.data.source import PhotoSource
from deeplab_fashion.taxonomy import LabelMap

__all__ = [
    "IGNORE",
    "PADDING",
    "Augmentation",
    "PhotoSource",
    "make_dataset",
    "read_tfrecords",
    "write_tfrecords",
]

_MOST_IN_MEMORY = 2 * 1024**3  # bytes that cache="auto" takes


def make_dataset(
    records: Sequence[ImageAnnotation],
    label_map: LabelMap,
    *,
    size: tuple[int, int],
    batch_size: int,
    augment: Augmentation | bool | None = None,
    shuffle: bool = False,
    balance: float = 0.0,
    seed: int = 0,
    resize: Resize = "squash",
    held_size: tuple[int, int] | None = None,
    cache: Literal["auto", "memory"] | str | Path | None = "auto",
    on_error: OnError = "raise",
    drop_remainder: bool | None = None,
    progress: bool = False,
) -> tf.data.Dataset[tuple[tf.Tensor, tf.Tensor]]:
    """Turn annotated photos into batches for training or validation.

    Photos are read upright whatever their kind (see `photos.read`), and annotations are painted
    straight at the size in which photos are held. A pass over the dataset is an epoch: with
    ``shuffle`` or ``augment`` the next one differs, and the k-th is the same in every run.

    Args:
        records: Annotated photos, as from `annotations.read_imaterialist`.
        label_map: From the annotations' categories to classes.
        size: (height, width) of the batches.
        batch_size: Samples in a batch, over all replicas together.
        augment: How to vary photos; True is ``Augmentation()``.
        shuffle: Whether to give each epoch another order.
        balance: 0 draws every photo once an epoch. Above, up to 1, photos with rare classes come
            more often and others less: by the inverse share of photos with a photo's rarest class,
            to this power. Needs ``shuffle``.
        seed: Of order and augmentation, at least 0.
        resize: "squash" to ``size`` whatever the shape, as in the study this package grew from,
            or keep the shape and "pad" with grey pixels that are ignored.
        held_size: (height, width) in which photos are held for augmentation, ``size`` by default.
            Larger keeps detail for zooming in. Without augmentation it is ``size``.
        cache: "memory" holds photos and labels in memory; a path holds them in files in that
            folder, for the next run too; None reads each photo anew each time; "auto" is "memory"
            up to 2 GiB, else None.
        on_error: What to do about a record that cannot be read or whose photo has another size
            than its annotation: "raise"; "drop" it, with the reason in ``dataset.source.dropped``;
            or "report", which also warns. The last two read every photo once at the start.
        drop_remainder: Whether to leave out a last batch that is not full; by default with
            ``shuffle``, unless it is the only one.
        progress: Whether to show the reading of photos on standard error.

    Returns:
        Images float32 (batch, height, width, 3) in [0, 255], and labels uint8
        (batch, height, width), 255 where a pixel is ignored. The dataset carries its `PhotoSource`
        as ``dataset.source``.

    Raises:
        ImageError: If a photo is missing, damaged or not of its annotation's size.
        TypeError: If ``label_map`` is no `LabelMap`.
        ValueError: If an argument breaks a rule, or there are no records.

    Example:
        >>> import deeplab_fashion as df
        >>> dataset = make_dataset(
        ...     df.samples.load(), df.taxonomy.CCP_TO_MAIN, size=(64, 48), batch_size=4
        ... )
        >>> images, labels = next(iter(dataset))
        >>> images.shape, labels.dtype
        (TensorShape([4, 64, 48, 3]), tf.uint8)

    References:
        Drawing photos by their rarest class: Gupta et al., LVIS, 2019, appendix; here with a fixed
        length of the epoch, and without a threshold.
    """
    _check_label_map(label_map)
    size = _checked_size("size", size)
    held = size
    if held_size is not None:
        held = _checked_size("held_size", held_size)
    if resize not in get_args(Resize):
        raise ValueError(f"resize must be one of {get_args(Resize)}, got {resize!r}")
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error must be one of {get_args(OnError)}, got {on_error!r}")
    if len(records) == 0:
        raise ValueError("records is empty: a dataset needs at least one annotated photo")
    photos = AnnotatedPhotos(tuple(records), label_map, held if augment else size, resize)
    dropped: tuple[SkippedRecord, ...] = ()
    if on_error != "raise":
        photos, dropped = without_broken(photos, on_error, show_progress=progress)
    return _dataset(
        photos,
        size=size,
        batch_size=batch_size,
        augment=augment,
        shuffle=shuffle,
        balance=balance,
        seed=seed,
        cache=cache,
        drop_remainder=drop_remainder,
        dropped=dropped,
        progress=progress,
    )


def write_tfrecords(
    records: Sequence[ImageAnnotation],
    label_map: LabelMap,
    folder: str | Path,
    *,
    size: tuple[int, int],
    resize: Resize = "squash",
    photos_per_shard: int = 512,
    progress: bool = False,
) -> list[Path]:
    """Write annotated photos, resized and painted, as TFRecord files.

    Each record is a ``tf.train.Example`` of three byte strings: ``image_id``, and ``image`` and
    ``labels`` as PNG. An ``index.json`` beside the files tells where each record lies, so that
    `read_tfrecords` reads them in any order, and names the classes.

    Args:
        records: Annotated photos.
        label_map: From the annotations' categories to classes.
        folder: Where to write; it is made if need be.
        size: (height, width) of photos and labels in the files.
        resize: As for `make_dataset`.
        photos_per_shard: Photos in each file.
        progress: Whether to show progress on standard error.

    Returns:
        The files, in order.

    Raises:
        ImageError: If a photo is missing, damaged or not of its annotation's size.
        TypeError: If ``label_map`` is no `LabelMap`.
        ValueError: If an argument breaks a rule, or there are no records.

    Example:
        >>> import tempfile
        >>> import deeplab_fashion as df
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = write_tfrecords(
        ...         df.samples.load(), df.taxonomy.CCP_TO_MAIN, folder, size=(32, 32)
        ...     )
        ...     dataset = read_tfrecords(folder, batch_size=4)
        ...     len(files), len(list(dataset))
        (1, 3)
    """
    if len(records) == 0:
        raise ValueError("records is empty: there is nothing to write")
    _check_label_map(label_map)
    photos = AnnotatedPhotos(tuple(records), label_map, _checked_size("size", size), resize)
    return write_shards(
        photos, Path(folder), photos_per_shard=photos_per_shard, show_progress=progress
    )


def read_tfrecords(
    folder: str | Path,
    *,
    batch_size: int,
    size: tuple[int, int] | None = None,
    augment: Augmentation | bool | None = None,
    shuffle: bool = False,
    balance: float = 0.0,
    seed: int = 0,
    cache: Literal["auto", "memory"] | None = None,
    drop_remainder: bool | None = None,
    progress: bool = False,
) -> tf.data.Dataset[tuple[tf.Tensor, tf.Tensor]]:
    """Turn the files of `write_tfrecords` into the batches that `make_dataset` would give.

    Args:
        folder: Where the files and their ``index.json`` lie.
        batch_size: Samples in a batch, over all replicas together.
        size: (height, width) of the batches, that of the files by default; another needs
            ``augment``.
        augment: As for `make_dataset`.
        shuffle: As for `make_dataset`.
        balance: As for `make_dataset`.
        seed: As for `make_dataset`.
        cache: As for `make_dataset`, without a folder.
        drop_remainder: As for `make_dataset`.
        progress: Whether to show the filling of the cache on standard error.

    Returns:
        As `make_dataset`.

    Raises:
        ImageError: If the folder holds no such files, or a file is damaged.
        ValueError: If an argument breaks a rule.

    Example:
        See `write_tfrecords`.
    """
    shards = RecordShards(Path(folder))
    size = shards.size if size is None else _checked_size("size", size)
    if size != shards.size and not augment:
        raise ValueError(
            f"size must be that of the files, {shards.size}, without augment, got {size}"
        )
    return _dataset(
        shards,
        size=size,
        batch_size=batch_size,
        augment=augment,
        shuffle=shuffle,
        balance=balance,
        seed=seed,
        cache=cache,
        drop_remainder=drop_remainder,
        progress=progress,
    )


def _dataset(
    samples: AnnotatedPhotos | RecordShards,
    *,
    size: tuple[int, int],
    batch_size: int,
    augment: Augmentation | bool | None,
    shuffle: bool,
    balance: float,
    seed: int,
    cache: str | Path | None,
    drop_remainder: bool | None,
    progress: bool,
    dropped: Sequence[SkippedRecord] = (),
) -> tf.data.Dataset[tuple[tf.Tensor, tf.Tensor]]:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if not 0 <= balance <= 1:
        raise ValueError(f"balance must lie in [0, 1], got {balance}")
    if balance and not shuffle:
        raise ValueError(f"balance={balance} needs shuffle=True")
    count = len(samples.image_ids)
    if cache == "auto":
        fits = count * samples.size[0] * samples.size[1] * 4 <= _MOST_IN_MEMORY
        cache = "memory" if fits else None
    held: Samples = samples
    if cache == "memory":
        held = HeldSamples.in_memory(samples, show_progress=progress)
    elif isinstance(samples, AnnotatedPhotos):
        if cache is not None:
            held = HeldSamples.on_disk(samples, Path(cache), show_progress=progress)
        else:
            for index in range(count):
                samples.check(index)
    elif cache is not None:
        raise ValueError(
            f"cache must be 'auto', 'memory' or None for TFRecord files, got {cache!r}"
        )
    source = PhotoSource(
        held,
        size=size,
        batch_size=batch_size,
        augmentation=Augmentation() if augment is True else augment or None,
        shuffle=shuffle,
        balance=balance,
        seed=seed,
        drop_remainder=shuffle and count >= batch_size
        if drop_remainder is None
        else drop_remainder,
        dropped=dropped,
    )
    dataset = source.at_epoch(None)
    dataset.source = source  # pyright: ignore[reportAttributeAccessIssue] - for `fit` to find
    return dataset


def _check_label_map(label_map: LabelMap) -> None:
    if not isinstance(label_map, LabelMap):
        raise TypeError(
            "label_map must be a LabelMap, such as LabelMap.from_names gives, "
            f"got {label_map!r:.60}"
        )


def _checked_size(name: str, size: Sequence[int]) -> tuple[int, int]:
    if np.ndim(size) != 1 or len(size) != 2 or any(int(side) != side or side < 1 for side in size):
        raise ValueError(f"{name} must be (height, width), whole numbers from 1 on, got {size}")
    return int(size[0]), int(size[1])
