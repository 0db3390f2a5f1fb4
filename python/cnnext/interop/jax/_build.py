"""The handler that XLA calls: compiled as cnnext is installed, or on first use, and kept for its jaxlib."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path

import jax

from ... import _C
from ._handler_file import SOURCE, handler_name

#: What the handler is called in an XLA program.
TARGET = "cnnext"
_PACKAGE = Path(_C.__file__).parent
_INCLUDE = _PACKAGE / "include"
_INSTALLED = _PACKAGE
_LOCK = threading.Lock()


def is_registered() -> bool:
    """Whether XLA calls the handler. False, after one warning, where there is no way to build it."""
    with _LOCK:
        return _register()


@functools.cache
def _register() -> bool:
    try:
        library = _load()
    except (OSError, _NotBuiltError) as error:
        warnings.warn(
            f"cnnext.interop.jax calls back to Python (jax.pure_callback), which copies arrays: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    for name, place in (("cnnext_jax_cpu", "cpu"), ("cnnext_jax_cuda", "CUDA")):
        jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(getattr(library, name)), platform=place)
    return True


class _NotBuiltError(Exception):
    """There is no compiler, or it failed."""


def cache_folder() -> Path:
    """Where the handler is kept: CNNEXT_CACHE_DIR, or $XDG_CACHE_HOME/cnnext, or ~/.cache/cnnext."""
    own = os.environ.get("CNNEXT_CACHE_DIR")
    if own:
        return Path(own)
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "cnnext"


def _file_name() -> str:
    return handler_name(_C.version(), _INCLUDE / "cnnext" / "cnnext.h")


def _load() -> ctypes.CDLL:
    installed = _INSTALLED / _file_name()
    if installed.exists():  # made with cnnext, for this jaxlib
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(installed))
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / _file_name()
        if kept.exists():
            try:
                return ctypes.CDLL(str(kept))
            except OSError:
                pass  # damaged, or another machine's: built anew
        return ctypes.CDLL(str(_build(kept)))
    except (OSError, RuntimeError):  # no home, or nothing can be written there
        with tempfile.TemporaryDirectory(prefix="cnnext-") as temporary:
            return ctypes.CDLL(str(_build(Path(temporary) / _file_name())))


def _build(result: Path) -> Path:
    """Compiles the handler to a file that is there as a whole or not at all."""
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        raise _NotBuiltError("no C++ compiler was found (c++, g++, clang++, or the one that CXX names)")
    handle, unfinished = tempfile.mkstemp(suffix=".so", dir=result.parent)
    os.close(handle)
    command = [
        *compiler.split(), "-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", str(SOURCE),
        f"-I{jax.ffi.include_dir()}", f"-I{_INCLUDE}", "-o", unfinished,
        f"-L{_PACKAGE}", "-lcnnext", f"-Wl,-rpath,{_PACKAGE}",
    ]  # fmt: skip
    try:
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise _NotBuiltError(f"{command[0]} did not run: {error.strerror}") from None
        if done.returncode:
            raise _NotBuiltError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        os.chmod(unfinished, 0o755)
        os.replace(unfinished, result)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return result
