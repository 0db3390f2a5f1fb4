#!/usr/bin/env python3
"""Do the CUDA kernels fit the registers that they are meant to? tools/check_cuda_registers.py BUILD_LOG

Reads what ptxas said of every kernel (a build with -DCNNEXT_CUDA_RESOURCES=ON, its output in a file) and
prints, for each family and architecture, the most registers, spills, stack and shared memory. Exits 1 where a
kernel has more registers or shared memory than leave room for the blocks that its family is to have on a
multiprocessor, spills or keeps a stack beyond the family's allowance, or belongs to no family; and where a
family is not found for an architecture that others were built for.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Family(NamedTuple):
    """Kernels by name, and what each of them is to leave room for."""

    pattern: str  # of the whole name without namespaces and arguments
    blocks: int  # on one multiprocessor at a time
    threads: int = 256  # of a block
    spilled: int = 64  # bytes of spill stores and loads together
    stack: int = 32  # bytes a thread


# Blocks: what the registers of the worst kernel on the worst architecture allow today, so that none gets
# worse. The matrix products hold 16 sums a thread and the strip that is on its way, and nothing of that may
# leave the registers. What is bound by memory has up to eight blocks (32 registers) where a thread keeps a
# value, and fewer where it keeps 16 bytes of channels; ptxas itself spills a few bytes to reach one more.
FAMILIES = {
    "gemm": Family(r"gemm<.*>", blocks=2, spilled=0, stack=0),
    # A thread holds 32 to 128 sums. Where a long activation takes a vector of results apart, it lies in
    # memory.
    "mma, large tiles": Family(
        r"mma_gemm<.*MmaTile<.*, 128, \d+, .*", blocks=2, threads=128, spilled=0, stack=64
    ),
    "mma, 64 x 64": Family(
        r"mma_gemm<.*MmaTile<.*, 64, 64, 4, 3>.*", blocks=3, threads=128, spilled=0, stack=64
    ),
    "mma, gathered": Family(
        r"mma_gemm<.*MmaTile<.*, 64, 64, 4, 2>.*", blocks=2, threads=128, spilled=0, stack=64
    ),
    # Empty elsewhere than on sm_90a. Its registers are shared out as it runs: 40 to a thread that brings
    # strips, 232 to one that multiplies and holds 64 or 128 sums.
    "wgmma": Family(r"wgmma_gemm<.*>", blocks=1, threads=384, spilled=0, stack=64),
    "pack_terms": Family(r"pack_terms<.*>", blocks=4),
    "depthwise": Family(r"depthwise_(forward|data)_kernel<.*>", blocks=2),
    # A thread holds its strip's sums and as many weights. On sm_100 ptxas would rather have 143 registers.
    "depthwise strips": Family(r"depthwise_strips_kernel<.*>", blocks=2),
    "max_pool_forward": Family(r"max_pool_forward<.*>", blocks=2),
    # Indices of 64 bits, for what 32 do not count, do not all stay in registers.
    "max_pool_backward": Family(r"max_pool_backward<.*>", blocks=2, spilled=128, stack=48),
    "avg_pool_forward": Family(r"avg_pool_forward<.*>", blocks=2),
    "avg_pool_backward": Family(r"avg_pool_backward<.*>", blocks=2),
    "avg_pool_large": Family(r"avg_pool_forward_large<.*>", blocks=4),
    "foreign codes": Family(r"(find_foreign_codes|gather_from_all_windows)<.*>", blocks=3),
    "pool_indices": Family(r"(read_at_codes|find_writers|read_writers|convert_codes)<.*>", blocks=4),
    "elementwise": Family(r"elementwise<.*>", blocks=4),
    "dropout": Family(r"dropout_kernel<.*>", blocks=3),
    "reduce_nchw": Family(r"reduce_nchw<.*>", blocks=2),
    "reduce_nhwc": Family(r"reduce_nhwc<.*>", blocks=3),
    "over channels": Family(r"(add_bias|normalise|spread_gradients)<.*>", blocks=5),
    "end of sums": Family(r"finish_\w+(<.*>)?", blocks=4),
    "add_slices": Family(r"add_slices<.*>", blocks=6),
    "softmax": Family(r"softmax_(forward|backward)_kernel<.*>", blocks=4),
    "cross_entropy": Family(r"position_(losses|gradients)<.*>", blocks=4),
    "sums of losses": Family(r"(position_shares|add_blocks)(<.*>)?", blocks=6),
    "optimisers": Family(r"update_all<.*>", blocks=3),
    "copy": Family(r"copy_(run|elements|few|transposed)<.*>", blocks=5),
}

REGISTERS = 65536  # of a multiprocessor, on all architectures that are built
REGISTER_UNIT = 8  # a thread's are rounded up to it
# Shared memory of a multiprocessor in bytes, and what each block takes beside its own.
SHARED = {"sm_80": 164 << 10, "sm_86": 100 << 10, "sm_89": 100 << 10}
SHARED_NEWER, SHARED_SYSTEM = 228 << 10, 1 << 10

_ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_NEXT = re.compile(r"Compiling entry function|^\[\d+/\d+\]")


class Kernel(NamedTuple):
    name: str
    arch: str
    registers: int
    spilled: int  # with the functions that it calls
    stack: int
    shared: int


def demangle(names: list[str]) -> list[str]:
    """Names without namespaces and arguments, by c++filt."""
    done = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True)
    spaces = re.compile(r"\(anonymous namespace\)::|cnnext::|cuda::")
    return [re.sub(r"\(.*|^void ", "", spaces.sub("", line)) for line in done.stdout.splitlines()]


def kernels(log: str) -> Iterator[Kernel]:
    """What ptxas said of each kernel of a build's log."""
    starts = list(_ENTRY.finditer(log))
    names = demangle([start[1] for start in starts])
    for start, name in zip(starts, names, strict=True):
        end = _NEXT.search(log, start.end())
        said = log[start.end() : end.start() if end else len(log)]
        used = _USED.search(said)
        if used is None:
            raise ValueError(f"the log does not say how many registers {name} for {start[2]} uses")
        spills = [[int(n) for n in spill.groups()] for spill in _SPILLS.finditer(said)]
        shared = _SHARED.search(said)
        yield Kernel(
            name,
            start[2],
            int(used[1]),
            sum(stores + loads for _, stores, loads in spills),
            max((stack for stack, _, _ in spills), default=0),
            int(shared[1]) if shared else 0,
        )


