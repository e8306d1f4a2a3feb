"""Time what a script pays before its first line of work: the start of Python and an import.

Every round runs each statement in a process of its own, in an order drawn anew. Python's start is
a statement too, and taken off the others. Times are the processor's, so that other work on the
machine counts little, and a first round, which may read from the disk, is not counted.

    python benchmarks/import_time.py --out benchmarks/results/import_time.md
"""

import argparse
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

START = "pass"
STATEMENTS = [
    "import numpy",
    "import deeplab_fashion",
    "from deeplab_fashion import rle",
    "from deeplab_fashion import annotations, rle, scores, taxonomy",
    "import tensorflow",
    "import deeplab_fashion; deeplab_fashion.Segmenter",
]


def seconds(statement: str) -> float:
    """Return the processor's time for a process that runs a statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", statement],
        check=True,
        capture_output=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(rounds: int) -> dict[str, float]:
    """Return the median time of each statement beyond that of Python alone, in its own rounds."""
    taken: dict[str, list[float]] = {statement: [] for statement in [START, *STATEMENTS]}
    order = list(taken)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for statement in order:
            spent = seconds(statement)
            if number:
                taken[statement].append(spent)
    start = statistics.median(taken[START])
    return {name: statistics.median(taken[name]) - start for name in STATEMENTS}


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds (default 15)")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    given = parser.parse_args()
    times = medians(given.rounds)
    lines = [
        "# The price of an import",
        "",
        "Written by `python benchmarks/import_time.py --out benchmarks/results/import_time.md`.",
        f"Processor time, medians of {given.rounds} rounds, beyond Python's own start.",
        f"Python {platform.python_version()}, numpy {version('numpy')}, "
        f"TensorFlow {version(packages_distributions()['tensorflow'][0])}.",
        "",
        "| statement | ms | of `import numpy` |",
        "|---|---|---|",
        *(
            f"| `{name}` | {1000 * spent:.0f} | {spent / times['import numpy']:.2f} |"
            for name, spent in times.items()
        ),
        "",
    ]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
