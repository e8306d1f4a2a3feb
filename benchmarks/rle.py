"""Time run-length masks against pycocotools and rlemasklib, interleaved in one process.

Every figure is a median over garment-like masks of CPU time (``time.thread_time_ns``, the least of
three calls in a row); each mask goes through all the ways in turn, in an order that rotates. All
ways must give the same result, or the run fails. Needs pycocotools and rlemasklib:

    pip install pycocotools rlemasklib
    python benchmarks/rle.py --out benchmarks/results/rle.md
"""

import argparse
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import rlemasklib
from pycocotools import mask as coco
from rlemasklib import BoolFunc, RLEMask

from deeplab_fashion import rle
from deeplab_fashion.rle import RunLengthMask

SIZES = (512, 512), (1000, 1400), (2400, 3600)
OUTPUT = (256, 256)
GROUP = 8
GOALS = {
    "encode, C-order mask": ((5, 7, 10), "pycocotools"),
    "decode, Kaggle text": ((5, 8, 12), "pycocotools"),
    "decode, COCO bytes": ((2.5, 7, 12), "pycocotools"),
    "IoU 8 x 8": ((1.5, 1.5, 1.5), "pycocotools"),
    "union of 8": ((1.5, 1.5, 1.5), "pycocotools"),
    "8 strings to 256 x 256 labels": ((8, 20, 60), "pycocotools"),
}
Way = Callable[[], Any]
Result = Callable[[Any], Any]


def outline(rng: np.random.Generator, points: int, roughness: float) -> np.ndarray:
    """Return a closed, wobbling, slightly ragged curve around 0 as complex numbers."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = np.ones(points)
    for wave in range(2, 9):
        radius += rng.normal(0, 0.35 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    radius += rng.normal(0, roughness, points)
    return np.maximum(radius, 0.15) * np.exp(1j * angle)


def garment(rng: np.random.Generator, size: tuple[int, int]) -> RunLengthMask:
    """Return a body with two sleeves or legs, sometimes with an opening or something before it."""
    height, width = size
    unit = min(size) * rng.uniform(0.08, 0.22)
    middle = complex(width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7))

    def part(offset: complex, wide: float, high: float) -> RunLengthMask:
        curve = outline(rng, int(rng.integers(120, 400)), 0.02)
        curve = wide * curve.real + 1j * high * curve.imag + offset
        points = middle + unit * curve
        flat = np.column_stack((points.real, points.imag)).ravel()
        return RunLengthMask.from_polygons([flat], size)

    side = rng.uniform(0.6, 1.0)
    whole = part(0, 0.8, 1.3) | part(-side - 0.4j, 0.4, 0.9) | part(side - 0.4j, 0.4, 0.9)
    for _ in range(int(rng.integers(0, 4))):
        offset = complex(rng.uniform(-0.8, 0.8), rng.uniform(-1, 1))
        whole -= part(offset, rng.uniform(0.02, 0.2), rng.uniform(0.1, 0.5))
    return whole


def kaggle_to_counts(text: str, size: tuple[int, int]) -> np.ndarray:
    """Return COCO's counts of Kaggle text, in the fastest usual way and without any check."""
    values = np.fromstring(text, np.int64, sep=" ")
    edges = np.empty(len(values) + 2, np.int64)
    edges[0], edges[-1] = 0, size[0] * size[1]
    edges[1:-1:2] = values[0::2] - 1
    edges[2:-1:2] = values[0::2] - 1 + values[1::2]
    return np.diff(edges)


def kaggle_to_pycocotools(text: str, size: tuple[int, int]) -> dict[str, Any]:
    counts = kaggle_to_counts(text, size).tolist()
    return coco.frPyObjects({"size": list(size), "counts": counts}, *size)


