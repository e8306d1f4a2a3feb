"""Python's collector of reference cycles, where it only costs time."""

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Generator[None, None, None]:
    """Leave the collector off within the block.

    To import TensorFlow, build a network or trace it makes some 100,000 objects that all stay; to
    go through them again and again is a quarter of the time that it takes.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
