"""The examples in C and C++ build against the installed package and compute what Python computes.

Also the header for C++ by itself, the check of versions, and what the shared library exports.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cnnext as cx
import numpy as np
import pytest
from cnnext.cli import main as cnnext_command

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(cx.__path__[0])

pytestmark = pytest.mark.skipif(
    "CNNEXT_SANITIZED" in os.environ, reason="the sanitized build is run from its build folder, not installed"
)


def run(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)


def done(*command: object) -> str:
    result = run(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def tool(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"there is no {names[0]}")
    return found


def built(source: Path, folder: Path, target: str, compiler: str) -> Path:
    tool("cc", "gcc", "clang") if compiler == "C" else tool("c++", "g++", "clang++")
    cmake = tool("cmake")
    done(cmake, "-S", source, "-B", folder, f"-Dcnnext_DIR={PACKAGE / 'cmake'}", "-DCMAKE_BUILD_TYPE=Release")
    done(cmake, "--build", folder)
    return folder / target


def test_the_package_names_its_cmake_folder(capsys: pytest.CaptureFixture) -> None:
    assert cnnext_command(["--cmake-dir"]) == 0
    assert Path(capsys.readouterr().out.strip()) == PACKAGE / "cmake"
    assert (PACKAGE / "include" / "cnnext" / "cnnext.hpp").is_file()


def test_a_convolution_on_the_programs_own_threads(tmp_path: Path) -> None:
    program = built(ROOT / "examples" / "c", tmp_path, "convolution", "C")
    text = done(program)
    assert "on 3 threads" in text
    assert "largest error" in text


# ---- LeNet in C++


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT / "examples" / "cpp", tmp_path_factory.mktemp("lenet"), "lenet", "C++")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("safetensors")
    cx.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    cx.save(cx.models.create("lenet5").state_dict(), path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    pytest.importorskip("safetensors")
    path = tmp_path / "images.safetensors"
    cx.save({"images": np.random.default_rng(0).random((3, 1, 28, 28), np.float32)}, path)
    return path


def test_lenet_gives_pythons_logits(lenet: Path, weights: Path, images: Path) -> None:
    model = cx.models.create("lenet5").eval()
    model.load_state_dict(cx.load(weights))
    with cx.no_grad():
        expected = model(cx.Tensor(cx.load(images)["images"])).numpy()
    logits = np.array([line.split() for line in done(lenet, weights, images).splitlines()], np.float32)
    assert logits.shape == (3, 10)
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6)


def refused(lenet: Path, weights: Path, images: Path) -> str:
    result = run(lenet, weights, images)
    assert result.returncode == 1, result  # no signal, and no result
    assert result.stdout == ""
    return result.stderr


def test_lenet_refuses_what_is_no_whole_file(
    lenet: Path, weights: Path, images: Path, tmp_path: Path
) -> None:
    whole = images.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    wrong = {whole[:n] for n in (0, 5, 8, 9, header // 2, header + 7, header + 8, len(whole) - 4)}
    text = whole[8 : 8 + header]
    for old, new in (
        (b'"F32"', b'"F64"'),
        (b"[3,1,28,28]", b"[3,1,28,29]"),
        (b"[3,1,28,28]", b"[-3,1,28,8]"),
        (b'"shape"', b'"shapf"'),
        (b"[0,9408]", b"[9,9408]"),
        (b"[0,9408]", b"[0,9409]"),
        (b"[0,9408]", b"[9408,0]"),
        (b'"data_offsets"', b"'data_offsets'"),
        (b"}", b" "),
        (b'"images"', b'"imagine"'),
    ):
        assert old in text, old
        changed = text.replace(old, new)
        wrong.add(len(changed).to_bytes(8, "little") + changed + whole[8 + header :])
    wrong.add((2**64 - 1).to_bytes(8, "little") + whole[8:])
    wrong.add((8).to_bytes(8, "little") + b'{"a\\"\\\\"')
    assert len(wrong) == 20
    for number, data in enumerate(wrong):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(data)
        assert str(path) in refused(lenet, weights, path)


def test_lenet_says_what_cnnext_says(lenet: Path, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "images.safetensors"
    cx.save({"images": np.zeros((1, 3, 28, 28), np.float32)}, path)
    assert "x has 3 channels" in refused(lenet, weights, path)
    assert "cannot be read" in refused(lenet, tmp_path / "none", path)


# ---- the header for C++, and versions

PROGRAM = r"""
#include <cnnext/cnnext.hpp>
#include <cstdio>
#include <cstring>

