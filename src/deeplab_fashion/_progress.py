"""A progress bar on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

_Item = TypeVar("_Item")
_WIDTH = 24


def progress(
    items: Iterable[_Item],
    label: str,
    *,
    total: int,
    show: bool = True,
    stream: TextIO | None = None,
) -> Iterator[_Item]:
    """Yield the items and draw how far the work on them has come.

    On a terminal one line is redrawn; elsewhere, as in a log, a line is written at each tenth.
    """
    if not show or total == 0:
        yield from items
        return
    out = stream or sys.stderr
    redraw, start, drawn = out.isatty(), time.monotonic(), -1
    done = 0
    try:
        for item in items:
            yield item
            done += 1
            elapsed = time.monotonic() - start
            if redraw or done * 10 // total > drawn:
                drawn = done * 10 // total
                bar = ("#" * (done * _WIDTH // total)).ljust(_WIDTH, ".")
                left = elapsed / done * (total - done)
                line = f"{label} [{bar}] {done}/{total}, {elapsed:.0f} s, {left:.0f} s left"
                out.write(f"\r{line}\x1b[K" if redraw else f"{line}\n")
                out.flush()
    finally:
        if redraw and done:
            out.write("\n")
            out.flush()
