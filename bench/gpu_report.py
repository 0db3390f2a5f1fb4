"""One JSON file and one text of what the parts of bench/gpu_run.py left behind, finished or not."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA = 1
_LOG_BYTES = 1 << 20  # the last of each part's
_PLOTS = {"layers": ("roofline.png", "ratios.png"), "steps": ("steps.png",)}
_VERSIONS = """
import sys
from importlib.metadata import distributions
print("python", sys.version.split()[0], sys.executable)
wanted = ("numpy", "torch", "cupy", "nvidia-cudnn", "nvidia-cublas", "matplotlib", "pytest", "pybind11")
for one in sorted({f"{d.name} {d.version}" for d in distributions() if (d.name or "").startswith(wanted)}):
    print(one)
"""


@cache
def _machine() -> dict[str, str]:
    """What the machine says of itself; a command that is not there says nothing."""
    commands = {
        "nvidia_smi": ["nvidia-smi"],
        "nvcc": ["nvcc", "--version"],
        "packages": [sys.executable, "-c", _VERSIONS],
    }
    found = {"kernel": " ".join(os.uname()), "processors": str(os.cpu_count())}
    for name, command in commands.items():
        if shutil.which(command[0]):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
                found[name] = done.stdout.strip() or done.stderr.strip()[-500:]
            except subprocess.TimeoutExpired:
                found[name] = "no answer in 60 s"
    return found


def _tests(path: Path) -> dict[str, Any] | None:
    """The counts of a JUnit file, and the failures' first lines."""
    try:
        suite = ElementTree.parse(path).getroot().find("testsuite")
    except (OSError, ElementTree.ParseError):  # pytest writes it at its end
        return None
    if suite is None:
        return None
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [
        {"test": f"{case.get('classname')}.{case.get('name')}", "message": bad.get("message", "")[:500]}
        for case in suite.iter("testcase")
        for bad in [*case.findall("failure"), *case.findall("error")]
    ]
    return {**counts, "failed": failed}


def _loaded(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # killed while it wrote
        return None


def write(out: Path, work: Path, parts: list[dict[str, Any]], environment: dict[str, str]) -> None:
    """out: gets gpu.json, gpu.txt, log.txt and plots. work: a folder of a part's name each, and NAME.log."""
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": _machine(),
        "library": environment.get("CNNEXT_CUDA_LIBRARY", ""),
        "parts": parts,
    }
    text, logs = ["parts:"], []
    for part in parts:
        spent = f" after {part['seconds']:.0f} s" if "seconds" in part else ""
        text.append(f"  {part['name']:10} {part['outcome']}{spent}")
    for part in parts:
        name, folder, start = part["name"], work / part["name"], len(text)
        if name == "tests" and (tests := _tests(work / "tests.xml")):
            found["tests"] = tests
            counts = ", ".join(f"{value} {key}" for key, value in tests.items() if key != "failed")
            text += [
                "",
                f"== tests: {counts}",
                *(f"FAILED {f['test']}: {f['message']}" for f in tests["failed"]),
            ]
        for kind in ("bench", "steps"):
            if content := _loaded(folder / f"{kind}.json"):
                found[name] = content
                table = (folder / f"{kind}.txt").read_text(encoding="utf-8").rstrip()
                text += ["", f"== {name}: {part['outcome']}", table]
        for plot in _PLOTS.get(name, ()):
            if (folder / plot).exists():
                shutil.copy(folder / plot, out / plot)
        log = work / f"{name}.log"
        if log.exists():
            logs.append(
                f"===== {name}: {part['outcome']}\n".encode() + log.read_bytes()[-_LOG_BYTES:] + b"\n"
            )
            if part["outcome"] != "passed" and len(text) == start:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
                text += ["", f"== {name}: {part['outcome']}; its last lines", *lines]
    # Each in one go, so that there is always a whole one.
    for name, content in (
        ("gpu.json", json.dumps(found, indent=1).encode()),
        ("gpu.txt", "\n".join(text).encode()),
        ("log.txt", b"".join(logs)),
    ):
        (out / f"{name}.new").write_bytes(content + b"\n")
        os.replace(out / f"{name}.new", out / name)
