"""Compare losses on two replicas with one device; run by test_losses in a process of its own.

Standard input holds the losses as JSON. The replicas' images differ in number and in how much of
them is ignored. One strategy serves all: two ``MirroredStrategy`` objects in one process can abort.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

import deeplab_fashion.losses  # noqa: F401  registers the losses

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

losses = {
    name: keras.saving.deserialize_keras_object(config)
    for name, config in json.load(sys.stdin).items()
}

CLASSES = 4
rng = np.random.default_rng(0)
images = rng.normal(size=(8, 6, 6, 3)).astype(np.float32)
labels = rng.integers(0, CLASSES, (8, 6, 6)).astype(np.uint8)
labels[0] = 255  # nothing to learn from
labels[1, :5] = 255
labels[2, 3:] = 255
kernel = rng.normal(size=(3, CLASSES)).astype(np.float32)


def gradient_of(loss, x, y):
    with tf.GradientTape() as tape:
        tape.watch(weights := tf.constant(kernel))
        value = loss(y, tf.einsum("bhwi,io->bhwo", x, weights))
    return tape.gradient(value, weights)


@tf.function
def gradient_on_both(loss, x, y):
    return strategy.reduce("SUM", strategy.run(gradient_of, (loss, x, y)), axis=None)


def split(array, first):
    parts = array[:first], array[first:]
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )


for name, loss in losses.items():
    expected = gradient_of(loss, images, labels).numpy()
    for first in (3, 1):  # how many images the first replica gets; the first one is empty
        both = gradient_on_both(loss, split(images, first), split(labels, first))
        np.testing.assert_allclose(
            both, expected, rtol=1e-4, atol=1e-7, err_msg=f"{name}, {first} images first"
        )
    print(name, "equal", flush=True)


def fitted(run_eagerly=False):
    model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(CLASSES, 1)])
    model.layers[0].set_weights([kernel[np.newaxis, np.newaxis], np.zeros(CLASSES)])
    model.compile(keras.optimizers.SGD(0.5), loss=losses["combined"], run_eagerly=run_eagerly)
    model.fit(images, labels, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model.get_weights()


one_device = fitted()
for run_eagerly in (False, True):
    with strategy.scope():
        both = fitted(run_eagerly)
    for a, b in zip(one_device, both, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    print("fit equal", flush=True)
