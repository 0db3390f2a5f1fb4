"""The task of segment-digits: canvases with a class for every pixel, learnt without dense layers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import cli, data, models, train
from cnnext.train import segmentation

pytest.importorskip("safetensors")


def test_canvases_are_reproducible_and_labelled() -> None:
    digits = data.digits("test")
    made, again = (segmentation.canvases(digits, 200, 3, "canvases") for _ in range(2))
    assert made.images.tobytes() == again.images.tobytes()
    assert made.labels.tobytes() == again.labels.tobytes()
    assert made.images.tobytes() != segmentation.canvases(digits, 200, 4, "others").images.tobytes()
    assert (made.images.shape, made.images.dtype) == ((200, 1, 32, 32), np.uint8)
    assert (made.labels.shape, made.classes) == ((200, 32, 32), 11)
    assert set(np.unique(made.labels)) == set(range(11))
    ink = made.labels > 0
    scaled = made.images[:, 0] / 255
    assert scaled[ink].min() >= segmentation._INK - 0.01
    assert scaled[~ink].max() <= segmentation._INK + 0.002, "rounded to 255 levels"
    assert scaled[~ink].std() > 0.05, "the background is noise"
    assert 0.05 < ink.mean() < 0.4
    found = [len(np.unique(labels)) - 1 for labels in made.labels]
    assert (min(found), max(found)) == (1, 3)  # distinct; a fourth seldom finds room


def test_a_digit_is_pasted_as_it_is() -> None:
    """Each label's pixels are those of some digit of that class, enlarged."""
    digits = data.digits("test").subset(np.arange(3), "three")
    shapes = {
        (int(label) + 1, (large >= segmentation._INK).tobytes())
        for label, large in zip(
            digits.labels, segmentation._enlarged(digits.images / np.float32(16)), strict=True
        )
    }
    made = segmentation.canvases(digits, 40, 0, "canvases")
    whole = 0
    for labels in made.labels:
        for label in set(np.unique(labels)) - {0}:
            windows = np.lib.stride_tricks.sliding_window_view(labels == label, (14, 14)).reshape(-1, 14, 14)
            whole += any((label, window.tobytes()) in shapes for window in windows)
    assert whole > 40


def test_parts_share_no_digit(monkeypatch: Any) -> None:
    seen = []
    monkeypatch.setattr(segmentation, "canvases", lambda digits, *rest: seen.append((digits, *rest)))
    segmentation.segment_digits(train.TrainConfig.preset("segment-digits"))
    assert [name for *_, name, _ in seen] == [f"segment-digits/{p}" for p in ("fit", "validation", "test")]
    assert [digits.name for digits, *_ in seen] == [
        "digits-v1/train/fit", "digits-v1/train/validation", "digits-v1/test",
    ]  # fmt: skip


def test_mean_iou() -> None:
    labels = np.array([[0, 0, 1], [1, 2, 2]])
    found = np.array([[0, 1, 1], [1, 2, 0]])
    # 0: one of three; 1: two of three; 2: one of two; 3 occurs nowhere.
    assert train.mean_iou(found, labels, 4) == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    assert train.mean_iou(labels, labels, 4) == 1
    assert train.mean_iou(np.zeros((0, 2), int), np.zeros((0, 2), int), 4) == 0


def test_evaluate_counts_pixels() -> None:
    made = segmentation.canvases(data.digits("test"), 20, 0, "canvases")
    cx.manual_seed(0)
    model = models.create("segnet_small")
    result = train.evaluate(model, made)
    assert result.predictions.shape == made.labels.shape
    assert result.accuracy == (result.predictions == made.labels).mean()
    assert result.mean_iou == train.mean_iou(result.predictions, made.labels, 11)
    with pytest.raises(
        ValueError, match=r"labels has shape \(20,\); the rule is one a pixel, \(20, 32, 32\)"
    ):
        segmentation.Canvases(made.images, made.labels[:, 0, 0])


def test_a_short_run(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(segmentation, "_COUNTS", {"fit": 320, "validation": 40, "test": 40})
    out = tmp_path / "run"
    assert cli.main(["train", "segment-digits", "--epochs", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    closing = re.fullmatch(r"test mean IoU (0\.\d{3})", printed[-1])
    result = json.loads((out / "result.json").read_text())
    assert closing[1] == f"{result['test_mean_iou']:.3f}"
    assert "mean IoU" in printed[1]
    header = (out / "history.csv").read_text().splitlines()[0]
    assert header.endswith("validation_accuracy,validation_mean_iou")
    with Image.open(out / "segmentation.png") as picture:
        assert min(picture.size) > 200
    made = segmentation.canvases(data.digits("test"), 1, 0, "one")
    Image.fromarray(made.images[0, 0]).save(tmp_path / "canvas.png")
    assert cli.main(["predict", str(out), str(tmp_path / "canvas.png"), "--top", "1"]) == 0
    assert re.fullmatch(r".*canvas\.png: \w+ \(\d+\.\d %\)\n", capsys.readouterr().out)
