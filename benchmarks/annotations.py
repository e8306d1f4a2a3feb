"""Time and memory of reading annotation files, and whether they grow in proportion.

Reads a whole CSV with its photos, then files of more and more rows made from it (the same masks
under new names, without photos), then the same records as JSON. CPU time of this process, the
median of the rounds; the large files are read once, each in a process of its own whose peak
memory is given. Needs only the project:

    python benchmarks/annotations.py CCP/train.csv CCP/train --out benchmarks/results/annotations.md
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_fashion import taxonomy
from deeplab_fashion.annotations import (
    read_fashionpedia,
    read_imaterialist,
    write_fashionpedia,
    write_imaterialist,
)

GOAL_S = 1.0
LARGE_ROWS = 333_000


def cpu_seconds(call: Callable[[], Any], rounds: int) -> float:
    """Return the median CPU time of a call."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def many_rows(csv: Path, rows: int) -> Iterator[str]:
    """Yield the lines of a CSV of any length: the same masks, under new names each time around."""
    header, *lines = csv.read_text(encoding="utf-8").splitlines(keepends=True)
    yield header
    for number in range(rows):
        yield f"copy{number // len(lines)}_{lines[number % len(lines)]}"


def memory(field: str) -> float:
    """Return what Linux knows of this process's memory, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def read_alone(csv: Path, keep: str) -> None:
    """Read a large file in this process and print its figures as JSON."""
    before = memory("VmRSS")
    image_ids = None if keep == "all" else [keep]
    start = time.process_time()
    records = read_imaterialist(csv, csv.parent, check_images=False, image_ids=image_ids)
    seconds = time.process_time() - start
    peak = memory("VmHWM")
    arrays = sum(
        region.starts.nbytes + region.lengths.nbytes
        for record in records
        for region in record.regions
    )
    regions = sum(len(record.regions) for record in records)
    print(json.dumps([seconds, peak - before, arrays / 2**20, regions]))


def large(csv: Path, rows: int, keep: str, folder: Path) -> tuple[float, float, float, int, float]:
    """Return seconds, peak memory, memory of the runs (MiB), regions, file size (MB)."""
    path = folder / "large.csv"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(itertools.islice(many_rows(csv, rows), rows + 1))
    command = [sys.executable, __file__, "--read-alone", keep, str(path), str(folder)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    megabytes = path.stat().st_size / 1e6
    path.unlink()
    return (*json.loads(found), megabytes)


def report(csv: Path, images: Path, rounds: int) -> str:
    """Measure all and return the page."""
    records = read_imaterialist(csv, images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_fashionpedia(folder / "all.json", records, taxonomy.CCP)
        seconds = {
            "CSV, each photo's header looked at": lambda: read_imaterialist(csv, images),
            "CSV alone": lambda: read_imaterialist(csv, images, check_images=False),
            "the same as COCO JSON, compressed counts": lambda: read_fashionpedia(
                folder / "all.json", images, check_images=False
            ),
            "written as CSV": lambda: write_imaterialist(folder / "out.csv", records),
            "written as COCO JSON": lambda: write_fashionpedia(
                folder / "out.json", records, taxonomy.CCP
            ),
        }
        timed = {what: cpu_seconds(call, rounds) for what, call in seconds.items()}
        scaled = [
            (rows, *large(csv, rows, "all", folder)) for rows in (LARGE_ROWS // 9, LARGE_ROWS // 3)
        ]
        scaled.append((LARGE_ROWS, *large(csv, LARGE_ROWS, "all", folder)))
        one = large(csv, LARGE_ROWS, f"copy3_{records[0].image_id}", folder)
    regions = sum(len(record.regions) for record in records)
    read = timed["CSV, each photo's header looked at"]
    lines = [
        "# Annotations: speed and memory",
        "",
        "Written by `python benchmarks/annotations.py CCP/train.csv CCP/train --out "
        "benchmarks/results/annotations.md`; what",
        "is measured and how is said at the top of that file.",
        "",
        f"numpy {np.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        f"## {csv.parent.name}/{csv.name}: {len(records)} photos, {regions} rows, "
        f"{csv.stat().st_size / 1e6:.1f} MB",
        "",
        f"Goal: read to records in under {GOAL_S:.1f} s. "
        f"{'Met' if read < GOAL_S else 'Missed'}: {read:.2f} s.",
        "",
        "| | CPU s | µs a row |",
        "|---|---|---|",
        *(f"| {what} | {s:.3f} | {s / regions * 1e6:.0f} |" for what, s in timed.items()),
        "",
        "## Files of more rows",
        "",
        "Goal: time in proportion to the rows, memory in proportion to the records kept.",
        "",
        "| rows | file, MB | kept | CPU s | µs a row | peak memory, MiB | of it runs, MiB |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {rows} | {megabytes:.0f} | all, {kept} regions | {s:.1f} | {s / rows * 1e6:.0f} | "
            f"{peak:.0f} | {arrays:.0f} |"
            for rows, s, peak, arrays, kept, megabytes in scaled
        ),
        f"| {LARGE_ROWS} | {one[4]:.0f} | one photo, {one[3]} regions | {one[0]:.1f} | "
        f"{one[0] / LARGE_ROWS * 1e6:.0f} | {one[1]:.0f} | {one[2]:.1f} |",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("csv", type=Path, help="a CSV of iMaterialist's form")
    parser.add_argument("images", type=Path, help="the folder of its photos")
    parser.add_argument("--out", type=Path, help="the page to write; the screen when left out")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--read-alone", metavar="ID", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read_alone:
        read_alone(options.csv, options.read_alone)
        return
    page = report(options.csv, options.images, options.rounds)
    if options.out is None:
        print(page)
    else:
        options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
