"""Data-parallel training: each process has the whole model and its share of every batch."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from .. import leaf_hooks
from ..nn import Module, Parameter
from ..tensor import Tensor
from .group import Group
from .joining import init
from .reduce import mean_over, padded
from .same_model import check_same_model

__all__ = ["DistributedDataParallel"]


class _Bucket:
    """Parameters of one dtype whose gradients travel together, each with a flag: has it a gradient?"""

    def __init__(self, parameters: list[Parameter], group: Group) -> None:
        self.parameters = parameters
        sizes = [parameter.own_array().size for parameter in parameters]
        ends = np.cumsum(sizes).tolist()
        self.slices = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.flags = slice(ends[-1], ends[-1] + len(sizes))
        first = parameters[0].own_array()
        self.flat = np.zeros_like(first, shape=(padded(self.flags.stop, group),))
        self.begin()

    def begin(self) -> None:
        self.flat[...] = 0
        self.missing = len(self.parameters)

    def take(self, at: int) -> None:
        """The gradient of one of the parameters is complete."""
        grad = self.parameters[at].grad.data
        self.flat[self.slices[at]].reshape(grad.shape)[...] = grad
        self.flat[self.flags][at] = 1
        self.missing -= 1

    def give(self) -> None:
        """Every gradient its mean; where no process has one there is none."""
        for parameter, here, flag in zip(self.parameters, self.slices, self.flat[self.flags], strict=True):
            if not flag:
                continue
            mean = self.flat[here].reshape(parameter.own_array().shape)
            if parameter.grad is None:
                parameter.grad = Tensor(mean.copy())
            else:
                parameter.grad.data[...] = mean
                parameter.grad._version.count += 1


class DistributedDataParallel(Module):
    """A model whose gradients are means over all processes (torch.nn.parallel.DistributedDataParallel).

    module: as it is in process 0, whose parameters and buffers all others take; called as it is itself, kept
    as `.module`. group: of `cnnext.distributed.init`, by default that. bucket_cap_mb: gradients are sent in
    buckets of that size, from the last parameters on, while backward() goes on with the others.

    Every process calls backward() equally often. With a loss that is a mean, processes with halves of a batch
    get the gradients of the whole, to rounding; the same bits run after run, and the same in all processes,
    so that their optimisers keep them equal. Batch norm's statistics are each process's own
    (SyncBatchNorm2d: those of all). ValueError, in all processes, where their models differ in more than
    values. DistributedError, in backward(), where another process is gone.
    Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", 2020.
    """

    def __init__(self, module: Module, group: Group | None = None, bucket_cap_mb: float = 25.0) -> None:
        super().__init__()
        if not isinstance(module, Module):
            raise TypeError(f"DistributedDataParallel: module must be a Module, got {type(module).__name__}")
        if not bucket_cap_mb > 0:
            raise ValueError(f"DistributedDataParallel: bucket_cap_mb={bucket_cap_mb!r} must be > 0")
        self.module = module
        self.group = init() if group is None else group
        self._synchronised = True
        if self.group.size == 1:
            return
        check_same_model(module, float(bucket_cap_mb), self.group)
        for _, value in (*module.named_parameters(), *module.named_buffers()):
            array = value.data.copy()
            self.group.broadcast(array)
            value.data[...] = array
            value._version.count += 1
        self._group = self.group.duplicate()  # the thread's
        self._buckets = [_Bucket(some, self.group) for some in _shares(module, bucket_cap_mb * 2**20)]
        self._thread = ThreadPoolExecutor(1, "cnnext-reduce")
        self._sent: list[Future] = []
        self._begun = False
        me = weakref.ref(self)
        for bucket in self._buckets:
            for at, parameter in enumerate(bucket.parameters):
                parameter.register_post_accumulate_grad_hook(_hook(me, bucket, at))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's."""
        return self.module(*args, **kwargs)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within it gradients add up in each process; the first backward() behind it takes their means."""
        before, self._synchronised = self._synchronised, False
        try:
            yield
        finally:
            self._synchronised = before

    def _on_gradient(self, bucket: _Bucket, at: int) -> None:
        if not self._synchronised:
            return
        if not self._begun:
            self._begun = True
            for each in self._buckets:
                each.begin()
            self._sent = []
            leaf_hooks.at_end(self._finish)
        bucket.take(at)
        self._send(complete_only=True)

    def _send(self, complete_only: bool) -> None:
        """In their order, which is the same in all processes."""
        for bucket in self._buckets[len(self._sent) :]:
            if complete_only and bucket.missing:
                return
            self._sent.append(self._thread.submit(mean_over, bucket.flat, self._group))

    def _finish(self, well: bool) -> None:
        self._begun = False
        if not well:
            wait(self._sent)  # what is on its way is of buckets that the next backward() clears
            return
        for bucket in self._buckets[len(self._sent) :]:
            for at, parameter in enumerate(bucket.parameters):  # e.g. one that this step did not reach
                if parameter.grad is not None and not bucket.flat[bucket.flags][at]:
                    bucket.take(at)
        self._send(complete_only=False)
        wait(self._sent)  # all, even if one fails
        for bucket, sent in zip(self._buckets, self._sent, strict=True):
            sent.result()
            bucket.give()


def _hook(me: weakref.ref, bucket: _Bucket, at: int) -> Any:
    def on_gradient(parameter: Any) -> None:
        self = me()
        if self is not None:
            self._on_gradient(bucket, at)

    return on_gradient


def _shares(module: Module, most: float) -> Iterator[list[Parameter]]:
    """Parameters for each bucket, the last ones first: backward() reaches them first."""
    share: list[Parameter] = []
    nbytes = 0.0
    for parameter in reversed([p for p in module.parameters() if p.requires_grad]):
        array = parameter.own_array()
        if share and (nbytes + array.nbytes > most or array.dtype != share[0].own_array().dtype):
            yield share
            share, nbytes = [], 0.0
        share.append(parameter)
        nbytes += array.nbytes
    if share:
        yield share
