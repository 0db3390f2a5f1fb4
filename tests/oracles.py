"""Plain NumPy, float64: what the reference backend is checked against. Slow and short on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from math import erf, exp, pi, sqrt, tanh
from typing import Any

import numpy as np


def pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def pads(padding: Any, size: Any, kernel: Any, stride: Any, dilation: Any) -> list[tuple[int, int]]:
    """((top, bottom), (left, right)) of any spelling of padding."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        result = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            result.append((total // 2, total - total // 2))
        return result
    return [pair(side) for side in pair(padding)]


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> np.ndarray:
    stride, dilation = pair(stride), pair(dilation)
    (top, bottom), (left, right) = pads(padding, x.shape[-2:], weight.shape[2:], stride, dilation)
    image = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    N, _, H, W = image.shape
    K, C, R, S = weight.shape
    P = (H - dilation[0] * (R - 1) - 1) // stride[0] + 1
    Q = (W - dilation[1] * (S - 1) - 1) // stride[1] + 1
    y = np.zeros((N, groups, K // groups, P, Q))
    image = image.reshape(N, groups, C, H, W)
    taps = weight.reshape(groups, K // groups, C, R, S)
    for r in range(R):
        for s in range(S):
            rows = slice(r * dilation[0], r * dilation[0] + (P - 1) * stride[0] + 1, stride[0])
            columns = slice(s * dilation[1], s * dilation[1] + (Q - 1) * stride[1] + 1, stride[1])
            y += np.einsum("ngcpq,gkc->ngkpq", image[:, :, :, rows, columns], taps[..., r, s])
    y = y.reshape(N, K, P, Q)
    return y if bias is None else y + bias[:, None, None]


def windows(shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Iterator:
    """(p, q, taps) of every pooling window; taps: (r, s, h, w) inside the padded image, row-major.

    h, w may lie in the padding; taps beyond it (ceil_mode) are left out.
    """
    kernel, dilation = pair(kernel), pair(dilation)
    stride = kernel if stride is None else pair(stride)
    sides = pads(padding, shape, kernel, stride, dilation)
    counts = []
    for n, k, s, d, (before, after) in zip(shape, kernel, stride, dilation, sides, strict=True):
        room = n + before + after - d * (k - 1) - 1
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1
        counts.append(count)
    for p in range(counts[0]):
        for q in range(counts[1]):
            corner = p * stride[0] - sides[0][0], q * stride[1] - sides[1][0]
            taps = [
                (r, s, corner[0] + r * dilation[0], corner[1] + s * dilation[1])
                for r in range(kernel[0])
                for s in range(kernel[1])
            ]
            yield p, q, [t for t in taps if t[2] < shape[0] + sides[0][1] and t[3] < shape[1] + sides[1][1]]


def _inside(taps: list, shape: Any) -> list:
    return [t for t in taps if 0 <= t[2] < shape[0] and 0 <= t[3] < shape[1]]


def _size(found: list) -> tuple[int, int]:
    return max(p for p, _, _ in found) + 1, max(q for _, q, _ in found) + 1


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
    indices: str = "plane",
) -> tuple:
    """First of equals, last NaN; no valid tap: -inf and -1 (all ones)."""
    found = list(windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode))
    kernel = pair(kernel_size)
    taps_count = kernel[0] * kernel[1]
    dtype = np.uint8 if taps_count <= 255 else np.uint16 if taps_count <= 65535 else np.int32
    y = np.full((*x.shape[:2], *_size(found)), -np.inf)
    plane, window = np.full(y.shape, -1), np.full(y.shape, -1)
    for p, q, taps in found:
        for r, s, h, w in _inside(taps, x.shape[2:]):
            value = x[:, :, h, w]
            better = (plane[:, :, p, q] < 0) | (value > y[:, :, p, q]) | np.isnan(value)
            better &= np.isnan(value) | ~np.isnan(y[:, :, p, q])
            y[:, :, p, q] = np.where(better, value, y[:, :, p, q])
            plane[:, :, p, q] = np.where(better, h * x.shape[3] + w, plane[:, :, p, q])
            window[:, :, p, q] = np.where(better, r * kernel[1] + s, window[:, :, p, q])
    codes = plane if indices == "plane" else window.astype(dtype)
    return (y, codes) if return_indices else (y,)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
    dilation: Any = 1,
) -> np.ndarray:
    found = list(windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode))
    y = np.zeros((*x.shape[:2], *_size(found)))
    for p, q, taps in found:
        inside = _inside(taps, x.shape[2:])
        count = divisor_override or (len(taps) if count_include_pad else len(inside))
        y[:, :, p, q] = sum(x[:, :, h, w] for _, _, h, w in inside) / max(count, 1)
    return y


def adaptive_avg_pool2d(x: Any, output_size: Any) -> np.ndarray:
    size = [n if want is None else want for n, want in zip(x.shape[2:], pair(output_size), strict=True)]
    y = np.zeros((*x.shape[:2], *size))
    edges = [
        [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in zip(x.shape[2:], size, strict=True)
    ]
    for p, (top, bottom) in enumerate(edges[0]):
        for q, (left, right) in enumerate(edges[1]):
            y[:, :, p, q] = x[:, :, top:bottom, left:right].mean((2, 3))
    return y


ACTIVATIONS = {
    "relu": lambda v, _: max(v, 0.0),
    "relu6": lambda v, _: min(max(v, 0.0), 6.0),
    "leaky_relu": lambda v, slope: v if v > 0 else v * slope,
    "gelu": lambda v, _: v * 0.5 * (1 + erf(v / sqrt(2))),
    "gelu_tanh": lambda v, _: 0.5 * v * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v**3))),
    "silu": lambda v, _: v / (1 + exp(-v)),
    "sigmoid": lambda v, _: 1 / (1 + exp(-v)),
    "tanh": lambda v, _: tanh(v),
}


def activation(x: Any, kind: str, negative_slope: float = 0.01) -> np.ndarray:
    return np.vectorize(lambda v: ACTIVATIONS[kind](v, negative_slope), otypes=[float])(x)


def per_channel(v: Any, ndim: int) -> np.ndarray:
    return v.reshape(1, -1, *[1] * (ndim - 2))


def batch_norm(x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> np.ndarray:
    mean, var, weight, bias = (per_channel(v, x.ndim) for v in (mean, var, weight, bias))
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def log_softmax(x: Any, dim: int) -> np.ndarray:
    shifted = x - x.max(dim, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))


def cross_entropy(
    x: Any,
    target: Any,
    weight: Any,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> np.ndarray:
    """By its definition: targets as probabilities, smoothed; the mean is over the labels' weights."""
    if x.ndim == 1:
        x, target = x[None], target[None]
    classes = x.shape[1]
    weights = per_channel(weight, x.ndim)
    if target.dtype.kind != "f":
        keep = target != ignore_index
        hot = np.moveaxis(np.eye(classes)[np.where(keep, target, 0)], -1, 1) * keep[:, None]
        share = (hot * weights).sum(1)
        smoothed = (1 - label_smoothing) * hot + label_smoothing / classes * keep[:, None]
    else:
        share = np.ones((x.shape[0], *x.shape[2:]))
        smoothed = (1 - label_smoothing) * target + label_smoothing / classes
    loss = -(smoothed * weights * log_softmax(x, 1)).sum(1)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / share.sum()
