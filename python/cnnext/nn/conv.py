"""Convolution and dense layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..autocast_mode import mode as autocast
from ..functional._common import as_tensor, records
from ._checks import conv_padding, factory, pair, positive, zeros_mode
from .init import default_
from .module import Module, Parameter
from .packed import KeptWeight


class _Conv(Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        self.in_channels = positive("in_channels", in_channels)
        self.out_channels = positive("out_channels", out_channels)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = pair("stride", stride)
        self.padding = padding
        self.dilation = pair("dilation", dilation)
        self.groups = positive("groups", groups)
        self.padding_mode = zeros_mode(padding_mode)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"{name}={getattr(self, name)} must be divisible by groups={self.groups}")
        dtype = factory(device, dtype)
        self.weight = Parameter(np.empty(self._weight_shape(), dtype))
        self.bias: Parameter | None
        self.register_parameter("bias", Parameter(np.empty(self.out_channels, dtype)) if bias else None)
        self.reset_parameters()
        self._place(device)

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, distributed as in torch."""
        default_(self.weight, self.bias)

    def extra_repr(self) -> str:
        """As torch prints it: what differs from the defaults."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        for name, default in (
            ("padding", (0, 0)),
            ("dilation", (1, 1)),
            ("output_padding", (0, 0)),
            ("groups", 1),
        ):
            value = getattr(self, name, default)
            text += "" if value == default else f", {name}={value}"
        return text if self.bias is not None else text + ", bias=False"


class Conv2d(_Conv):
    """A convolution with weight (out, in / groups, R, S) and bias (torch.nn.Conv2d).

    padding: an int, (ph, pw), ((top, bottom), (left, right)), "same" or "valid"; padding_mode: "zeros" only.

    Without gradients (no_grad(), or nothing requires them), from the second call with inputs of one shape and
    memory format on, it keeps its weight packed for the kernels, beside the weight: the same bits, sooner.
    Any change of the weight is noticed. While somebody holds its array (weight.data or a view of it, a
    state_dict()) nothing is kept, because a change of that could not be.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        padding = conv_padding(padding)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self._kept = KeptWeight()

    def forward(self, x: Any) -> Any:
        """(N, in, H, W) or (in, H, W) to (N, out, P, Q) or (out, P, Q)."""
        x, weight = as_tensor(x), self.weight
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        if records(x, weight, self.bias):
            self._kept.clear()
        elif autocast.dtype is None:
            weight = self._kept.get(x, weight, *geometry) or weight
        return F.conv2d(x, weight, self.bias, *geometry)


class ConvTranspose2d(_Conv):
    """A transposed convolution with weight (in, out / groups, R, S) and bias (torch.nn.ConvTranspose2d)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        padding = pair("padding", padding, 0)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self.output_padding = pair("output_padding", output_padding, 0)
        for extra, stride_, dilation_ in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= max(stride_, dilation_):
                raise ValueError(
                    f"output_padding={self.output_padding} must be smaller than stride or dilation"
                )

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def forward(self, x: Any, output_size: Any = None) -> Any:
        """(N, in, H, W) to (N, out, P, Q); output_size, (P, Q), chooses among the sizes that fit."""
        extra = self.output_padding if output_size is None else self._output_padding_for(x, output_size)
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _output_padding_for(self, x: Any, output_size: Any) -> tuple[int, ...]:
        wanted = tuple(output_size)[-2:]
        if len(wanted) != 2:
            raise ValueError(f"output_size={output_size!r} must end in two sizes")
        extra = []
        for i, (n, size) in enumerate(zip(x.shape[-2:], wanted, strict=True)):
            reach = self.dilation[i] * (self.kernel_size[i] - 1) + 1
            least = (n - 1) * self.stride[i] - 2 * self.padding[i] + reach
            most = least + max(self.stride[i], self.dilation[i]) - 1
            if not least <= size <= most:
                raise ValueError(
                    f"output_size={tuple(wanted)}: entry {i} must lie between {least} and {most}"
                )
            extra.append(size - least)
        return tuple(extra)


class Linear(Module):
    """A dense layer with weight (out, in) and bias (torch.nn.Linear)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features = positive("in_features", in_features)
        self.out_features = positive("out_features", out_features)
        dtype = factory(device, dtype)
        self.weight = Parameter(np.empty((self.out_features, self.in_features), dtype))
        self.bias: Parameter | None
        self.register_parameter("bias", Parameter(np.empty(self.out_features, dtype)) if bias else None)
        self.reset_parameters()
        self._place(device)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, distributed as in torch."""
        default_(self.weight, self.bias)

    def forward(self, x: Any) -> Any:
        """(..., in) to (..., out)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )
