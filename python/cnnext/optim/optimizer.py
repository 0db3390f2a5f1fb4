"""Optimizer: parameter groups, their state, and saving both, in torch.optim's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np

from ..devices import copied_to, device_of
from ..grad_mode import enable_grad
from ..nn.module import zero_grads
from ..tape import Variable
from ..tensor import Tensor, as_array


def check_range(name: str, value: float, low: float = 0.0, high: float = float("inf")) -> None:
    """ValueError unless low <= value < high (an infinite high: <=)."""
    if not low <= value or (value >= high and high != float("inf")) or value != value:
        limit = f"from {low}" + ("" if high == float("inf") else f" to below {high}")
        raise ValueError(f"{name}={value} must be {limit}")


class Optimizer:
    """Base of the optimisers.

    params: parameters, or dicts {"params": parameters, option: value, ...}: groups with options of their own.
    Attributes as in torch: param_groups, a list of such dicts, and state, a dict by parameter.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        if isinstance(params, (Variable, dict)):
            raise TypeError(
                f"params must be an iterable of parameters or groups, not one {type(params).__name__}"
            )
        groups = list(params)
        if not groups:
            raise ValueError("params is empty: the optimizer got no parameters")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; options that it leaves out have the optimizer's defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        params = param_group["params"]
        params = [params] if isinstance(params, Variable) else list(params)
        taken = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Variable):
                raise TypeError(f"an optimizer takes Tensors, got {type(p).__name__}")
            if p._node is not None:
                raise ValueError("an optimizer takes leaf tensors; one of these was computed from others")
            if id(p) in taken:
                raise ValueError("a parameter appears twice, in one group or in several")
            taken.add(id(p))
        group = {**self.defaults, **param_group, "params": params}
        self._check(group)
        self.param_groups.append(group)

    def _check(self, group: dict[str, Any]) -> None:
        """ValueError where an option of a group is out of range."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            zero_grads(group["params"], set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; closure computes and returns the loss first."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params, [_like(p, p.grad) for p in params])
                for p in params:
                    p._version.count += 1
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Any]) -> None:
        """Change the parameters of a group in place; grads are arrays, laid out as the parameters."""
        raise NotImplementedError

    # -- saving --

    def state_dict(self) -> dict[str, Any]:
        """{"state": {parameter number: its state}, "param_groups": [options and parameter numbers]}."""
        numbers = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        return {
            "state": {numbers[id(p)]: dict(values) for p, values in self.state.items()},
            "param_groups": [
                {**g, "params": [numbers[id(p)] for p in g["params"]]} for g in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over options and state, copied to the parameters' devices.

        ValueError unless the groups have as many parameters.
        """
        saved = state_dict["param_groups"]
        sizes = [len(g["params"]) for g in saved]
        own = [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise ValueError(f"the saved parameter groups have sizes {sizes}, the optimizer's {own}")
        params = [p for g in self.param_groups for p in g["params"]]
        numbers = [n for g in saved for n in g["params"]]
        state: dict[Tensor, dict[str, Any]] = {}
        for number, p in zip(numbers, params, strict=True):
            values = state_dict["state"].get(number, state_dict["state"].get(str(number)))
            if values is not None:
                state[p] = {name: _restored(name, value, p) for name, value in values.items()}
        self.state = state
        self.param_groups = [
            {**deepcopy({k: v for k, v in new.items() if k != "params"}), "params": old["params"]}
            for new, old in zip(saved, self.param_groups, strict=True)
        ]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {value}" for name, value in sorted(group.items()) if name != "params"]
        return "\n".join([*lines, ")"])


def _like(p: Tensor, grad: Tensor) -> Any:
    """The gradient's array with the dtype and strides of the parameter's."""
    if grad.data.shape != p.data.shape:
        raise ValueError(f"a gradient has shape {list(grad.data.shape)}, its parameter {list(p.data.shape)}")
    if device_of(grad.data) != device_of(p.data):
        raise ValueError(f"a gradient is on {grad.device}, its parameter on {p.device}")
    if grad.data.dtype == p.data.dtype and grad.data.strides == p.data.strides:
        return grad.data
    array = np.empty_like(p.data)
    array[...] = grad.data
    return array


def _restored(name: str, value: Any, p: Tensor) -> Any:
    """A copy of a saved value: arrays as the parameter lies in memory, numbers as Python numbers."""
    if name == "step":
        return int(value)
    if not hasattr(value, "shape"):
        return value
    if tuple(value.shape) != p.data.shape:
        raise ValueError(f"saved {name!r} has shape {list(value.shape)}, its parameter {list(p.data.shape)}")
    array = np.empty_like(p.data)
    array[...] = copied_to(as_array(value), device_of(p.data))
    return Tensor(array)
