"""What computes several layers as one operation. A run is no Module: its layers stay where they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from .. import ops
from ..autocast_mode import lowered
from ..autocast_mode import mode as autocast
from ..devices import is_on_device
from ..functional._common import as_raw, as_tensor, records
from ..functional.fused import is_one_with_pool
from ..tape import wrap
from ..tensor import Tensor
from .conv import Conv2d, Linear
from .layers import MaxPool2d
from .module import Module, Parameter
from .norm import BatchNorm2d
from .packed import KeptWeight, is_held_elsewhere


def _parameters(layer: Module) -> tuple[Any, Any]:
    """Weight and bias. Straight from where they are registered: attributes that __getattr__ has to find take
    ten times as long, which is felt where a small image's convolution takes 20 microseconds.
    """
    registered = layer._parameters
    try:
        return registered["weight"], registered["bias"]
    except KeyError:  # something else stands for one
        return layer.weight, layer.bias


class Run:
    """Layers one after the other; subclasses compute them together where they can."""

    def __init__(self, names: list[str], layers: list[Any]) -> None:
        self.name = "+".join(names)
        self.layers: list[Module] = layers

    def plainly(self, x: Any) -> Any:
        """One after the other, each as its class computes it."""
        for layer in self.layers:
            x = type(layer).forward(layer, x)
        return x

    def mark(self, name: str | None) -> None:
        """Note in each layer that it is part of this run, or no longer."""
        for layer in self.layers:
            if name is None:
                vars(layer).pop("_fused", None)
            else:
                vars(layer)["_fused"] = name


class LinearRun(Run):
    """A dense layer and its activation."""

    def __init__(self, linear: Linear, activation: Any, kind: str) -> None:
        super().__init__(["linear", kind], [linear, activation])
        self._linear, self._kind = linear, kind

    def __call__(self, x: Any) -> Any:
        x, linear, kind = as_tensor(x), self._linear, self._kind
        if autocast.dtype is None and not records(x, linear.weight, linear.bias):
            arrays = (x.data, as_raw(linear.weight), as_raw(linear.bias))
            return wrap(ops.linear(*arrays, activation=kind))
        if kind != "relu":
            return self.plainly(x)
        return F.linear(x, linear.weight, linear.bias, activation=kind)


class NormRun(Run):
    """Batch norm and ReLU or ReLU6."""

    def __init__(self, norm: BatchNorm2d, activation: Any, kind: str) -> None:
        super().__init__(["batch_norm", kind], [norm, activation])
        self._norm, self._kind = norm, kind

    def __call__(self, x: Any) -> Any:
        return self._norm.normalised(x, self._kind)


class ConvNormRun(Run):
    """A convolution, batch norm in training, and ReLU, ReLU6 or nothing."""

    def __init__(self, conv: Conv2d, norm: BatchNorm2d, activation: Any, kind: str | None) -> None:
        parts = {"conv2d": conv, "batch_norm": norm, kind or "": activation}
        parts = {name: layer for name, layer in parts.items() if layer is not None}
        super().__init__(list(parts), list(parts.values()))
        self._conv, self._norm, self._kind = conv, norm, kind

    def __call__(self, x: Any) -> Any:
        x, conv, norm = as_tensor(x), self._conv, self._norm
        weight, bias = _parameters(conv)
        gamma, beta = _parameters(norm)
        if records(x, weight, bias):
            conv._kept.clear()
        try:
            y = F.conv2d_batch_norm(
                x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups,
                running_mean=norm.running_mean, running_var=norm.running_var,
                norm_weight=gamma, norm_bias=beta,
                momentum=norm.next_momentum(), eps=norm.eps, activation=self._kind,
            )  # fmt: skip
        except (ValueError, TypeError, NotImplementedError):
            return self.plainly(x)  # the layer that does not take its input says so
        norm.count_batch()
        return y


class ConvRun(Run):
    """A convolution with what follows of: batch norm in evaluation, an activation, max-pool after ReLU."""

    def __init__(
        self, conv: Conv2d, norm: Any, activation: Any, kind: str | None, pool: MaxPool2d | None
    ) -> None:
        parts = {"conv2d": conv, "batch_norm": norm, kind or "": activation, "max_pool2d": pool}
        parts = {name: layer for name, layer in parts.items() if layer is not None}
        super().__init__(list(parts), list(parts.values()))
        self._conv, self._kind, self._pool = conv, kind, pool
        self._folded = FoldedNorm(conv, norm) if norm is not None else None

    @property
    def has_activation(self) -> bool:
        """Does it end with one (or a pool behind it)?"""
        return self._kind is not None

    def __call__(self, x: Any) -> Any:
        x, conv, kind = as_tensor(x), self._conv, self._kind
        weight, bias, kept = *_parameters(conv), conv._kept
        records_ = records(x, weight, bias)
        if self._folded is not None:
            folded = None if records_ or self._folded.records() else self._folded.get(x)
            if folded is None:
                return self.plainly(x)
            weight, bias, kept = folded
        elif records_ and kind != "relu":
            return self.plainly(x)
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        if records_:
            kept.clear()
        elif autocast.dtype is None:
            weight = kept.get(x, weight, *geometry) or weight
        pool = self._pool
        if pool is not None and is_one_with_pool(x.data):
            return F.conv2d_relu_max_pool2d(
                x, weight, bias, *geometry,
                pool_size=pool.kernel_size, pool_stride=pool.stride, pool_padding=pool.padding,
            )  # fmt: skip
        if records_ or autocast.dtype is not None:
            y = F.conv2d(x, weight, bias, *geometry, activation=kind)
        else:
            y = wrap(ops.conv2d(x.data, as_raw(weight), as_raw(bias), *geometry, activation=kind))
        return y if pool is None else type(pool).forward(pool, y)

    def with_residual(self, x: Any, residual: Any) -> Any:
        """The activation of the rest plus the residual; None where the layers are to run one by one."""
        x, residual, conv = as_tensor(x), as_tensor(residual), self._conv
        weight, bias, kept = *_parameters(conv), conv._kept
        if self._pool is not None or records(x, residual, weight, bias):
            return None
        if self._folded is not None:
            folded = None if self._folded.records() else self._folded.get(x)
            if folded is None:
                return None
            weight, bias, kept = folded
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        if autocast.dtype is not None:
            x, weight, bias = lowered(x, weight, bias)
        else:
            weight = kept.get(x, weight, *geometry) or weight
        options = {"activation": self._kind, "residual": residual.data}
        try:
            return wrap(ops.conv2d(x.data, as_raw(weight), as_raw(bias), *geometry, **options))
        except (ValueError, TypeError, NotImplementedError):
            return None  # what does not take its input says so; a residual may also be broadcast


class FoldedNorm:
    """A convolution's weight and bias with the batch norm behind it in them.

    The weight is folded anew when it is another or has changed (which its version says, as long as nobody
    else holds its array: else at every call), the rest of what it is made of when its values differ.
    Copies and pickles hold the layers alone.
    """

    def __init__(self, conv: Conv2d, norm: BatchNorm2d) -> None:
        self._conv, self._norm = conv, norm
        self._made_of: tuple[Any, ...] | None = None
        self._weight = self._bias = None
        self._kept = KeptWeight()

    def __reduce__(self) -> tuple:
        return FoldedNorm, (self._conv, self._norm)

    def records(self) -> bool:
        """Would the norm's parameters be recorded?"""
        return records(*_parameters(self._norm))

    def _vectors(self) -> list[Any]:
        norm, buffers = self._norm, self._norm._buffers
        held = (_parameters(self._conv)[1], *_parameters(norm))
        own = [value.own_array() if isinstance(value, Parameter) else as_raw(value) for value in held]
        return [*own, buffers["running_mean"].data, buffers["running_var"].data]

    def get(self, x: Tensor) -> tuple[Parameter, np.ndarray, KeptWeight] | None:
        """Weight, bias and what keeps the weight packed; None: the layers are to run one by one."""
        weight, _ = _parameters(self._conv)
        if x.ndim != 4 or not isinstance(weight, Parameter) or weight.own_array().dtype.kind != "f":
            return None
        if is_on_device(x.data):
            return None  # whether the statistics changed could be told by waiting for the device alone
        vectors, eps = self._vectors(), self._norm.eps
        values = [vector if vector is None else vector.tobytes() for vector in vectors]
        made_of = (id(weight), weight.state(), eps, values)
        if made_of != self._made_of:
            self._made_of = self._weight = self._bias = None
            self._kept.clear()
            held = is_held_elsewhere(weight)
            folded = _fold(weight.own_array(), *vectors, eps)
            if held:
                return *folded, KeptWeight()
            self._weight, self._bias = folded
            self._made_of = made_of
        return self._weight, self._bias, self._kept


def _fold(
    weight: Any, bias: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float
) -> tuple[Parameter, np.ndarray]:
    with np.errstate(all="ignore"):  # as quiet as the layers
        scale = 1.0 / np.sqrt(var.astype(np.float64) + eps)
        if gamma is not None:
            scale = scale * gamma
        shift = -mean * scale if bias is None else (bias - mean) * scale
        if beta is not None:
            shift = shift + beta
        folded = weight * scale.astype(weight.dtype).reshape(-1, 1, 1, 1)
        folded = folded if folded.flags.c_contiguous else folded.copy()  # NumPy's or CuPy's
        return Parameter(folded, requires_grad=False), shift.astype(weight.dtype)
