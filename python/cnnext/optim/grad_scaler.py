"""Loss scaling, so that the gradients of a float16 backward pass do not vanish."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..devices import asarray_like, device_of
from ..dtypes import is_half
from .optimizer import Optimizer, check_range

_LARGEST = float(np.finfo(np.float32).max)


class GradScaler:
    """Multiplies the loss and divides the gradients again: Micikevicius et al., 2018 (torch.amp.GradScaler).

        with cx.autocast("float16"):
            loss = loss_of(model(x), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # skipped where a gradient is infinite or NaN
        scaler.update()

    init_scale: the first factor, above 0. After a skipped step it is multiplied by backoff_factor (above 0,
    below 1), after growth_interval steps in a row that were not by growth_factor (above 1), as long as that
    is finite in float32. enabled: False makes every method hand on what it is given.
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        check_range("init_scale", init_scale)
        if init_scale == 0 or math.isinf(init_scale):
            raise ValueError(f"init_scale={init_scale} must be above 0 and finite")
        if not 1 < growth_factor < math.inf:
            raise ValueError(f"growth_factor={growth_factor} must be above 1 and finite")
        if not 0 < backoff_factor < 1:
            raise ValueError(f"backoff_factor={backoff_factor} must be above 0 and below 1")
        if growth_interval < 1:
            raise ValueError(f"growth_interval={growth_interval} must be at least 1")
        self._scale, self._good_steps = float(init_scale), 0
        self._growth, self._backoff, self._interval = growth_factor, backoff_factor, growth_interval
        self._enabled = bool(enabled)
        # Of this iteration, by optimizer: arrays that say whether its gradients were finite, and whether it
        # has stepped.
        self._finite: dict[int, list[Any]] = {}
        self._stepped: set[int] = set()

    def scale(self, outputs: Any) -> Any:
        """A loss, or each of a list or tuple of them, times the scale, differentiable."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, (list, tuple)):
            return type(outputs)(self.scale(output) for output in outputs)
        return outputs * self._scale

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, in place, once before a step.

        step() does it by itself; call it where the true gradients are wanted before, as for clipping.
        RuntimeError for a second call before update(); TypeError for gradients of float16, whose parameters
        should have been left in float32.
        """
        if not self._enabled:
            return
        if id(optimizer) in self._finite:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update()")
        if id(optimizer) in self._stepped:
            raise RuntimeError("unscale_() is called after step() for this optimizer; it belongs before")
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for grad in grads:
            if is_half(grad.dtype) and grad.dtype.kind == "f":
                raise TypeError("a gradient is float16; keep the parameters in float32, autocast casts them")
        with np.errstate(all="ignore"):
            for grad in grads:
                factor = asarray_like(1.0 / self._scale, grad.data, grad.dtype)
                np.multiply(grad.data, factor, out=grad.data)
                grad._version.count += 1
        # Not read yet: on CUDA that waits for the device, and step() does it once for all.
        self._finite[id(optimizer)] = [np.isfinite(grad.data).all() for grad in grads]

    def step(self, optimizer: Optimizer) -> Any:
        """optimizer.step() where its gradients are finite, unscaled before if need be; else nothing.

        Returns what optimizer.step() does. RuntimeError for a second call before update().
        """
        if not self._enabled:
            return optimizer.step()
        if id(optimizer) in self._stepped:
            raise RuntimeError("step() has already been called since the last update()")
        if id(optimizer) not in self._finite:
            self.unscale_(optimizer)
        if not self._finite[id(optimizer)]:
            raise RuntimeError("step(): the optimizer has no gradients; call backward() first")
        self._stepped.add(id(optimizer))
        return optimizer.step() if self._is_finite(optimizer) else None

    def update(self, new_scale: float | None = None) -> None:
        """Set the scale for the next iteration, from what the steps met or to new_scale.

        RuntimeError where no gradient was looked at since the last call.
        """
        if not self._enabled:
            return
        if new_scale is not None:
            if not 0 < new_scale < math.inf:
                raise ValueError(f"new_scale={new_scale} must be above 0 and finite")
            self._scale = float(new_scale)
        elif not self._finite:
            raise RuntimeError("update(): no step() or unscale_() since the last update()")
        elif all(map(_all, self._finite.values())):
            self._good_steps += 1
            if self._good_steps == self._interval:
                self._good_steps = 0
                if self._scale * self._growth <= _LARGEST:
                    self._scale *= self._growth
        else:
            self._scale *= self._backoff
            self._good_steps = 0
        self._finite.clear()
        self._stepped.clear()

    def _is_finite(self, optimizer: Optimizer) -> bool:
        finite = self._finite[id(optimizer)] = [_all(self._finite[id(optimizer)])]
        return finite[0]

    def get_scale(self) -> float:
        """The scale; 1.0 where disabled."""
        return self._scale if self._enabled else 1.0

    def is_enabled(self) -> bool:
        """Does it scale?"""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, the factors and the steps since the last change, under torch's names; {} if disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth,
            "backoff_factor": self._backoff,
            "growth_interval": self._interval,
            "_growth_tracker": self._good_steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state_dict(); ValueError for a disabled one's. Nothing, if this is disabled."""
        if not self._enabled:
            return
        if not state_dict:
            raise ValueError("the state_dict is empty: it is that of a disabled GradScaler")
        self._scale, self._good_steps = float(state_dict["scale"]), int(state_dict["_growth_tracker"])
        self._growth, self._backoff = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._interval = int(state_dict["growth_interval"])


def _all(flags: Iterable[Any]) -> bool:
    """Are all true? Those of one device are joined there, so that it is waited for once."""
    joined: dict[str, Any] = {}
    for flag in flags:
        device = device_of(flag)
        joined[device] = np.logical_and(joined[device], flag) if device in joined else flag
    return all(map(bool, joined.values()))
