"""Whole steps: which networks, at which batch, trained or asked."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.options import UsageError


@dataclasses.dataclass(frozen=True)
class Step:
    """A network of cnnext.models. Training: forward, cross-entropy, backward, SGD with momentum."""

    name: str
    model: str
    image: tuple[int, int, int]
    batch: int
    training: bool
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the model's constructor


def _train(model: str, image: tuple[int, int, int], batch: int, **options: Any) -> Step:
    return Step(f"{model}-train-{batch}", model, image, batch, True, options)


def _infer(model: str, batch: int) -> Step:
    return Step(f"{model}-infer-{batch}", model, (3, 224, 224), batch, False)


# Without dropout: its random numbers are each library's own, and results are compared.
STEPS = {
    step.name: step
    for step in (
        _train("lenet5", (1, 28, 28), 64),
        _train("lenet5", (1, 28, 28), 8),
        _train("mnist-cnn", (1, 28, 28), 64, dropout=0.0),
        _train("vgg_cifar", (3, 32, 32), 32, dropout=0.0),
        _train("resnet18_cifar", (3, 32, 32), 32),
        _train("mobilenet_v2_cifar", (3, 32, 32), 32, dropout=0.0),
        *(_infer(model, batch) for model in ("resnet50", "vgg16", "mobilenet_v2") for batch in (1, 32)),
    )
}


def steps_from(text: str) -> list[Step]:
    """The steps whose names contain one of these words; all for "all"."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    chosen = [s for s in STEPS.values() if any(word == "all" or word in s.name for word in words)]
    if not chosen:
        raise UsageError(f"--steps {text!r} is part of no name; they are {', '.join(STEPS)}")
    return chosen
