"""Arrays on CUDA devices without a GPU: what is around the kernels, on the stand-in of tests/fake_cuda."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler, so no CUDA library to stand in")
    built = tmp_path_factory.mktemp("fake_cuda") / "libfake_cuda.so"
    source = HERE / "fake_cuda" / "fake_cuda.cpp"
    flags = ["-std=c++17", "-shared", "-fPIC", f"-I{CSRC}", f"-I{CSRC / 'include'}"]
    environment = {
        name: value for name, value in os.environ.items() if name != "LD_PRELOAD"
    }  # the sanitizer's
    command = [compiler, *flags, source, "-o", built]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return built


def run(library: Path | str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, since a process opens one CUDA library."""
    path = os.pathsep.join(filter(None, [str(HERE / "fake_cuda"), os.environ.get("PYTHONPATH", "")]))
    variables = {**os.environ, "CNNEXT_CUDA_LIBRARY": str(library), "PYTHONPATH": path, **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=variables)


@pytest.mark.parametrize(
    "cases",
    [
        "array_cases.py",
        "stream_cases.py",
        "error_cases.py",
        "library_cases.py",
        "tensor_cases.py",
        "layer_cases.py",
    ],
)
def test_on_the_stand_in(library: Path, cases: str) -> None:
    done = run(library, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "fake_cuda" / cases))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def reason(library: Path | str, **environment: str) -> str:
    done = run(library, "-c", "import cnnext; print(cnnext.info().cuda)", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_why_cuda_is_off(library: Path, tmp_path: Path) -> None:
    assert reason(tmp_path / "none.so").startswith(f"{tmp_path / 'none.so'} did not load: ")
    assert reason(library, FAKE_CUDA_OFF="1") == f"{library}: no fake device"
    assert reason(library) == "available"


def test_a_file_that_is_no_cuda_library() -> None:
    from cnnext import _C

    assert reason(_C.__file__) == f"{_C.__file__}: it has no cnnext_cuda_backend"
