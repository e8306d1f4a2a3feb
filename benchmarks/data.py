"""Time the pipeline against PyTorch's DataLoader with albumentations and pycocotools.

Both turn the photos and the CSV of `ccp/train` into batches of 8 at 256 x 256 with mirroring,
scale 0.5 to 2, rotation, colour, blur and cutout of the same probabilities and ranges, on both
cores. Each way runs in a process of its own, the ways in turn, `--rounds` times; a figure is the
best of its rounds, since other work on the machine only ever takes away. The time to read the CSV
is not counted, that to paint or decode its masks is.

- "from the files": every photo is decoded and every mask painted anew.
- "held in memory": resized photos and label maps are held (the peer's in its dataset, shared by
  its workers), and only drawn from and augmented; the filling is not counted.

Needs packages that the project does not:

    pip install torch albumentations opencv-python-headless pycocotools
    python benchmarks/data.py ../shared/data/ccp --out benchmarks/results/data.md
"""

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

SIZE = (256, 256)
BATCH = 8
CORES = os.cpu_count() or 1
WAYS = ("ours", "peer")
FORMS = ("from the files", "held in memory")


def timed(epochs: Iterable[Iterable[Any]], photos: int) -> dict[str, float]:
    """Return photos a second and CPU ms a photo, children counted, of the second epoch on."""
    first = True
    for batches in epochs:
        for images, _ in batches:
            if tuple(images.shape[1:3]) != SIZE and tuple(images.shape[2:]) != SIZE:
                raise AssertionError(f"unexpected shape {images.shape}")
        if first:
            first, start, cpu = False, time.perf_counter(), cpu_time()
    wall, spent = time.perf_counter() - start, cpu_time() - cpu
    return {"photos a second": photos / wall, "CPU ms a photo": 1e3 * spent / photos}


