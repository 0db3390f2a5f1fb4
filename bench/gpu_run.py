"""Tests, sanitizer and benchmarks on a machine with a GPU: `bench/gpu_run.sh OUT [--site FOLDER]`.

Each part has a time limit of its own, the most telling come first, and one that fails does not stop the
others. After each, OUT has what there is by then: gpu.json (everything), gpu.txt (the tables), log.txt (the
last of what the parts printed) and the plots. The status is 0 if every part passed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __package__ in (None, ""):  # as a script
    sys.path[0] = str(ROOT)

from bench import gpu_report  # noqa: E402

_STEPS = "resnet18_cifar,resnet50-infer-32,mobilenet_v2-infer-32,lenet5-train-64"
_TOOLS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin", "/opt/cuda/bin"])
_GRACE_S = 5.0  # for a part to end by itself
_LEAST_S = 10  # with less than that left, a part is not begun


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    limit_s: float
    command: list[str]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="bench/gpu_run.sh", description=__doc__.split("\n\n")[1])
    p.add_argument("out", type=Path, help="folder for the results")
    p.add_argument("--site", type=Path, help="what bench/gpu_build.sh made; default: cnnext is built here")
    p.add_argument("--library", type=Path, help="another libcnnext_cuda.so than the site's")
    p.add_argument("--seconds", type=float, default=470, help="of all parts together")
    p.add_argument("--patience", type=float, default=1, help="times each part's limit: for a slower machine")
    p.add_argument("--parts", help=f"only these, in this order, with commas: {', '.join(LIMITS)}")
    p.add_argument("--batch", default="32", help="of the layers")
    p.add_argument("--layers", default="kernels_md", help="shapes of the parts layers and dtypes")
    p.add_argument("--bytes", default="pools,pointwise", help="shapes of the part bytes")
    p.add_argument("--steps", default=_STEPS, help="of the part steps")
    p.add_argument("--tests", nargs="+", type=Path, help="default: tests/test_cuda_*.py")
    p.add_argument("--peers", default="torch", help="torch or none")
    return p


#: Seconds for each part, in their order.
LIMITS = {"tests": 95.0, "layers": 105.0, "bytes": 55.0, "steps": 90.0, "dtypes": 60.0, "sanitizer": 60.0}


def parts_of(args: argparse.Namespace, work: Path) -> list[Part]:
    """The parts that are asked for and can be run here."""

    def bench(name: str, *arguments: str) -> list[str]:
        limit = str(
            LIMITS[name] * args.patience - 30
        )  # torch takes its time to start, and the last case has to end
        shared = ["--device", "cuda", "--keep-going", "--peers", args.peers, "--rest-ms", "1"]
        shared += ["--limit-s", limit, "--out", str(work / name)]
        return [sys.executable, "-m", "bench", *shared, *arguments]

    few = ["--batch", args.batch, "--blocks", "3", "--repeats", "7"]
    commands = {
        "layers": bench("layers", "--shapes", args.layers, *few),
        "bytes": bench("bytes", "--shapes", args.bytes, *few),
        "steps": bench("steps", "--steps", args.steps, "--blocks", "2", "--repeats", "5"),
        "dtypes": bench(
            "dtypes", "--shapes", args.layers, *few, "--dtype", "float16,bfloat16,tf32", "--layouts", "nhwc"
        ),
    }
    tests = args.tests or sorted(ROOT.glob("tests/test_cuda_*.py"))
    if tests:
        if importlib.util.find_spec("xdist"):  # whose processes have a context each
            tests = [*tests, Path("-n4")]
        options = ["-q", "--tb=short", "-p", "no:cacheprovider", f"--junitxml={work / 'tests.xml'}"]
        commands["tests"] = [sys.executable, "-m", "pytest", *options, *map(str, tests)]
    script = ROOT / "tools" / "run_sanitizers_gpu.sh"
    if script.exists() and shutil.which("compute-sanitizer", path=_TOOLS):
        commands["sanitizer"] = [str(script)]
    asked = args.parts.split(",") if args.parts else list(LIMITS)
    for name in asked:
        if name not in LIMITS:
            raise SystemExit(f"gpu_run: --parts has {name!r}; it must be of {', '.join(LIMITS)}")
    return [Part(name, LIMITS[name] * args.patience, commands[name]) for name in asked if name in commands]


def run_part(part: Part, seconds: float, work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """What became of it. Its whole process group ends with its time."""
    limit, start = min(part.limit_s, seconds), time.monotonic()
    print(f"gpu_run: {part.name}, {limit:.0f} s at most", flush=True)
    with (work / f"{part.name}.log").open("wb") as log:
        log.write(f"$ {' '.join(part.command)}\n".encode())
        log.flush()
        child = subprocess.Popen(
            part.command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            status = child.wait(limit)
            outcome = "passed" if status == 0 else "failed"
        except BaseException as error:
            for way in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):  # pytest reports after the first
                try:
                    os.killpg(child.pid, way)
                    child.wait(_GRACE_S)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            status, outcome = None, "timed out"
    spent = time.monotonic() - start
    print(f"gpu_run: {part.name} {outcome} after {spent:.0f} s", flush=True)
    return {"name": part.name, "outcome": outcome, "status": status, "seconds": spent, "limit_s": limit}


def preparations(args: argparse.Namespace, environment: dict[str, str], work: Path) -> list[Part]:
    """What has to be made before anything runs: all of it, or the extension for this Python."""
    site = args.site.resolve() if args.site else work / "site"
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    scripts, found = ROOT / "bench", []
    if not args.site:
        command = [str(scripts / "gpu_build.sh"), str(site), "--python", sys.executable, "--arch", "native"]
        found.append(Part("build", 300 * args.patience, command))
    else:
        tried = subprocess.run([sys.executable, "-c", "import cnnext"], env=environment, capture_output=True)
        if tried.returncode != 0:
            command = [str(scripts / "gpu_extension.sh"), str(site), sys.executable]
            found.append(Part("extension", 120 * args.patience, command))
    # Without a device nothing below says anything.
    code = "import cnnext; print(cnnext.info()); assert cnnext.info().cuda_devices, cnnext.info().cuda"
    return [*found, Part("device", 60 * args.patience, [sys.executable, "-c", code])]


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.site and not (args.site / "cnnext").is_dir():
        raise SystemExit(f"gpu_run: --site is {args.site}; there is no folder cnnext in it")
    end = time.monotonic() + args.seconds
    args.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is running is ended, and told of
    environment = {**os.environ, "CNNEXT_EXPECT_CUDA": "1", "PYTHON": sys.executable, "PATH": _TOOLS}
    if args.library:
        environment["CNNEXT_CUDA_LIBRARY"] = str(args.library.resolve())
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="cnnext-gpu-") as folder:
        work = Path(folder)
        parts = parts_of(args, work)
        try:
            made = preparations(args, environment, work)
            for part in [*made, *parts]:
                left = end - time.monotonic()
                if done and done[-1]["name"] in ("build", "extension", "device") and done[-1]["status"] != 0:
                    done += [{"name": p.name, "outcome": "left out"} for p in parts]
                    break
                if left < _LEAST_S:
                    done.append({"name": part.name, "outcome": "left out"})
                    continue
                done.append({"name": part.name, "outcome": "interrupted"})
                done[-1] = run_part(part, left, work, environment)
                gpu_report.write(args.out, work, done, environment)
        finally:
            gpu_report.write(args.out, work, done, environment)
    print((args.out / "gpu.txt").read_text())
    return 0 if all(part["outcome"] == "passed" for part in done) else 1


if __name__ == "__main__":
    sys.exit(main())
