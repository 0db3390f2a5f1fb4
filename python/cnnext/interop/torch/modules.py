"""torch.nn's modules with cnnext's kernels: subclasses with the same parameters, state_dict and repr.

A constructor is torch's. `replace()` makes them of a model's own modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from ._conv import conv2d, conv2d_op
from ._conv_transpose import conv_transpose2d
from ._fused import conv2d_relu_max_pool2d
from ._linear import linear
from ._norm import batch_norm
from ._pool import max_pool2d, max_unpool2d


class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d, computed by cnnext."""

    def forward(self, input: Tensor) -> Tensor:
        if self.padding_mode != "zeros":
            return self._conv_forward(input, self.weight, self.bias)
        return conv2d_op(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups, None, None,
            "auto",
        )  # fmt: skip

    def _conv_forward(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None
    ) -> Tensor:
        input, padding = self._padded(input)
        return conv2d(
            input, weight, bias, self.stride, padding, self.dilation, self.groups, activation=activation
        )

    def _padded(self, input: Tensor) -> tuple[Tensor, Any]:
        """The input with any padding that is not of zeros, and the padding that is left to do."""
        if self.padding_mode == "zeros":
            return input, self.padding
        return F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch.nn.ConvTranspose2d, computed by cnnext."""

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, 2, self.dilation
        )
        return conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )


class Linear(nn.Linear):
    """torch.nn.Linear, computed by cnnext."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class MaxPool2d(nn.MaxPool2d):
    """torch.nn.MaxPool2d, computed by cnnext."""

    def forward(self, input: Tensor) -> Any:
        return max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip


class MaxUnpool2d(nn.MaxUnpool2d):
    """torch.nn.MaxUnpool2d, computed by cnnext."""

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    def forward(self, input: Tensor) -> Tensor:
        return self._normalised(input)

    def _normalised(self, input: Tensor, activation: str | None = None) -> Tensor:
        self._check_input_dim(input)
        training = self.training or (self.running_mean is None and self.running_var is None)
        tracks = not self.training or self.track_running_stats
        momentum = self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:  # the mean of all batches
                momentum = 1.0 / float(self.num_batches_tracked)
        return batch_norm(
            input,
            self.running_mean if tracks else None,
            self.running_var if tracks else None,
            self.weight, self.bias, training, 0.0 if momentum is None else momentum, self.eps,
            activation=activation,
        )  # fmt: skip


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """torch.nn.BatchNorm1d, computed by cnnext."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d, computed by cnnext."""


class Sequential(nn.Sequential):
    """torch.nn.Sequential that computes what it can of its own neighbours as one operation.

    cnnext's Conv2d, then torch's ReLU, and MaxPool2d behind them; Linear and ReLU; BatchNorm and ReLU. What
    runs together is read off the modules at each call: one with hooks is called itself, a slice ends where it
    ends.
    """

    def forward(self, input: Any) -> Any:
        modules = list(self._modules.values())
        if _has_any_global_hook():
            return super().forward(input)
        at = 0
        while at < len(modules):
            count = run_length(modules, at)
            input = modules[at](input) if count == 1 else _run(input, modules[at : at + count])
            at += count
        return input


def _is_bare(module: nn.Module) -> bool:
    """Has it no hooks, nor a forward of its own, that would see or change what passes between modules?"""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def run_length(modules: Sequence[Any], at: int) -> int:
    """How many of the modules from this one on run as one operation; 1: itself alone."""
    first = modules[at]
    if type(first) not in (Conv2d, Linear, BatchNorm1d, BatchNorm2d) or not _is_bare(first):
        return 1
    if at + 1 == len(modules) or type(modules[at + 1]) is not nn.ReLU or not _is_bare(modules[at + 1]):
        return 1
    if type(first) is not Conv2d or at + 2 == len(modules):
        return 2
    pool = modules[at + 2]
    if type(pool) is not MaxPool2d or not _is_bare(pool) or pool.ceil_mode or pool.return_indices:
        return 2
    return 3 if pool.dilation in (1, (1, 1), [1, 1]) else 2


def _run(input: Tensor, modules: Sequence[Any]) -> Tensor:
    first = modules[0]
    if type(first) is Linear:
        return linear(input, first.weight, first.bias, activation="relu")
    if type(first) is not Conv2d:
        return first._normalised(input, "relu")
    if len(modules) == 2:
        return first._conv_forward(input, first.weight, first.bias, "relu")
    pool = modules[2]
    input, padding = first._padded(input)
    return conv2d_relu_max_pool2d(
        input, first.weight, first.bias, first.stride, padding, first.dilation, first.groups,
        pool_size=pool.kernel_size, pool_stride=pool.stride, pool_padding=pool.padding,
    )  # fmt: skip