def cpu_time() -> float:
    """Return the CPU time of this process and its ended children."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def ours(data: Path, form: str, count: int, epochs: int) -> dict[str, float]:
    """Time our pipeline."""
    import deeplab_fashion as df

    records = df.annotations.read_imaterialist(data / "train.csv", data / "train")[:count]
    dataset = df.data.make_dataset(
        records,
        df.taxonomy.CCP_TO_MAIN,
        size=SIZE,
        batch_size=BATCH,
        augment=True,
        shuffle=True,
        cache="memory" if form == "held in memory" else None,
    )
    return timed((dataset for _ in range(epochs + 1)), epochs * dataset.source.steps * BATCH)


def peer(data: Path, form: str, count: int, epochs: int) -> dict[str, float]:
    """Time a pipeline as it is usually written with PyTorch."""
    import albumentations as augmentations
    import cv2
    import numpy as np
    import torch
    from pycocotools import mask as coco

    from deeplab_fashion.taxonomy import CCP_TO_MAIN

    cv2.setNumThreads(0)
    table: dict[str, list[dict[str, str]]] = {}
    csv.field_size_limit(sys.maxsize)
    with open(data / "train.csv", newline="") as file:
        for row in csv.DictReader(file):
            table.setdefault(row["ImageId"], []).append(row)
    names = list(table)[:count]
    label_of = [CCP_TO_MAIN.label_of(c.id) for c in CCP_TO_MAIN.taxonomy]

    def decode(row: dict[str, str]) -> np.ndarray:
        size = [int(row["Height"]), int(row["Width"])]
        runs = np.array(row["EncodedPixels"].split(), np.int64)
        starts, lengths = runs[::2] - 1, runs[1::2]
        ends = np.concatenate([[0], starts + lengths])
        pairs = np.stack(
            [np.concatenate([starts, [size[0] * size[1]]]) - ends, np.concatenate([lengths, [0]])],
            axis=1,
        )
        form = {"size": size, "counts": pairs.ravel().tolist()}
        return coco.decode(coco.frPyObjects(form, *size))

    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.cvtColor(cv2.imread(str(data / "train" / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
        labels = np.zeros(image.shape[:2], np.uint8)
        for row in table[name]:
            labels[decode(row) == 1] = label_of[int(row["ClassId"])]
        image = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA)
        return image, cv2.resize(labels, SIZE[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    augment = augmentations.Compose(
        [
            augmentations.HorizontalFlip(p=0.5),
            augmentations.Affine(
                scale=(0.5, 2.0),
                rotate=(-10, 10),
                translate_percent=(-0.25, 0.25),
                fill=127,
                fill_mask=255,
                p=1.0,
            ),
            augmentations.ColorJitter(
                brightness=0.2, contrast=0.2, saturation=0.2, hue=6 / 360, p=1.0
            ),
            augmentations.GaussianBlur(sigma_limit=(0.5, 1.5), p=0.1),
            augmentations.CoarseDropout(
                num_holes_range=(1, 1),
                hole_height_range=(0.05, 0.3),
                hole_width_range=(0.05, 0.3),
                fill=127,
                fill_mask=255,
                p=0.1,
            ),
        ]
    )
    held = [read(name) for name in names] if form == "held in memory" else None

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(names)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            image, labels = held[index] if held else read(names[index])
            changed = augment(image=image, mask=labels)
            image = torch.from_numpy(changed["image"]).permute(2, 0, 1).float()
            return image, torch.from_numpy(changed["mask"])

    loader = torch.utils.data.DataLoader(
        Photos(), BATCH, shuffle=True, num_workers=CORES, drop_last=True
    )
    return timed((loader for _ in range(epochs + 1)), epochs * len(loader) * BATCH)


def main() -> None:
    """Run every way in turn and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train.csv and train/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=int, default=700)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FORM"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, form = arguments.one
        run = ours if way == "ours" else peer
        print(json.dumps(run(arguments.data, form, arguments.photos, arguments.epochs)))
        return
    best: dict[tuple[str, str], dict[str, float]] = {}
    for _ in range(arguments.rounds):
        for form in FORMS:
            for way in WAYS:
                done = subprocess.run(
                    [sys.executable, *sys.argv, "--one", way, form],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                found = json.loads(done.stdout.splitlines()[-1])
                print(form, way, found, flush=True)
                old = best.setdefault((form, way), found)
                best[form, way] = {
                    "photos a second": max(old["photos a second"], found["photos a second"]),
                    "CPU ms a photo": min(old["CPU ms a photo"], found["CPU ms a photo"]),
                }
    names = ("tensorflow-cpu", "torch", "albumentations", "opencv-python-headless", "pycocotools")
    lines = [
        "# The data pipeline: speed",
        "",
        "Written by `python benchmarks/data.py ../shared/data/ccp --out "
        "benchmarks/results/data.md`;",
        "what is compared and how is said at the top of that file.",
        "",
        ", ".join(f"{name} {version(name)}" for name in names)
        + f", Python {platform.python_version()}, {CORES} cores.",
        "",
        "| 256 x 256, batches of 8 | photos a second | CPU ms a photo |",
        "|---|---:|---:|",
    ]
    for form in FORMS:
        mine, other = best[form, "ours"], best[form, "peer"]
        for name, row in (
            ("`make_dataset`", mine),
            ("DataLoader, albumentations, pycocotools", other),
        ):
            values = " | ".join(f"{value:.1f}" for value in row.values())
            lines.append(f"| {form}, {name} | {values} |")
        ratios = [mine[key] / other[key] for key in mine]
        lines.append(f"| {form}, ratio | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    load = os.getloadavg()[2]
    usual = best["held in memory", "ours"]["photos a second"]
    usual /= best["from the files", "peer"]["photos a second"]
    lines += [
        "",
        "As each is used, `make_dataset` holding photos by default: "
        f"{usual:.1f} times the photos a second.",
        "Goal: at least 1.5 times.",
        "",
        f"Mean load during the run: {load:.1f} on {CORES} cores. "
        "Where that is above the cores, the CPU time is",
        "the better judge: the peer's workers are processes of their own, and get a share each.",
        "",
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
