"""The benchmark's way to a CUDA device, run on stand-ins for the driver and for the CUDA library. No timings.

With CNNEXT_CUDA_HOST_LIBRARY, libcnnext_cuda_host.so of tests/cuda_host, the kernels are the real ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from bench import dtypes, measure, plots, report, shapes  # noqa: E402
from bench.cuda import limits  # noqa: E402
from bench.options import device_from  # noqa: E402
from bench.run import main  # noqa: E402

LAYERS = """
conv     c N=2 C=4 H=6 W=5 K=6 R=3 S=2 stride=2,1 padding=1,0 groups=2
max_pool m C=3 H=6 W=7 R=3 S=2 padding=1
relu     r C=3 H=6 W=7
add      s C=3 H=6 W=7
"""
MORE = """
conv       d N=2 C=4 H=6 W=5 K=4 R=3 S=3 padding=1 groups=4
avg_pool   a C=3 H=6 W=7 R=2 S=2 stride=1
batch_norm n C=3 H=6 W=7
softmax    t C=3 H=6 W=7
conv_relu_pool f C=3 H=8 W=9 K=5 R=3 S=2 padding=1,0 pool=3,2 pool_stride=2 pool_padding=1
"""
HAS_TORCH = importlib.util.find_spec("torch") is not None


def built(folder: Path, source: str) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler, so nothing to stand in for CUDA")
    library = folder / f"lib{source}.so"
    csrc = ROOT / "csrc"
    flags = ["-std=c++17", "-shared", "-fPIC", f"-I{csrc}", f"-I{csrc / 'include'}"]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [compiler, *flags, HERE / "fake_cuda" / f"{source}.cpp", "-o", library, "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return library


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which there is a device."""
    folder = tmp_path_factory.mktemp("stand_ins")
    return {
        "CNNEXT_CUDA_LIBRARY": str(built(folder, "fake_cuda")),
        "CNNEXT_CUDA_DRIVER": str(built(folder, "fake_driver")),
    }


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    path = tmp_path / "layers.txt"
    path.write_text(LAYERS)
    return path


def run(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    few = ["--device", "cuda", "--blocks", "2", "--repeats", "2", "--rest-ms", "0", "--threads", "1"]
    command = [sys.executable, "-m", "bench", *few, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}
    )


