"""Time one photo from its file to masks of its own size, beside onnxruntime and LiteRT.

All run in one process, in turn, on the packaged sample photo of 550 x 825, with the bundled model
at its working size. "The same around it" means: the file is read, resized and its answer enlarged
and labelled by the very functions that `Segmenter` uses; only the network is run by another
runtime, from a file that this package exported. The first result and the peak memory are those of
processes of their own.

    pip install "deeplab-fashion[onnx,litert]"
    python benchmarks/inference.py --out benchmarks/results/inference.md
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

BARE = "import tensorflow"
FIRST = """
import sys
import deeplab_fashion as df
df.Segmenter.from_pretrained(**eval(sys.argv[2]))(sys.argv[1])
"""
PEAK = """
from pathlib import Path
print(int(Path("/proc/self/status").read_text("ascii").split("VmHWM:")[1].split()[0]) / 1024)
"""


def around(photo: Path, frame: tuple[int, int], network: Callable[[Any], Any]) -> Any:
    """Do with another network what `Segmenter` does with its own."""
    from deeplab_fashion import _canvas, photos

    pixels = photos.read(photo)
    size = pixels.shape[:2]
    canvas, _ = _canvas.plan(size, frame, keep_aspect=True, tile=None, smallest=16)
    seen = _canvas.resized(pixels, (0, 0, *size), canvas)
    planes = np.ascontiguousarray(np.moveaxis(network(seen[None])[0], -1, 0), np.float32)
    return _canvas.label(iter([planes]), canvas, size, keep=True)[0]


def runtimes(segmenter: Any, photo: Path, folder: Path) -> dict[str, Callable[[], Any]]:
    """Return a call for each way to the masks; each gives labels of the photo's size."""
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    from deeplab_fashion import _canvas, export, photos

    frame = segmenter.options.frame
    whole = photos.size_of(photo)
    canvas, _ = _canvas.plan(whole, frame, keep_aspect=True, tile=None, smallest=16)
    bare = tf.function(
        lambda seen: tf.nn.softmax(segmenter.model(tf.cast(seen, tf.float32), training=False)),
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
    )
    export.to_onnx(segmenter, folder / "model.onnx")
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    networks: dict[str, Callable[[Any], Any]] = {
        "bare `tf.function` of the model": lambda seen: bare(seen).numpy(),
        "onnxruntime, float32": lambda seen: session.run(["probabilities"], {"image": seen})[0],
    }
    for precision in ("float32", "float16", "int8"):
        file = folder / f"{precision}.tflite"
        export.to_litert(segmenter, file, size=canvas, precision=precision)
        runner = Interpreter(str(file), num_threads=os.cpu_count()).get_signature_runner()
        networks[f"LiteRT, {precision}"] = lambda seen, run=runner: run(image=seen)["probabilities"]
    calls: dict[str, Callable[[], Any]] = {
        "`Segmenter`": lambda: segmenter(photo).labels,
        '`Segmenter`, precision="auto"': lambda: segmenter(photo, precision="auto").labels,
    }
    for name, network in networks.items():
        calls[f"{name}, the same around it"] = lambda n=network: around(photo, frame, n)
    return calls


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return median wall and CPU milliseconds of each call, after one to warm up.

    The order is drawn anew in each round: a runtime is slower after another one than after itself.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    drawn = random.Random(0)
    for turn in range(rounds + 1):
        for name, call in drawn.sample(list(calls.items()), len(calls)):
            time.sleep(0.02)  # a runtime's threads look for more work for a moment after a call
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:
                now = time.perf_counter(), time.process_time()
                taken[name].append((1e3 * (now[0] - wall), 1e3 * (now[1] - cpu)))
    return {name: tuple(np.median(values, axis=0)) for name, values in taken.items()}


def seconds_to_end_of(program: str, *arguments: str) -> float:
    """Return how long a process takes from its start to the end of ``program``."""
    program += "\nimport os\nos.write(1, b'done')\nos._exit(0)\n"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, check=True
    )
    if done.stdout != b"done":
        raise RuntimeError(done.stderr.decode())
    return time.perf_counter() - start


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--starts", type=int, default=7)
    given = parser.parse_args()

    import tensorflow as tf

    import deeplab_fashion as df
    from deeplab_fashion import photos, samples

    photo = next(
        samples.photo(i) for i in range(12) if photos.size_of(samples.photo(i)) == (825, 550)
    )
    segmenter = df.Segmenter.from_pretrained()
    with tempfile.TemporaryDirectory() as folder:
        calls = runtimes(segmenter, photo, Path(folder))
        own = calls["`Segmenter`"]()
        agreement = {name: float(np.mean(call() == own)) for name, call in calls.items()}
        times = in_turn(calls, given.rounds)
    peer = times["onnxruntime, float32, the same around it"]
    lines = [
        "# One photo, beside other runtimes",
        "",
        "Written by `python benchmarks/inference.py --out benchmarks/results/inference.md`; what",
        "is compared and how is said at the top of that file.",
        "",
        f"TensorFlow {tf.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"median of {given.rounds} rounds; load of the machine when this",
        f"began: {os.getloadavg()[0]:.1f}.",
        "",
        "| photo of 550 x 825, file to masks | wall, ms | CPU, ms | wall / onnxruntime's | "
        "labels as `Segmenter`'s |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, (wall, cpu) in times.items():
        lines.append(
            f"| {name} | {wall:.1f} | {cpu:.1f} | {wall / peer[0]:.2f} | "
            f"{100 * agreement[name]:.3f} % |"
        )

    first, bare = [], []
    for _ in range(given.starts):
        bare.append(seconds_to_end_of(BARE))
        first.append(seconds_to_end_of(FIRST, str(photo), "{}"))
    call = times["`Segmenter`"][0] / 1e3
    least = float(np.median(bare)) + call
    lines += [
        "",
        f"From process start, median of {given.starts}: `import tensorflow` alone takes "
        f"{np.median(bare):.2f} s and the",
        f"call above {call:.2f} s; the first masks are there after {np.median(first):.2f} s, "
        f"{np.median(first) / least:.2f} times their sum.",
        "",
        "| peak memory of a process | MB |",
        "|---|---:|",
    ]
    for options in ("{}", "{'precision': 'auto'}", "{'tta': True}"):
        done = subprocess.run(
            [sys.executable, "-c", FIRST + PEAK, str(photo), options],
            capture_output=True,
            check=True,
            text=True,
        )
        lines.append(f"| `Segmenter`, options {options} | {float(done.stdout):.0f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
