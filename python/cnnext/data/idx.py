"""Reader for the IDX files that MNIST is published in, plain or gzip-compressed.

The header alone decides how much is read: a file that holds less or more than its header says is
refused, and so is a header that asks for more than `max_bytes`. A gzip bomb is therefore cut off
after the announced size, and a huge announced size after what the compressed bytes could hold.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["DataError", "read_idx"]

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_CHUNK = 1 << 20
# deflate cannot expand a byte further than this, so a larger promise is a lie before reading it.
_MAX_DEFLATE_RATIO = 1032


class DataError(ValueError):
    """A data file is missing, damaged or not what its name says; the message is one line."""


def read_idx(
    path: str | os.PathLike[str], *, shape: tuple[int | None, ...], max_bytes: int = 1 << 30
) -> np.ndarray:
    """Reads one IDX file of unsigned bytes, plain or gzip (told apart by content, not by name).

    Args:
        path: the file.
        shape: the expected dimensions, None where any size will do: ``(None, 28, 28)``.
        max_bytes: the largest body accepted.

    Returns:
        A uint8 array of the shape in the header.

    Raises:
        DataError: missing or unreadable file, wrong magic number, dimensions that differ from
            `shape`, a body shorter or longer than the header says, damaged gzip data.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
    try:
        file_size = path.stat().st_size
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not compressed:
                return _read_body(raw, path, shape, max_bytes, file_size)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read_body(stream, path, shape, max_bytes, file_size * _MAX_DEFLATE_RATIO)
    except EOFError:
        raise DataError(f"{path}: truncated gzip data") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip data ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_body(
    stream: BinaryIO | gzip.GzipFile,
    path: Path,
    shape: tuple[int | None, ...],
    max_bytes: int,
    could_hold: int,
) -> np.ndarray:
    header_size = 4 + 4 * len(shape)
    header = stream.read(header_size)
    magic = bytes((0, 0, _UNSIGNED_BYTE, len(shape)))
    if header[:4] != magic:
        raise DataError(f"{path}: wrong magic number 0x{header[:4].hex()}, expected 0x{magic.hex()}")
    if len(header) < header_size:
        raise DataError(f"{path}: truncated header, {len(header)} of {header_size} bytes")
    dims = tuple(int(d) for d in np.frombuffer(header, ">u4", offset=4))
    for axis, (found, expected) in enumerate(zip(dims, shape, strict=True)):
        if expected is not None and found != expected:
            raise DataError(f"{path}: dimension {axis} is {found}, expected {expected} (header says {dims})")
    size = math.prod(dims)
    if size > max_bytes:
        raise DataError(f"{path}: the header asks for {size} bytes, more than the limit of {max_bytes}")
    if size > could_hold:
        raise DataError(f"{path}: truncated, the header asks for {size} bytes and the file cannot hold them")
    body = _read_at_most(stream, size + 1)
    if len(body) < size:
        raise DataError(f"{path}: truncated, {len(body)} of {size} bytes after the header")
    if len(body) > size:
        raise DataError(f"{path}: more data than the {size} bytes that the header says")
    return np.frombuffer(body, np.uint8).reshape(dims)


def _read_at_most(stream: BinaryIO | gzip.GzipFile, limit: int) -> bytearray:
    """Grows with what arrives, so that a header's promise alone never allocates memory."""
    body = bytearray()
    while len(body) < limit:
        chunk = stream.read(min(_CHUNK, limit - len(body)))
        if not chunk:
            break
        body += chunk
    return body