def cases(rows: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    return {tuple(row[name] for name in ("name", "pass", "layout", "dtype")) for row in rows}


def test_what_a_library_lacks_is_left_out(stand_ins: dict[str, str], layers: Path, tmp_path: Path) -> None:
    done = run(stand_ins, "--shapes", layers, "--peers", "none", "--keep-going", "--out", tmp_path / "out",
               "--dtype", "float32,float16,bfloat16")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr  # not supported is no failure
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert found["schema"] == report.SCHEMA
    assert found["settings"]["device"] == "cuda:0"
    assert found["settings"]["checked_against"] == "cnnext on the CPU"
    (about,) = found["contestants"]
    assert about["device"] == "the stand-in for a driver"
    assert about["driver_cuda"] == "13.0"
    assert about["arrays"] == "the driver"
    best = found["limits"]["best"]
    assert best["gflops_float32"] > 0
    assert best["copy_gbs"] > 0
    rows = found["results"]
    both = ("nchw", "nhwc")
    # The stand-in of the library has relu forward in every float, add in float32, and nothing else.
    assert cases(rows) == {
        *(("r", "fwd", layout, dtype) for layout in both for dtype in ("float32", "float16")),
        *(("s", "fwd", layout, "float32") for layout in both),
    }
    for row in rows:
        assert row["kernel"] == "cuda/fake"
        assert row["error"] == 0
        assert len(row["times_ms"]) == 4
        assert all(time > 0 for time in row["times_ms"])
        assert len(row["call_ms"]) == 2
        assert row["percent_of_bandwidth"] > 0
        assert row["bytes"] == 3 * 6 * 7 * (3 if row["name"] == "s" else 2) * (
            4 if "32" in row["dtype"] else 2
        )
    assert all(entry["unsupported"] for entry in found["failures"])
    assert {(e["name"], e["dtype"]) for e in found["failures"]} >= {("c", "float32"), ("r", "bfloat16")}
    text = (tmp_path / "out" / "bench.txt").read_text()
    assert text in done.stdout
    assert "cnnext does not support: conv fwd float32, conv bwd_data float32" in text
    assert "limits measured in this run: float32 FMA" in text


# There torch's device is the host, so that cnnext's kernels on its tensors are the CPU's.
@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_beside_torch(stand_ins: dict[str, str], layers: Path, tmp_path: Path) -> None:
    environment = {**stand_ins, "CNNEXT_BENCH_TORCH_DEVICE": "cpu"}
    done = run(environment, "--shapes", layers, "--filter", "c,r", "--keep-going", "--out", tmp_path / "out",
               "--dtype", "float32,tf32,bfloat16", "--layouts", "nhwc")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert found["settings"]["checked_against"] == "torch exact"
    torch = next(about for about in found["contestants"] if about["library"] == "torch")
    assert {"cudnn", "torch_cuda", "version"} <= torch.keys()
    about = next(about for about in found["contestants"] if about["library"] == "cnnext")
    assert about["arrays"] == f"torch {torch['version']}"
    rows = [row for row in found["results"] if row["contestant"] == "torch"]
    passes = [("c", which) for which in ("fwd", "bwd_data", "bwd_weights")]
    pointwise = [("r", which) for which in ("fwd", "bwd_data")]
    assert cases(rows) == {  # TF32 is the convolutions' alone
        *((*case, "nhwc", dtype) for case in [*passes, *pointwise] for dtype in ("float32", "bfloat16")),
        *((*case, "nhwc", "tf32") for case in passes),
    }
    errors = {row["dtype"]: row["error"] for row in rows if row["name"] == "c"}
    assert errors["float32"] < 1e-5 < errors["bfloat16"] < dtypes.DTYPES["bfloat16"].tolerance
    ours = [row for row in found["results"] if row["contestant"] == "cnnext"]
    assert cases(ours) == cases(rows)
    assert cases(found["ratios"]) == cases(rows)
    assert {(entry["kind"], entry["dtype"]) for entry in found["geomeans"]} == {
        *(("conv", dtype) for dtype in ("float32", "tf32", "bfloat16")),
        *(("relu", dtype) for dtype in ("float32", "bfloat16")),
    }
    assert found["limits"]["best"]["gemm_gflops_bfloat16"] > 0


def test_a_torch_without_the_device_is_left_out(
    stand_ins: dict[str, str], layers: Path, tmp_path: Path
) -> None:
    if not HAS_TORCH:
        pytest.skip("torch is not installed")
    import torch

    if torch.cuda.is_available():
        pytest.skip("this torch has a device")
    done = run(stand_ins, "--shapes", layers, "--filter", "r", "--passes", "fwd", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch is left out: torch: " in done.stderr
    assert len(json.loads((tmp_path / "out" / "bench.json").read_text())["results"]) == 2


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_kernels_of_the_test_bed(
    stand_ins: dict[str, str], layers: Path, tmp_path: Path, dtype: str
) -> None:
    library = os.environ.get("CNNEXT_CUDA_HOST_LIBRARY")
    if library is None:
        pytest.skip("CNNEXT_CUDA_HOST_LIBRARY names no libcnnext_cuda_host.so")
    layers.write_text(LAYERS + MORE)
    environment = {**stand_ins, "CNNEXT_CUDA_LIBRARY": library}
    done = run(environment, "--shapes", layers, "--peers", "none", "--keep-going", "--dtype", dtype,
               "--out", tmp_path, "--no-peak", "--blocks", "1", "--repeats", "1")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    assert all(e["kind"] == "conv_relu_pool" for e in found["failures"]), found["failures"]
    expected = {
        (layer.name, which, layout, dtype)
        for layer in shapes.read_file(layers)
        if layer.kind != "conv_relu_pool"
        for which in layer.passes
        for layout in ("nchw", "nhwc")
    }
    assert cases(found["results"]) >= expected
    assert all(row["kernel"].startswith("cuda/") for row in found["results"])


def test_a_failure_ends_the_run_or_is_noted(stand_ins: dict[str, str], layers: Path, tmp_path: Path) -> None:
    where = ["--shapes", layers, "--filter", "c,r", "--passes", "fwd", "--peers", "none", "--out", tmp_path]
    done = run(stand_ins, *where)
    assert done.returncode == 1
    assert "bench: cnnext: NotImplementedError: " in done.stderr
    assert run(stand_ins, *where, "--keep-going").returncode == 0
    assert run(stand_ins, *where, "--keep-going", "--limit-s", "0").returncode == 1  # nothing is measured


def test_errors_are_no_gaps_in_support() -> None:
    class Process:
        revived = 0

        def revive(self) -> None:
            self.revived += 1

    from bench.contestants import Contestant, ContestantError, Spec, Unsupported

    (layer,) = [layer for layer in shapes.load("lenet") if layer.kind == "conv"][:1]
    process, failures = Process(), measure.Failures()
    contestant = Contestant(Spec("cnnext", "cnnext", device="cuda:0"), process)  # type: ignore[arg-type]
    case = measure.Case(layer, "nhwc", "fwd", "float16")
    failures.note(contestant, case, ContestantError("cnnext: the context is lost"))
    failures.note(contestant, case, Unsupported("cnnext: NotImplementedError: no kernel"))
    assert (failures.count(), process.revived) == (1, 2)
    text = report.failures_lines(failures.entries)
    assert f"FAILED conv {layer.name} fwd nhwc float16: cnnext: the context is lost" in text
    assert "cnnext does not support: conv fwd float16" in text


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_whole_steps(stand_ins: dict[str, str], tmp_path: Path) -> None:
    environment = {**stand_ins, "CNNEXT_BENCH_TORCH_DEVICE": "cpu"}
    where = ["--steps", "lenet5-train-8", "--keep-going", "--layouts", "nchw", "--out", tmp_path]
    run(environment, *where)
    found = json.loads((tmp_path / "steps.json").read_text())
    assert [(row["contestant"], row["device"]) for row in found["results"]][-1] == ("torch", "cuda:0")
    assert found["results"][-1]["on"] == "the stand-in for a driver"
    assert found["results"][-1]["median_ms"] > 0
    for entry in found["failures"]:  # the stand-in has no networks' operations
        assert entry["contestant"] == "cnnext"
        assert entry["error"] in (tmp_path / "steps.txt").read_text()
    assert len(found["results"]) + len(found["failures"]) == 2


def test_step_bars(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    entry = {"contestant": "cnnext", "step": "a", "peer": "torch", "time": 0.5, "memory": None}
    assert not plots.step_bars([], tmp_path / "none.png")
    found = [entry, {**entry, "step": "b", "time": 3.0, "memory": 2.0}, {**entry, "peer": "other"}]
    assert plots.step_bars(found, tmp_path / "steps.png")
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], "--device is 'gpu'; it must be cpu, cuda or cuda:N"),
        (["--device", "cuda:"], "--device is 'cuda:'"),
        (["--device", "cpu", "--dtype", "float16"], "without --device cuda it must be float32"),
        (["--dtype", "int8"], "--dtype has 'int8'; it must be of float32, tf32, float16, bfloat16"),
        (["--dtype", ","], "--dtype is empty"),
        (["--isa", "avx2"], "--isa is 'avx2'; on a CUDA device it must be left out"),
        (["--algorithms", "packed"], "--algorithms has 'packed'; on a CUDA device"),
        (["--peers", "openvino"], "--peers has 'openvino'; it must be of torch, or all or none"),
        (["--steps", "--dtype", "float16"], "with --steps it must be float32 or tf32"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--device", "cuda", "--shapes", "lenet", "--out", str(tmp_path)]
    assert main([*where, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_no_driver_and_no_such_device(stand_ins: dict[str, str], tmp_path: Path) -> None:
    where = ["--shapes", "lenet", "--out", tmp_path, "--peers", "none"]
    done = run({"CNNEXT_CUDA_DRIVER": str(tmp_path / "none.so")}, *where)
    assert done.returncode == 1
    assert "cnnext: DriverError: no CUDA driver: " in done.stderr
    done = run(stand_ins, *where, "--device", "cuda:3")
    assert done.returncode == 1
    assert "DriverError: there is no CUDA device 3; there are 1" in done.stderr


def test_names_of_devices() -> None:
    assert [device_from(text) for text in ("cpu", "cuda", "cuda:2")] == ["cpu", "cuda:0", "cuda:2"]


def test_rounding_to_a_dtype() -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    values[:4] = [1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-9, 0]  # ties go to even
    ml_dtypes = pytest.importorskip("ml_dtypes")
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(dtypes.rounded(values, "bfloat16"), expected)
    np.testing.assert_array_equal(dtypes.rounded(values, "float16"), np.float32(np.float16(values)))
    for dtype in ("float32", "tf32"):
        assert dtypes.rounded(values, dtype) is values


def test_only_some_images_of_large_results_are_compared(tmp_path: Path) -> None:
    from bench.worker import Server

    class Library:
        def results(self, *_: Any) -> dict[str, np.ndarray]:
            return {"result": np.arange(10).reshape(5, 2), "small": np.arange(4)}

    server = Server(Library())  # type: ignore[arg-type]
    server.layer, server.call = shapes.load("lenet")[0], lambda: None
    for most, images in ((0, [0, 1, 2, 3, 4]), (9, [0, 2, 4]), (10, [0, 1, 2, 3, 4])):
        server.compute(str(tmp_path / "found.npz"), most)
        with np.load(tmp_path / "found.npz") as found:
            assert (found["result"][:, 0] // 2).tolist() == images
            assert found["small"].tolist() == [0, 1, 2, 3]


def test_the_limits_kernel_is_ptx_that_assembles(tmp_path: Path) -> None:
    text = limits.fma_ptx()
    # As many FMAs a round as the count of operations says, each on a chain of its own.
    assert text.count("fma.rn.f32") * 2 * limits._BLOCK == limits.fma_flops(1, 1)
    ptxas = shutil.which("ptxas") or shutil.which("ptxas", path="/usr/local/cuda/bin")
    if ptxas is None:
        pytest.skip("ptxas is not installed")
    source = tmp_path / "fma.ptx"
    source.write_text(text)
    done = subprocess.run(
        [ptxas, "-arch=sm_90", source, "-o", tmp_path / "fma.cubin"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stand_in_refuses_what_the_driver_would(stand_ins: dict[str, str]) -> None:
    code = """
import pytest
from bench.cuda.driver import Driver, DriverError
driver = Driver()
block = driver.allocate(64)
for wrong in (lambda: driver.fill(block, 17), lambda: driver.free(block + 1), lambda: driver.allocate(0),
              lambda: driver.copy(block, block + 32, 64),
              lambda: driver.elapsed_ms(driver.event(), driver.event()),
              lambda: driver.kernel(".entry other()", "fma"), lambda: driver.allocate(1 << 40)):
    with pytest.raises(DriverError, match=r"^cu\\w+: [a-z ]+ \\(\\d+\\)$"):
        wrong()
driver.free(block)
"""
    environment = {
        **os.environ,
        **stand_ins,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
