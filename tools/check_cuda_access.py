#!/usr/bin/env python3
"""Do the CUDA kernels move 16 bytes at a time where they mean to? tools/check_cuda_access.py [PTX ...]

Reads the kernels' PTX: of the files that are named, or what nvcc makes of every csrc/cuda/*.cu. A kernel
that is instantiated for vectors must have accesses of 16 bytes, and none of its threads may read or write
FEWEST or more neighbouring values of global memory one by one: that is what is left of a vector that the
compiler has cut into pieces, at the cost of an instruction for each. Prints a line for each family; exits 1
where there is something to say against a kernel that ALLOWED does not excuse.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ARCH = "compute_80"  # the oldest that is built for: the rules below hold for all
FEWEST = 4

# What may be, by the beginning of "kernel fault", and why.
ALLOWED = {
    r"reduce_nhwc<.* of [24] bytes": "what a block begins with and leaves is little beside what it reads",
    r"reduce_n\w+<TapReader<": "its rows are shifted against each other",
    r"finish_taps<": "its number is that of the taps, which it writes once",
    r"depthwise_\w+<.* of [24] bytes": "the weights of neighbouring channels lie apart, but for 1 x 1",
}

_ENTRY = re.compile(r"\.entry (\w+)\(.*?\n\}", re.DOTALL)
_ACCESS = re.compile(
    r"^\s*(?:@!?%p\d+\s+)?(ld|st)\.global(?:\.[\w:]+?)*?(?:\.(v2|v4))?\.[bufs](8|16|32|64)\s+([^;]*);",
    re.MULTILINE,
)
_ADDRESS = re.compile(r"\[(%\w+)(?:\+(-?\d+))?\]")
# A vector is a kernel's first number, 2 to 16: max_pool_forward<float, 4, true>. (32: the lanes of a warp.)
_WIDTH = re.compile(r"^\w+<(?:.*?[\w>], )?(\d+)\b")
WIDEST = 16


class Access(NamedTuple):
    kind: str  # ld or st
    base: str  # the register of its address
    offset: int
    bytes: int  # of one value
    values: int


class Run(NamedTuple):
    """Neighbouring values that one thread moves one by one."""

    kind: str
    bytes: int  # of each
    values: int

    def __str__(self) -> str:
        verb = "reads" if self.kind == "ld" else "writes"
        return f"{verb} {self.values} neighbouring values of {self.bytes} bytes one by one"


class Kernel(NamedTuple):
    name: str  # without namespaces and arguments
    accesses: list[Access]

    @property
    def width(self) -> int:
        """How many values its vectors have; 1 for kernels without them."""
        match = _WIDTH.match(self.name)
        return int(match[1]) if match and int(match[1]) <= WIDEST else 1

    @property
    def widest(self) -> int:
        return max((a.bytes * a.values for a in self.accesses), default=0)


def demangle(names: list[str]) -> list[str]:
    """Names without namespaces and arguments, by c++filt."""
    done = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True)
    spaces = re.compile(r"\(anonymous namespace\)::|cnnext::|cuda::|^void ")
    return [re.sub(r"\(.*", "", spaces.sub("", line)) for line in done.stdout.splitlines()]


def accesses(text: str) -> Iterator[Access]:
    """The accesses to global memory in a kernel's PTX."""
    for kind, vector, bits, operands in _ACCESS.findall(text):
        address = _ADDRESS.search(operands)
        if address:
            offset = int(address[2] or 0)
            yield Access(kind, address[1], offset, int(bits) // 8, int(vector[1:]) if vector else 1)


def kernels(ptx: str) -> list[Kernel]:
    entries = list(_ENTRY.finditer(ptx))
    names = demangle([entry[1] for entry in entries]) if entries else []
    return [Kernel(name, list(accesses(entry[0]))) for name, entry in zip(names, entries, strict=True)]


def runs(kernel: Kernel) -> list[Run]:
    """The runs of FEWEST or more neighbours: a register has one value, so equal bases mean one address."""
    places: dict[tuple[str, str, int], set[int]] = {}
    for a in kernel.accesses:
        if a.values == 1:
            places.setdefault((a.kind, a.base, a.bytes), set()).add(a.offset)
    found = []
    for (kind, _, size), offsets in places.items():
        for start in (o for o in offsets if o - size not in offsets):
            length = 1
            while start + length * size in offsets:
                length += 1
            if length >= FEWEST:
                found.append(Run(kind, size, length))
    return found


def excuse(kernel: Kernel, fault: str) -> str | None:
    """The pattern of ALLOWED that excuses it."""
    return next((pattern for pattern in ALLOWED if re.match(pattern, f"{kernel.name} {fault}")), None)


def faults(kernel: Kernel) -> list[str]:
    """What is to be said against a kernel, excused or not."""
    if kernel.width == 1:
        return []
    found = sorted({str(run) for run in runs(kernel)})
    if kernel.widest < 16:
        found.append(f"has vectors of {kernel.width} values and no access of 16 bytes")
    return found


def compile_all(folder: Path) -> list[Path]:
    """PTX of every kernel source."""

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.ptx"
        include = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}"]
        command = ["nvcc", "-std=c++17", "-O3", "-DNDEBUG", *include, f"-arch={ARCH}", "-ptx"]
        subprocess.run([*command, "-o", str(target), str(source)], check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compile_one, sorted((ROOT / "csrc" / "cuda").glob("*.cu"))))


def check(found: list[Kernel]) -> tuple[list[str], set[str]]:
    """What is wrong, and the patterns of ALLOWED that were needed."""
    problems, needed = [], set()
    for kernel in found:
        for fault in faults(kernel):
            pattern = excuse(kernel, fault)
            if pattern is None:
                problems.append(f"{kernel.name} {fault}")
            else:
                needed.add(pattern)
    return problems, needed


def table(found: list[Kernel]) -> Iterator[str]:
    """A line for each family."""
    families: dict[str, list[Kernel]] = {}
    for kernel in found:
        families.setdefault(kernel.name.split("<")[0], []).append(kernel)
    for name, family in sorted(families.items()):
        wide = sum(kernel.width > 1 for kernel in family)
        bad = sum(any(excuse(k, fault) is None for fault in faults(k)) for k in family)
        yield f"{name:28}{len(family):4} kernels, {wide:3} of vectors, {bad or 'none'} at fault"


def main(arguments: list[str]) -> int:
    for tool in ["c++filt"] if arguments else ["c++filt", "nvcc"]:
        if shutil.which(tool) is None:
            print(f"check_cuda_access: {tool} was not found", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(argument) for argument in arguments] or compile_all(Path(folder))
        found = [kernel for path in paths for kernel in kernels(path.read_text())]
    if not any(kernel.width > 1 for kernel in found):
        print("check_cuda_access: no kernel of vectors was found", file=sys.stderr)
        return 2
    for line in table(found):
        print(line)
    problems, needed = check(found)
    for pattern in ALLOWED.keys() - needed:
        print(f"{pattern} of ALLOWED: no kernel needs it")
    for problem in problems:
        print(f"check_cuda_access: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