def nearest_rows_columns(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return tuple((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(OUTPUT, size, strict=True))


def paint_pycocotools(texts: list[str], size: tuple[int, int], order: Any = "C") -> np.ndarray:
    full = np.zeros(size, np.uint8, order=order)
    for label, text in enumerate(texts, 1):
        mask = coco.decode(kaggle_to_pycocotools(text, size))
        np.maximum(full, mask * np.uint8(label), out=full)
    return full[np.ix_(*nearest_rows_columns(size))]


def paint_rlemasklib(texts: list[str], size: tuple[int, int]) -> np.ndarray:
    small = [
        RLEMask.from_counts(kaggle_to_counts(text, size).astype(np.uint32), size).resize(OUTPUT)
        for text in texts
    ]
    return RLEMask.merge_to_label_map(small)


def paint_rlemasklib_full(texts: list[str], size: tuple[int, int]) -> np.ndarray:
    full = [
        RLEMask.from_counts(kaggle_to_counts(text, size).astype(np.uint32), size) for text in texts
    ]
    return RLEMask.merge_to_label_map(full)[np.ix_(*nearest_rows_columns(size))]


def paint_ours(texts: list[str], size: tuple[int, int]) -> np.ndarray:
    regions = [RunLengthMask.from_kaggle(text, size) for text in texts]
    return rle.paint_labels(regions, range(1, len(texts) + 1), output_size=OUTPUT)


def as_bytes(region: RunLengthMask) -> dict[str, Any]:
    obj = region.to_coco()
    return {"size": obj["size"], "counts": obj["counts"].encode()}


def cases(
    group: list[RunLengthMask], others: list[RunLengthMask], size: tuple[int, int]
) -> Iterator[tuple[str, dict[str, Way], Result]]:
    """Yield each piece of work: its name, the ways to do it, and how to compare their results."""
    region = group[0]
    mask = np.ascontiguousarray(region.to_mask())
    texts = [each.to_kaggle() for each in group]
    theirs_all, theirs_others = ([as_bytes(each) for each in some] for some in (group, others))
    theirs = theirs_all[0]
    their_masks, their_others = (
        [RLEMask.from_dict(each) for each in some] for some in (theirs_all, theirs_others)
    )
    none: list[bool] = [False] * len(group)

    yield (
        "encode, C-order mask",
        {
            "ours": lambda: rle.mask_to_coco(mask),
            "ours, runs only": lambda: RunLengthMask.from_mask(mask),
            "ours, Kaggle text": lambda: rle.mask_to_kaggle(mask),
            "pycocotools": lambda: coco.encode(np.asfortranarray(mask.view(np.uint8))),
            "rlemasklib": lambda: rlemasklib.encode(mask.view(np.uint8)),
        },
        lambda result: (
            result
            if isinstance(result, RunLengthMask)
            else RunLengthMask.from_kaggle(result, size)
            if isinstance(result, str)
            else RunLengthMask.from_coco(result)
        ),
    )
    yield (
        "decode, Kaggle text",
        {
            "ours": lambda: rle.kaggle_to_mask(texts[0], size),
            "pycocotools": lambda: coco.decode(kaggle_to_pycocotools(texts[0], size)),
            "rlemasklib": lambda: RLEMask.from_counts(
                kaggle_to_counts(texts[0], size).astype(np.uint32), size
            ).to_array(),
        },
        lambda result: result.tobytes(),
    )
    yield (
        "decode, COCO bytes",
        {
            "ours": lambda: rle.coco_to_mask(theirs),
            "pycocotools": lambda: coco.decode(theirs),
            "rlemasklib": lambda: rlemasklib.decode(theirs),
        },
        lambda result: result.tobytes(),
    )
    yield (
        "IoU 8 x 8",
        {
            "ours": lambda: rle.iou_matrix(group, others),
            "pycocotools": lambda: coco.iou(theirs_all, theirs_others, none),
            "rlemasklib": lambda: RLEMask.iou_matrix(their_masks, their_others),
        },
        lambda result: np.round(result, 9).tobytes(),
    )
    yield (
        "union of 8",
        {
            "ours": lambda: group[0].union(*group[1:]),
            "ours, chain of |": lambda: (
                group[0]
                | group[1]
                | group[2]
                | group[3]
                | group[4]
                | group[5]
                | group[6]
                | group[7]
            ),
            "pycocotools": lambda: coco.merge(theirs_all),
            "rlemasklib": lambda: RLEMask.merge_many(their_masks, BoolFunc.OR),
        },
        lambda result: (
            RunLengthMask.from_coco(result.to_dict())
            if isinstance(result, RLEMask)
            else RunLengthMask.from_coco(result)
            if isinstance(result, dict)
            else result
        ),
    )
    yield (
        "8 strings to 256 x 256 labels",
        {
            "ours": lambda: paint_ours(texts, size),
            "pycocotools": lambda: paint_pycocotools(texts, size),
            "pycocotools, Fortran-order canvas": lambda: paint_pycocotools(texts, size, "F"),
            "rlemasklib": lambda: paint_rlemasklib(texts, size),
            "rlemasklib, full size": lambda: paint_rlemasklib_full(texts, size),
        },
        lambda result: result.tobytes(),
    )


def timed(way: Way) -> tuple[int, Any]:
    """Return the least CPU time of three calls in a row, in nanoseconds, and the result."""
    spent = []
    for _ in range(3):
        result = None  # let go of the last one, so that all calls find the same memory free
        begin = time.thread_time_ns()
        result = way()
        spent.append(time.thread_time_ns() - begin)
    return min(spent), result


def measure(
    size: tuple[int, int], masks: int, only: str
) -> tuple[dict[str, dict[str, float]], int, int]:
    """Return microseconds by work and way, the median number of runs, and the peak of painting."""
    rng = np.random.default_rng(7)
    times: dict[str, dict[str, list[int]]] = {}
    runs, peak = [], 0
    latest = [garment(rng, size) for _ in range(2 * GROUP)]
    for turn in range(-2, masks):  # the first two only warm up
        latest = [garment(rng, size), *latest[:-1]]
        runs.append(len(latest[0].starts))
        for name, ways, comparable in cases(latest[:GROUP], latest[GROUP:], size):
            if only not in name:
                continue
            results = {}
            names = list(ways)
            for step in range(len(names)):
                way = names[(turn + step) % len(names)]
                spent, result = timed(ways[way])
                results[way] = comparable(result)
                if turn >= 0:
                    times.setdefault(name, {}).setdefault(way, []).append(spent)
            for way, result in results.items():
                # rlemasklib samples at other points when it resizes; the rest must agree exactly.
                if result != results["ours"] and (name, way) != (
                    "8 strings to 256 x 256 labels",
                    "rlemasklib",
                ):
                    raise SystemExit(f"{name}: {way} disagrees at {size}, mask {turn}")
        if turn % 20 == 0:
            texts = [each.to_kaggle() for each in latest[:GROUP]]
            tracemalloc.start()
            paint_ours(texts, size)
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    figures = {
        name: {way: median(spent) / 1000 for way, spent in ways.items()}
        for name, ways in times.items()
    }
    return figures, int(median(runs)), peak


def report(masks: int, sizes: list[tuple[int, int]], only: str) -> str:
    lines = [
        "# Run-length masks: speed and memory",
        "",
        f"Medians over {masks} garment-like masks at each size of CPU time (the least of three",
        "calls in a row), all ways interleaved in one process, every result compared. Ratios are",
        "to our time: more than 1 is slower than we are. Written by",
        "`python benchmarks/rle.py --out benchmarks/results/rle.md`.",
        "",
        f"Python {platform.python_version()}, numpy {np.__version__}, "
        f"pycocotools {version('pycocotools')}, rlemasklib {version('rlemasklib')}, "
        f"{platform.system()} {platform.machine()}.",
        "",
    ]
    for place, size in enumerate(sizes):
        figures, runs, peak = measure(size, masks, only)
        lines += [
            f"## {size[0]} x {size[1]}, median of {runs} runs a mask",
            "",
            "| work | way | microseconds | ratio to ours | goal |",
            "|---|---|---:|---:|---:|",
        ]
        for name, ways in figures.items():
            goals, rival = GOALS[name]
            for way, spent in ways.items():
                goal = f"{goals[place]:g}" if way == rival and len(sizes) == len(SIZES) else ""
                ratio = spent / ways["ours"]
                lines.append(f"| {name} | {way} | {spent:.0f} | {ratio:.2f} | {goal} |")
        lines += [
            "",
            f"Peak extra memory of eight strings to labels (tracemalloc): {peak / 1e6:.2f} MB.",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--masks", type=int, default=208, help="masks a size (default: 208)")
    parser.add_argument("--size", type=int, nargs=2, action="append", help="only this size")
    parser.add_argument("--only", default="", help="only work whose name holds this")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    sizes = [(h, w) for h, w in arguments.size] if arguments.size else list(SIZES)
    text = report(arguments.masks, sizes, arguments.only)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
