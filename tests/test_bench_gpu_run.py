"""bench/gpu_run.sh on the stand-ins of tests/fake_cuda: what fails is told of, and stops nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cnnext
import pytest
from test_bench_cuda import stand_ins as stand_ins  # a fixture

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import gpu_report, gpu_run  # noqa: E402

_PATIENT = ("--patience", "20", "--seconds", "9000")  # whatever else the machine is doing


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """As bench/gpu_build.sh makes one."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "cnnext").symlink_to(cnnext.__path__[0])
    return folder


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    path = tmp_path / "test_planted.py"
    path.write_text("def test_a(): pass\ndef test_b(): assert 1 == 2\n")
    return path


def test_one_json_and_one_table(stand_ins: dict[str, str], site: Path, tests: Path, tmp_path: Path) -> None:
    shapes, out = tmp_path / "shapes.txt", tmp_path / "out"
    shapes.write_text("relu r C=3 H=6 W=7\nadd s C=3 H=6 W=7\n")
    command = [
        ROOT / "bench" / "gpu_run.sh",
        out,
        "--site",
        site,
        "--parts",
        "tests,bytes",
        "--peers",
        "none",
        *_PATIENT,
    ]
    done = subprocess.run(
        [*map(str, command), "--tests", str(tests), "--bytes", str(shapes), "--batch", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, **stand_ins, "PYTHON": sys.executable},
    )
    assert done.returncode == 1, done.stdout + done.stderr  # of the planted failure
    found = json.loads((out / "gpu.json").read_text())
    assert found["schema"] == gpu_report.SCHEMA
    outcomes = [(part["name"], part["outcome"]) for part in found["parts"]]
    assert outcomes == [("device", "passed"), ("tests", "failed"), ("bytes", "passed")]
    assert (found["tests"]["tests"], found["tests"]["failures"]) == (2, 1)
    assert found["tests"]["failed"][0]["test"].endswith("test_planted.test_b")
    assert {row["name"] for row in found["bytes"]["results"]} == {"r", "s"}
    assert "python" in found["machine"]["packages"]
    text = (out / "gpu.txt").read_text()
    assert "test_planted.test_b: " in text
    assert "== bytes: passed" in text
    assert text in done.stdout
    assert "===== tests: failed" in (out / "log.txt").read_text()
    assert len(list(out.iterdir())) <= 8


def test_nothing_runs_without_a_device(stand_ins: dict[str, str], site: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "bench/gpu_run.py",
            str(tmp_path / "out"),
            "--site",
            str(site),
            "--parts",
            "layers",
            *_PATIENT,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **stand_ins, "FAKE_CUDA_OFF": "1"},
    )
    assert done.returncode == 1
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [part["outcome"] for part in found["parts"]] == ["failed", "left out"]
    assert "no fake device" in (tmp_path / "out" / "gpu.txt").read_text()


