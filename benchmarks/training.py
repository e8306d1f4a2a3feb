"""Time what `fit` adds to a bare training step, and how long steps wait for their batch.

The same network, EfficientNet-Lite0 with DeepLabV3+ at 256 x 256 in batches of 8, is trained by
`fit` with its defaults and, between its steps, by a bare `tf.function`: forward, cross-entropy,
backward, AdamW, on the same batch. Steps alternate, so that other work on the machine meets both
alike; the figures are medians over all steps but the first three. In a second run without the bare
steps, the time that `next(batches)` takes is compared with the time of a step.

    python benchmarks/training.py ../shared/data/ccp --out benchmarks/results/training.md
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import deeplab_fashion as df


def network() -> keras.Model:
    """Return the network that is timed."""
    keras.utils.set_random_seed(0)
    return df.DeepLabV3Plus(backbone="efficientnetlite0", weights=None)


class BareSteps(keras.callbacks.Callback):
    """Takes a bare step after each step of `fit`, and notes how long either took."""

    def __init__(self, batch: tuple[tf.Tensor, tf.Tensor]) -> None:
        super().__init__()
        self.batch = batch
        self.ours: list[tuple[float, float]] = []
        self.bare: list[tuple[float, float]] = []
        model, loss = network(), df.losses.CrossEntropy()
        optimizer = keras.optimizers.AdamW(1e-3, weight_decay=1e-4)
        optimizer.build(model.trainable_variables)

        @tf.function
        def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                value = loss(labels, model(images, training=True))
            gradients = tape.gradient(value, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            return value

        self.step = step
        self.step(*batch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.start = now()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the step that has ended, and take a bare one."""
        middle = now()
        self.ours.append(since(self.start, middle))
        float(self.step(*self.batch))
        self.start = now()
        self.bare.append(since(middle, self.start))


class Waits(keras.callbacks.Callback):
    """Notes the time from one step's end to the next one's beginning, and that of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.steps: list[float] = []
        self.moment = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.moment = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Note how long the batch was waited for."""
        self.waits.append(time.perf_counter() - self.moment)
        self.moment = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note how long the step took."""
        self.steps.append(time.perf_counter() - self.moment)
        self.moment = time.perf_counter()


def now() -> tuple[float, float]:
    """Return wall time and this process's CPU time."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """Return the difference of both clocks."""
    return end[0] - start[0], end[1] - start[1]


def main() -> None:
    """Time everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train.csv and train/")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    records = df.annotations.read_imaterialist(
        arguments.data / "train.csv", arguments.data / "train"
    )
    train = df.data.make_dataset(
        records[: 8 * arguments.steps],
        df.taxonomy.CCP_TO_MAIN,
        size=(256, 256),
        batch_size=8,
        augment=True,
        shuffle=True,
    )
    bare = BareSteps(next(iter(train)))
    df.fit(network(), train, epochs=1, callbacks=[bare], progress=False)
    ours, plain = (np.median(np.array(part[3:]), axis=0) for part in (bare.ours, bare.bare))
    waits = Waits()
    df.fit(network(), train, epochs=1, callbacks=[waits], progress=False)
    wait, step = sum(waits.waits[3:]), sum(waits.steps[3:])
    lines = [
        "# Training: what `fit` adds to a step",
        "",
        "Written by `python benchmarks/training.py ../shared/data/ccp --out "
        "benchmarks/results/training.md`;",
        "what is compared and how is said at the top of that file.",
        "",
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, {arguments.steps - 3} steps each.",
        "",
        "| a step of 8 photos at 256 x 256 | wall, s | CPU, s |",
        "|---|---:|---:|",
        f"| bare `tf.function` | {plain[0]:.3f} | {plain[1]:.3f} |",
        f"| `fit`, batches from `make_dataset` with augmentation | {ours[0]:.3f} | {ours[1]:.3f} |",
        f"| `fit` / bare | {ours[0] / plain[0]:.3f} | {ours[1] / plain[1]:.3f} |",
        "",
        "Goal: at most 1.03.",
        "",
        f"Waiting for batches: {wait:.2f} s beside {step:.1f} s of steps, a ratio of "
        f"{wait / step:.4f}.",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
