"""Python examples of the README and of docs/ run as they stand; some of the pages name all there is."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cnnext import data, fit, nn, optim, train

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
LAYERS = ROOT / "docs" / "LAYERS.md"
DATA = ROOT / "docs" / "DATA.md"
TRAINING = ROOT / "docs" / "TRAINING.md"


def blocks(language: str, page: Path = README) -> list[str]:
    """The page's blocks of code, without those behind a line <!-- not run: REASON -->."""
    block = rf"(^<!-- not run: [^\n]+ -->\n)?^```{language}\n(.*?)^```"
    found = re.findall(block, page.read_text(), re.MULTILINE | re.DOTALL)
    return [code for excused, code in found if not excused]


PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [(page, i) for page in PAGES for i in range(len(blocks("python", page)))]


@pytest.mark.parametrize(("page", "number"), EXAMPLES, ids=[f"{page.name} {i}" for page, i in EXAMPLES])
def test_python_example(page: Path, number: int, tmp_path: Path) -> None:
    code = blocks("python", page)[number]
    pytest.importorskip("safetensors")
    for library in ("torch", "onnx", "jax"):
        if f"import {library}" in code or f"interop.{library}" in code:
            pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_examples_and_commands() -> None:
    text = README.read_text()
    assert len(blocks("python")) >= 2
    for mark in ("main-command", "test-command"):
        assert re.search(rf"<!-- {mark} -->\n```sh\npip install", text), mark


def test_the_page_names_every_layer_and_schedule() -> None:
    text = LAYERS.read_text()
    assert len(blocks("python", LAYERS)) == 2
    for library in (nn, nn.init, optim.lr_scheduler, optim.swa_utils):
        names = getattr(library, "__all__", None) or [
            n for n, v in vars(library).items() if is_own(v, library)
        ]
        assert len(names) > 5
        for name in names:
            if name[0].isupper() or library is not nn:
                assert re.search(rf"\b{name}\b", text), f"{library.__name__}.{name}"


def test_the_page_names_all_of_the_data() -> None:
    text = DATA.read_text()
    assert len(blocks("python", DATA)) == 1
    for name in data.__all__:
        if name not in ("DIGITS_SPLIT", "read_idx"):
            assert re.search(rf"\b{name}\b", text), name


def test_the_page_names_the_arguments_and_callbacks() -> None:
    text = TRAINING.read_text()
    assert len(blocks("python", TRAINING)) == 1
    callbacks = [n for n, v in vars(train).items() if isinstance(v, type) and issubclass(v, train.Callback)]
    arguments = set(inspect.signature(fit).parameters) - {"quiet", "scheduler_step", "clip_value"}
    for name in {*arguments, *callbacks} - {"Trainer", "SaveCheckpoint"}:
        assert re.search(rf"\b{name}\b", text), name


def is_own(value: object, module: object) -> bool:
    name = getattr(value, "__name__", "_")
    return (
        callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    )
