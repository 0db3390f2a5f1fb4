"""An operation of `torch.ops.cnnext`, and the short way past the dispatcher.

Each is registered with torch.library: kernels for the CPU and CUDA, which read the tensors' memory where it
lies, a fake implementation, a gradient made of other operations, and autocast's rule. Called from Python
outside of tracing, modes and subclasses it is a bare autograd.Function, which costs less than half of a call
through the dispatcher and computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

LIBRARY = torch.library.Library("cnnext", "DEF")
_DEVICES = ("CPU", "CUDA")
_AUTOCAST_KEYS = {
    "cpu": torch._C.DispatchKey.AutocastCPU,
    "cuda": torch._C.DispatchKey.AutocastCUDA,
}
_HALF = (torch.float16, torch.bfloat16)

_is_compiling = torch.compiler.is_compiling
_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._are_functorch_transforms_active
_tracing = torch._C._get_tracing_state
_grad_enabled = torch.is_grad_enabled
_any_autocast = getattr(torch._C, "_is_any_autocast_enabled", lambda: True)


def raw(t: Tensor | None) -> Tensor | None:
    """The tensor as cnnext._C takes it: what is recorded is recorded here already."""
    return t.data if t is not None and t.requires_grad else t  # detach() takes longer


def is_recorded(*tensors: Tensor | None) -> bool:
    """Will what is computed of these have a gradient?"""
    return _grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def is_half(t: Tensor) -> bool:
    """float16 or bfloat16?"""
    return t.dtype in _HALF


class Op:
    """One operation, called with all its arguments by position.

    schema: of torch.library, without the namespace.
    kernel: on tensors; it records nothing. fake: the same for tensors without memory.
    setup(ctx, inputs, output), backward(ctx, *grads): as those of an autograd.Function.
    normal: brings arguments in any of the functions' forms into the schema's.
    cast: does autocast run it in its lower precision?
    bare: the kernel for calls past the dispatcher, by default the same.
    light: that where nothing is recorded.
    """

    def __init__(
        self,
        schema: str,
        kernel: Callable[..., Any],
        fake: Callable[..., Any],
        setup: Callable[..., None],
        backward: Callable[..., Any],
        *,
        normal: Callable[..., Sequence[Any]] | None = None,
        cast: bool = False,
        bare: Callable[..., Any] | None = None,
        light: Callable[..., Any] | None = None,
    ) -> None:
        name = schema[: schema.index("(")]
        LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order))
        self.overload = getattr(torch.ops.cnnext, name).default
        arguments = self.overload._schema.arguments
        self._tensors = tuple(i for i, a in enumerate(arguments) if "Tensor" in str(a.type))
        self._defaults = tuple(a.default_value for a in arguments)
        self._normal = normal or (lambda *args: args)
        self._cast = cast
        self._kernel, self._light = kernel, light or bare or kernel
        self._apply = _function(name, bare or kernel, setup, backward)
        self._apply_kernel = _function(name, kernel, setup, backward) if bare else self._apply
        self._apply_below = _function(name, self._below_autograd, setup, backward)
        for device in _DEVICES:
            LIBRARY.impl(name, kernel, device)
        LIBRARY.impl(name, self._autograd, "Autograd")
        torch.library.register_fake(f"cnnext::{name}", fake, lib=LIBRARY)
        if cast:
            for device in _DEVICES:
                self._register_autocast(name, device.lower())

    def _below_autograd(self, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return self.overload(*args)

    def _autograd(self, *args: Any) -> Any:
        """The kernel of torch's autograd. The dispatcher leaves out trailing defaults."""
        args = (*args, *self._defaults[len(args) :])
        recorded, plain = self._look_at(args)
        if plain:
            return self._apply_kernel(*args) if recorded else self._kernel(*args)
        if not recorded:
            return self._below_autograd(*args)
        if _transforms():
            raise NotImplementedError(
                f"{self.overload} has no gradient under torch.func's transforms; use torch.autograd"
            )
        return self._apply_below(*args)

    def _register_autocast(self, name: str, device: str) -> None:
        key = _AUTOCAST_KEYS[device]

        def autocast(*args: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
                return self.overload(*self._lowered(args, device))

        self.overload.py_impl(key)(autocast)
        LIBRARY.impl(name, autocast, f"Autocast{device.upper()}")

    def _lowered(self, args: Sequence[Any], device: str) -> list[Any]:
        """The arguments as autocast has them: float tensors of that device in its dtype, but for float64."""
        dtype = torch.get_autocast_dtype(device)
        result = list(args)
        for i in self._tensors:
            if i < len(args) and args[i] is not None:
                t = args[i]
                if t.is_floating_point() and t.dtype != torch.float64 and t.device.type == device:
                    result[i] = t.to(dtype)
        return result

    def _look_at(self, args: Sequence[Any]) -> tuple[bool, bool]:
        """Will the result have a gradient? Are these tensors with memory whose operations nobody watches?"""
        recorded, plain = False, True
        for i in self._tensors:
            t = args[i]
            if t is not None:
                kind = type(t)
                if kind is not Tensor and kind is not Parameter:
                    plain = False
                if t.requires_grad:
                    recorded = True
        x = args[0]
        plain = plain and (x.is_cpu or x.is_cuda) and not (_modes() or _transforms()) and _tracing() is None
        # A tangent of forward mode is on none of these: autograd.Function says that it knows no such rule.
        return (recorded and _grad_enabled()) or forward_ad._current_level >= 0, plain

    def __call__(self, *args: Any) -> Any:
        if _is_compiling():
            return self.overload(*self._normal(*args))
        recorded, plain = self._look_at(args)
        if not plain:
            return self.overload(*self._normal(*args))
        if self._cast and _any_autocast():
            device = args[0].device.type
            if torch.is_autocast_enabled(device):
                args = tuple(self._lowered(args, device))
        return self._apply(*args) if recorded else self._light(*args)


def _function(
    name: str, kernel: Callable[..., Any], setup: Callable[..., None], rule: Callable[..., Any]
) -> Callable[..., Any]:
    """apply() of the operation as an autograd.Function, without what it does for torch.func's transforms."""

    def forward(ctx: Any, *args: Any) -> Any:
        output = kernel(*args)
        setup(ctx, args, output)
        return output

    def backward(ctx: Any, *grads: Any) -> Any:
        return rule(ctx, *grads)

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function = type(f"cnnext_{name}", (torch.autograd.Function,), members)
    return super(torch.autograd.Function, function).apply
