"""What decides a training run's numbers: the same configuration gives the same bits."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ..data.checks import check_integer, check_number

__all__ = ["TrainConfig"]

_CHOICES = {
    "dataset": ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder", "segment-digits"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("onecycle", "cosine"),
    "amp": ("off", "bfloat16", "float16"),
}
_MANY = 1_000_000
_INTEGERS = {
    "epochs": (1, _MANY),
    "batch_size": (1, _MANY),
    "accumulate": (1, _MANY),
    "crop": (0, 4096),
    "size": (0, 4096),
    "seed": (0, 2**63 - 1),
}
_POSITIVE = ("a finite number > 0", lambda value: value > 0)
_NOT_NEGATIVE = ("a finite number >= 0", lambda value: value >= 0)
_NUMBERS: dict[str, tuple[str, Any]] = {
    "lr": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "label_smoothing": ("0 <= label_smoothing < 1", lambda value: 0 <= value < 1),
    "rotate": _NOT_NEGATIVE,
    "shift": _NOT_NEGATIVE,
    "zoom": ("0 <= zoom < 1", lambda value: 0 <= value < 1),
    "clip_norm": _NOT_NEGATIVE,
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
        flip, crop: mirror half of the images; move each by up to `crop` whole pixels; not for segment-digits.
        size: height and width that a folder's images are scaled to; 0 takes them as they are; 0 for others.
        seed: of the initial weights, the order of images, augmentation and dropout.
        channels_last: give the network its batches with NHWC strides.
        amp: "off", or the dtype of `cnnext.autocast`; with "float16" the loss is scaled.
        accumulate: batches to a step of the optimiser, >= 1.
        clip_norm: the largest joint norm of the gradients; 0: any.

    TypeError for a setting of another type, ValueError for one out of range, or of no effect on `dataset`.
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
        if not isinstance(self.model, str):
            raise TypeError(f"model is {self.model!r}; the rule is a name of cnnext.models.names()")
        for name, (least, most) in _INTEGERS.items():
            self._set(name, check_integer(name, getattr(self, name), least, most))
        for name, (rule, holds) in _NUMBERS.items():
            self._set(name, check_number(name, getattr(self, name), rule, holds))
        for name in ("channels_last", "flip"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; the rule is True or False")
        # What would change nothing is a mistake.
        self._require("size", not self.size or self.dataset == "folder", "0 for other data than a folder's")
        for name in ("flip", "crop"):
            rule = f"{getattr(type(self), name)} for segment-digits, whose canvases are made as they are"
            self._require(name, not getattr(self, name) or self.dataset != "segment-digits", rule)

    def _set(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)  # a plain number, which JSON takes

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
