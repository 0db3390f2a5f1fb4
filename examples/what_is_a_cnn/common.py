"""What the examples share: their options, a digit to look at, and pictures as small files."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from cnnext import data, viz
from matplotlib.figure import Figure

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def options(description: str, trains: bool = False) -> argparse.Namespace:
    """--out, and --quick where something is trained."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder for the pictures (docs/images)")
    if trains:
        parser.add_argument("--quick", action="store_true", help="train for one epoch, to see that it runs")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen


def panel(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, folder: Path, name: str) -> None:
    """The figure as folder/name.png."""
    (folder / f"{name}.png").write_bytes(viz.to_png(figure, dpi=80))


def digit(label: int = 3, enlarged: int = 1, border: int = 0) -> np.ndarray:
    """The first training image of that label: (1, 1, H, W) float32, whole numbers 0..16.

    8 x 8 pixels, each drawn as `enlarged` x `enlarged`, with a border of zeros.
    """
    images = data.digits("train")
    plane = images.images[np.flatnonzero(images.labels == label)[0], 0].astype(np.float32)
    plane = np.kron(plane, np.ones((enlarged, enlarged), np.float32))
    return np.pad(plane, border)[None, None]


def moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """images (N, C, H, W) moved by whole pixels, either way; zeros move in."""
    height, width = images.shape[2:]
    result = np.zeros_like(images)
    rows, columns = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    source = (slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right)))
    result[:, :, rows, columns] = images[:, :, source[0], source[1]]
    return result
