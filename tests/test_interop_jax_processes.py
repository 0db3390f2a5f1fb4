"""cnnext.interop.jax in processes of their own: two devices, the handler's build, and without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax", minversion="0.6", reason="jax 0.6 or later is not installed")

HERE = Path(__file__).resolve().parent


#: A handler that was installed is not looked for.
WITHOUT = """
from cnnext.interop.jax import _build
from pathlib import Path
_build._INSTALLED = Path("/nonexistent")
"""


def run(script: str, cache: Path | None = None, **environment: str) -> str:
    variables = {**os.environ, **environment, "JAX_PLATFORMS": "cpu"}
    if cache is not None:
        script = WITHOUT + script
        variables["CNNEXT_CACHE_DIR"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=variables, timeout=300, cwd=HERE
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_batch_is_split_over_devices() -> None:
    """By jit of sharded arrays and by shard_map: the same loss and gradients, and no image goes elsewhere."""
    out = run((HERE / "jax_two_devices.py").read_text(), XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert out.split() == ["jit", "shard_map", "together"]


#: Values and gradients of a small network, with an index error at the end.
NETWORK = """
import warnings, jax, numpy as np
import cnnext.interop.jax as cxj
def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)
def loss(x, w, n, l):
    y = cxj.conv2d(x, w, padding=1, activation="relu")
    y, mean, var = cxj.batch_norm(y, n[0], n[1] ** 2, training=True)
    y, indices = cxj.max_pool2d(y, 2, return_indices=True)
    y = cxj.max_unpool2d(y, indices, 2)
    return (cxj.linear(y.reshape(len(y), -1), l) ** 2).sum() + (mean * var).sum()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    arrays = normal(2, 3, 8, 8), normal(4, 3, 3, 3), normal(2, 4), normal(5, 256)
    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 3)))(*arrays)
    each = jax.vmap(lambda x, w: cxj.conv2d(x, w), (0, None))(normal(3, 2, 3, 8, 8), arrays[1])
    print(repr(float(value)), *(repr(float(abs(g).sum())) for g in (*gradients, each)))
    try:
        jax.block_until_ready(cxj.max_unpool2d(normal(1, 1, 2, 2), np.full((1, 1, 2, 2), 99, np.int32), 2))
    except Exception as error:
        print(isinstance(error, jax.errors.JaxRuntimeError), "indices" in str(error))
print(len([w for w in caught if "pure_callback" in str(w.message)]))
"""


#: One call, and whether it warned.
CALL = """
import warnings, numpy as np
import cnnext.interop.jax as cxj
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    y = cxj.max_pool2d(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), 2)
print(y.ravel().tolist(), [str(w.message) for w in caught])
"""
RESULT = "[5.0, 7.0, 13.0, 15.0] "


def test_the_handler_is_built_once(tmp_path: Path) -> None:
    assert run(CALL, tmp_path) == RESULT + "[]\n"
    (kept,) = tmp_path.iterdir()
    before = kept.stat()
    assert run(CALL, tmp_path, PATH="", CXX="") == RESULT + "[]\n"  # needs no compiler now
    assert list(tmp_path.iterdir()) == [kept]
    assert kept.stat() == before
    kept.write_bytes(b"damaged")
    assert run(CALL, tmp_path) == RESULT + "[]\n"
    assert kept.stat().st_size == before.st_size


def test_an_installed_handler_is_used(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert run(CALL, kept) == RESULT + "[]\n"
    (handler,) = kept.iterdir()
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / handler.name).write_bytes(handler.read_bytes())
    script = f"{WITHOUT}_build._INSTALLED = Path({str(installed)!r})\n{CALL}"
    unused = {"CNNEXT_CACHE_DIR": str(tmp_path / "none"), "PATH": "", "CXX": ""}
    assert run(script, **unused) == RESULT + "[]\n"
    assert not (tmp_path / "none").exists()
    (installed / handler.name).write_bytes(b"damaged")
    assert run(script, CNNEXT_CACHE_DIR=str(kept), PATH="", CXX="") == RESULT + "[]\n"


def test_the_name_is_known_before_the_package_is_there() -> None:
    """cmake/JaxHandler.cmake asks for it."""
    from cnnext import _C
    from cnnext.interop.jax import _build, _handler_file

    header = _build._INCLUDE / "cnnext" / "cnnext.h"
    command = [sys.executable, "-I", str(_handler_file.__file__), _C.version(), str(header)]
    name, include = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert name == _build._file_name()
    assert include == _build.jax.ffi.include_dir()


def test_without_a_compiler_python_is_called_back(tmp_path: Path) -> None:
    numbers, error, warned = run(NETWORK).splitlines()
    assert (error, warned) == ("True True", "0")
    slow, error, warned = run(NETWORK, tmp_path / "none", PATH="", CXX="").splitlines()
    assert slow == numbers
    assert (error, warned) == ("True True", "1")
    out = run(CALL, tmp_path / "none", CXX="/nonexistent/c++")
    assert out.startswith(RESULT)
    assert "/nonexistent/c++ did not run: No such file" in out
    assert list((tmp_path / "none").iterdir()) == []
