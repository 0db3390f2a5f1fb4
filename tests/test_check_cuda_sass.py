"""tools/check_cuda_sass.py on small listings: what it counts, and what it finds wrong."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).resolve().parent.parent / "tools" / "check_cuda_sass.py"

WHOLE = "_ZN6cnnext4cuda8mma_gemmINS0_11ConvForwardINS0_8bfloat16ELb1EEENS0_7MmaTileIS3_Li64ELi64ELi4ELi3EEELb1ELb1EEEvNS0_6MmaJobIT_EE"  # noqa: E501
GATHERED = WHOLE.replace("ELb1ELb1EEEv", "ELb0ELb1EEEv")
TF32 = "_ZN6cnnext4cuda8mma_gemmINS0_16ConvBackwardDataIfLb1EEENS0_7MmaTileIfLi128ELi64ELi3ELi2EEELb1ELb1EEEvNS0_6MmaJobIT_EE"  # noqa: E501
STRICT = "_ZN6cnnext4cuda4gemmINS0_11ConvForwardIfLb1EEEEEvT_l"
HOPPER = "_ZN6cnnext4cuda10wgmma_gemmINS0_11ConvForwardINS0_7float16ELb1EEENS0_9WgmmaTileIS3_Li256ELi4EEELb1EEEvNS0_8WgmmaJobIT_EE"  # noqa: E501
OTHER = "_ZN6cnnext4cuda10add_slicesINS0_19ConvBackwardWeightsIfLb1EEEEEvT_"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_cuda_sass", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listing(arch: str = "sm_80", **changes: list[str]) -> str:
    """What cuobjdump prints of one kernel of each kind."""
    codes = {
        WHOLE: ["HMMA"] * 16 + ["LDGSTS", "LDSM", "FFMA"],
        GATHERED: ["HMMA"] * 32,
        TF32: ["HMMA"] * 32 + ["LDGSTS"],
        STRICT: ["FFMA"] * 3,
        HOPPER: ["HGMMA.64x256x16"] * 4 + ["UTMALDG"] if arch == "sm_90a" else ["EXIT"],
        OTHER: ["LDG"],
    }
    codes.update({globals()[name]: code for name, code in changes.items()})
    text = f"\tcode for {arch}\n"
    for name, code in codes.items():
        text += f'\t\tFunction : {name}\n\t.headerflags\t@"EF_CUDA_SM80"\n'
        for i, word in enumerate(code):
            guard = "@!P0 " if i % 2 else ""
            text += f"        /*{16 * i:04x}*/                   {guard}{word}.1688.F32 R4, R8 ;  /* 0x0 */\n"
            text += " " * 80 + "/* 0x000fea0003800000 */\n"
    return text


def check(tool: ModuleType, text: str) -> list[str]:
    return tool.check(list(tool.kernels(text.splitlines())))


def test_what_it_counts(tool: ModuleType) -> None:
    found = list(tool.kernels((listing() + listing("sm_90a")).splitlines()))
    assert [(k.name, k.arch) for k in found] == [
        (name, arch)
        for arch in ("sm_80", "sm_90a")
        for name in (WHOLE, GATHERED, TF32, STRICT, HOPPER, OTHER)
    ]
    assert dict(found[0].count) == {"HMMA": 16, "LDGSTS": 1, "LDSM": 1, "FFMA": 1}
    assert [tool.kind_of(k) for k in found[:6]] == [
        "ConvForward 64x64 16 bits",
        "ConvForward 64x64 16 bits, gathered",
        "ConvBackwardData 128x64 tf32",
        "ConvForward, strict",
        "ConvForward 128x256 16 bits on Hopper",
        "",
    ]
    assert not tool.check(found)
    assert len(list(tool.table(found))) == 10


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"WHOLE": ["LDGSTS", "LDSM", "FFMA"]}, "sm_80 ConvForward 64x64 16 bits: 0 HMMA"),
        ({"WHOLE": ["HMMA"] * 8 + ["LDGSTS", "LDSM"]}, "8 HMMA; a strip of the tile has 16"),
        ({"WHOLE": ["HMMA"] * 16 + ["LDSM"]}, "no LDGSTS"),
        ({"WHOLE": ["HMMA"] * 16 + ["LDGSTS"]}, "no LDSM"),
        ({"TF32": ["HMMA"] * 32}, "no LDGSTS"),
        ({"STRICT": ["FFMA", "HMMA"]}, "1 HMMA in strict float32"),
        ({"STRICT": ["FMUL"]}, "no FFMA"),
        (
            {"HOPPER": ["UTMALDG"]},
            "sm_80 ConvForward 128x256 16 bits on Hopper: UTMALDG on another architecture",
        ),
    ],
)
def test_what_it_finds(tool: ModuleType, changes: dict[str, list[str]], says: str) -> None:
    (problem,) = check(tool, listing(**changes))
    assert says in problem


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (["HGMMA.64x256x16"] * 4, "no UTMALDG"),
        (["HMMA", "UTMALDG"], "0 HGMMA, 0 of 256 columns; a strip takes 4"),
        (["HGMMA.64x256x16"] * 3 + ["UTMALDG"], "3 HGMMA, 3 of 256 columns; a strip takes 4"),
        (["HGMMA.64x128x16"] * 8 + ["UTMALDG"], "8 HGMMA, 0 of 256 columns; a strip takes 4"),
    ],
)
def test_hopper_without_its_instructions(tool: ModuleType, code: list[str], says: str) -> None:
    problems = check(tool, listing("sm_90a", HOPPER=code))
    assert problems == [f"sm_90a ConvForward 128x256 16 bits on Hopper: {says}"]


def test_an_architecture_that_lacks_a_kernel(tool: ModuleType) -> None:
    without = listing().replace(f"\t\tFunction : {STRICT}", f"\t\tFunction : {OTHER}")
    assert check(tool, listing() + without.replace("sm_80", "sm_86")) == [f"sm_86: no code of {STRICT}"]
    assert check(tool, without) == ["no kernel of the kind 'strict' was found"]


def test_a_folder_without_objects(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool.shutil, "which", lambda name: name)
    assert tool.main([str(tmp_path)]) == 2
    assert "there is no" in capsys.readouterr().err
    monkeypatch.setattr(tool.shutil, "which", lambda name: None)
    assert tool.main([str(tmp_path)]) == 2
    assert "cuobjdump was not found" in capsys.readouterr().err
