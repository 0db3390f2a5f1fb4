"""A run's folder: every file is written aside, flushed to disk, then renamed over the older one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..serialization import load, save

__all__ = ["RunError", "RunFolder", "load_state"]


class RunError(RuntimeError):
    """A run cannot go on; the message is one line that says why and what is left."""


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


class RunFolder:
    """The folder that a run leaves its files in.

    Args:
        path: used as it is, made if missing; files of the same name are replaced one by one.

    Raises:
        RunError: the folder cannot be made or written to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._made = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the folder {self.path}: {_reason(error)}") from None
        # Found out now rather than after the first epoch.
        probe = f".cnnext-{os.getpid()}.probe"
        self.write(probe, b"probe")
        (self.path / probe).unlink()

    @classmethod
    def numbered(cls, parent: str | os.PathLike[str], name: str) -> RunFolder:
        """A new folder ``parent/name-001``, or with the first number that is free."""
        for number in range(1, 100_000):
            path = Path(parent) / f"{name}-{number:03d}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if path.parent.is_dir():
                    continue
                raise RunError(f"cannot make the folder {path}: {path.parent} is not a folder") from None
            except OSError as error:
                raise RunError(f"cannot make the folder {path}: {_reason(error)}") from None
            folder = cls(path)
            folder._made = True
            return folder
        raise RunError(f"cannot make the folder {path}: every number is taken")

    def remove_if_empty(self) -> None:
        """Takes back a folder that this object made and nothing was written to."""
        if self._made:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def write(self, name: str, payload: bytes) -> Path:
        """Writes a whole file or none: an older file of that name stays until the new one is complete."""
        target = self.path / name
        aside = self.path / f".{name}.{os.getpid()}.tmp"
        try:
            with aside.open("wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, target)
        except OSError as error:
            raise RunError(f"cannot write {target}: {_reason(error)}") from None
        finally:
            # Gone after a success; after an error or Ctrl-C no half-written file stays behind.
            with contextlib.suppress(OSError):
                aside.unlink()
        return target

    def write_json(self, name: str, value: Mapping[str, Any]) -> Path:
        return self.write(name, (json.dumps(value, indent=2) + "\n").encode())

    def save(self, name: str, state: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
        """`cnnext.save`, with a RunError for what the disk refuses."""
        with self.saving(name) as path:
            save(state, path, metadata)

    @contextlib.contextmanager
    def saving(self, name: str) -> Iterator[Path]:
        """The path of a file of that name; an OSError within becomes a RunError."""
        target = self.path / name
        try:
            yield target
        except OSError as error:
            said = _reason(error).removeprefix(f"cannot write {target}: ")
            raise RunError(f"cannot write {target}: {said}") from None


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """`cnnext.load`, with a RunError for a missing or damaged file."""
    try:
        return load(path)
    except (OSError, ValueError) as error:
        raise RunError(str(error)) from None
