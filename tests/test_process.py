"""What a process decides once: the instruction set, threads, fork; and calls from many threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import cnnext
import numpy as np
import pytest
from cnnext import _C, ops
from cnnext.info import info

RUN = """
import numpy as np
from cnnext import _C, ops
x = np.arange(2 * 3 * 7 * 5, dtype=np.float32).reshape(2, 3, 7, 5)
y = ops.conv2d(x, np.ones((4, 3, 3, 2), np.float32))
assert y[0, 0, 0, 0] == x[0, :, :3, :2].sum()
print(_C.isa(), _C.last_kernel())
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(p for p in sys.path if p)
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "avx512_bf16"])
def test_a_forced_isa_runs(isa: str) -> None:
    result = python(RUN, CNNEXT_CPU_ISA=isa)
    if isa not in _C.isa_available() and isa not in python(RUN, CNNEXT_CPU_ISA="").stdout:
        assert result.returncode != 0
        pytest.skip(f"this processor lacks {isa}; forcing it was refused, as it must be")
    assert result.returncode == 0, result.stderr
    used, kernel = result.stdout.split()
    assert used == isa
    assert kernel.startswith(f"cpu/{isa.removesuffix('_bf16')}/conv2d"), "float32 has AVX-512's kernels"


BITS = """
import numpy as np
from cnnext import ops
rng = np.random.default_rng(0)
x, w = rng.standard_normal((2, 40, 9, 11), np.float32), rng.standard_normal((72, 40, 3, 3), np.float32)
for algorithm in ("auto", "direct"):
    y = ops.conv2d(x, w, padding=1, algorithm=algorithm)
    for result in (y, *ops.conv2d_backward(y, x, w, padding=1)):
        print(result.tobytes().hex())
"""


def test_avx512_bf16_leaves_float32_alone() -> None:
    if "avx512_bf16" not in _C.isa_available():
        pytest.skip("this processor lacks avx512_bf16")
    results = [python(BITS, CNNEXT_CPU_ISA=isa) for isa in ("avx512", "avx512_bf16")]
    assert all(r.returncode == 0 for r in results), results[0].stderr + results[1].stderr
    assert results[0].stdout == results[1].stdout


def test_the_isa_of_this_run_is_the_one_asked_for() -> None:
    asked = os.environ.get("CNNEXT_CPU_ISA")
    assert _C.isa() == (asked or _C.isa_available()[-1])


@pytest.mark.parametrize("value", ["sse9", "AVX2", "avx2,avx512"])
def test_an_unknown_isa_fails_the_import_with_one_line(value: str) -> None:
    result = python("import cnnext.ops", CNNEXT_CPU_ISA=value)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert value in last
    assert "scalar" in last


def test_a_wrong_thread_count_fails_the_import() -> None:
    for value in ("0", "-3", "two"):
        result = python("import cnnext.ops", CNNEXT_NUM_THREADS=value)
        assert result.returncode != 0, value
        assert "CNNEXT_NUM_THREADS" in result.stderr.strip().splitlines()[-1]


def test_threads_from_the_environment() -> None:
    result = python("from cnnext import _C; print(_C.get_num_threads())", CNNEXT_NUM_THREADS="5")
    assert result.stdout.strip() == "5"


def test_set_num_threads() -> None:
    for count in (1, 3, 8):
        _C.set_num_threads(count)
        assert _C.get_num_threads() == count
    for count in (0, -1, 2**40):
        with pytest.raises(ValueError, match=str(count)):
            _C.set_num_threads(count)
    with pytest.raises(TypeError, match="n must be an int"):
        _C.set_num_threads(2.0)


