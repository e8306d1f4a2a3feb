"""Time counts, the Keras metric and boundary scores against what one would use otherwise.

All ways of a task run in turn in one process, in an order drawn anew for each round, and must give
the same numbers, or the run fails. A figure is the least wall time of its rounds, since other work
on the machine only ever adds; counts are compared by their medians too. Labels are the package's
twelve photos (47 classes: their tags modulo 47), a prediction is the truth shifted by a few pixels
with wrong 16 x 16 blocks; "noise" is independent labels of every pixel, which no photo has, as the
worst case. Needs packages that the project does not:

    pip install torch torchmetrics opencv-python-headless
    python benchmarks/scores.py --out benchmarks/results/scores.md
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import tensorflow as tf
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from deeplab_fashion import metrics, samples, scores
from deeplab_fashion.rle import paint_labels
from deeplab_fashion.taxonomy import CCP_TO_MAIN

Way = Callable[[], Any]


def label_maps(classes: int, size: tuple[int, int]) -> np.ndarray:
    """Return the twelve photos' labels, int64, shape (12, height, width)."""
    photos = samples.load()
    if classes == len(CCP_TO_MAIN.target_names):
        maps = [photo.to_labels(CCP_TO_MAIN, output_size=size) for photo in photos]
    else:
        maps = [
            paint_labels(photo.regions, [i % classes for i in photo.category_ids], output_size=size)
            for photo in photos
        ]
    return np.array(maps, np.int64)


