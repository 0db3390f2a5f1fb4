"""cnnext predict: the classes of pictures, by a checkpoint of cnnext train."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._parser import UsageError, add_machine_options, set_threads

if TYPE_CHECKING:
    from ..train.trained import Trained

_SIDE = 256  # of the saliency's pictures, at least


def add(commands: Any) -> None:
    """The parser of `cnnext predict`."""
    predict = commands.add_parser(
        "predict",
        help="name the classes of pictures",
        description="Prints each picture's most likely classes with their probabilities; of a segmentation "
        "the share of the pixels.",
    )
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder, or a checkpoint in it")
    predict.add_argument(
        "images", nargs="+", metavar="IMAGE", help="pictures, of the size that was trained on"
    )
    predict.add_argument("--top", type=int, default=3, help="classes to print")
    predict.add_argument("--resize", action="store_true", help="scale pictures of another size")
    predict.add_argument(
        "--invert", action="store_true", help="dark ink on light paper, to digits' light ink"
    )
    predict.add_argument(
        "--saliency",
        default=argparse.SUPPRESS,
        metavar="OUT.png",
        help="draw the picture, and beside it how much each pixel moves the first class (one IMAGE)",
    )
    add_machine_options(predict, device=False)
    predict.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each image."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise UsageError("pictures need pillow: pip install 'cnnext[train]'") from None
    from ..train.trained import load_trained

    set_threads(options)
    if options.top < 1:
        raise UsageError(f"top is {options.top}; the rule is top >= 1")
    if "saliency" in options and len(options.images) > 1:
        raise UsageError(f"--saliency draws one picture; {len(options.images)} are given")
    trained = load_trained(options.checkpoint)
    for path in options.images:
        image = trained.read(path, options.resize, options.invert)
        found = trained.probabilities(image)
        order = np.argsort(-found, kind="stable")[: options.top]
        print(f"{path}: {', '.join(f'{trained.class_names[i]} ({100 * found[i]:.1f} %)' for i in order)}")
        if "saliency" in options:
            Path(options.saliency).write_bytes(_drawn(trained, image, int(order[0])))
    return 0


def _drawn(trained: Trained, image: np.ndarray, label: int) -> bytes:
    """PNG: the input (the mean of its channels) and its saliency, side by side."""
    from PIL import Image

    parts = [image.mean(0), trained.saliency(image, label)]
    tiles = [(part - part.min()) / max(float(np.ptp(part)), 1e-12) for part in parts]
    factor = -(-_SIDE // min(tiles[0].shape))
    pixels = np.rint(255 * np.concatenate(tiles, 1)).astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
