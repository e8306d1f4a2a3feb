"""Python's collector of reference cycles, where it only costs time."""

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Generator[None, None, None]:
    """Leave the collector off within the block.

    To import TensorFlow, build a network or trace it makes a million objects that nearly all stay;
    to go through them again and again is a quarter of the time that it takes. Afterwards they count
    as old: they are looked at when the collector next goes through everything, not at once.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if gc.get_freeze_count() == 0:  # else somebody keeps objects frozen on purpose
                gc.freeze()
                gc.unfreeze()  # into the oldest generation
            gc.enable()