FORK = """
import os
import numpy as np
from cnnext import _C, ops
_C.set_num_threads(4)
rng = np.random.default_rng(0)
x, w = rng.standard_normal((8, 16, 40, 41)).astype("f"), rng.standard_normal((32, 16, 3, 3)).astype("f")
expected = ops.conv2d(x, w, padding=1).tobytes()
for _ in range(3):
    child = os.fork()
    if child == 0:
        same = all(ops.conv2d(x, w, padding=1).tobytes() == expected for _ in range(3))
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ops.conv2d(x, w, padding=1).tobytes() == expected
print("same")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_fork_after_use() -> None:
    """The pool's threads are gone in the child; it starts its own and gets the same result."""
    result = python(FORK)
    assert result.stdout.strip() == "same", result.stderr


def test_calls_from_many_threads() -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, 8, 20 + i, 21)).astype("f") for i in range(6)]
    w = rng.standard_normal((16, 8, 3, 3)).astype("f")
    expected = [ops.conv2d(x, w).tobytes() for x in inputs]
    wrong: list[str] = []

    def work(i: int) -> None:
        for _ in range(30):
            if ops.conv2d(inputs[i], w).tobytes() != expected[i]:
                wrong.append(f"input {i}")
            try:
                ops.conv2d(inputs[i], w, groups=5 + i)
            except ValueError as error:
                if f"groups {5 + i}" not in str(error):
                    wrong.append(str(error))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_forced_backend_is_the_threads_own() -> None:
    x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2), np.float32)
    kernels = []

    def work() -> None:
        ops.conv2d(x, w)
        kernels.append(_C.last_kernel())

    _C.set_backend("ref")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    work()
    assert kernels[0].startswith("cpu/")
    assert kernels[1].startswith("ref/")


def test_info() -> None:
    found = info()
    assert found.version == cnnext.__version__ == _C.version()
    assert found.isa in found.isa_available
    assert found.threads == _C.get_num_threads() > 0
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == ["cnnext", "isa", "threads", "cuda", "build"]
    assert all(len(line.split()) > 1 for line in lines)


def test_op_names() -> None:
    names = _C.op_names()
    assert len(set(names)) == len(names) > 20
    for name in names:
        assert _C.op_supported("ref", name, "int64" if name == "convert_indices" else "float64")
    with pytest.raises(ValueError, match="op is 'conv3d'"):
        _C.op_supported("ref", "conv3d", "float32")
    with pytest.raises(ValueError, match="backend is 'gpu'"):
        _C.set_backend("gpu")


def test_flush_denormal() -> None:
    assert not _C.get_flush_denormal()
    x = np.full((1, 1, 3, 40), 1e-41, np.float32)
    one = np.ones((1, 1, 1, 1), np.float32)
    assert ops.conv2d(x, one).all()
    _C.set_flush_denormal(True)
    assert not ops.conv2d(x, one).any()
    assert np.float32(1e-41) * np.float32(1) != 0  # the caller's own mode is as it was


def test_float32_matmul_precision() -> None:
    assert cnnext.get_float32_matmul_precision() == "highest"
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 16, 9, 11), dtype=np.float32)
    w = rng.standard_normal((16, 16, 3, 3), dtype=np.float32)
    strict = ops.conv2d(x, w).tobytes()
    try:
        for precision in ("high", "medium", "highest"):
            cnnext.set_float32_matmul_precision(precision)
            assert cnnext.get_float32_matmul_precision() == precision
            assert ops.conv2d(x, w).tobytes() == strict, "the CPU computes in float32 under all of them"
            seen = []  # it is the process's, as in torch
            thread = threading.Thread(target=lambda: seen.append(cnnext.get_float32_matmul_precision()))  # noqa: B023
            thread.start()
            thread.join()
            assert seen == [precision]
        with pytest.raises(ValueError, match="precision is 'low'; it must be one of 'highest', 'high'"):
            cnnext.set_float32_matmul_precision("low")
        with pytest.raises(TypeError, match="precision must be a string, got"):
            cnnext.set_float32_matmul_precision(None)  # type: ignore[arg-type]
        assert cnnext.get_float32_matmul_precision() == "highest"
    finally:
        cnnext.set_float32_matmul_precision("highest")