def prediction(truth: np.ndarray, classes: int) -> np.ndarray:
    """Return the truth as a middling model would see it."""
    rng = np.random.default_rng(0)
    guess = np.roll(truth, (2, 3), axis=(-2, -1))
    blocks = tuple(n // 16 for n in truth.shape[-2:])
    wrong = rng.random((len(truth), *blocks)) < 0.05
    other = rng.integers(0, classes, wrong.shape)
    wrong, other = (a.repeat(16, axis=1).repeat(16, axis=2) for a in (wrong, other))
    return np.where(wrong, other, guess)


def all_times(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Return each way's times in ms, the ways taking turns."""
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        ways[name]()
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for name in rng.permutation(names):
            start = time.perf_counter()
            ways[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def least_times(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    return {name: min(times) for name, times in all_times(ways, rounds).items()}


def counting(classes: int, kind: str, dtype: type, rounds: int) -> dict[str, list[float]]:
    """Time the counts of one 512 x 512 image."""
    if kind == "noise":
        truth, guess = np.random.default_rng(0).integers(0, classes, (2, 512, 512)).astype(dtype)
    else:
        maps = label_maps(classes, (512, 512))
        truth, guess = maps[0].astype(dtype), prediction(maps, classes)[0].astype(dtype)
    tensors = torch.from_numpy(truth.astype(np.int64)), torch.from_numpy(guess.astype(np.int64))
    foreign = MulticlassConfusionMatrix(classes)

    def plain() -> np.ndarray:
        wide = truth.astype(np.int64) if dtype is np.uint8 else truth  # uint8 would overflow
        return np.bincount((wide * classes + guess).ravel(), minlength=classes**2)

    def torchmetrics() -> np.ndarray:
        foreign.reset()
        foreign.update(tensors[1], tensors[0])
        return foreign.compute().numpy()

    ways: dict[str, Way] = {
        "ours": lambda: scores.confusion_matrix(truth, guess, classes),
        "np.bincount": plain,
    }
    # Apart from the others: its threads spin on for a while and would slow whoever comes next.
    peer: dict[str, Way] = {"torchmetrics": torchmetrics}
    agree(way().reshape(classes, classes) for way in (ways | peer).values())
    return all_times(ways, rounds) | all_times(peer, rounds // 5)


def keras_metric(classes: int, form: str, rounds: int) -> dict[str, float]:
    """Time a metric's update in a tf.function, for a batch of 8 at 256 x 256."""
    maps = label_maps(classes, (256, 256))[:8]
    guess = prediction(maps, classes)
    truth = tf.constant(maps, tf.int32 if form == "int32 labels" else tf.uint8)
    if form == "logits":
        logits = np.random.default_rng(0).random((*guess.shape, classes), np.float32)
        np.put_along_axis(logits, guess[..., None], 2, axis=-1)
        predicted = tf.constant(logits)
    else:
        predicted = tf.cast(guess, truth.dtype)
    ours = metrics.MeanIoU(classes)
    foreign = keras.metrics.MeanIoU(classes, sparse_y_pred=form != "logits")

    @tf.function
    def our_update() -> None:
        ours.update_state(truth, predicted)

    @tf.function
    def their_update() -> None:
        foreign.update_state(truth, predicted)

    our_update(), their_update()
    agree([ours.confusion_matrix, foreign.total_cm.numpy()])
    ways: dict[str, Way] = {"ours": our_update, "keras.metrics.MeanIoU": their_update}
    if form == "logits":
        ways["tf.argmax"] = tf.function(lambda: tf.argmax(predicted, -1))
    return least_times(ways, rounds)


def boundaries(classes: int, rounds: int) -> dict[str, float]:
    """Time the boundary IoU of every class of one 512 x 512 image."""
    maps = label_maps(classes, (512, 512))
    truth, guess = maps[0].astype(np.uint8), prediction(maps, classes)[0].astype(np.uint8)
    distance = round(0.02 * float(np.hypot(*truth.shape)))

    def together() -> np.ndarray:
        matrix = scores.boundary_confusion_matrix(truth, guess, classes)
        return scores.boundary_iou_per_class(matrix)

    def one_by_one() -> np.ndarray:
        return np.array(
            [
                scores.boundary_iou_per_class(
                    scores.boundary_confusion_matrix(truth == c, guess == c, 2)
                )[1]
                for c in range(classes)
            ]
        )

    def eroded() -> np.ndarray:
        """As the paper has it: a band is the mask without its erosion, step by step."""
        square, ious = np.ones((3, 3), np.uint8), []
        for c in range(classes):
            bands = []
            for labels in (truth, guess):
                mask = (labels == c).astype(np.uint8)
                framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
                bands.append(mask - cv2.erode(framed, square, iterations=distance)[1:-1, 1:-1])
            both, either = (bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()
            ious.append(both / either if either else np.nan)
        return np.array(ious)

    ways: dict[str, Way] = {
        "ours, all at once": together,
        "ours, one class at a time": one_by_one,
        "cv2.erode, one class at a time": eroded,
    }
    agree(way() for way in ways.values())
    return least_times(ways, rounds)


def agree(results: Any) -> None:
    """Raise AssertionError unless all are equal."""
    first, *others = results
    for other in others:
        np.testing.assert_allclose(np.asarray(other, np.float64), first, rtol=1e-12)


def report(rounds: int) -> str:
    """Run everything and return the tables."""
    lines = [
        "# Scores: speed",
        "",
        "Written by `python benchmarks/scores.py --out benchmarks/results/scores.md`; what is",
        "compared and how is said at the top of that file. Least wall time in ms.",
        "",
        f"numpy {np.__version__}, TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"torch {torch.__version__}, torchmetrics {version('torchmetrics')}, "
        f"OpenCV {cv2.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "## Counts of a 512 x 512 image",
        "",
        "Goal: at most 0.65 of the time of `np.bincount(y * C + p, minlength=C * C)`.",
        "",
        "| classes | labels | ours | np.bincount | torchmetrics | ours / np.bincount | medians | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in ("photo", "noise"):
        for classes in (6, 47):
            for dtype in (np.uint8, np.int32, np.int64):
                times = counting(classes, kind, dtype, 10 * rounds)
                ms = {way: min(took) for way, took in times.items()}
                ratio = ms["ours"] / ms["np.bincount"]
                medians = np.median(times["ours"]) / np.median(times["np.bincount"])
                lines.append(
                    f"| {classes} | {kind}, {dtype.__name__} | {ms['ours']:.3f} | "
                    f"{ms['np.bincount']:.3f} | {ms['torchmetrics']:.3f} | {ratio:.2f} | "
                    f"{medians:.2f} | {'met' if ratio <= 0.65 else 'missed'} |"
                )
    lines += [
        "",
        "## Keras metric in a tf.function, batch of 8 at 256 x 256",
        "",
        "Goal: at least 8 times as fast as `keras.metrics.MeanIoU`. With logits both begin with",
        "the greatest class of each pixel, so `tf.argmax` alone is shown beside them.",
        "",
        "| classes | prediction | ours | keras.metrics.MeanIoU | tf.argmax | times as fast | |",
        "|---|---|---|---|---|---|---|",
    ]
    for classes in (6, 47):
        for form in ("uint8 labels", "int32 labels", "logits"):
            ms = keras_metric(classes, form, 2 * rounds)
            alone = ms.get("tf.argmax")
            faster = ms["keras.metrics.MeanIoU"] / ms["ours"]
            lines.append(
                f"| {classes} | {form} | {ms['ours']:.2f} | {ms['keras.metrics.MeanIoU']:.2f} | "
                f"{'' if alone is None else f'{alone:.2f}'} | {faster:.1f} | "
                f"{'met' if faster >= 8 else 'missed'} |"
            )
    lines += [
        "",
        "## Boundary IoU of every class of a 512 x 512 image",
        "",
        "Goal: at 47 classes at least 10 times as fast as one class at a time.",
        "",
        "| classes | way | ms | ours is faster by | |",
        "|---|---|---|---|---|",
    ]
    for classes in (6, 47):
        ms = boundaries(classes, rounds)
        ours = ms["ours, all at once"]
        for way, took in ms.items():
            goal = "" if classes < 47 or took == ours else "met" if took >= 10 * ours else "missed"
            lines.append(f"| {classes} | {way} | {took:.2f} | {took / ours:.1f} | {goal} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="more: steadier (default: 20)")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    arguments = parser.parse_args()
    text = report(arguments.rounds)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
