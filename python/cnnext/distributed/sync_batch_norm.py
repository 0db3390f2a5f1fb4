"""Batch norm with the statistics of all processes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..functional._common import as_tensor, note_update
from ..grad_mode import mode
from ..nn import BatchNorm2d, Module
from ..nn.module import Parameter
from ..tape import defvjp, primitive, wrap
from .group import Group
from .joining import init

__all__ = ["SyncBatchNorm2d"]


def _gathered(values: np.ndarray, group: Group) -> np.ndarray:
    """(k, C) float64 of each process -> (size, k, C)."""
    found = np.empty((group.size, *values.shape), np.float64)
    group.all_gather(np.ascontiguousarray(values, np.float64), found)
    return found


def _moments(x: Any, group: Group) -> tuple[float, np.ndarray, np.ndarray]:
    """Count, mean and variance over the batches of all, joined in the order of ranks (Chan et al., 1979)."""
    axes = tuple(i for i in range(x.ndim) if i != 1)
    count = x.size // x.shape[1]
    if count > 1:
        _, mean, invstd = ops.batch_norm_forward(x, None, None, None, None, True, 0.0, _TINY)
        squares = count * np.maximum(np.float64(1) / np.square(invstd, dtype=np.float64) - _TINY, 0)
    else:
        mean, squares = x.sum(axes) if count else np.zeros(x.shape[1]), np.zeros(x.shape[1])
    local = np.stack([np.full(x.shape[1], count, np.float64), mean, squares])
    total, mean, squares = np.zeros_like(local)
    for n, m, s in _gathered(local, group):
        both = np.maximum(total + n, 1)
        squares = squares + s + np.square(m - mean) * (total * n / both)
        mean = mean + (m - mean) * (n / both)
        total = total + n
    return float(total[0]), mean, squares / max(total[0], 1)


_TINY = 1e-20  # the local statistics' eps, which has to be one: only their invstd tells the variance


@primitive
def _sync_batch_norm(
    x: Any, weight: Any, bias: Any, *, mean: Any, invstd: Any, count: float, group: Any
) -> Any:
    ones = np.ones_like(mean)
    scale = invstd if weight is None else invstd * weight
    return ops.batch_norm(x, mean, ones, scale, bias, False, 0.0, 0.0)


def _rule(
    g: Any, x: Any, weight: Any, mean: Any, invstd: Any, count: float, group: Any, wanted: Any
) -> tuple:
    if mode.enabled:
        raise NotImplementedError("SyncBatchNorm2d: gradients of gradients; BatchNorm2d has them")
    grad, image = g.data, x.data
    needs = (False, True, True)
    _, dots, sums = ops.batch_norm_backward(grad, image, None, mean, invstd, training=True, needs=needs)
    grad_x = None
    if wanted[0]:
        both = _gathered(np.stack([sums, dots]), group)
        all_sums, all_dots = both[0]
        for other_sums, other_dots in both[1:]:
            all_sums, all_dots = all_sums + other_sums, all_dots + other_dots
        shape = [1, -1] + [1] * (image.ndim - 2)

        def along(values: Any) -> Any:
            return values.astype(image.dtype).reshape(shape)

        scale = invstd if weight is None else invstd * weight.data
        grad_x = (image - along(mean)) * along(-scale * invstd * all_dots / count)
        grad_x += grad * along(scale)
        grad_x += along(-scale * all_sums / count)
        grad_x = wrap(grad_x)
    return grad_x, wrap(dots) if wanted[1] else None, wrap(sums) if wanted[2] else None


defvjp(_sync_batch_norm, joint=_rule)


class SyncBatchNorm2d(BatchNorm2d):
    """BatchNorm2d whose statistics in training are those of all processes' batches (torch.nn.SyncBatchNorm).

    group: of `cnnext.distributed.init`, by default that. The batches may differ in size; one may be empty.
    Its parameters' gradients are each process's own share, which DistributedDataParallel averages.
    """

    def __init__(self, *args: Any, group: Group | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = init() if group is None else group

    def normalised(self, x: Any, activation: str | None = None) -> Any:
        """forward(x) and an activation."""
        if not self.training or self.group.size == 1:
            return super().normalised(x, activation)
        x = as_tensor(x)
        if x.ndim != 4:
            raise ValueError(f"SyncBatchNorm2d: expected 4D input, got {x.ndim}D")
        momentum = self.next_momentum()
        self.count_batch()
        count, mean, var = _moments(x.data, self.group)
        if count < 2:
            raise ValueError("SyncBatchNorm2d: expected more than 1 value a channel over all processes")
        dtype = x.data.dtype
        invstd = (1 / np.sqrt(var + self.eps)).astype(dtype)
        y = _sync_batch_norm(
            x, self.weight, self.bias, mean=mean.astype(dtype), invstd=invstd, count=count, group=self.group
        )
        if self.running_mean is not None:
            for running, value in ((self.running_mean, mean), (self.running_var, var * count / (count - 1))):
                running.data[...] = (1 - momentum) * running.data + momentum * value
                note_update(running)
        if activation is None:
            return y
        return y.relu() if activation == "relu" else y.clamp(0, 6)

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, group: Group | None = None) -> Module:
        """Every BatchNorm2d in `module` becomes one of these, with its values (torch.nn.SyncBatchNorm's)."""
        group = init() if group is None else group
        if type(module) is BatchNorm2d:
            return cls._from(module, group)
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is BatchNorm2d:
                    setattr(parent, name, cls._from(child, group))
        return module

    @classmethod
    def _from(cls, norm: BatchNorm2d, group: Group) -> SyncBatchNorm2d:
        sync = cls(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, group=group
        )
        for name, value in (*norm._parameters.items(), *norm._buffers.items()):
            registry = sync._parameters if isinstance(value, Parameter) else sync._buffers
            registry[name] = value
        return sync.train(norm.training)
