"""tools/check_cuda_registers.py on small logs: what it reads, and what it finds too much."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).resolve().parent.parent / "tools" / "check_cuda_registers.py"

pytestmark = pytest.mark.skipif(shutil.which("c++filt") is None, reason="names are read by c++filt")

# void cnnext::cuda::(anonymous namespace)::fast<float, 4>(float const*), and fast<float, 8>
FAST4 = "_ZN6cnnext4cuda12_GLOBAL__N_14fastIfLi4EEEvPKT_"
FAST8 = "_ZN6cnnext4cuda12_GLOBAL__N_14fastIfLi8EEEvPKT_"
OTHER = "_ZN6cnnext4cuda5otherEv"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_cuda_registers", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(
        module, "FAMILIES", {"fast": module.Family(r"fast<.*>", blocks=2, spilled=0, stack=0)}
    )
    return module


def spills(stack: int = 0, stores: int = 0, loads: int = 0) -> str:
    return f"    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads\n"


def said(
    name: str = FAST4,
    registers: int = 128,
    shared: int = 8704,
    own: str = spills(),
    callee: str = "",
    arch: str = "sm_80",
) -> str:
    """What ptxas -v prints of a kernel, and of a function that it calls."""
    text = "[1/2] Building CUDA object CMakeFiles/cnnext_cuda.dir/csrc/cuda/fast.cu.o\n"
    text += f"ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function '{name}' for '{arch}'\n"
    text += f"ptxas info    : Function properties for {name}\n" + own
    smem = f"{shared} bytes smem, " if shared else ""
    text += f"ptxas info    : Used {registers} registers, used 1 barriers, {smem}736 bytes cmem[0]\n"
    return text + "ptxas info    : Function properties for _Z6calleev\n" + callee if callee else text


def test_what_it_reads(tool: ModuleType) -> None:
    log = said() + said(FAST8, 40, 0, spills(16, 4, 12), spills(32, 100, 200), "sm_90a")
    assert list(tool.kernels(log)) == [
        ("fast<float, 4>", "sm_80", 128, 0, 0, 8704),
        ("fast<float, 8>", "sm_90a", 40, 316, 32, 0),  # with the function that it calls
    ]


def test_a_log_that_says_too_little(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"fast<float, 4> for sm_80"):
        list(tool.kernels(said()[:-90]))


@pytest.mark.parametrize(("blocks", "most"), [(1, 256), (2, 128), (3, 80), (4, 64), (5, 48), (8, 32)])
def test_registers_for_blocks(tool: ModuleType, blocks: int, most: int) -> None:
    assert tool.most_registers(tool.Family("", blocks=blocks)) == most


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        (said(), None),
        (said(registers=129), "sm_80 fast<float, 4>: 129 registers a thread; 2 blocks of 256 threads"),
        (said(own=spills(0, 8, 0)), "8 bytes spilled; 0 are allowed"),
        (said(callee=spills(0, 0, 4)), "4 bytes spilled; 0 are allowed"),
        (said(own=spills(8)), "8 bytes of stack; 0 are allowed"),
        (said(arch="sm_89", shared=49 << 10), None),
        (said(arch="sm_89", shared=50 << 10), "51200 bytes of shared memory; 2 blocks of 256 threads"),
        (said() + said(OTHER), "sm_80 other: it belongs to no family"),
        (said() + said(arch="sm_90a", name=OTHER), "sm_90a: no fast found"),
    ],
)
def test_what_is_too_much(tool: ModuleType, log: str, problem: str | None) -> None:
    problems = tool.check(list(tool.kernels(log)))
    assert bool(problems) == (problem is not None)
    assert problem is None or any(problem in text for text in problems)


def test_allowances(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    log = said(own=spills(8, 4, 4))
    monkeypatch.setattr(tool, "FAMILIES", {"fast": tool.Family("fast.*", blocks=2, spilled=8, stack=8)})
    assert tool.check(list(tool.kernels(log))) == []
    monkeypatch.setattr(tool, "FAMILIES", {"fast": tool.Family("fast.*", blocks=2, spilled=7, stack=8)})
    assert len(tool.check(list(tool.kernels(log)))) == 1


def test_as_a_command(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "build.log"
    assert tool.main([str(log)]) == 2
    log.write_text("[1/1] nothing\n")
    assert tool.main([str(log)]) == 2
    assert "CNNEXT_CUDA_RESOURCES" in capsys.readouterr().err
    log.write_text(said() + said(FAST8, 40))
    assert tool.main([str(log)]) == 0
    assert "2 kernels, 128 of 128 registers" in capsys.readouterr().out
    log.write_text(said(registers=130))
    assert tool.main([str(log)]) == 1
    assert "130 registers" in capsys.readouterr().err
