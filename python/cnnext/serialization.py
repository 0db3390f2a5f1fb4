"""save and load: nested dicts of arrays, numbers and strings in one safetensors file; never pickle."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .devices import copied_to, is_on_device
from .tape import Variable, wrap
from .tensor import as_array

_KEY = "cnnext.structure"  # of the metadata that holds the structure
_METADATA = "metadata"  # within it, the caller's: with two keys safetensors writes either first
_PLAIN = (bool, int, float, str, type(None))


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("save and load need safetensors: pip install 'cnnext[train]'") from None
    return safetensors


def save(obj: Mapping, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
    """Write nested dicts and lists of Tensors, arrays, numbers and strings to a safetensors file.

    metadata: what JSON can hold, kept in the file's header beside the arrays; load_metadata() reads it.

    The file is written aside, flushed to disk and then renamed, so that a failure never loses an older one at
    `path`. Arrays are stored under their dotted path, a flat state dict thus under its own names; those on
    CUDA devices are copied to the host. TypeError for other objects, OSError where the file cannot be
    written.
    """
    if not isinstance(obj, Mapping):
        raise TypeError(f"save takes a dict, got {type(obj).__name__}")
    arrays: dict[str, np.ndarray] = {}
    structure = _encode(obj, "", arrays)
    if metadata is not None:
        structure[_METADATA] = dict(metadata)
    library = _safetensors()
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    aside = str(path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part"))
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    mode = os.stat(path if path.is_file() else aside).st_mode & 0o777
    try:
        try:
            library.numpy.save_file(arrays, aside, metadata={_KEY: json.dumps(structure)})
        except library.SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error
        os.chmod(aside, mode)  # safetensors leaves 0600
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what save wrote, onto the host; a safetensors file of another origin gives {name: Tensor}.

    FileNotFoundError where there is no file, ValueError where it is no whole safetensors file.
    """
    with _opened(path) as file:
        structure = _structure(file)
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if structure is None:
            return {name: wrap(array) for name, array in arrays.items()}
        structure.pop(_METADATA, None)
        if list(structure) != ["d"]:
            raise ValueError("its structure is no dict")
        return _decode(structure, arrays)


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata that a file was saved with, {} where there is none; errors as load's. Reads no array."""
    with _opened(path) as file:
        metadata = (_structure(file) or {}).get(_METADATA, {})
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is no dict")
        return metadata


def _structure(file: Any) -> dict[str, Any] | None:
    metadata = file.metadata() or {}
    return dict(json.loads(metadata[_KEY])) if _KEY in metadata else None


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    library = _safetensors()
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such file: {os.fspath(path)}")
    try:
        with library.safe_open(path, framework="numpy") as file:
            yield file
    except (
        library.SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError
    ) as error:  # fmt: skip
        raise ValueError(f"{os.fspath(path)} is not a whole safetensors file: {error}") from error


# The structure is JSON: {"d": [[key, node], ...]} is a dict, {"l"|"u": [node, ...]} a list or tuple,
# {"t"|"a": name} a Tensor or array, {"v": value} anything plain.


def _encode(obj: Any, path: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if isinstance(obj, Mapping):
        for key in obj:
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise TypeError(f"save: key {key!r} in {path or 'the dict'} must be a str or an int")
        return {
            "d": [
                [key, _encode(value, f"{path}.{key}" if path else str(key), arrays)]
                for key, value in obj.items()
            ]
        }
    if isinstance(obj, (list, tuple)):
        kind = "l" if isinstance(obj, list) else "u"
        return {
            kind: [_encode(value, f"{path}.{i}" if path else str(i), arrays) for i, value in enumerate(obj)]
        }
    if isinstance(obj, np.generic):
        return {"v": obj.item()}
    if isinstance(obj, _PLAIN):
        return {"v": obj}
    if isinstance(obj, (Variable, np.ndarray)) or is_on_device(obj):
        name = path
        while name in arrays or name == "__metadata__":
            name += "_"
        array = np.asarray(copied_to(as_array(obj), "cpu"), order="C")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"save: {path} has dtype {array.dtype}, which safetensors does not hold")
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
        return {"t" if isinstance(obj, Variable) else "a": name}
    raise TypeError(
        f"save: {path} is {type(obj).__name__}; only Tensors, arrays, numbers, strings, dicts, lists can be"
    )


def _decode(node: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    ((kind, value),) = node.items()
    if kind == "d":
        return {key: _decode(child, arrays) for key, child in value}
    if kind in "lu":
        items = [_decode(child, arrays) for child in value]
        return items if kind == "l" else tuple(items)
    if kind == "v":
        return value
    if kind not in "ta":
        raise ValueError(f"its structure holds an unknown kind {kind!r}")
    return wrap(arrays[value]) if kind == "t" else arrays[value]
