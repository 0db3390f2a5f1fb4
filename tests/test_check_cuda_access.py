"""tools/check_cuda_access.py on small pieces of PTX: what it takes for a vector, and for one in pieces."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).resolve().parent.parent / "tools" / "check_cuda_access.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    if shutil.which("c++filt") is None:
        pytest.skip("c++filt was not found")
    spec = importlib.util.spec_from_file_location("check_cuda_access", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SPACE = "N6cnnext4cuda12_GLOBAL__N_1"
VECTORS = f"_Z{SPACE}4poolIfLi4ELb1EEEvPKT_"  # pool<float, 4, true>
SINGLE = f"_Z{SPACE}4poolIfLi1ELb1EEEvPKT_"
LANES = f"_Z{SPACE}7softmaxIfLi32EEEvPKT_"
SCALARS = f"_Z{SPACE}5countEPKi"
WIDE = "ld.global.v4.f32 \t{%f1, %f2, %f3, %f4}, [%rd1];"


def ptx(name: str, *lines: str) -> str:
    body = "\n".join(f"\t{line}" for line in lines)
    return f".visible .entry {name}(\n\t.param .u64 a\n)\n.maxntid 256\n{{\n{body}\n\tret;\n\n}}\n"


def narrow(kind: str, type_: str, size: int, count: int, base: str = "%rd9", first: int = 0) -> list[str]:
    """`count` accesses, one behind the other."""
    offsets = [first + i * size for i in range(count)]
    places = [f"[{base}{f'+{o}' if o else ''}]" for o in offsets]
    if kind == "ld":
        return [f"ld.global.{type_} \t%r{i}, {place};" for i, place in enumerate(places)]
    return [f"st.global.{type_} \t{place}, %r{i};" for i, place in enumerate(places)]


def problems(tool: ModuleType, name: str, *lines: str) -> list[str]:
    return tool.check(tool.kernels(ptx(name, *lines)))[0]


@pytest.mark.parametrize(
    "line",
    [
        WIDE,
        "ld.global.v2.u64 \t{%rd3, %rd4}, [%rd1+16];",
        "ld.global.L1::no_allocate.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];",
        "@%p1 ld.global.v4.u32 \t{%r1, %r2, %r3, %r4}, [%rd1];",
        "st.global.wb.v4.u32 [%rd1], {%r1,%r2,%r3,%r4};",
    ],
)
def test_accesses_of_16_bytes(tool: ModuleType, line: str) -> None:
    (kernel,) = tool.kernels(ptx(VECTORS, line))
    assert (kernel.name, kernel.width, kernel.widest) == ("pool<float, 4, true>", 4, 16)
    assert tool.check([kernel]) == ([], set())


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (narrow("ld", "u8", 1, 16), "reads 16 neighbouring values of 1 bytes one by one"),
        (narrow("ld", "f32", 4, 4, first=-4), "reads 4 neighbouring values of 4 bytes one by one"),
        (narrow("st", "u16", 2, 4, first=48), "writes 4 neighbouring values of 2 bytes one by one"),
        (narrow("st", "wb.b32", 4, 5)[::-1], "writes 5 neighbouring values of 4 bytes one by one"),
    ],
)
def test_a_vector_in_pieces(tool: ModuleType, lines: list[str], text: str) -> None:
    assert problems(tool, VECTORS, WIDE, *lines) == [f"pool<float, 4, true> {text}"]
    assert problems(tool, SINGLE, *lines) == []  # a loop may be unrolled there


@pytest.mark.parametrize(
    "lines",
    [
        narrow("ld", "u8", 1, 3),
        narrow("ld", "f32", 1024, 8),  # the steps of a block
        [*narrow("ld", "f32", 4, 2), *narrow("ld", "f32", 4, 2, base="%rd8", first=8)],
        [*narrow("ld", "f32", 4, 2), *narrow("st", "f32", 4, 2, first=8)],
        narrow("ld", "u8", 1, 8)[::2],
    ],
)
def test_what_is_no_vector(tool: ModuleType, lines: list[str]) -> None:
    assert problems(tool, VECTORS, WIDE, *lines) == []


def test_vectors_that_are_nowhere(tool: ModuleType) -> None:
    found = problems(tool, VECTORS, "ld.global.f32 \t%f1, [%rd1];")
    assert found == ["pool<float, 4, true> has vectors of 4 values and no access of 16 bytes"]
    for name in (SINGLE, LANES, SCALARS):
        assert problems(tool, name, "ld.global.f32 \t%f1, [%rd1];") == []


def test_each_kernel_for_itself(tool: ModuleType) -> None:
    text = ptx(SINGLE, *narrow("ld", "u8", 1, 8)) + ptx(VECTORS, WIDE)
    assert [kernel.width for kernel in tool.kernels(text)] == [1, 4]
    assert tool.check(tool.kernels(text))[0] == []


def test_what_is_allowed(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ALLOWED", {r"pool<.* of [24] bytes": "it is so"})
    found = tool.kernels(ptx(VECTORS, WIDE, *narrow("ld", "f32", 4, 4), *narrow("ld", "u8", 1, 4)))
    wrong, needed = tool.check(found)
    assert wrong == ["pool<float, 4, true> reads 4 neighbouring values of 1 bytes one by one"]
    assert needed == set(tool.ALLOWED)


def test_files(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, empty = (tmp_path / f"{name}.ptx" for name in ("good", "bad", "empty"))
    good.write_text(ptx(VECTORS, WIDE))
    bad.write_text(ptx(VECTORS, WIDE, *narrow("ld", "u8", 1, 16)))
    empty.write_text(ptx(SCALARS, "ret;"))
    assert tool.main([str(good)]) == 0
    assert "pool" in capsys.readouterr().out
    assert tool.main([str(good), str(bad)]) == 1
    assert "reads 16 neighbouring values of 1 bytes" in capsys.readouterr().err
    assert tool.main([str(empty)]) == 2
    assert "no kernel of vectors" in capsys.readouterr().err
