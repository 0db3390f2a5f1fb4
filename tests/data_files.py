"""Small files in the form of the published image sets, for the tests of their readers."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from cnnext import data

rng = np.random.default_rng(0)


def one_line(call, *message: str) -> str:
    """The DataError's text: all parts are in its one line."""
    with pytest.raises(data.DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for part in message:
        assert part in text
    return text


def tar_of(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def cifar_file(labels: list[list[int]], pixels: np.ndarray) -> bytes:
    return np.concatenate([np.array(labels, np.uint8), pixels.reshape(len(pixels), -1)], axis=1).tobytes()


def cifar10_files() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    pixels = rng.integers(0, 256, (12, 3, 32, 32)).astype(np.uint8)
    labels = np.arange(12) % 10
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    files = {
        name: cifar_file(labels[2 * i : 2 * i + 2, None], pixels[2 * i : 2 * i + 2])
        for i, name in enumerate(names)
    }
    files["batches.meta.txt"] = b"\n".join(b"class%d" % i for i in range(10)) + b"\n\n"
    return files, pixels, labels


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def idx(array: np.ndarray, *, dims: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    """An IDX file of `array`; `dims` and `kind` can lie about it."""
    dims = array.shape if dims is None else dims
    return bytes((0, 0, kind, len(dims))) + struct.pack(f">{len(dims)}I", *dims) + array.tobytes()


def fashion_files() -> dict[str, bytes]:
    files = {}
    for stem, count in (("train", 30), ("t10k", 20)):
        files[f"{stem}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (count, 28, 28)).astype(np.uint8))
        files[f"{stem}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    return files
