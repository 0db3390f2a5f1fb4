"""Tar archives of image sets: unpacked under tarfile's "data" filter, and no further than a limit."""

from __future__ import annotations

import gzip
import os
import tarfile
import tempfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from .idx import DataError

__all__ = ["TAR_SUFFIXES", "find_archive", "unpack"]

TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar")
_MAX_MEMBERS = 2_000_000
_MAX_HEADER = 1 << 20
_IN_MEMORY = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _Bounded:
    """Reads of a stream that may give no more than `limit` bytes in all: headers and skipped files count."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, limit: int, path: Path) -> None:
        self._stream = stream
        self._left = limit
        self._message = f"{path}: holds more than {limit} bytes"

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(chunk)
        if self._left < 0:
            raise DataError(self._message)
        return chunk


class _Header(tarfile.TarInfo):
    """A member whose headers are read into memory only where they are of a sensible size."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size > _MAX_HEADER and self.type in _IN_MEMORY:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)


def find_archive(folder: Path, stem: str) -> Path | None:
    """The archive of that name in `folder`, if there is one."""
    return next((path for path in (folder / (stem + s) for s in TAR_SUFFIXES) if path.is_file()), None)


def unpack(archive: Path, into: Path, *, limit: int, keep: Collection[str] | None = None) -> None:
    """Unpack a .tar or .tar.gz file into the new folder `into`: whole or not at all.

    Args:
        limit: bytes that may come out of it, which bounds time, memory and disk for hostile files.
        keep: only files of these names, wherever they lie in the archive, side by side; None: all of it.

    Raises:
        DataError: the archive is damaged, too large, or holds what tarfile's "data" filter refuses (paths
            that lead out, devices, links that do); the folder cannot be written.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DataError(f"{archive}: this Python's tarfile has no data filter; unpack it by other means")
    try:
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}.") as aside:
            inside = Path(aside) / "new"  # so that it gets the usual permissions
            inside.mkdir()
            _extract(archive, inside, limit, keep)
            os.replace(inside, into)
    except (tarfile.TarError, EOFError, KeyError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive}: not a whole and sound archive ({error})") from None
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {into}: {error.strerror or error}") from None


def _extract(archive: Path, folder: Path, limit: int, keep: Collection[str] | None) -> None:
    with archive.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Bounded(gzip.GzipFile(fileobj=raw) if packed else raw, limit, archive)
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as tar:
            for count, member in enumerate(tar):
                if count == _MAX_MEMBERS:
                    raise DataError(f"{archive}: holds more than {_MAX_MEMBERS} files")
                if member.size > limit:
                    raise DataError(f"{archive}: {member.name} has {member.size} bytes, the limit is {limit}")
                if keep is None:
                    tar.extract(member, folder, filter="data")
                elif member.isreg() and Path(member.name).name in keep:
                    tar.extract(member.replace(name=Path(member.name).name), folder, filter="data")
        while stream.read(1 << 16):  # up to gzip's checksum
            pass
