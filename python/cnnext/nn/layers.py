"""Layers without weights: pooling, activations, dropout, shape."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ._checks import pair, positive
from .module import Module


def _window_sizes(kernel_size: Any, stride: Any, padding: Any) -> tuple[Any, Any, Any]:
    """Checked, and left as given, for repr."""
    pair("kernel_size", kernel_size)
    stride = kernel_size if stride is None else stride
    pair("stride", stride)
    four_sided = isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding)
    for p in padding if four_sided else (padding,):
        pair("padding", p, 0)
    return kernel_size, stride, padding


class MaxPool2d(Module):
    """The maximum of each window (torch.nn.MaxPool2d)."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = _window_sizes(kernel_size, stride, padding)
        pair("dilation", dilation)
        self.dilation, self.return_indices, self.ceil_mode = dilation, return_indices, ceil_mode

    def forward(self, x: Any) -> Any:
        """(N, C, H, W) to (N, C, P, Q); with return_indices also the indices of the maxima."""
        return F.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        """As torch prints it."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxUnpool2d(Module):
    """Maxima put back to where MaxPool2d(return_indices=True) found them (torch.nn.MaxUnpool2d)."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair("stride", stride)
        self.padding = pair("padding", padding, 0)

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Any:
        """(N, C, P, Q) to (N, C, H, W), zeros elsewhere."""
        return F.max_unpool2d(x, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window (torch.nn.AvgPool2d)."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = _window_sizes(kernel_size, stride, padding)
        if divisor_override is not None:
            positive("divisor_override", divisor_override)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Any:
        """(N, C, H, W) to (N, C, P, Q)."""
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Means over a grid of a given size (torch.nn.AdaptiveAvgPool2d)."""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * 2
        if len(sizes) != 2:
            raise ValueError(f"output_size={output_size!r} must be an int or a pair; None keeps a size")
        for size in sizes:
            if size is not None:
                positive("output_size", size, 0)
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """(N, C, H, W) to (N, C, *output_size)."""
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"output_size={self.output_size}"


class _Inplace(Module):
    """An activation that may overwrite its input."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        """As torch prints it."""
        return "inplace=True" if self.inplace else ""


class ReLU(_Inplace):
    """max(x, 0) (torch.nn.ReLU)."""

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.relu(x, self.inplace)


class ReLU6(_Inplace):
    """min(max(x, 0), 6) (torch.nn.ReLU6)."""

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.relu6(x, self.inplace)


class SiLU(_Inplace):
    """x * sigmoid(x) (torch.nn.SiLU)."""

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.silu(x, self.inplace)


class LeakyReLU(Module):
    """x where positive, else negative_slope * x (torch.nn.LeakyReLU)."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.leaky_relu(x, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """x * Phi(x), or its approximation by tanh (torch.nn.GELU)."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate={approximate!r} must be 'none' or 'tanh'")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"approximate={self.approximate!r}"


class Sigmoid(Module):
    """1 / (1 + exp(-x)) (torch.nn.Sigmoid)."""

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent (torch.nn.Tanh)."""

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.tanh(x)


class Softmax(Module):
    """exp(x) over its sum along dim (torch.nn.Softmax)."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of softmax along dim (torch.nn.LogSoftmax)."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"dim={self.dim}"


class Dropout(Module):
    """In training, zeros with probability p and the rest times 1 / (1 - p) (torch.nn.Dropout)."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ValueError(f"p={p!r} must be a probability, from 0 to 1")
        self.p, self.inplace = p, inplace

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return F.dropout(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"p={self.p}, inplace={self.inplace}"


class Flatten(Module):
    """Dimensions start_dim to end_dim as one (torch.nn.Flatten)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        """(N, C, H, W) to (N, C * H * W)."""
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """What goes in comes out; arguments of the constructor are ignored (torch.nn.Identity)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        """x."""
        return x