def test_a_part_ends_with_its_time(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    # Its child would go on, and it takes no notice of the first signals.
    code = f"""
import signal, subprocess, sys
for one in (signal.SIGINT, signal.SIGTERM): signal.signal(one, signal.SIG_IGN)
print("begun", flush=True)
beats = "import time\\nwhile True: open({str(beat)!r}, 'a').write('x'); time.sleep(.05)"
subprocess.run([sys.executable, "-c", beats])
"""
    part = gpu_run.Part("stuck", 2, [sys.executable, "-c", code])
    before = gpu_run._GRACE_S
    gpu_run._GRACE_S = 0.2
    try:
        found = gpu_run.run_part(part, 100, tmp_path, dict(os.environ))
    finally:
        gpu_run._GRACE_S = before
    assert (found["outcome"], found["status"]) == ("timed out", None)
    assert 2 <= found["seconds"] < 20
    assert "begun" in (tmp_path / "stuck.log").read_text()
    size = beat.stat().st_size
    time.sleep(0.3)
    assert beat.stat().st_size == size > 0


def test_ended_from_outside_it_tells_what_there_is(
    site: Path, tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    sleeper = tmp_path / "test_sleeper.py"
    sleeper.write_text("import time\ndef test_a(): time.sleep(600)\n")
    out = tmp_path / "out"
    options = ["--site", str(site), "--parts", "tests", "--tests", str(sleeper), *_PATIENT]
    child = subprocess.Popen(
        [sys.executable, "bench/gpu_run.py", str(out), *options],
        cwd=ROOT,
        env={**os.environ, **stand_ins},
        stdout=subprocess.DEVNULL,
    )
    for _ in range(600):
        if (out / "gpu.json").exists() and "device" in (out / "gpu.json").read_text():
            break
        time.sleep(0.1)
    time.sleep(0.5)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 143
    found = json.loads((out / "gpu.json").read_text())
    outcomes = [(part["name"], part["outcome"]) for part in found["parts"]]
    assert outcomes == [("device", "passed"), ("tests", "interrupted")]


def test_little_time_goes_to_what_comes_first(tmp_path: Path) -> None:
    arguments = gpu_run.parser().parse_args([str(tmp_path)])
    names = [part.name for part in gpu_run.parts_of(arguments, tmp_path)]
    assert [name for name in names if name not in ("tests", "sanitizer")] == [
        "layers",
        "bytes",
        "steps",
        "dtypes",
    ]
    # With a build's extension, all of it within eight minutes.
    assert arguments.seconds <= 470
    assert sum(gpu_run.LIMITS.values()) <= arguments.seconds


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--parts has 'all'; it must be of tests, layers,"):
        gpu_run.main([str(tmp_path), "--parts", "all"])
    with pytest.raises(SystemExit, match="there is no folder cnnext in it"):
        gpu_run.main([str(tmp_path), "--site", str(tmp_path / "nowhere")])
    for script in ("gpu_build.sh", "gpu_extension.sh"):
        done = subprocess.run(
            [ROOT / "bench" / script, "--nothing"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert script in done.stderr


def test_a_file_of_half_a_json_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "work" / "layers").mkdir(parents=True)
    (tmp_path / "work" / "layers" / "bench.json").write_text('{"results": [')
    (tmp_path / "work" / "layers.log").write_text("the last words\n")
    out = tmp_path / "out"
    out.mkdir()
    gpu_report.write(out, tmp_path / "work", [{"name": "layers", "outcome": "timed out"}], {})
    assert "layers" not in json.loads((out / "gpu.json").read_text())
    assert "the last words" in (out / "gpu.txt").read_text()


def test_a_build_becomes_a_folder_to_carry(tmp_path: Path) -> None:
    """With a CMake that makes the libraries at once: the whole build takes minutes, and nvcc."""
    pytest.importorskip("pybind11")
    if shutil.which("strip") is None:
        pytest.skip("strip is not installed")
    tools, work, site = tmp_path / "tools", tmp_path / "work", tmp_path / "site"
    tools.mkdir()
    installed = Path(cnnext.__path__[0])
    libraries = [installed / "libcnnext.so", Path(cnnext._C.__file__)]
    copies = "\n".join(f"cp {library} {work}/" for library in libraries)
    cmake = tools / "cmake"
    cmake.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nmkdir -p {work}\n{copies}\n'
        f"cp {libraries[0]} {work}/libcnnext_cuda.so\n"
    )
    cmake.chmod(0o755)
    done = subprocess.run(
        [
            ROOT / "bench" / "gpu_build.sh",
            site,
            "--arch",
            "90a;100",
            "--python",
            sys.executable,
            "--work",
            work,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text()
    assert "-DCNNEXT_CUDA=ON -DCNNEXT_CUDA_ARCHITECTURES=90a;100" in asked
    assert f"--build {work}" in asked
    assert (site / "cnnext" / "libcnnext_cuda.so").exists()
    assert (site / "pybind11" / "pybind11.h").exists()
    code = "import cnnext; print(cnnext.__path__[0])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert found.stdout.strip() == str(site / "cnnext"), found.stderr
