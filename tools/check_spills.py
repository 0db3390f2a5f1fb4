#!/usr/bin/env python3
"""Do the hot kernels keep their accumulators in registers? tools/check_spills.py BUILD_DIR

Disassembles the AVX objects of a release build and looks at the innermost loop of every hot kernel, the one
with the most FMAs. It must have as many FMAs as the tile has accumulators (so it is the right loop), no
vector instruction with an operand on the stack, and, where sums end behind the loop, no vector store at all.
Prints what it looked at; exits 1 where a kernel spills, has another number of FMAs, or is not found. Only
code of gcc is judged: another compiler's loops look different.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Hot(NamedTuple):
    """A kernel template: which of its parameters multiply to the number of FMAs in the loop."""

    pattern: str  # of the demangled name without namespaces; its groups are those parameters
    stores: bool  # does the loop itself store results?
    isas: tuple[str, ...] = ("avx2", "avx512")  # where it must be found


HOT = {
    "conv_k_run": Hot(
        r"conv_k_run<Vec\d+, \w+(?:<Vec\d+>)?, (\d+), (\d+), \d+>", stores=False
    ),  # Winograd's product too
    "conv_p_run": Hot(r"conv_p_run<Vec\d+, (\d+), (\d+)>", stores=False),
    "conv_p_weights_run": Hot(r"conv_p_weights_run<Vec\d+, (\d+), (\d+)>", stores=False),
    "conv_weights_tile": Hot(r"conv_weights_tile<Vec\d+, \w+(?:<Vec\d+>)?, (\d+), (\d+)>", stores=False),
    "dot_tile": Hot(r"dot_tile<(\d+), (\d+)>", stores=False),
    # AVX2 has no masked loads of 16 bits: those tails go through the stack.
    "depthwise_row": Hot(
        r"depthwise_row(?:_block)?<(?!Vec8.*, false, \w+Bits>)Vec\d+, (\d+), \d+, (\d+)\b.*>", stores=True
    ),
    "depthwise_up_block": Hot(
        r"depthwise_up_block<Vec\d+, (\d+), (\d+), true, true, \w+>", stores=True, isas=("avx512",)
    ),
    "depthwise_weights_columns": Hot(r"depthwise_weights_columns<Vec\d+, (\d+)>", stores=False),
}

_FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t(\S+)\s*(.*?)\s*(?:#.*)?$")
_VECTOR = re.compile(r"%[xyz]mm\d+")
_FMA = re.compile(r"^(vfn?m(add|sub)\d*p[sd]|vdpbf16ps)$")


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str  # AT&T order: the destination last

    @property
    def is_vector(self) -> bool:
        return bool(_VECTOR.search(self.operands)) and self.name not in ("vmovq", "vmovd")

    @property
    def is_store(self) -> bool:
        return self.is_vector and re.sub(r"\{[^}]*\}", "", self.operands).endswith(")")


class Finding(NamedTuple):
    kernel: str
    fmas: int
    expected: int
    faults: list[Instruction]

    @property
    def ok(self) -> bool:
        return self.fmas == self.expected and not self.faults


def functions(disassembly: str) -> Iterator[tuple[str, list[Instruction]]]:
    """Name, without namespaces and arguments, and instructions of every function of objdump's output."""
    name, body = "", []
    for line in disassembly.splitlines():
        if head := _FUNCTION.match(line):
            if body:
                yield name, body
            name, body = re.sub(r"\(anonymous namespace\)::|cnnext::", "", head[1]), []
        elif part := _INSTRUCTION.match(line):
            body.append(Instruction(int(part[1], 16), part[2], part[3]))
    if body:
        yield name, body


def hot_loop(body: list[Instruction]) -> list[Instruction]:
    """Of the loops that hold no other loop, the one with the most FMAs; empty where there is none."""
    place = {instruction.address: i for i, instruction in enumerate(body)}
    loops = []
    for i, instruction in enumerate(body):
        target = re.match(r"[0-9a-f]+", instruction.operands)
        if instruction.name.startswith("j") and target:
            start = place.get(int(target[0], 16), i + 1)
            if start <= i:
                loops.append((start, i))
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return max((body[start : end + 1] for start, end in inner), key=count_fmas, default=[])


def count_fmas(body: list[Instruction]) -> int:
    return sum(bool(_FMA.match(instruction.name)) for instruction in body)


def on_stack(body: list[Instruction]) -> re.Pattern[str]:
    """Operands relative to the stack pointer, and to rbp where this function makes it its frame pointer."""
    frame = any(i.name == "mov" and i.operands == "%rsp,%rbp" for i in body)
    return re.compile(r"\(%r[sb]p" if frame else r"\(%rsp")


def examine(name: str, body: list[Instruction]) -> Finding | None:
    """What the hot loop of this function does; None for a function that is not in HOT."""
    for hot in HOT.values():
        match = re.search(rf"\b{hot.pattern}", name)
        if not match or ".cold" in name:
            continue
        expected = 1
        for parameter in match.groups():
            expected *= int(parameter)
        loop, stack = hot_loop(body), on_stack(body)
        faults = [
            i for i in loop if i.is_vector and (stack.search(i.operands) or (i.is_store and not hot.stores))
        ]
        return Finding(match[0], count_fmas(loop), expected, faults)
    return None


def check(isa: str, disassembly: str) -> tuple[list[Finding], list[str]]:
    """The findings of one instruction set, and what is wrong."""
    found = [f for f in (examine(name, body) for name, body in functions(disassembly)) if f]
    problems = []
    for f in found:
        if f.fmas != f.expected:
            problems.append(f"{isa} {f.kernel}: {f.fmas} FMAs in the innermost loop, expected {f.expected}")
        for i in f.faults:
            problems.append(f"{isa} {f.kernel}: leaves the registers at {i.address:x}: {i.name} {i.operands}")
    for name, hot in HOT.items():
        if isa in hot.isas and not any(re.match(hot.pattern, f.kernel) for f in found):
            problems.append(f"{isa}: no {name} found")
    return found, problems


def _objdump(*arguments: str) -> str:
    return subprocess.run(["objdump", *arguments], check=True, capture_output=True, text=True).stdout


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: tools/check_spills.py BUILD_DIR (of a release build)", file=sys.stderr)
        return 2
    if shutil.which("objdump") is None:
        print("check_spills: objdump was not found: skipped")
        return 0
    objects = {isa: sorted(Path(arguments[0]).glob(f"**/isa/{isa}*.cpp.o")) for isa in ("avx2", "avx512")}
    problems = []
    for isa, paths in objects.items():
        if not paths:
            print(f"check_spills: no {isa} objects in {arguments[0]}", file=sys.stderr)
            return 2
        if "GCC" not in _objdump("-s", "-j", ".comment", str(paths[0])):
            print(f"check_spills: {isa} was not compiled by gcc: skipped")
            continue
        found, wrong = check(isa, "".join(_objdump("-d", "-C", "--no-show-raw-insn", *map(str, paths))))
        problems += wrong
        for name, hot in HOT.items():
            family = [f for f in found if re.match(hot.pattern, f.kernel)]
            if family:
                sizes = sorted({f.fmas for f in family})
                bad = sum(not f.ok for f in family)
                print(
                    f"{isa:7}{name:27}{len(family):4} kernels, {sizes[0]} to {sizes[-1]} FMAs in the loop, "
                    f"{bad or 'none'} at fault"
                )
    for problem in problems:
        print(f"check_spills: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
