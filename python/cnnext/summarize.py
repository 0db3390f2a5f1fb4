"""cnnext.summary: a model's layers, the shapes that go through them, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .grad_mode import enable_grad, is_grad_enabled, no_grad
from .nn import Conv2d, Module
from .nn.fuse import fuse
from .nn.joins import is_joined
from .profiler import profile
from .tables import aligned
from .tensor import Tensor


@dataclass
class Row:
    """One module, without what lies below it."""

    path: str
    type: str
    params: int
    fused: str  #: what runs in one with it, by the module's own account (its attribute _fused)
    output_shape: tuple[int, ...] | None = None  #: of the first call; None where it was not called
    calls: int = 0
    macs: int = 0
    dense_weights: int = 0  #: that a dense layer of a convolution's sizes would need: C*H*W by K*P*Q
    kernel: str = ""  #: that its forward ran
    activation_bytes: int = 0  #: of its results, in the forward pass without gradients
    kept_bytes: int = 0  #: that a pass with gradients keeps for the backward pass, without parameters


@dataclass
class Summary:
    """What cnnext.summary found; str() is the table."""

    rows: list[Row] = field(default_factory=list)
    input_shape: tuple[int, ...] = ()
    total_params: int = 0
    trainable_params: int = 0

    @property
    def total_activation_bytes(self) -> int:
        """Of all operations' results in one forward pass; views take none."""
        return sum(row.activation_bytes for row in self.rows)

    @property
    def total_kept_bytes(self) -> int:
        """What a forward pass in training leaves for the backward pass."""
        return sum(row.kept_bytes for row in self.rows)

    @property
    def total_macs(self) -> int:
        """Multiply-adds of one forward pass."""
        return sum(row.macs for row in self.rows)

    def __str__(self) -> str:
        headings = [
            "layer",
            "output shape",
            "params",
            "dense would",
            "MACs",
            "act. KB",
            "backward KB",
            "kernel",
        ]
        fused = any(row.fused for row in self.rows)
        table = [[*headings, "fused"] if fused else headings]
        for row in self.rows:
            depth = row.path.count(".") + 1 if row.path else 0
            name = row.path.rsplit(".", 1)[-1]
            shape = "" if row.output_shape is None else str(row.output_shape)
            cells = [
                "  " * depth + (f"{name}: {row.type}" if name else row.type),
                shape + (f" x{row.calls}" if row.calls > 1 else ""),
                f"{row.params:,}" if row.params else "",
                f"{row.dense_weights:,}" if row.dense_weights else "",
                f"{row.macs:,}" if row.macs else "",
                f"{row.activation_bytes / 1e3:,.1f}" if row.activation_bytes else "",
                f"{row.kept_bytes / 1e3:,.1f}" if row.kept_bytes else "",
                row.kernel,
            ]
            table.append([*cells, row.fused] if fused else cells)
        total = (
            f"input {self.input_shape}; {self.total_params:,} parameters, {self.trainable_params:,} of them "
            f"trainable; {self.total_macs:,} MACs; activations {self.total_activation_bytes / 1e6:,.2f} MB, "
            f"for the backward pass {self.total_kept_bytes / 1e6:,.2f} MB"
        )
        return "\n".join([*aligned(table, set(headings[2:7])), total])


def summary(model: Module, input_shape: Sequence[int]) -> Summary:
    """Each layer's output shape, parameters, multiply-adds, bytes and kernel, for an input of that shape.

    input_shape: the batch included. "dense would": the weights of a dense layer of a convolution's in and
    out sizes, for one image. "act. KB": of the results of its operations. "backward KB": what a pass with
    gradients keeps for the backward pass, parameters left out.

    Runs the model twice, on zeros, in evaluation mode, without gradients and with, each layer by itself; it
    is as it was afterwards. RuntimeError where a profile is active.
    print(cx.summary(model, (1, 3, 224, 224))) shows the table.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, got {type(model).__name__}")
    shape = tuple(input_shape)
    if not shape or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in shape):
        raise ValueError(f"input_shape={input_shape!r} must be positive ints, the batch first")
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    modules = list(model.named_modules())
    result = Summary(
        [
            Row(
                path,
                type(module).__name__,
                sum(p.numel() for p in module.parameters(recurse=False)),
                getattr(module, "_fused", "") or "",
            )
            for path, module in modules
        ],
        shape,
        sum(p.numel() for p in model.parameters()),
        sum(p.numel() for p in model.parameters() if p.requires_grad),
    )
    modes = [module.training for _, module in modules]
    with ExitStack() as stack:
        profiled = stack.enter_context(profile())
        claimed: set[int] = set()  # numbers of the events that a row has
        for (_, module), row in zip(modules, result.rows, strict=True):
            own = {"forward": module.__dict__["forward"]} if "forward" in module.__dict__ else {}
            forward = partial(type(module).forward, module) if is_joined(module) else module.forward
            watched = _watched(forward, module, row, profiled, claimed)
            stack.callback(module.__dict__.update, own)
            stack.callback(module.__dict__.pop, "forward")
            module.__dict__["forward"] = watched
        for (_, module), mode in zip(modules, modes, strict=True):
            stack.callback(module.__dict__.__setitem__, "training", mode)
        model.eval()
        with no_grad():
            model(Tensor(np.zeros(shape, dtype)))
        with enable_grad():
            model(Tensor(np.zeros(shape, dtype)))
    fuse(model)  # the layers' own forwards were in its way
    return result


def _watched(forward: Any, module: Module, row: Row, profiled: profile, claimed: set[int]) -> Any:
    def watched(*args: Any, **kwargs: Any) -> Any:
        first = len(profiled.events)
        y = forward(*args, **kwargs)
        # What ran in here and in no module below.
        own = [profiled.events[i] for i in range(first, len(profiled.events)) if i not in claimed]
        claimed.update(range(first, len(profiled.events)))
        if is_grad_enabled():
            row.kept_bytes += sum(event.kept for event in own)
            return y
        row.macs += sum(event.flops for event in own) // 2
        row.activation_bytes += sum(event.written for event in own)
        row.kernel = next((event.kernel for event in own if event.kernel), row.kernel)
        row.calls += 1
        if row.output_shape is None:
            out = y[0] if isinstance(y, (tuple, list)) else y
            row.output_shape = tuple(getattr(out, "shape", ()))
            if isinstance(module, Conv2d):
                row.dense_weights = math.prod(args[0].shape[-3:]) * math.prod(row.output_shape[-3:])
        return y

    return watched
