"""What decides a training run's numbers: the same configuration gives the same bits."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

__all__ = ["TrainConfig"]

_CHOICES = {
    "dataset": ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder", "segment-digits"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("onecycle", "cosine"),
    "amp": ("off", "bfloat16", "float16"),
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Every choice that a run's results follow from. Paths, threads and plots are not among them.

    Nor is the device, although the same configuration gives the same bits on devices of one kind only.

    Attributes:
        dataset: "digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder" or "segment-digits".
        model: a name that `cnnext.models.create` knows.
        epochs, batch_size: >= 1.
        lr: the largest learning rate of the schedule, finite and > 0.
        optimizer: "adamw", or "sgd" with Nesterov momentum 0.9.
        schedule: "onecycle" (a quarter up, then down to nearly 0) or "cosine" (down from `lr` to 0).
        weight_decay: >= 0.
        label_smoothing: 0 <= label_smoothing < 1.
        rotate, shift, zoom: augmentation of the training images: up to `rotate` degrees, `shift`
            pixels, and a factor of 1 - zoom..1 + zoom.
        flip, crop: mirror half of the images; move each by up to `crop` whole pixels.
        size: height and width that a folder's images are scaled to; 0 takes them as they are.
        seed: of the initial weights, the order of images, augmentation and dropout.
        channels_last: give the network its batches with NHWC strides.
        amp: "off", or the dtype of `cnnext.autocast`; with "float16" the loss is scaled.
        accumulate: batches to a step of the optimiser, >= 1.
        clip_norm: the largest joint norm of the gradients; 0: any.
    """

    dataset: str
    model: str
    epochs: int
    batch_size: int
    lr: float
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["onecycle", "cosine"] = "onecycle"
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    rotate: float = 10.0
    shift: float = 0.5
    zoom: float = 0.1
    seed: int = 0
    channels_last: bool = False
    amp: Literal["off", "bfloat16", "float16"] = "off"
    flip: bool = False
    crop: int = 0
    size: int = 0
    accumulate: int = 1
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            self._require(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        for name in ("epochs", "batch_size", "accumulate"):
            self._require(name, 1 <= getattr(self, name) <= 1_000_000, f"1 <= {name} <= 1000000")
        self._require("lr", math.isfinite(self.lr) and self.lr > 0, "a finite number > 0")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "a finite number >= 0")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "0 <= label_smoothing < 1")
        for name in ("rotate", "shift", "clip_norm"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a finite number >= 0")
        self._require("zoom", 0 <= self.zoom < 1, "0 <= zoom < 1")
        for name in ("crop", "size"):
            self._require(name, 0 <= getattr(self, name) <= 4096, f"0 <= {name} <= 4096")
        self._require("seed", 0 <= self.seed < 2**63, "0 <= seed < 2**63")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)!r}; the rule is {rule}")

    @classmethod
    def preset(cls, dataset: str, **changes: Any) -> TrainConfig:
        """The configuration `cnnext train` uses for a dataset, with `changes` made to it.

        Those of digits and mnist were chosen by cross-validation on their training images, but for mnist's
        epochs; those of the other sets are what is usual for such images.
        """
        if dataset not in _PRESETS:
            raise ValueError(f"dataset is {dataset!r}; the rule is one of {', '.join(_PRESETS)}")
        return cls(dataset=dataset, **{**_PRESETS[dataset], **changes})

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_COLOURED = {"lr": 2e-3, "batch_size": 64, "rotate": 0.0, "shift": 0.0, "zoom": 0.0, "flip": True, "crop": 4}
_PRESETS: dict[str, dict[str, Any]] = {
    "digits": {"model": "digits-cnn", "epochs": 40, "batch_size": 32, "lr": 3e-3, "rotate": 8.0},
    "mnist": {"model": "mnist-cnn", "epochs": 20, "batch_size": 64, "lr": 2e-3, "shift": 2.0},
    "fashion-mnist": {
        "model": "mnist-cnn", "epochs": 12, "batch_size": 64, "lr": 2e-3, "rotate": 0.0, "shift": 1.0,
        "flip": True,
    },
    "cifar10": {"model": "vgg_cifar", "epochs": 12, **_COLOURED},
    "cifar100": {"model": "vgg_cifar", "epochs": 20, **_COLOURED},
    "folder": {"model": "vgg_cifar", "epochs": 20, "size": 32, **_COLOURED},
    "segment-digits": {"model": "segnet_small", "epochs": 12, "batch_size": 32, "lr": 1e-2, "rotate": 8.0},
}  # fmt: skip
