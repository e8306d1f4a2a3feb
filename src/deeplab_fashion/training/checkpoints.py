"""Checkpoints: one file for each epoch, written whole or not at all."""

import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplab_fashion.errors import CheckpointError

__all__ = ["CheckpointFolder"]

_NAME = re.compile(r"epoch-(\d{5})\.npz")


class CheckpointFolder:
    """The checkpoints of one run: ``epoch-00007.npz`` holds the state after 7 epochs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def epochs(self) -> list[int]:
        """Return the epochs of which there is a file, in order."""
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.npz"

    def save(self, epoch: int, arrays: Sequence[NDArray[Any]], notes: Mapping[str, Any]) -> None:
        """Write a checkpoint beside the others, then rename it: a kill leaves no damaged one."""
        path = self._path(epoch)
        partial = path.with_suffix(".partial")
        try:
            with open(partial, "wb") as file:
                np.savez(file, *arrays, notes=np.array(json.dumps(notes)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        directory = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def load(self, epoch: int) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """Return a checkpoint's notes and arrays; its checksums are verified on the way."""
        path = self._path(epoch)
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = [file[f"arr_{i}"] for i in range(len(file.files) - 1)]
                return json.loads(str(file["notes"])), arrays
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"checkpoint {path} is damaged: {error}") from None

    def load_newest(self) -> tuple[int, dict[str, Any], list[NDArray[Any]]] | None:
        """Return the newest sound checkpoint, warning of each damaged one; None if there is none.

        Raises:
            CheckpointError: If there are checkpoints and every one is damaged.
        """
        epochs = self.epochs()
        for epoch in reversed(epochs):
            try:
                return epoch, *self.load(epoch)
            except CheckpointError as error:
                warnings.warn(f"{error}; going back to the one before", stacklevel=5)
        if epochs:
            raise CheckpointError(f"every checkpoint in {self.folder} is damaged")
        return None

    def keep(self, epochs: Iterable[int]) -> None:
        """Delete the checkpoints of all other epochs, and what a kill left half-written."""
        wanted = set(epochs)
        for epoch in self.epochs():
            if epoch not in wanted:
                self._path(epoch).unlink()
        for partial in self.folder.glob("*.partial"):
            partial.unlink()
