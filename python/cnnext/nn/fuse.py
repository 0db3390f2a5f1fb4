"""Runs of layers that are computed as one operation: which there are, and when.

Sequential plans them by itself (Plan). Everything is read off the layers at each call, so that a run computes
what its layers would one after the other, to rounding: no parameter or name changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .conv import Conv2d, Linear
from .joins import Join, is_joined, joins_of
from .layers import GELU, LeakyReLU, MaxPool2d, ReLU, ReLU6, Sigmoid, SiLU, Tanh
from .module import Module
from .norm import BatchNorm2d
from .runs import ConvNormRun, ConvRun, LinearRun, NormRun, Run

_ACTIVATIONS: dict[type, Callable[[Any], str | None]] = {
    ReLU: lambda layer: "relu",
    ReLU6: lambda layer: "relu6",
    LeakyReLU: lambda layer: "leaky_relu" if layer.negative_slope == 0.01 else None,  # what kernels know
    GELU: lambda layer: "gelu" if layer.approximate == "none" else "gelu_tanh",
    SiLU: lambda layer: "silu",
    Sigmoid: lambda layer: "sigmoid",
    Tanh: lambda layer: "tanh",
}


def _nothing(layer: Any) -> None:
    return None


def _simple(value: Any) -> Any:
    """What can be compared and does not change by itself."""
    if isinstance(value, list):
        value = tuple(value)
    return value if isinstance(value, (int, float, str, tuple)) else value is None


#: What decides about a run besides the layer's type and mode.
_SETTINGS: dict[type, Callable[[Any], Any]] = {
    LeakyReLU: lambda layer: _simple(layer.negative_slope),
    GELU: lambda layer: _simple(layer.approximate),
    MaxPool2d: lambda layer: tuple(map(_simple, (layer.dilation, layer.ceil_mode, layer.return_indices))),
    Conv2d: lambda layer: _simple(layer.out_channels),
    BatchNorm2d: lambda layer: (_simple(layer.num_features), _has_statistics(layer)),
    Linear: _nothing,
    ReLU: _nothing,
    ReLU6: _nothing,
    SiLU: _nothing,
    Sigmoid: _nothing,
    Tanh: _nothing,
}


def _is_plain(layer: Module, joined: bool = False) -> bool:
    """Is it one of ours, with nothing that would see or change what passes between layers?

    joined: a forward of its own is what fuse() gave it.
    """
    return type(layer) in _SETTINGS and (joined or "forward" not in vars(layer)) and not layer._hooks


def _signature(layer: Module, joined: bool) -> tuple:
    """As long as it stays the same, so do the runs. Taken at every call."""
    kind = type(layer)
    if kind not in _SETTINGS:
        return (layer,)
    return layer, kind, layer.training, _is_plain(layer, joined), _SETTINGS[kind](layer)


def _activation(layer: Module | None) -> str | None:
    return _ACTIVATIONS[type(layer)](layer) if type(layer) in _ACTIVATIONS else None


def _norm_activation(layer: Module | None) -> str | None:
    kind = _activation(layer)
    return kind if kind in ("relu", "relu6") else None


def _follows(conv: Conv2d, norm: Module | None) -> bool:
    return isinstance(norm, BatchNorm2d) and norm.num_features == conv.out_channels


def _has_statistics(norm: BatchNorm2d) -> bool:
    buffers = norm._buffers
    return buffers.get("running_mean") is not None and buffers.get("running_var") is not None


def _pools(layer: Module | None) -> bool:
    if not isinstance(layer, MaxPool2d) or layer.ceil_mode or layer.return_indices:
        return False
    return layer.dilation in (1, (1, 1), [1, 1])


def run_at(layers: Sequence[Module | None]) -> Run | None:
    """The longest run that begins with the first of these layers; None stands for one that is in no run."""
    ahead = [*layers[:4], None, None, None, None]
    first = ahead[0]
    if isinstance(first, Linear):
        kind = _activation(ahead[1])
        return LinearRun(first, ahead[1], kind) if kind else None
    if isinstance(first, BatchNorm2d):
        kind = _norm_activation(ahead[1])
        return NormRun(first, ahead[1], kind) if kind else None
    if not isinstance(first, Conv2d):
        return None
    at = 1
    norm = None
    if _follows(first, ahead[at]):
        if ahead[at].training:
            kind = _norm_activation(ahead[2])
            return ConvNormRun(first, ahead[at], ahead[2] if kind else None, kind)
        if _has_statistics(ahead[at]):
            norm = ahead[at]
            at += 1
    kind = _activation(ahead[at])
    if kind is None:
        return ConvRun(first, norm, None, None, None) if norm else None
    pool = ahead[at + 1] if kind == "relu" and _pools(ahead[at + 1]) else None
    return ConvRun(first, norm, ahead[at], kind, pool)


class Plan:
    """How a row of layers runs, found anew when the layers, their modes or their settings change.

    joined: the layers' own forwards are those that fuse() gave them. Copies and pickles are empty.
    """

    __slots__ = ("_joined", "_key", "_steps")

    def __init__(self, joined: bool = False) -> None:
        self._joined = joined
        self._key: list[tuple] | None = None
        self._steps: list[Any] = []

    def __reduce__(self) -> tuple:
        return Plan, (self._joined,)

    def steps(self, layers: Iterable[Module]) -> list[Any]:
        """Runs, and the layers that are in none, in order."""
        row = list(layers)
        key = [_signature(layer, self._joined) for layer in row]
        if key != self._key:
            for step in self._steps:
                if isinstance(step, Run):
                    step.mark(None)
            self._steps = self._find(row)
            self._key = key
        return self._steps

    def _find(self, row: list[Module]) -> list[Any]:
        def is_free(layer: Module) -> bool:
            return _is_plain(layer, self._joined) and sum(other is layer for other in row) == 1

        free = [layer if is_free(layer) else None for layer in row]
        steps: list[Any] = []
        at = 0
        while at < len(row):
            run = run_at(free[at : at + 4])
            if run is None:
                steps.append(Run([], [row[at]]).plainly if self._joined else row[at])
                at += 1
                continue
            run.mark(run.name)
            steps.append(run)
            at += len(run.layers)
        return steps


def _checked_run(model: Module, names: Any, taken: set[int]) -> list[str]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"runs: {names!r} must be a list of names of layers")
    names = list(names)
    if len(names) < 2:
        raise ValueError(f"runs: {names} must name two layers or more")
    layers = [model.get_submodule(name) for name in names]
    for name, layer in zip(names, layers, strict=True):
        if is_joined(layer):
            raise ValueError(f"runs: {name!r} is in a run already")
        if not _is_plain(layer):
            raise ValueError(f"runs: {name!r} is {type(layer).__name__}; it must be a plain layer of nn")
        if id(layer) in taken:
            raise ValueError(f"runs: {names} has a layer twice: {name!r} is in a run already")
        taken.add(id(layer))
    return names


def fuse(model: Module, runs: Iterable[Sequence[str]] = ()) -> Module:
    """Plan every Sequential of the model, and join runs of layers elsewhere; returns the model itself.

    Sequential fuses by itself; this does it before the first call, so that `_fused` can be read. In a module
    with a forward of its own only you know what follows what: runs=[["conv1", "bn1", "relu1"], ...] names
    layers (by their dotted names) that it calls directly one after the other, each once. The first then
    computes them all and the others hand on what they are given; parameters, their names and repr stay.
    Batch norm is folded into a convolution in evaluation. Where a layer of a run is replaced or gets a
    forward of its own, the run is undone; copies of the model have none.

    TypeError, ValueError, AttributeError: for runs that are no lists of two names of plain layers or more, or
    that share a layer, with one another or with an earlier call's. Nothing is joined then.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model is {type(model).__name__}; it must be a Module")
    taken: set[int] = set()
    for names in [_checked_run(model, names, taken) for names in runs]:
        Join(model, names, Plan(joined=True).steps)
    for module in model.modules():
        plan = vars(module).get("_plan")
        if isinstance(plan, Plan):
            plan.steps(module._modules.values())
    for join in joins_of(model):
        join.plan()
    return model
