"""A model's modules replaced by cnnext's, in place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import nn

from . import modules as ours

_SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: ours.Conv2d,
    nn.ConvTranspose2d: ours.ConvTranspose2d,
    nn.Linear: ours.Linear,
    nn.MaxPool2d: ours.MaxPool2d,
    nn.MaxUnpool2d: ours.MaxUnpool2d,
    nn.BatchNorm1d: ours.BatchNorm1d,
    nn.BatchNorm2d: ours.BatchNorm2d,
}
_OURS = {*_SWAPS.values(), ours.Sequential}
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclasses.dataclass(frozen=True)
class Swap:
    """A module that is cnnext's now. name: dotted, "" for the model itself."""

    name: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Fusion:
    """Modules of a Sequential that run as one operation."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Left:
    """A module that stayed torch's, and why."""

    name: str
    kind: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What replace() did. str() is readable."""

    swapped: tuple[Swap, ...]
    fused: tuple[Fusion, ...]
    left: tuple[Left, ...]

    def __str__(self) -> str:
        lines = [f"swapped {len(self.swapped)}: {_counted(swap.kind for swap in self.swapped)}"]
        lines.append(f"fused {len(self.fused)}: {_counted('+'.join(run.kinds) for run in self.fused)}")
        lines.append(f"left {len(self.left)}{':' if self.left else ''}")
        groups: dict[tuple[str, str], list[str]] = {}
        for module in self.left:
            groups.setdefault((module.kind, module.reason), []).append(module.name or "(the model)")
        for (kind, reason), names in groups.items():
            lines.append(f"  {kind}: {reason} ({_shortened(names)})")
        return "\n".join(lines)


def _counted(kinds: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _reason_against(module: nn.Module) -> str | None:
    """Why a module that is none of ours stays as it is; None: it can be swapped."""
    kind = type(module)
    if kind not in _SWAPS:
        if isinstance(module, nn.modules.lazy.LazyModuleMixin):
            return "it has no parameters yet; call it once, then replace again"
        if nn.utils.parametrize.is_parametrized(module):
            return "its parameters are parametrized, which gave it a class of its own"
        base = next((c.__name__ for c in kind.__mro__ if c in _SWAPS), None)
        return f"a subclass of {base}, whose forward may be another" if base else "cnnext has no such module"
    if "forward" in module.__dict__:
        return "it has a forward of its own"
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dtype not in _DTYPES:
            return (
                f"its {name} is {str(parameter.dtype).removeprefix('torch.')}, which cnnext does not compute"
            )
        if type(parameter) is not nn.Parameter:
            return f"its {name} is a {type(parameter).__name__}, whose memory cnnext does not know"
    return None


def _runs(names: dict[nn.Module, str], module: nn.Sequential) -> list[Fusion]:
    """What a Sequential of ours computes together."""
    children, runs, at = list(module._modules.values()), [], 0
    while at < len(children):
        run = children[at : at + ours.run_length(children, at)]
        at += len(run)
        if len(run) > 1:
            runs.append(Fusion(tuple(names[m] for m in run), tuple(type(m).__name__ for m in run)))
    return runs


def replace(model: nn.Module, *, fuse: bool = True) -> Report:
    """Make torch.nn's modules in the model cnnext's, in place, and say what was done.

    Each module stays the object that it is, with its parameters, buffers, hooks and mode: its class changes.
    Names, order and state_dict stay; no random number is drawn. Modules of exactly these classes are
    swapped: Conv2d, ConvTranspose2d, Linear, MaxPool2d, MaxUnpool2d, BatchNorm1d and BatchNorm2d. Subclasses,
    modules with a forward of their own, lazy and parametrized ones are left, as is everything that cnnext has
    no module for.
    fuse: a Sequential computes Conv2d, ReLU (and MaxPool2d), Linear and ReLU, BatchNorm and ReLU that follow
    one another as one operation.

    Returns a Report with .swapped, .fused and .left, whose str() is readable. TypeError where model is no
    Module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}; it must be a torch.nn.Module")
    named = dict(model.named_modules())
    names = {module: name for name, module in named.items()}
    swapped, fused = [], []
    reasons: dict[str, str] = {}
    for name, module in named.items():
        kind = type(module)
        if kind in _OURS:
            continue
        reason = _reason_against(module)
        if reason is None:
            module.__class__ = _SWAPS[kind]
            swapped.append(Swap(name, kind.__name__))
        elif not module._modules or isinstance(module, tuple(_SWAPS)):
            reasons[name] = reason
    together: set[str] = set()
    for module in named.values():
        kind = type(module)
        if kind is ours.Sequential or (fuse and kind is nn.Sequential and "forward" not in module.__dict__):
            runs = _runs(names, module)
            together.update(name for run in runs for name in run.names)
            if runs and kind is nn.Sequential:
                module.__class__ = ours.Sequential
                fused += runs
    left = [
        Left(name, type(named[name]).__name__, reason)
        for name, reason in reasons.items()
        if name not in together
    ]
    return Report(tuple(swapped), tuple(fused), tuple(left))
