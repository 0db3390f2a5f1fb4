"""tools/check_spills.py on small disassemblies: what it takes for a hot loop, and for a spill."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).resolve().parent.parent / "tools" / "check_spills.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_spills", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SPACE = "cnnext::(anonymous namespace)::"
HEAD = f"void {SPACE}conv_k_run<{SPACE}Vec8, {SPACE}Product<{SPACE}Vec8>, 1, 2, 1>(A const&)"


def listing(*inner: str, before: tuple[str, ...] = (), head: str = HEAD) -> str:
    """objdump's text of a function: an outer loop that stores to the stack around an inner one."""
    lines = [*before, "vmovaps %ymm0,0x40(%rsp)", *inner]
    first = 0x10 + len(before) + 1  # an address each; the inner loop begins behind the store
    lines += ["cmp    %rax,%rdx", f"jne    {first:x} <f+0x1>", "vmovaps 0x40(%rsp),%ymm0", "dec    %rcx"]
    lines += ["jne    10 <f>", "ret"]
    body = "\n".join(f"  {0x10 + i:x}:\t{line}" for i, line in enumerate(lines))
    return f"\n0000000000000010 <{head}>:\n{body}\n"


FMAS = ("vfmadd231ps (%rsi),%ymm2,%ymm0", "vfmadd231ps 0x20(%rsi),%ymm2,%ymm1")


def examined(tool: ModuleType, text: str):
    ((name, body),) = tool.functions(text)
    return tool.examine(name, body)


def test_a_clean_loop(tool: ModuleType) -> None:
    finding = examined(tool, listing("vbroadcastss (%rdi,%rax,4),%ymm2", *FMAS))
    assert (finding.kernel, finding.fmas, finding.ok) == ("conv_k_run<Vec8, Product<Vec8>, 1, 2, 1>", 2, True)


@pytest.mark.parametrize(
    "instruction",
    [
        "vmovaps %ymm1,0x60(%rsp)",  # a spill
        "vmovaps 0x60(%rsp),%ymm1",  # a reload
        "vaddps 0x60(%rsp),%ymm1,%ymm1",  # a reload within an operation
        "vmovups %ymm1,(%r8,%rax,4)",  # a store to anywhere: sums end behind the loop
        "vmovups %zmm1,(%r8){%k1}",
    ],
)
def test_what_leaves_the_registers(tool: ModuleType, instruction: str) -> None:
    finding = examined(tool, listing(*FMAS, instruction))
    assert [f"{i.name} {i.operands}" for i in finding.faults] == [instruction]
    assert not finding.ok


def test_rbp_is_the_stack_only_as_a_frame_pointer(tool: ModuleType) -> None:
    loop = ("vmovaps -0x50(%rbp),%ymm2", *FMAS)
    assert examined(tool, listing(*loop)).ok
    assert not examined(tool, listing(*loop, before=("mov    %rsp,%rbp",))).ok


def test_scalars_on_the_stack_are_no_spills(tool: ModuleType) -> None:
    assert examined(tool, listing(*FMAS, "mov    0x8(%rsp),%r9", "vmovq  -0x8(%rsp),%xmm9")).ok


def test_the_wrong_number_of_fmas(tool: ModuleType) -> None:
    finding = examined(tool, listing(FMAS[0]))
    assert (finding.fmas, finding.expected, finding.ok) == (1, 2, False)


def test_kernels_that_store_in_the_loop(tool: ModuleType) -> None:
    head = "void cnnext::depthwise_row<Vec8, 2, 1, 1>(A const&, float const*)"
    assert examined(tool, listing(*FMAS, "vmovups %ymm1,(%r8)", head=head)).ok
    assert not examined(tool, listing(*FMAS, "vmovups %ymm1,(%rsp)", head=head)).ok


def test_kernels_that_are_not_there_are_told(tool: ModuleType) -> None:
    found, problems = tool.check("avx2", listing(*FMAS))
    assert [f.kernel for f in found] == ["conv_k_run<Vec8, Product<Vec8>, 1, 2, 1>"]
    assert problems == [
        f"avx2: no {name} found"
        for name in (
            "conv_p_run",
            "conv_p_weights_run",
            "conv_weights_tile",
            "dot_tile",
            "depthwise_row",
            "depthwise_weights_columns",
        )
    ]
    assert examined(tool, listing(*FMAS, head="cnnext::conv_pack(A const&)")) is None


def test_arguments(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([]) == 2
    assert "usage" in capsys.readouterr().err
