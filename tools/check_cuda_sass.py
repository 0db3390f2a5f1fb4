#!/usr/bin/env python3
"""Is what the convolutions are made of the instructions that they mean? tools/check_cuda_sass.py BUILD_DIR

Reads the machine code (SASS) of the matrix products in a build's objects, for every architecture, with
cuobjdump and nvdisasm (of the CUDA toolkit, or PyPI's nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm). Those
on tensor cores must multiply a strip of their tile by as many HMMA as it has parts, and, where they take
operands whole, have them copied by LDGSTS (cp.async) and read by LDSM (ldmatrix). Those for Hopper must have
UTMALDG (TMA) and four HGMMA (wgmma) of their tile's columns to a strip there, and neither elsewhere; strict
float32 must be FFMA without any HMMA.
Prints a line for each kind and architecture; exits 1 where that is not so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

OBJECTS = (
    "conv2d",
    "conv_mma_forward",
    "conv_mma_data",
    "conv_mma_weights",
    "conv_wgmma_forward",
    "conv_wgmma_data",
)
COUNTED = ("HMMA", "FFMA", "LDGSTS", "LDSM", "HGMMA", "UTMALDG")

HOPPER = "sm_90a"

_ARCH = re.compile(r"code for (sm_\w+)")
_KERNEL = re.compile(r"Function : (\S+)")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ +)?([A-Z][A-Z0-9]*)(?:\.64x(\d+)x)?")
# Of a mangled name: the problem, the tile's type, rows, columns, stages and blocks, and whether it is whole.
_TENSOR = re.compile(r"8mma_gemmINS0_\d+(\w+?)I.*?7MmaTileI(\w+?)Li(\d+)ELi(\d+)ELi\d+ELi\d+EEELb([01])E")
# The problem, the tile's type and columns.
_HOPPER = re.compile(r"10wgmma_gemmINS0_\d+(\w+?)I.*?9WgmmaTileI(\w+?)Li(\d+)E")
_STRICT = re.compile(r"4gemmINS0_\d+(\w+?)I")
HGMMA_OF_STRIP = 4  # 128 bytes of terms, 32 at a time
_SUMS_OF_HMMA = (
    256  # rows times columns of a tile for each HMMA of a warp in a strip: 4 warps of 16 x 8, twice
)


class Kernel(NamedTuple):
    """One kernel's code for one architecture."""

    name: str
    arch: str
    count: Counter[str]


def kernels(lines: Iterable[str]) -> Iterator[Kernel]:
    """Those of cuobjdump's output."""
    arch, kernel = "", None
    for line in lines:
        if found := _INSTRUCTION.match(line):
            if kernel is not None and found[1] in COUNTED:
                kernel.count[found[1]] += 1
                if found[2]:
                    kernel.count[f"{found[1]} of {found[2]} columns"] += 1
        elif found := _KERNEL.search(line):
            if kernel is not None:
                yield kernel
            kernel = Kernel(found[1], arch, Counter())
        elif found := _ARCH.search(line):
            arch = found[1]
    if kernel is not None:
        yield kernel


def kind_of(kernel: Kernel) -> str:
    """What a line is printed for; "" for kernels that are no matrix product."""
    if found := _TENSOR.search(kernel.name):
        dtype = "tf32" if found[2] == "f" else "16 bits"
        return f"{found[1]} {found[3]}x{found[4]} {dtype}{'' if found[5] == '1' else ', gathered'}"
    if found := _HOPPER.search(kernel.name):
        return f"{found[1]} 128x{found[3]} {'tf32' if found[2] == 'f' else '16 bits'} on Hopper"
    found = _STRICT.search(kernel.name)
    return f"{found[1]}, strict" if found else ""


def faults(kernel: Kernel) -> list[str]:
    """What is not as it is meant to be."""
    count, found = kernel.count, _TENSOR.search(kernel.name)
    if tile := _HOPPER.search(kernel.name):
        if kernel.arch != HOPPER:
            return [f"{name} on another architecture" for name in ("HGMMA", "UTMALDG") if count[name]]
        problems = [] if count["UTMALDG"] else ["no UTMALDG"]
        right = count[f"HGMMA of {tile[3]} columns"]
        if right == 0 or right % HGMMA_OF_STRIP or right != count["HGMMA"]:
            problems.append(
                f"{count['HGMMA']} HGMMA, {right} of {tile[3]} columns; a strip takes {HGMMA_OF_STRIP}"
            )
        return problems
    if not found:
        problems = [f"{count['HMMA']} HMMA in strict float32"] if count["HMMA"] else []
        return problems + ([] if count["FFMA"] else ["no FFMA"])
    parts = int(found[3]) * int(found[4]) // _SUMS_OF_HMMA
    problems = []
    if count["HMMA"] == 0 or count["HMMA"] % parts:
        problems.append(f"{count['HMMA']} HMMA; a strip of the tile has {parts}")
    if found[5] == "1":
        wanted = ("LDGSTS", "LDSM") if found[2] != "f" else ("LDGSTS",)
        problems += [f"no {name}" for name in wanted if not count[name]]
    return problems


def check(found: list[Kernel]) -> list[str]:
    """What is wrong with a build's kernels; each architecture must have the same ones."""
    products = [kernel for kernel in found if kind_of(kernel)]
    problems = [f"{k.arch} {kind_of(k)}: {text}" for k in products for text in faults(k)]
    names = {kernel.name for kernel in products}
    for arch in sorted({kernel.arch for kernel in found}):
        missing = names - {kernel.name for kernel in products if kernel.arch == arch}
        problems += [f"{arch}: no code of {name}" for name in sorted(missing)]
    for word in ("strict", "16 bits", "tf32", "Hopper"):
        if not any(word in kind_of(kernel) for kernel in products):
            problems.append(f"no kernel of the kind {word!r} was found")
    return problems


def table(found: list[Kernel]) -> Iterator[str]:
    """A line for each kind and architecture."""
    lines: dict[tuple[str, str], list[Kernel]] = {}
    for kernel in found:
        if kind_of(kernel):
            lines.setdefault((kind_of(kernel), kernel.arch), []).append(kernel)
    for (kind, arch), some in sorted(lines.items()):
        counts = ", ".join(f"{min(k.count[name] for k in some):4} {name}" for name in COUNTED)
        yield f"{arch:8}{kind:48}{len(some):3} kernels, {counts}"


def disassembled(path: Path) -> Iterator[str]:
    """What cuobjdump says of an object, line by line."""
    with subprocess.Popen(["cuobjdump", "-sass", str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode:
        raise OSError(f"cuobjdump {path} failed with {process.returncode}")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: tools/check_cuda_sass.py BUILD_DIR", file=sys.stderr)
        return 2
    for tool in ("cuobjdump", "nvdisasm"):
        if shutil.which(tool) is None:
            print(f"check_cuda_sass: {tool} was not found: pip install nvidia-cuda-{tool}", file=sys.stderr)
            return 2
    folder = Path(arguments[0]) / "CMakeFiles" / "cnnext_cuda.dir" / "csrc" / "cuda"
    found: list[Kernel] = []
    for name in OBJECTS:
        path = folder / f"{name}.cu.o"
        if not path.is_file():
            print(f"check_cuda_sass: there is no {path}", file=sys.stderr)
            return 2
        found += kernels(disassembled(path))
    for line in table(found):
        print(line)
    problems = check(found)
    for problem in problems:
        print(f"check_cuda_sass: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