#define CHECK(condition) \
  if (!(condition)) return std::printf("line %d: %s\n", __LINE__, #condition), 1

template <class Body>
static cnnext_status status_of(Body&& body) {
  try {
    body();
    return CNNEXT_OK;
  } catch (const cnnext::Error& error) {
    return std::strlen(error.what()) ? error.status : CNNEXT_OK;
  }
}

int main() {
  using namespace cnnext;
  CHECK(cnnext_check_version(CNNEXT_VERSION_MAJOR, CNNEXT_VERSION_MINOR, CNNEXT_VERSION_PATCH) == CNNEXT_OK);
  CHECK(cnnext_check_version(CNNEXT_VERSION_MAJOR, CNNEXT_VERSION_MINOR + 1, 0) == CNNEXT_RUNTIME_ERROR);
  CHECK(cnnext_check_version(CNNEXT_VERSION_MAJOR + 1, CNNEXT_VERSION_MINOR, 0) == CNNEXT_RUNTIME_ERROR);
  CHECK(cnnext_check_version(CNNEXT_VERSION_MAJOR, CNNEXT_VERSION_MINOR, 99) == CNNEXT_RUNTIME_ERROR);
  CHECK(std::strstr(cnnext_last_error(), ".99") != nullptr);

  const float pixels[16] = {1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12, 13, -14, 15, -16};
  const Tensor x = Tensor::view(pixels, {1, 1, 4, 4});
  Tensor w({1, 1, 1, 1}), bias({1});
  *w.data<float>() = 2;
  *bias.data<float>() = 1;
  const Tensor y = conv2d(x, w, bias);
  CHECK(y.shape() == x.shape() && y.data<float>()[2] == 7 && y.data<float>()[1] == -3);
  const PackedWeight packed(w, {}, {1, 1, 4, 4});
  CHECK(packed.bytes() >= 4 && conv2d(x, packed, bias).data<float>()[2] == 7);

  float memory[16];
  const Tensor out = Tensor::view(memory, {1, 1, 4, 4});
  Run run;
  run.out = out;
  CHECK(conv2d(x, w, bias, {}, x, run).data<float>() == memory && memory[2] == 10 && memory[1] == -5);
  CHECK(relu(x, run).data<float>() == memory && memory[1] == 0 && memory[2] == 3);

  Tensor places;
  const Tensor pooled = max_pool2d(x, {}, &places);
  CHECK(pooled.numel() == 4 && pooled.data<float>()[3] == 15 && places.data<int64_t>()[3] == 14);
  CHECK(max_pool2d(x).data<float>()[0] == 5);
  const Tensor fused = conv2d_relu_max_pool2d(x, w, bias);
  CHECK(fused.data<float>()[3] == 31 && conv2d_relu_max_pool2d(x, packed, bias).data<float>()[3] == 31);

  Tensor mean({1}), var({1});
  *mean.data<float>() = 1;
  *var.data<float>() = 4;
  CHECK(batch_norm(x, mean, var, {}, {}, 0.0).data<float>()[4] == 2);
  const Tensor rows = x.reshape({4, 4}), same = softmax(linear(rows, rows), 1);
  CHECK(same.shape() == rows.shape() && same.data<float>()[3] > 0.99f);
  const Tensor last({1, 2, 2, 2}, CNNEXT_FLOAT32, Format::channels_last);
  CHECK(last.get()->strides[1] == 1 && last.get()->strides[2] == 4);
  CHECK(!Tensor() && Tensor({0, 3}) && relu(Tensor({0, 3})).numel() == 0);

  Conv2d wrong;
  wrong.stride = {0, 1};
  CHECK(status_of([&] { conv2d(x, w, {}, wrong); }) == CNNEXT_INVALID_VALUE);
  CHECK(status_of([&] { conv2d(x, {}); }) == CNNEXT_INVALID_VALUE);
  CHECK(status_of([&] { x.data<float>(); }) == CNNEXT_INVALID_TYPE);
  CHECK(status_of([&] { y.data<int8_t>(); }) == CNNEXT_INVALID_TYPE);
  CHECK(status_of([&] { run.out = x; relu(y, run); }) == CNNEXT_INVALID_TYPE);
  CHECK(status_of([&] { x.reshape({3, 5}); }) == CNNEXT_INVALID_VALUE);
  CHECK(status_of([&] { last.reshape({8}); }) == CNNEXT_INVALID_VALUE);
  CHECK(status_of([&] { Tensor({1 << 30, 1 << 30, 1 << 30}); }) == CNNEXT_INVALID_VALUE);
  CHECK(status_of([&] { x.size(4); }) == CNNEXT_INVALID_VALUE);

  Tensor pixels_too({1, 1, 4, 4});
  std::memcpy(pixels_too.data<float>(), pixels, sizeof(pixels));
  Run into;
  into.out = Tensor({1, 1, 2, 2});
  CHECK(status_of([&] { max_pool2d(x, {}, nullptr); }) == CNNEXT_INVALID_VALUE);
  CHECK(status_of([&] { max_pool2d(pixels_too, {}, &pixels_too); }) == CNNEXT_INVALID_VALUE);
  CHECK(pixels_too.data<float>()[2] == 3);
  CHECK(status_of([&] { max_pool2d(x, {}, &into.out, into); }) == CNNEXT_INVALID_VALUE);
  CHECK(into.out.data<float>() != nullptr);
  into.out = Tensor::view<float>(nullptr, {1, 1, 4, 4});  // which is no dry run here
  CHECK(status_of([&] { relu(x, into); }) == CNNEXT_INVALID_VALUE);
  into.out = Tensor::view<float>(nullptr, {0, 3});
  CHECK(relu(Tensor({0, 3}), into).numel() == 0);
  CHECK(status_of([&] { relu(Tensor::view<float>(nullptr, {1, 1, 4, 4})); }) == CNNEXT_INVALID_VALUE);
  into.out = pixels_too;  // over x itself
  CHECK(max_pool2d(pixels_too).data<float>()[3] == 15 && relu(pixels_too, into).data<float>()[1] == 0);
  return 0;
}
"""


def compiled(text: str, folder: Path) -> Path:
    compiler = tool("c++", "g++", "clang++")
    (folder / "main.cpp").write_text(text)
    done(
        *(compiler, "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
        *(folder / "main.cpp", "-o", folder / "main", f"-I{PACKAGE / 'include'}", f"-L{PACKAGE}"),
        *("-lcnnext", f"-Wl,-rpath,{PACKAGE}"),
    )
    return folder / "main"


def test_the_header_for_cpp(tmp_path: Path) -> None:
    done(compiled(PROGRAM, tmp_path))


def test_the_example_of_the_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "c.md").read_text()
    (example,) = re.findall(r"^```cpp\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    assert done(compiled(example, tmp_path)) == "16 channels, y[0] = 13.5\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF's dynamic symbols")
def test_only_the_abi_is_exported() -> None:
    lines = done(tool("nm", "llvm-nm"), "-D", "--defined-only", PACKAGE / "libcnnext.so").splitlines()
    exported = {line.split()[-1].split("@")[0] for line in lines}
    header = (PACKAGE / "include" / "cnnext" / "cnnext.h").read_text()
    declared = set(re.findall(r"^CNNEXT_API [\w* ]*?(cnnext_\w+)\(", header, re.MULTILINE))
    assert len(declared) > 60
    assert exported == declared, exported ^ declared
