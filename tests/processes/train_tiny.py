"""Train a tiny model on the sample photos, in a process that may kill itself with SIGKILL.

Arguments: a folder for the run, a file for the final weights and history, and the moment to die:
"never", "step E S" (after step S of epoch E), "write E" (when half of the
checkpoint after epoch E is on the disk) or "renamed E" (right after it got its name).
"""

import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import deeplab_fashion as df


def tiny_model(*, dropout: float = 0.3) -> keras.Model:
    """Return a network with all that resuming has to remember: dropout, batch norm, a backbone."""
    layers = keras.layers
    keras.utils.set_random_seed(7)
    image = keras.Input((None, None, 3))
    backbone = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(6, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
        ],
        name="backbone",
    )
    x = backbone(image)
    x = layers.Dropout(dropout)(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2)(x)
    return keras.Model(image, layers.Conv2D(6, 1)(x))


def die() -> None:
    """End this process as the kernel would."""
    os.kill(os.getpid(), signal.SIGKILL)


class DieAfterStep(keras.callbacks.Callback):
    """Dies in mid-epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__()
        self.wanted, self.epoch = (epoch, step), 0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Remember the epoch."""
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Die if this is the moment."""
        if (self.epoch, batch + 1) == self.wanted:
            die()


def die_while_saving(epoch: int, *, renamed: bool) -> None:
    """Arrange for death at the checkpoint of an epoch."""
    replace = os.replace

    def deadly(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        if Path(target).name != f"epoch-{epoch:05d}.npz":
            replace(source, target)
            return
        if renamed:
            replace(source, target)
        else:
            os.truncate(source, os.path.getsize(source) // 2)
        die()

    os.replace = deadly  # type: ignore[assignment]


def main() -> None:
    """Train, and write what came of it."""
    run_dir, out, moment, *numbers = sys.argv[1:]
    callbacks = []
    if moment == "step":
        callbacks.append(DieAfterStep(int(numbers[0]), int(numbers[1])))
    elif moment in ("write", "renamed"):
        die_while_saving(int(numbers[0]), renamed=moment == "renamed")
    records, label_map = df.samples.load(), df.taxonomy.CCP_TO_MAIN
    train = df.data.make_dataset(
        records, label_map, size=(32, 32), batch_size=3, augment=True, shuffle=True, seed=5
    )
    validation = df.data.make_dataset(records[:4], label_map, size=(32, 32), batch_size=3)
    result = df.fit(
        tiny_model(),
        train,
        validation,
        epochs=6,
        backbone_multiplier=0.5,
        freeze_backbone_epochs=2,
        clip_norm=1.0,
        ema_decay=0.9,
        run_dir=run_dir,
        callbacks=callbacks,
        progress=False,
    )
    np.savez(out, *result.model.get_weights(), history=json.dumps(result.history))


if __name__ == "__main__":
    main()
