"""Train ten steps on one device, on two devices, or as one of several workers of TF_CONFIG.

Arguments: "one", "two" or "worker"; a file for weights and history; a folder for the run, or "-";
"plain" for data that `make_dataset` did not make.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import deeplab_fashion as df


def model(plain: bool) -> keras.Model:
    """Return a network whose batch norm must count over all replicas, or without one."""
    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    if not plain:
        x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.ReLU()(x)
    return keras.Model(image, layers.Conv2D(6, 1)(x))


def main() -> None:
    """Train, and write what came of it."""
    kind, out, run_dir, *plain = sys.argv[1:]
    strategy: object = None
    if kind == "two":
        cpus = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    elif kind == "worker":
        df.training.join_workers()
        strategy = "multi-worker"
    records, label_map = df.samples.load(), df.taxonomy.CCP_TO_MAIN
    train = df.data.make_dataset(
        records, label_map, size=(32, 32), batch_size=4, augment=True, shuffle=True, seed=5
    )
    # Nine photos in batches of four: the last one is filled up for the second replica.
    validation = df.data.make_dataset(records[:9], label_map, size=(32, 32), batch_size=4)
    if plain:  # batches of 5, 5 and 2, which two replicas cannot share alike
        train = df.data.make_dataset(records, label_map, size=(32, 32), batch_size=5)
        train = train.map(lambda image, labels: (image, labels))
    options: dict[str, object] = {"epochs": 4, "clip_norm": 1.0, "ema_decay": 0.9}
    result = df.fit(
        model(bool(plain)),
        train,
        validation,
        strategy=strategy,
        run_dir=None if run_dir == "-" else Path(run_dir),
        progress=False,
        **options,
    )
    confusion = np.asarray(result.confusion)
    np.savez(
        out,
        *result.model.get_weights(),
        history=json.dumps(result.history),
        confusion=confusion,
    )


if __name__ == "__main__":
    main()
