"""A trained network from its checkpoint: made, filled, and fed with pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .. import Tensor, models, nn, no_grad
from ..data import DataError
from ..data.folder import _bombs_are_errors, _opened, _pillow, _pixels
from ..nn import functional as F
from ..serialization import load, load_metadata
from ..viz.maps import largest_gradient
from .checkpoint import check_fits
from .engine import BEST
from .store import RunError

__all__ = ["Trained", "load_trained"]

_MOST_PIXELS = 4096  # of a side
_MODES = {1: "L", 3: "RGB"}


class Trained:
    """A network with its weights, in evaluation mode, and what its checkpoint tells of it.

    Attributes: model; class_names; input, the (C, H, W) that it was trained on.
    """

    def __init__(self, model: nn.Module, card: dict[str, Any]) -> None:
        self.model = model.eval()
        self.class_names = [str(name) for name in card["class_names"]]
        self.input = tuple(int(size) for size in card["input"])
        self._mean, self._std = (np.asarray(card[n], np.float32).reshape(-1, 1, 1) for n in ("mean", "std"))
        if len(self.input) != 3 or self.input[0] not in _MODES or not (self._std > 0).all():
            raise ValueError(f"input {self.input}, std {card['std']}")

    def read(self, path: str | os.PathLike[str], resize: bool = False, invert: bool = False) -> np.ndarray:
        """A picture as the network's input, float32 (C, H, W).

        Args:
            path: any file that pillow reads; colours become grey, or grey colours, as the network has it.
            resize: scale and crop pictures of another size; without it they are an error.
            invert: dark ink on light paper for a network that has learnt the opposite.

        Raises:
            DataError: no such file, no picture, or one of another size.
        """
        channels, height, width = self.input
        pillow, size = _pillow(), (height, width) if resize else None
        with _bombs_are_errors(pillow):
            pixels = _opened(pillow, Path(path), lambda image: _pixels(image, _MODES[channels], size))
        if pixels.shape[:2] != (height, width):
            found = "x".join(map(str, pixels.shape[1::-1]))
            raise DataError(f"{path} is {found}, the network takes {width}x{height}; --resize scales it")
        scaled = pixels.transpose(2, 0, 1).astype(np.float32) / 255
        return ((1 - scaled if invert else scaled) - self._mean) / self._std

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Of each class (classes,), for an input (C, H, W); of a segmentation the mean over the pixels."""
        with no_grad():
            found = F.softmax(self.model(Tensor(image[None])), 1).numpy()[0]
        return found.reshape(len(found), -1).mean(1)

    def saliency(self, image: np.ndarray, label: int) -> np.ndarray:
        """How much each pixel moves the logit of a class: (H, W), the largest |gradient| of its channels.

        Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2013.
        """
        x = Tensor(image[None]).requires_grad_()
        return largest_gradient(self.model(x)[:, label].mean(), x)


def _is_side(size: Any) -> bool:
    return type(size) is int and 1 <= size <= _MOST_PIXELS


def _check(card: dict[str, Any]) -> None:
    """ValueError where what a checkpoint tells of its network cannot be, before memory is taken for it."""
    _, names, sizes = (card[name] for name in ("model", "class_names", "input"))
    if not isinstance(names, list) or card["classes"] != len(names):
        raise ValueError(f"classes is {card['classes']!r}; the rule is the number of class_names")
    if not (isinstance(sizes, list) and len(sizes) == 3 and all(map(_is_side, sizes))):
        raise ValueError(f"input is {sizes!r}; the rule is three sizes from 1 to {_MOST_PIXELS}")
    for name in ("mean", "std"):
        values = np.asarray(card[name], np.float64)
        if values.size not in (1, sizes[0]) or not np.isfinite(values).all():
            raise ValueError(f"{name} is {card[name]!r}; the rule is a finite number, or one a channel")


def load_trained(path: str | os.PathLike[str]) -> Trained:
    """The network of a run's folder, of its ``checkpoint.safetensors`` or its ``last.safetensors``.

    Raises:
        RunError: no such file, a damaged one, or one that does not tell which network it is of.
    """
    path = Path(path) / BEST if Path(path).is_dir() else Path(path)
    try:
        card, state = load_metadata(path), load(path)
    except (OSError, ValueError) as error:
        raise RunError(str(error)) from None
    state = state["model"] if "model" in state and "extra" in state else state
    try:
        _check(card)
        model = models.create(card["model"], classes=card["classes"])
        check_fits(model, state, path)
        model.load_state_dict(state)
        return Trained(model, card)
    except KeyError as error:
        raise RunError(f"{path} does not tell its {error.args[0]}: it is of no `cnnext train`") from None
    except (TypeError, ValueError) as error:
        raise RunError(f"{path}: {error}") from None
