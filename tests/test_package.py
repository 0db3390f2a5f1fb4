"""What the installed package gives to a C or C++ program: headers, the library and a CMake package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cnnext
import pytest

pytestmark = pytest.mark.skipif(
    "CNNEXT_SANITIZED" in os.environ, reason="the sanitized build is run from its build folder, not installed"
)

PROGRAM = r"""
#include <cnnext/cnnext.h>
#include <stdio.h>

int main(void) {
  float x[4] = {1, 2, 3, 4}, w[1] = {2}, y[4] = {0};
  cnnext_conv2d_params params = CNNEXT_CONV2D_PARAMS_INIT;
  cnnext_tensor tx = {x, CNNEXT_FLOAT32, 4, CNNEXT_CPU, 0, {1, 1, 2, 2}, {4, 4, 2, 1}};
  cnnext_tensor tw = {w, CNNEXT_FLOAT32, 4, CNNEXT_CPU, 0, {1, 1, 1, 1}, {1, 1, 1, 1}};
  cnnext_tensor ty = tx;
  ty.data = y;
  if (cnnext_conv2d(NULL, &params, &tx, &tw, NULL, NULL, &ty) != CNNEXT_OK) {
    printf("%s\n", cnnext_last_error());
    return 1;
  }
  printf("%s %g %g %g %g\n", cnnext_version(), y[0], y[1], y[2], y[3]);
  return 0;
}
"""
EXPECTED = f"{cnnext.__version__} 2 4 6 8"


def folder(option: str) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "cnnext", option], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def run(*command: object) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_a_c_program_links_to_the_wheel(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "main.c").write_text(PROGRAM)
    library = folder("--lib-dir")
    run(
        *(compiler, "-Wall", "-Wextra", "-Werror", tmp_path / "main.c", "-o", tmp_path / "main"),
        *(f"-I{folder('--include-dir')}", f"-L{library}", "-lcnnext", f"-Wl,-rpath,{library}"),
    )
    assert run(tmp_path / "main") == EXPECTED


def test_find_package(tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake")
    (tmp_path / "main.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(outsider C)\nfind_package(cnnext REQUIRED)\n"
        "add_executable(main main.c)\ntarget_link_libraries(main cnnext::cnnext)\n"
    )
    build = tmp_path / "build"
    run(cmake, "-S", tmp_path, "-B", build, f"-Dcnnext_DIR={folder('--cmake-dir')}")
    run(cmake, "--build", build)
    assert run(build / "main") == EXPECTED
