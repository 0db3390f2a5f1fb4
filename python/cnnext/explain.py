"""What a call would run, without running it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import _C, roofline
from ._arrays import Padding, Pair
from .devices import parse_device

_ITEM_BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "uint8": 1, "int8": 1}


@dataclass(frozen=True)
class Explanation:
    """The answer of explain(); str() is a table."""

    op: str
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]  #: of the forward's result
    dtype: str
    channels_last: bool
    kernel: str  #: what runs: "cpu/avx512/conv2d_k_6x64"; "" where there is nothing to compute
    algorithm: str
    choice: str  #: where it comes from: "table", or "autotune: ..." and what was found
    tile: str  #: "6x64": pixels by output channels; "8x3x16": input channels at once; Winograd's output
    isa: str  #: on CUDA: the device
    threads: int  #: on CUDA: 0
    tasks: int  #: that the threads share, in the largest step; on CUDA: its blocks
    scratch_bytes: int
    packed_weight_bytes: int  #: of the scratch: weights in the kernels' order; 0: read as they lie
    strip: str  #: of a fused operation: what it computes at a time of the result between its parts
    flops: float  #: of the operation (of the direct algorithm); a pool's comparisons
    bytes: int  #: of inputs and outputs, each once
    _part_of_peak: float = field(repr=False)

    @property
    def expected_gflops(self) -> float:
        """flops over the time that a roofline model expects; 0 where there is nothing to compute, or on CUDA,
        of whose devices there is no model here (docs/PERFORMANCE.md has one on paper)."""
        # cnnext.roofline measures for some 50 ms when first asked.
        if not self.flops or not self._part_of_peak:
            return 0.0
        limits = roofline.limits()
        arithmetic = self.flops / (limits.gflops * self._part_of_peak)
        return self.flops / max(arithmetic, self.bytes / limits.gbytes_per_second)

    def __str__(self) -> str:
        layout = "channels-last" if self.channels_last else "contiguous"
        rows = {
            "op": f"{self.op}, {self.dtype}, {layout}",
            "shape": f"{self.x_shape} -> {self.y_shape}",
            "kernel": self.kernel or "none: nothing to compute",
            "algorithm": self.algorithm + (f", tile {self.tile}" if self.tile else ""),
            "choice": self.choice,
            "isa": f"{self.isa}, {self.threads} threads, {self.tasks} tasks" if self.threads else "",
            "device": "" if self.threads else f"{self.isa}, {self.tasks} blocks",
            "scratch": f"{_size(self.scratch_bytes)}, of it packed weights {_size(self.packed_weight_bytes)}",
            "strip": self.strip,
            "work": f"{self.flops / 1e9:.4g} GFLOP, {_size(self.bytes)}",
        }
        if gflops := self.expected_gflops:
            rows["expected"] = (
                f"{gflops:.3g} GFLOP/s, {self.flops / gflops / 1e6:.3g} ms "
                f"(a model; limits {roofline.limits()})"
            )
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items() if value)


def explain(
    op: str,
    x_shape: Sequence[int],
    *args: Any,
    channels_last: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    **kwargs: Any,
) -> Explanation:
    """Which kernel a call would take, with which tile, instruction set, scratch and expected speed.

    op, and what follows x_shape (N, C, H, W) or (C, H, W), with the names and defaults of cnnext.ops:
        "conv2d": weight_shape, stride, padding, dilation, groups, *, bias=False, activation, algorithm
        "conv2d_batch_norm": the same without activation and algorithm
        "conv2d_backward_data", "conv2d_backward_weights": the same without bias and activation; x_shape and
            weight_shape are always the forward's
        "conv_transpose2d": weight_shape, stride, padding, output_padding, groups, dilation, *, bias=False,
            algorithm
        "conv2d_relu_max_pool2d", "conv2d_relu_max_pool2d_backward": weight_shape, stride, padding, dilation,
            groups, *, pool_size, pool_stride, pool_padding, bias=False
        "max_pool2d", "max_pool2d_backward": kernel_size, stride, padding, dilation, ceil_mode,
            return_indices, *, indices
    device: "cpu", "cuda" (which is "cuda:0" here) or "cuda:N"; NotImplementedError where there is none.
    Weights are taken to be contiguous, finite and not packed before. Nothing is computed and no memory of the
    tensors' size is taken; wrong arguments raise what the op raises.

    explain("conv2d", (8, 64, 56, 56), (64, 64, 3, 3), padding=1, channels_last=True)
    """
    number = _number_of(device)
    if op not in _OPS:
        raise ValueError(f"op is {op!r}; it must be one of {', '.join(map(repr, _OPS))}")
    kwargs.update(channels_last=channels_last, dtype=dtype, device=number)
    plan, flops, elements = _OPS[op](op, x_shape, *args, **kwargs)
    kernel: str = plan["kernel"]
    algorithm, part_of_peak = roofline.family_of(kernel)
    tile = re.search(r"\d+(x\d+)+", kernel)
    return Explanation(
        op=op,
        x_shape=tuple(map(int, x_shape)),
        y_shape=plan["y_shape"],
        dtype=dtype,
        channels_last=channels_last,
        kernel=kernel,
        algorithm=algorithm,
        choice=plan["choice"],
        tile=tile[0] if tile else "",
        isa=_C.isa() if number is None else _C.cuda_devices()[number],
        threads=plan["threads"] if number is None else 0,
        tasks=plan["tasks"],
        scratch_bytes=plan["scratch_bytes"],
        packed_weight_bytes=plan["packed_weight_bytes"],
        strip=_strip(*plan["strip"]),
        flops=flops if kernel else 0.0,
        bytes=elements,
        _part_of_peak=part_of_peak,
    )


def _number_of(device: str) -> int | None:
    """The CUDA device's number; None for the CPU."""
    name = str(device)
    kind, _, number = name.partition(":")
    if name != "cpu" and kind != "cuda":
        raise ValueError(f"device is {device!r}; it must be 'cpu', 'cuda' or 'cuda:N'")
    return None if name == "cpu" else int(parse_device(name if number else "cuda:0").partition(":")[2])


