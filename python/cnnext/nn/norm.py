"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..tensor import Tensor
from ._checks import factory, positive
from .init import ones_, zeros_
from .module import Module, Parameter


class _BatchNorm(Module):
    _ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = positive("num_features", num_features)
        self.eps, self.momentum, self.affine, self.track_running_stats = (
            eps,
            momentum,
            affine,
            track_running_stats,
        )
        dtype = factory(device, dtype)

        def vector() -> np.ndarray:
            return np.empty(self.num_features, dtype)

        self.register_parameter("weight", Parameter(vector()) if affine else None)
        self.register_parameter("bias", Parameter(vector()) if affine and bias else None)
        self.register_buffer("running_mean", Tensor(vector()) if track_running_stats else None)
        self.register_buffer("running_var", Tensor(vector()) if track_running_stats else None)
        self.register_buffer(
            "num_batches_tracked", Tensor(np.zeros((), np.int64)) if track_running_stats else None
        )
        self.reset_parameters()
        self._place(device)

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches seen."""
        if self.track_running_stats:
            zeros_(self.running_mean)
            ones_(self.running_var)
            zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and reset_running_stats."""
        self.reset_running_stats()
        _reset(self)

    def forward(self, x: Any) -> Any:
        """Same shape out; the batch's statistics in training, the running ones in evaluation."""
        return self.normalised(x)

    def normalised(self, x: Any, activation: str | None = None) -> Any:
        """forward(x) and an activation, "relu" or "relu6", in one pass."""
        if x.ndim not in self._ranks:
            expected = " or ".join(f"{rank}D" for rank in self._ranks)
            raise ValueError(f"{type(self).__name__}: expected {expected} input, got {x.ndim}D")
        momentum = self.next_momentum()
        if self.training:
            self.count_batch()
        training = self.training or self.running_mean is None
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training, momentum, self.eps,
            activation=activation,
        )  # fmt: skip

    def next_momentum(self) -> float:
        """What the next batch weighs in the running statistics; momentum=None: as much as each before it."""
        if self.momentum is not None:
            return self.momentum
        tracked = self.num_batches_tracked
        return 1.0 / (tracked.item() + 1) if self.training and tracked is not None else 0.0

    def count_batch(self) -> None:
        """One more in num_batches_tracked."""
        tracked = self.num_batches_tracked
        if tracked is not None:
            tracked.data += 1  # not add_: an integer has no history, and this is on every step's way
            tracked._version.count += 1

    def extra_repr(self) -> str:
        """As torch prints it."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L) (torch.nn.BatchNorm1d)."""

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W) (torch.nn.BatchNorm2d)."""

    _ranks = (4,)


class _SampleNorm(Module):
    """Normalisation of each sample by itself: no statistics are kept."""

    def _init_affine(self, shape: Any, eps: float, weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        self.eps = eps
        dtype = factory(device, dtype)

        def affine(wanted: bool) -> Parameter | None:
            return Parameter(np.empty(shape, dtype)) if wanted else None

        self.register_parameter("weight", affine(weight))
        self.register_parameter("bias", affine(weight and bias))
        self.reset_parameters()
        self._place(device)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset(self)


class LayerNorm(_SampleNorm):
    """Normalisation over the last dimensions, each sample by itself (torch.nn.LayerNorm)."""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        sizes = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
        self.normalized_shape = tuple(positive("normalized_shape", n) for n in sizes)
        if not sizes:
            raise ValueError("normalized_shape=() must hold at least one size")
        self.elementwise_affine = elementwise_affine
        self._init_affine(self.normalized_shape, eps, elementwise_affine, bias, device, dtype)

    def forward(self, x: Any) -> Any:
        """(..., *normalized_shape), same shape out."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm2d(LayerNorm):
    """Layer norm over the channels of each pixel of (N, C, H, W), same shape out (torchvision's LayerNorm2d).

    normalized_shape: C. Channels-last memory is the format that it reads as it lies, and that the result has
    in any case; contiguous input is copied into it, once forwards and once backwards.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)
        if len(self.normalized_shape) != 1:
            raise ValueError(f"normalized_shape={normalized_shape!r} must be the number of channels")

    def forward(self, x: Any) -> Any:
        """(N, C, H, W), same shape out, channels-last in memory."""
        if x.ndim != 4:
            raise ValueError(f"LayerNorm2d: expected 4D input, got {x.ndim}D")
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GroupNorm(_SampleNorm):
    """Normalisation over groups of channels, each image by itself: Wu and He, 2018 (torch.nn.GroupNorm)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_groups = positive("num_groups", num_groups)
        self.num_channels = positive("num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(f"num_channels={num_channels} must be divisible by num_groups={num_groups}")
        self.affine = affine
        self._init_affine(self.num_channels, eps, affine, bias, device, dtype)

    def forward(self, x: Any) -> Any:
        """(N, num_channels, ...), same shape out."""
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """As torch prints it."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


def _reset(norm: Module) -> None:
    if norm.weight is not None:
        ones_(norm.weight)
    if norm.bias is not None:
        zeros_(norm.bias)
