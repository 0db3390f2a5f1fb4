"""Averages of a model's weights over training, under torch.optim.swa_utils' names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

from ..grad_mode import no_grad
from ..nn.module import Module
from ..nn.norm import _BatchNorm
from ..tape import Variable
from ..tensor import Tensor
from .lr_base import LRScheduler, for_each_group
from .optimizer import Optimizer

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

AvgFn = Callable[[Tensor, Tensor, int], Tensor]
MultiAvgFn = Callable[[Sequence[Tensor], Sequence[Tensor], int], None]


def _check_decay(decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ValueError(f"decay={decay} must lie between 0 and 1")


def _move(averaged: Sequence[Tensor], current: Sequence[Tensor], part: float) -> None:
    """Each average a part of the way to the current value, in place."""
    for average, value in zip(averaged, current, strict=True):
        average.copy_(average + (value - average) * part)


def get_ema_avg_fn(decay: float = 0.999) -> AvgFn:
    """An avg_fn: decay * average + (1 - decay) * value, an exponential moving average."""
    _check_decay(decay)
    return lambda averaged, current, num_averaged: averaged * decay + current * (1 - decay)


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAvgFn:
    """A multi_avg_fn: the same exponential moving average, in place."""
    _check_decay(decay)
    return lambda averaged, current, num_averaged: _move(averaged, current, 1 - decay)


def get_swa_avg_fn() -> AvgFn:
    """An avg_fn: the mean of all values so far, stochastic weight averaging (Izmailov et al., 2018)."""
    return lambda averaged, current, num_averaged: averaged + (current - averaged) / (num_averaged + 1)


def get_swa_multi_avg_fn() -> MultiAvgFn:
    """A multi_avg_fn: the same mean, in place."""
    return lambda averaged, current, num_averaged: _move(averaged, current, 1 / (num_averaged + 1))


class AveragedModel(Module):
    """A copy of a model whose parameters are averages over training (torch.optim.swa_utils.AveragedModel).

    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999)); after every optimizer.step():
    ema.update_parameters(model); then evaluate ema, called as the model is.

    avg_fn(average, value, num_averaged) returns the new average of one parameter; multi_avg_fn(averages,
    values, num_averaged) changes those of one dtype and device in place; without both it is the mean of all.
    use_buffers: buffers are averaged, too; otherwise they are those of the model that was given last.
    state_dict: n_averaged, and the copy's under "module.".
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: AvgFn | None = None,
        multi_avg_fn: MultiAvgFn | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, Module):
            raise TypeError(f"model must be a Module, got {type(model).__name__}")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("give either avg_fn or multi_avg_fn")
        self.module = deepcopy(model)
        if device is not None:
            self.module.to(device=device)
        self.register_buffer("n_averaged", 0)
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model computes, with the averages."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the model's present parameters into the averages; the first time they are copied."""
        pairs = _pairs(self.module, model, "parameters")
        buffers = _pairs(self.module, model, "buffers")
        if self.use_buffers:
            pairs += buffers
        count = int(self.n_averaged.item())
        with no_grad():
            if not count:
                for average, value in pairs:
                    average.copy_(value)
            elif self.avg_fn is not None:
                for average, value in pairs:
                    average.copy_(self.avg_fn(average, value, count))
            else:
                update = self.multi_avg_fn or get_swa_multi_avg_fn()
                for group in _by_kind(pairs):
                    update([average for average, _ in group], [value for _, value in group], count)
            for average, value in [] if self.use_buffers else buffers:
                average.copy_(value)
        self.n_averaged.fill_(count + 1)


def _pairs(averaged: Module, model: Module, what: str) -> list[tuple[Tensor, Tensor]]:
    """Averages and present values, detached, where the averages are; ValueError where they do not fit."""
    own = dict(getattr(averaged, f"named_{what}")())
    given = dict(getattr(model, f"named_{what}")())
    if list(own) != list(given):
        wrong = sorted(set(own) ^ set(given)) or list(given)
        raise ValueError(f"model has other {what} than the averages: {', '.join(wrong)}")
    for name, value in given.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"model: {name} has shape {list(value.shape)}, its average {list(own[name].shape)}"
            )
    return [(own[name].detach(), value.detach().to(device=own[name].device)) for name, value in given.items()]


def _by_kind(pairs: Iterable[tuple[Tensor, Tensor]]) -> list[list[tuple[Tensor, Tensor]]]:
    """Those of one dtype and device together."""
    groups: dict[Any, list[tuple[Tensor, Tensor]]] = {}
    for average, value in pairs:
        groups.setdefault((average.device, average.dtype), []).append((average, value))
    return list(groups.values())


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Set the running statistics of all batch norms anew, to means over the loader's batches.

    loader: gives inputs, or tuples or lists that begin with one. The averages of weights had no batches.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta, training = [norm.momentum for norm in norms], model.training
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        with no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, (list, tuple)) else batch
                x = x if isinstance(x, Variable) else Tensor(x)
                model(x if device is None else x.to(device=device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(training)
        for module, mode in modes:
            module.training = mode


class SWALR(LRScheduler):
    """From the rate at the first step to swa_lr in anneal_epochs steps, then constant (torch's SWALR).

    It goes on from the rate that another schedule has left.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy={anneal_strategy!r} must be 'cos' or 'linear'")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs={anneal_epochs!r} must be an int of at least 0")
        rates = for_each_group("swa_lr", swa_lr, optimizer)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = rate
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _part(self, step: int) -> float:
        """How far on the way the rate is."""
        part = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return part if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * part)) / 2

    def get_lr(self) -> list[float]:
        """At last_epoch, after the present rates."""
        step = max(1, self.last_epoch) if self.anneal_epochs == 0 else self.last_epoch
        before, part = self._part(step - 1), self._part(step)
        rates = []
        for group in self.optimizer.param_groups:
            target = group["swa_lr"]
            start = target if before == 1 else (group["lr"] - before * target) / (1 - before)
            rates.append(target * part + start * (1 - part))
        return rates
