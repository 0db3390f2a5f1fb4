"""Do all processes hold the same model? Else their buckets would not fit together."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ..devices import asarray_like
from ..nn import Module
from .group import Group

__all__ = ["check_same_model"]


def check_same_model(module: Module, bucket_cap_mb: float, group: Group) -> None:
    """ValueError, in all processes, that names the first difference in names, shapes or dtypes."""
    lines = _described(module, bucket_cap_mb)
    text = "\n".join(lines).encode()
    like = next((parameter.data for parameter in module.parameters()), np.empty(0))
    digests = _gathered(hashlib.sha256(text).digest(), like, group)
    if all(digest == digests[0] for digest in digests):
        return
    lengths = _gathered(len(text).to_bytes(8, "little"), like, group)
    sizes = [int.from_bytes(length, "little") for length in lengths]
    texts = _gathered(text.ljust(max(sizes), b"\0"), like, group)
    other = next(rank for rank, digest in enumerate(digests) if digest != digests[0])
    first, second = (texts[rank][: sizes[rank]].decode().split("\n") for rank in (0, other))
    for line in range(max(len(first), len(second))):
        mine, others = (some[line] if line < len(some) else "nothing more" for some in (first, second))
        if mine != others:
            raise ValueError(
                "DistributedDataParallel: the processes' models differ; the first difference: process 0 has "
                f"{mine}, process {other} has {others}"
            )


def _described(module: Module, bucket_cap_mb: float) -> list[str]:
    lines = [f"bucket_cap_mb={bucket_cap_mb!r}"]
    for name, parameter in module.named_parameters():
        array = parameter.own_array()
        kind = "parameter" if parameter.requires_grad else "parameter without gradient"
        lines.append(f"{kind} {name!r} of {array.dtype.name} {tuple(array.shape)}")
    for name, buffer in module.named_buffers():
        lines.append(f"buffer {name!r} of {buffer.data.dtype.name} {tuple(buffer.data.shape)}")
    return lines


def _gathered(mine: bytes, like: Any, group: Group) -> list[bytes]:
    """Each process's bytes, of one length, sent from where the array `like` is."""
    send = asarray_like(np.frombuffer(mine, np.uint8).copy(), like, np.uint8)
    found = asarray_like(np.empty((group.size, len(mine)), np.uint8), like, np.uint8)
    group.all_gather(send, found)
    return [row.tobytes() for row in found]
