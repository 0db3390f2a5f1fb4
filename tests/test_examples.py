"""Every example runs, draws what the page shows, and prints the numbers that stand on it."""

import re
import runpy
import sys
from pathlib import Path

import cnnext as cx
import numpy as np
import pytest
from cnnext import data, models, train

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ROOT / "examples" / "what_is_a_cnn"
PAGE = ROOT / "docs" / "what-is-a-cnn.md"
SCRIPTS = sorted(path.stem for path in SECTIONS.glob("*.py") if path.stem != "common")
TRAIN = ("invariance", "structured_outputs")

pytest.importorskip("matplotlib")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script as `python PATH OPTIONS` would, in this process; gives what it prints."""

    def run(path, *options):
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, options)])
        monkeypatch.syspath_prepend(path.parent)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        runpy.run_path(str(path), run_name="__main__")
        sys.modules.pop("common", None)
        return capsys.readouterr().out

    return run


def outputs_on_the_page():
    """{script: what the page says that it prints}."""
    blocks = re.findall(r"^<!-- (\w+) -->\n```text\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(blocks)


@pytest.mark.parametrize("name", SCRIPTS)
def test_example_draws_and_prints_what_the_page_shows(name, tmp_path, run):
    printed = run(SECTIONS / f"{name}.py", "--out", tmp_path, *(["--quick"] if name in TRAIN else []))
    shown = outputs_on_the_page()[name]
    pictures = {path.name for path in tmp_path.iterdir()}
    assert pictures
    for picture in pictures:
        assert f"images/{picture})" in PAGE.read_text(), picture
        assert (ROOT / "docs" / "images" / picture).exists()
    if name in TRAIN:  # what was learnt depends on the instruction set: the layout of the lines does not
        printed, shown = (re.sub(r"[\d.]+", "#", text).split() for text in (printed, shown))
    assert printed == shown


def test_the_page_has_a_section_for_each_example_and_no_picture_too_many():
    text = PAGE.read_text()
    assert list(outputs_on_the_page()) == re.findall(r"what_is_a_cnn/(\w+)\.py\)", text)
    assert sorted(outputs_on_the_page()) == SCRIPTS
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert sum(path.stat().st_size for path in pictures) < 1_000_000
    pages = "".join(page.read_text() for page in (PAGE, ROOT / "README.md"))
    assert all(f"images/{path.name})" in pages for path in pictures)


def test_table_of_what_matters(run):
    printed = run(ROOT / "examples" / "what_matters.py", "--epochs", 1)
    rows = re.findall(r"^\| (.+) \| ([\d,]+)((?: \| \d+\.\d\d %){2}) \|$", printed, re.MULTILINE)
    names = [name for name, _, _ in rows]
    page = (ROOT / "docs" / "what-is-a-cnn.md").read_text()
    assert len(rows) == 5
    assert all(f"| {name} |" in page for name in names)
    weights = [int(count.replace(",", "")) for _, count, _ in rows]
    assert weights[0] == weights[1] == weights[2]
    assert 0.98 * weights[0] < weights[3] == weights[4] <= weights[0]


def test_permuted_labels_teach_nothing(tmp_path):
    """The same training with the labels and with their permutation: only the first is above chance."""
    pytest.importorskip("safetensors")
    images, test = data.digits("train"), data.digits("test")
    shuffled = data.ImageSet(
        images.images,
        np.random.default_rng(0).permutation(images.labels),
        "permuted",
        max_value=images.max_value,
        mean=images.mean,
        std=images.std,
    )
    accuracy = {}
    for name, chosen in (("true", images), ("permuted", shuffled)):
        config = train.TrainConfig.preset("digits", epochs=4)
        fit, validation = data.holdout(chosen)
        cx.manual_seed(0)
        trainer = train.Trainer(
            models.create(config.model), config, fit, validation, train.RunFolder(tmp_path / name)
        )
        trainer.run()
        accuracy[name] = trainer.evaluate(test).accuracy
    assert accuracy["true"] > 0.9
    # A tenth by chance, with a standard deviation of 1.6 %.
    assert accuracy["permuted"] < 0.2