def family_of(kernel: Kernel) -> str | None:
    """The family that a kernel belongs to."""
    return next((name for name, f in FAMILIES.items() if re.fullmatch(f.pattern, kernel.name)), None)


def most_registers(family: Family) -> int:
    """How many a thread may have where a family's blocks are to be side by side."""
    return REGISTERS // (family.threads * family.blocks) // REGISTER_UNIT * REGISTER_UNIT


def faults(kernel: Kernel, family: Family) -> list[str]:
    """In what a kernel is beyond its family's allowance."""
    most, shared = (
        most_registers(family),
        SHARED.get(kernel.arch, SHARED_NEWER) // family.blocks - SHARED_SYSTEM,
    )
    blocks = f"{family.blocks} blocks of {family.threads} threads leave room for"
    found = []
    if kernel.registers > most:
        found.append(f"{kernel.registers} registers a thread; {blocks} {most}")
    if kernel.shared > shared:
        found.append(f"{kernel.shared} bytes of shared memory; {blocks} {shared}")
    if kernel.spilled > family.spilled:
        found.append(f"{kernel.spilled} bytes spilled; {family.spilled} are allowed")
    if kernel.stack > family.stack:
        found.append(f"{kernel.stack} bytes of stack; {family.stack} are allowed")
    return found


def check(found: list[Kernel]) -> list[str]:
    """What is wrong with a build's kernels."""
    problems, seen = [], set()
    for kernel in found:
        name = family_of(kernel)
        seen.add((name, kernel.arch))
        wrong = ["it belongs to no family of FAMILIES"] if name is None else faults(kernel, FAMILIES[name])
        problems += [f"{kernel.arch} {kernel.name}: {text}" for text in wrong]
    for arch in sorted({kernel.arch for kernel in found}):
        problems += [f"{arch}: no {name} found" for name in FAMILIES if (name, arch) not in seen]
    return problems


def table(found: list[Kernel]) -> Iterator[str]:
    """A line for each family and architecture."""
    for name, family in FAMILIES.items():
        for arch in sorted({kernel.arch for kernel in found}):
            of = [kernel for kernel in found if kernel.arch == arch and family_of(kernel) == name]
            if of:
                yield (
                    f"{arch:8}{name:28}{len(of):4} kernels, {max(k.registers for k in of):3} of "
                    f"{most_registers(family):3} registers, {max(k.shared for k in of):6} bytes shared, "
                    f"{max(k.spilled for k in of)} spilled, {max(k.stack for k in of)} of stack"
                )


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        print("usage: tools/check_cuda_registers.py BUILD_LOG", file=sys.stderr)
        return 2
    if shutil.which("c++filt") is None:
        print("check_cuda_registers: c++filt was not found: install binutils", file=sys.stderr)
        return 2
    found = list(kernels(Path(arguments[0]).read_text()))
    if not found:
        print(f"check_cuda_registers: {arguments[0]} names no kernel", file=sys.stderr)
        print("(a build with CNNEXT_CUDA_RESOURCES=ON says what they use)", file=sys.stderr)
        return 2
    for line in table(found):
        print(line)
    problems = check(found)
    for problem in problems:
        print(f"check_cuda_registers: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
