"""Time DeepLabV3+ on ResNet50 against that of keras-hub, and a photo of growing size.

Both run in one process, in turn, at output stride 16, 256 x 256, 6 classes, random weights, so
that other work on the machine meets both alike. Keras-hub does not dilate: its stride 16 is a last
stage of stride 1; its last upsampling, made for stride 32, is replaced by one to the photo's own
size, without which it would answer at 512 x 512. Peak memory is that of a process of its own.

    pip install keras-hub
    python benchmarks/model.py --out benchmarks/results/model.md
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import deeplab_fashion as df
from deeplab_fashion import pretrained
from deeplab_fashion.fast_path import compile_inference

SIZE, CLASSES, BATCH = 256, 6, 8
OURS, PEER = "deeplab-fashion", "keras-hub"


def ours() -> keras.Model:
    """Return this package's network."""
    return df.DeepLabV3Plus(CLASSES, backbone="resnet50", weights=None)


def peer() -> keras.Model:
    """Return the network of keras-hub at stride 16."""
    import keras_hub

    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 1],
        block_type="bottleneck_block",
        image_shape=(SIZE, SIZE, 3),
    )
    body = keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=4,
        dilation_rates=[6, 12, 18],
        image_shape=(SIZE, SIZE, 3),
    )
    x = body.get_layer("segmentation_head_relu").output
    x = keras.layers.UpSampling2D(4, interpolation="bilinear")(x)
    return keras.Model(body.input, keras.layers.Conv2D(CLASSES, 1, use_bias=False)(x))


def with_statistics(model: keras.Model) -> None:
    """Draw what batch normalisation adds: TensorFlow leaves it out where it is 0, as untrained."""
    for variable in model.variables:
        if variable.name in ("beta", "moving_mean"):
            variable.assign(0.1 * keras.random.normal(variable.shape, seed=1))


def forward_of(model: keras.Model) -> Callable[[Any], Any]:
    """Return a held function of the network."""
    held = tf.function(lambda images: model(images, training=False))
    return lambda images: held(images).numpy()


def step_of(model: keras.Model) -> Callable[[Any, Any], float]:
    """Return a held training step."""
    optimizer = keras.optimizers.SGD(1e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels=labels, logits=model(images, training=True)
                )
            )
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return lambda images, labels: float(step(images, labels))


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return median wall and CPU milliseconds of each call, after one to warm up."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:
                now = time.perf_counter(), time.process_time()
                taken[name].append((1e3 * (now[0] - wall), 1e3 * (now[1] - cpu)))
    return {name: tuple(np.median(values, axis=0)) for name, values in taken.items()}


def photos(batch: int, size: int = SIZE) -> tf.Tensor:
    """Return random photos."""
    return tf.random.stateless_uniform((batch, size, size, 3), (1, 2), 0, 255)


def truth() -> tf.Tensor:
    """Return random labels."""
    return tf.random.stateless_uniform((BATCH, SIZE, SIZE), (3, 4), 0, CLASSES, tf.int32)


def peak_memory(which: str, work: str) -> float:
    """Return the peak memory, in MB, of a process that does nothing else."""
    command = [sys.executable, __file__, "--memory", which, work]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_of(which: str, work: str) -> None:
    """Do the work and print this process's peak memory in MB."""
    model = ours() if which == OURS else peer()
    if work == "forward":
        forward_of(model)(photos(BATCH))
    else:
        step_of(model)(photos(BATCH), truth())
    # not getrusage, which counts the process that started this one
    status = Path("/proc/self/status").read_text("ascii")
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", nargs=2)
    given = parser.parse_args()
    if given.memory:
        return memory_of(*given.memory)

    keras.utils.set_random_seed(0)
    models = {PEER: peer(), OURS: ours()}
    for model in models.values():
        with_statistics(model)
    fast = {
        f"{OURS}, fast path, {precision}": compile_inference(models[OURS], precision=precision)
        for precision in ("float32", "bfloat16")
    }
    functions = {name: forward_of(model) for name, model in models.items()} | fast
    rows = []
    for batch in (BATCH, 1):
        images = photos(batch)
        times = in_turn(
            {name: lambda f=f, x=images: f(x) for name, f in functions.items()}, given.rounds
        )
        rows += [(f"forward, batch {batch}", name, times) for name in times]
    steps = {name: step_of(model) for name, model in models.items()}
    batch = photos(BATCH), truth()
    times = in_turn({n: lambda s=s: s(*batch) for n, s in steps.items()}, given.rounds)
    rows += [(f"training step, batch {BATCH}", name, times) for name in times]

    lines = [
        "# DeepLabV3+ beside that of keras-hub",
        "",
        "Written by `python benchmarks/model.py --out benchmarks/results/model.md`; what is",
        "compared and how is said at the top of that file.",
        "",
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, median of {given.rounds} rounds; "
        "CPU time stays the same",
        "when other work shares the cores, wall time does not.",
        "",
        "| ResNet50, stride 16, 256 x 256 | who | wall, ms | CPU, ms | times faster: wall | CPU |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for what, name, found in rows:
        wall, cpu = found[name]
        faster = f"{found[PEER][0] / wall:.2f} | {found[PEER][1] / cpu:.2f}"
        lines.append(f"| {what} | {name} | {wall:.0f} | {cpu:.0f} | {faster} |")
    lines += [
        "",
        "| peak memory of a process, MB | keras-hub | deeplab-fashion |",
        "|---|---:|---:|",
    ]
    for work in ("forward", "training"):
        peaks = [peak_memory(name, work) for name in (PEER, OURS)]
        lines.append(f"| {work}, batch {BATCH} | {peaks[0]:.0f} | {peaks[1]:.0f} |")

    network, _, _ = pretrained.load()
    lines += [
        "",
        "The bundled network on one photo, fast path:",
        "",
        "| photo | float32, CPU ms | ns a pixel | bfloat16, CPU ms | ns a pixel |",
        "|---|---:|---:|---:|---:|",
    ]
    fast = {p: compile_inference(network, precision=p) for p in ("float32", "bfloat16")}
    for size in (128, 256, 512, 1024):
        image = photos(1, size)
        times = in_turn({p: lambda f=f, x=image: f(x) for p, f in fast.items()}, given.rounds)
        cells = [f"{times[p][1]:.1f} | {1e6 * times[p][1] / size**2:.0f}" for p in fast]
        lines.append(f"| {size} x {size} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, "utf-8")
    return None


if __name__ == "__main__":
    main()