def _size(count: int) -> str:
    value, units = float(count), ["B", "KB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def _strip(images: int, rows: int) -> str:
    return f"{rows} rows of {images} image{'s' if images > 1 else ''}" if rows else ""


#: A plan of the extension, the operations, and the bytes of inputs and outputs.
_Answer = tuple[dict[str, Any], float, int]


def _conv(op: str, x_shape: Sequence[int], weight_shape: Sequence[int], *rest: Any) -> _Answer:
    plan = _C.plan_conv(op, x_shape, weight_shape, *rest)
    bias, dtype = rest[5], rest[-2]
    y_shape = plan["y_shape"]
    # Each element of the feature side meets all of one filter.
    features = x_shape if op == "conv_transpose2d" else y_shape
    flops = 2.0 * math.prod(features) * math.prod(weight_shape[1:])
    written = 2 if op == "conv2d_batch_norm" else 1
    elements = math.prod(x_shape) + math.prod(weight_shape) + written * math.prod(y_shape)
    elements += y_shape[-3] if bias else 0
    return plan, flops, elements * _ITEM_BYTES[dtype]


def _conv2d(
    op: str,
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    bias: bool = False,
    activation: str | None = None,
    algorithm: str = "auto",
    channels_last: bool,
    dtype: str,
    device: int | None,
) -> _Answer:
    if op != "conv2d" and activation:
        raise TypeError(f"{op} takes no activation")
    if op not in ("conv2d", "conv2d_batch_norm") and bias:
        raise TypeError(f"{op} takes no bias")
    if op == "conv2d_batch_norm" and algorithm != "auto":
        raise TypeError(f"{op} takes no algorithm")
    ends = (bias, activation, algorithm, channels_last, dtype, device)
    return _conv(op, x_shape, weight_shape, stride, padding, dilation, groups, 0, *ends)


def _conv_transpose2d(
    op: str,
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    *,
    bias: bool = False,
    algorithm: str = "auto",
    channels_last: bool,
    dtype: str,
    device: int | None,
) -> _Answer:
    ends = (bias, None, algorithm, channels_last, dtype, device)
    return _conv(op, x_shape, weight_shape, stride, padding, dilation, groups, output_padding, *ends)


def _conv2d_relu_max_pool2d(
    op: str,
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    pool_size: Pair,
    pool_stride: Pair | None = None,
    pool_padding: Padding = 0,
    bias: bool = False,
    channels_last: bool,
    dtype: str,
    device: int | None,
) -> _Answer:
    geometry = (stride, padding, dilation, groups)
    ends = (channels_last, dtype, device)
    conv = _C.plan_conv("conv2d", x_shape, weight_shape, *geometry, 0, bias, None, "auto", *ends)
    backward = op.endswith("backward")
    window = (pool_size, pool_stride, pool_padding)
    plan = _C.plan_conv_pool(backward, x_shape, weight_shape, *geometry, *window, bias, *ends)
    flops = 2.0 * math.prod(conv["y_shape"]) * math.prod(weight_shape[1:])
    read = math.prod(x_shape) + math.prod(weight_shape)
    pooled = math.prod(plan["y_shape"])
    size = _ITEM_BYTES[dtype]
    if backward:  # the gradients of x and weight
        return plan, 2 * flops, (2 * read + pooled) * size + pooled
    return plan, flops, (read + pooled) * size + pooled


def _max_pool2d(
    op: str,
    x_shape: Sequence[int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: str = "plane",
    channels_last: bool,
    dtype: str,
    device: int | None,
) -> _Answer:
    backward = op == "max_pool2d_backward"
    rest = (padding, dilation, ceil_mode, return_indices, indices, channels_last, dtype, device)
    plan = _C.plan_max_pool(backward, x_shape, kernel_size, stride, *rest)
    window = math.prod(_C.parse_pair(kernel_size, "kernel_size"))
    outputs = math.prod(plan["y_shape"])
    code_bytes = 8 if indices == "plane" else 1 if window <= 255 else 2 if window <= 65535 else 4
    codes = outputs * code_bytes if return_indices or backward else 0
    return plan, float(outputs * window), (math.prod(x_shape) + outputs) * _ITEM_BYTES[dtype] + codes


_OPS = {
    "conv2d": _conv2d,
    "conv2d_batch_norm": _conv2d,
    "conv2d_backward_data": _conv2d,
    "conv2d_backward_weights": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "conv2d_relu_max_pool2d": _conv2d_relu_max_pool2d,
    "conv2d_relu_max_pool2d_backward": _conv2d_relu_max_pool2d,
    "max_pool2d": _max_pool2d,
    "max_pool2d_backward": _max_pool2d,
}
