"""Cases of convolution in its three passes, transposed convolution and linear."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from op_case import Case, pair


def conv_output(
    size: tuple[int, int], kernel: tuple[int, int], stride: Any, padding: Any, dilation: Any
) -> tuple:
    """(P, Q) of a convolution."""
    result = []
    for axis in range(2):
        effective = pair(dilation)[axis] * (kernel[axis] - 1) + 1
        step = pair(stride)[axis]
        if padding == "same":
            result.append(ceil(size[axis] / step))
            continue
        pads = (0, 0) if padding == "valid" else pair(pair(padding)[axis])
        result.append((size[axis] + sum(pads) - effective) // step + 1)
    return tuple(result)


# note, (N, C, H, W), (K, R, S), stride, padding, dilation, groups
CONVS = [
    ("all sizes 1", (1, 1, 1, 1), (1, 1, 1), 1, 0, 1, 1),
    ("one filter", (1, 1, 8, 8), (1, 3, 3), 1, 1, 1, 1),
    ("everything asymmetric", (2, 6, 11, 9), (10, 3, 2), (2, 1), ((1, 0), (2, 1)), (1, 2), 2),
    ("asymmetric, dilated", (2, 3, 13, 10), (5, 2, 4), (1, 3), ((2, 1), (0, 3)), (3, 2), 1),
    ("same, even kernel", (2, 5, 7, 10), (6, 4, 2), 1, "same", 1, 1),
    ("same, strided", (1, 4, 11, 14), (9, 3, 5), (2, 3), "same", 1, 1),
    ("same, dilated", (1, 4, 9, 8), (3, 3, 2), 1, "same", (2, 3), 1),
    ("valid", (2, 4, 9, 7), (5, 3, 2), (1, 2), "valid", 1, 1),
    ("kernel as large as the padded image", (2, 3, 4, 6), (4, 6, 8), 1, 1, 1, 1),
    ("kernel larger than the image", (1, 2, 2, 3), (3, 5, 5), 1, 2, 1, 1),
    ("one row", (2, 5, 1, 19), (18, 1, 3), (1, 2), (0, 1), 1, 1),
    ("one column", (2, 5, 19, 1), (18, 3, 1), (2, 1), (1, 0), 1, 1),
    ("padding only at the end", (1, 3, 6, 5), (4, 3, 3), 1, ((0, 2), (0, 1)), 1, 1),
    ("stride over the kernel", (2, 3, 11, 13), (7, 2, 2), (3, 4), 0, 1, 1),
    ("padding beyond the kernel", (1, 3, 4, 5), (5, 2, 3), 1, (3, 4), 1, 1),
    ("1x1", (2, 9, 5, 7), (17, 1, 1), 1, 0, 1, 1),
    ("1x1 strided", (2, 9, 6, 7), (17, 1, 1), (2, 3), 0, 1, 1),
    ("1x1 padded", (1, 4, 3, 5), (6, 1, 1), 1, (1, 2), 1, 1),
    ("1x1, many channels", (1, 515, 3, 5), (67, 1, 1), 1, 0, 1, 1),
    ("3x3, several blocks of channels", (1, 131, 5, 4), (130, 3, 3), 1, 1, 1, 1),
    ("3x3 strided, wide", (1, 8, 9, 67), (33, 3, 3), 2, 1, 1, 1),
    ("stem 7x7/2 of 3 channels", (2, 3, 23, 21), (33, 7, 7), 2, 3, 1, 1),
    ("5x5 of one channel", (3, 1, 12, 11), (6, 5, 5), 1, 2, 1, 1),
    ("14x14, whole tiles", (2, 16, 14, 14), (64, 3, 3), 1, 1, 1, 1),
    ("groups", (2, 8, 7, 6), (12, 3, 3), 1, 1, 1, 4),
    ("groups of one input", (1, 4, 6, 9), (8, 3, 2), (1, 2), (1, 0), 1, 4),
    ("groups of 33", (1, 66, 4, 5), (66, 3, 3), 1, 1, 1, 2),
    ("depthwise 3x3/2", (2, 20, 13, 12), (20, 3, 3), 2, 1, 1, 20),
    ("depthwise 3x3, whole vectors", (2, 64, 9, 10), (64, 3, 3), 1, 1, 1, 64),
    ("depthwise 7x7", (1, 33, 11, 9), (33, 7, 7), 1, 3, 1, 33),
    ("depthwise dilated", (1, 17, 9, 12), (17, 3, 3), 1, ((2, 1), (1, 2)), (2, 1), 17),
    ("depthwise same", (1, 8, 7, 10), (8, 2, 4), (2, 1), "same", 1, 8),
    ("depthwise, two outputs each", (1, 9, 6, 7), (18, 3, 3), 1, 1, 1, 9),
    *((f"K = {k}", (1, 5, 6, 7), (k, 3, 3), 1, 1, 1, 1)
      for k in (7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129)),
    *((f"C = {c}", (1, c, 5, 6), (6, 3, 2), 1, 1, 1, 1)
      for c in (2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65)),
    *((f"W = {w}", (1, 3, 3, w), (16, 3, 3), 1, 1, 1, 1)
      for w in (1, 2, 5, 6, 7, 13, 14, 15, 27, 28, 29, 31, 33)),
    *((f"depthwise C = {c}", (1, c, 6, 5), (c, 3, 3), 1, 1, 1, c)
      for c in (2, 7, 8, 9, 15, 16, 17, 31, 33, 65)),
    *((f"depthwise W = {w}", (1, 3, 4, w), (3, 3, 3), 1, 1, 1, 3)
      for w in (1, 2, 7, 8, 9, 15, 16, 17, 33, 65)),
]  # fmt: skip


# note, (N, C, H, W), K, padding, groups: where "auto" takes Winograd for forward and backward-data. Partial
# tiles on both sides, vectors' and blocks' tails, one part of the channels and several.
WINOGRADS = [
    ("whole vectors", (2, 64, 13, 17), 64, 1, 1),
    ("no whole vectors", (1, 70, 15, 10), 67, ((0, 2), (2, 1)), 1),
    ("several parts and blocks", (1, 130, 14, 11), 145, ((1, 0), (0, 1)), 1),
    ("no padding", (2, 33, 13, 22), 48, 0, 1),
    ("padding 2", (1, 48, 18, 9), 80, 2, 1),
    ("one row of tiles", (3, 64, 4, 30), 64, 1, 1),
    ("one column of tiles", (2, 64, 31, 3), 96, 1, 1),
    ("wider than a group", (1, 32, 5, 123), 32, ((1, 2), (0, 1)), 1),
    ("many images", (9, 40, 7, 6), 40, ((2, 1), (0, 2)), 1),
    ("few tiles, many filters", (1, 194, 8, 11), 200, ((1, 1), (2, 0)), 1),
    ("groups", (1, 96, 12, 14), 112, 1, 2),
]  # fmt: skip

#: The same of 5x5 filters
WINOGRADS_5X5 = [
    ("whole vectors", (2, 64, 13, 17), 64, 2, 1),
    ("no whole vectors", (1, 70, 15, 10), 67, ((0, 2), (3, 1)), 1),
    ("several parts and blocks", (1, 130, 9, 14), 145, ((1, 0), (0, 4)), 1),
    ("no padding", (2, 33, 11, 16), 48, 0, 1),
    ("many images", (9, 40, 7, 6), 40, ((2, 1), (1, 2)), 1),
    ("wider than a group", (1, 32, 6, 123), 32, ((2, 1), (0, 1)), 1),
    ("few tiles, many filters", (1, 194, 8, 11), 200, ((1, 1), (2, 0)), 1),
    ("groups", (1, 96, 12, 14), 112, 2, 2),
]

#: note, x, K, padding, groups: backward-weights by Winograd, which wants more pixels
WINOGRAD_WEIGHTS = [
    ("plain", (4, 64, 14, 15), 72, 1, 1),
    ("tails of channels", (3, 37, 19, 17), 53, ((1, 0), (2, 1)), 1),
    ("tails of tiles", (2, 40, 22, 23), 48, 1, 1),
    ("wider than a group", (1, 32, 9, 123), 33, ((1, 2), (0, 1)), 1),
    ("one row of tiles", (9, 32, 3, 41), 32, ((1, 1), (2, 0)), 1),
    ("blocks of channels", (6, 130, 13, 12), 150, ((0, 2), (1, 3)), 1),
    ("groups", (4, 96, 14, 17), 112, 1, 2),
]


def winograd_cases() -> list[Case]:
    cases = []
    for note, x, K, padding, groups in WINOGRAD_WEIGHTS:
        y = (x[0], K, *conv_output(x[2:], (3, 3), 1, padding, 1))
        params = {"weight_shape": (K, x[1] // groups, 3, 3), "padding": padding, "groups": groups}
        cases.append(
            Case("conv2d_backward_weights", f"winograd, {note}", {"grad_y": y, "x": x}, params, "winograd",
                 terms=y[0] * y[2] * y[3])
        )  # fmt: skip
    for R, shapes in ((3, WINOGRADS), (5, WINOGRADS_5X5)):
        for note, x, K, padding, groups in shapes:
            params = {"padding": padding, "groups": groups}
            w = (K, x[1] // groups, R, R)
            y = (x[0], K, *conv_output(x[2:], (R, R), 1, padding, 1))
            forward = {"x": x, "weight": w, "bias": (K,)}
            note = f"winograd, {R}x{R}, {note}"
            cases += [
                Case("conv2d", note, forward, params, "winograd", terms=w[1] * R * R + 1),
                Case("conv2d_backward_data", note, {"grad_y": y, "weight": w},
                     {"input_shape": x, **params}, "winograd", terms=K // groups * R * R),
            ]  # fmt: skip
    arrays = {"x": (2, 64, 10, 13), "weight": (72, 64, 3, 3), "bias": (72,)}
    residual = {**arrays, "residual": (2, 72, 10, 13)}
    for kind in ("relu", "relu6", "leaky_relu", "silu", None):
        params = {"padding": 1, "activation": kind}
        cases.append(Case("conv2d", f"winograd, {kind}", arrays, params, "winograd", terms=577))
        cases.append(Case("conv2d", f"winograd, {kind}, residual", residual, params, "winograd", terms=578))
    return cases


def conv_cases() -> list[Case]:
    cases = []
    for note, x, (K, R, S), stride, padding, dilation, groups in CONVS:
        params = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        w = (K, x[1] // groups, R, S)
        y = (x[0], K, *conv_output(x[2:], (R, S), stride, padding, dilation))
        cases += [
            Case("conv2d", note, {"x": x, "weight": w, "bias": (K,)}, params, terms=w[1] * R * S + 1),
            Case("conv2d_backward_data", note, {"grad_y": y, "weight": w}, {"input_shape": x, **params},
                 terms=K // groups * R * S),
            Case("conv2d_backward_weights", note, {"grad_y": y, "x": x}, {"weight_shape": w, **params},
                 terms=y[0] * y[2] * y[3]),
        ]  # fmt: skip
    plain = {"x": (2, 6, 7, 9), "weight": (20, 6, 3, 3)}
    cases.append(Case("conv2d", "no bias", plain, {"padding": 1}, terms=54))
    cases.append(
        Case("conv2d", "unbatched", {"x": (3, 7, 5), "weight": (9, 3, 3, 2), "bias": (9,)}, terms=19)
    )
    cases.append(Case("conv2d", "direct", plain, {"padding": 1, "algorithm": "direct"}, terms=54))
    for kind in (None, "relu", "relu6", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"):
        for note, x, w, groups in (
            ("dense", (2, 6, 7, 9), (20, 6, 3, 3), 1),
            ("depthwise", (2, 20, 7, 9), (20, 1, 3, 3), 20),
        ):
            arrays = {"x": x, "weight": w, "bias": (20,)}
            params = {"padding": 1, "groups": groups, "activation": kind}
            if kind:
                cases.append(Case("conv2d", f"{note}, {kind}", arrays, params, terms=w[1] * 9 + 1))
            if kind in (None, "relu", "silu"):
                more = {**arrays, "residual": (2, 20, 7, 9)}
                cases.append(Case("conv2d", f"{note}, {kind}, residual", more, params, terms=w[1] * 9 + 2))
    return cases


# note, (N, C, H, W), (K/groups, R, S), stride, padding, output_padding, groups, dilation
TRANSPOSED = [
    ("plain", (2, 5, 6, 7), (4, 3, 2), 1, 0, 0, 1, 1),
    ("strided", (2, 17, 5, 4), (9, 3, 4), (2, 3), (1, 0), (1, 2), 1, 1),
    ("groups, dilated", (1, 6, 5, 7), (3, 2, 3), (2, 1), ((1, 0), (1, 2)), (1, 0), 3, (2, 3)),
    ("depthwise", (1, 16, 6, 5), (1, 4, 4), 2, 1, 0, 16, 1),
    ("stride over the kernel", (1, 3, 4, 5), (33, 2, 2), 3, 0, 1, 1, 1),
    ("output padding by dilation", (1, 3, 4, 5), (2, 2, 2), 1, 1, (1, 2), 1, (2, 3)),
]


def transposed_cases() -> list[Case]:
    cases = []
    for note, x, (K, R, S), stride, padding, output_padding, groups, dilation in TRANSPOSED:
        params = {
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "groups": groups,
            "dilation": dilation,
        }
        w = (x[1], K, R, S)
        out = [
            (x[2 + i] - 1) * pair(stride)[i]
            - sum(pair(pair(padding)[i]))
            + pair(dilation)[i] * (w[2 + i] - 1)
            + pair(output_padding)[i]
            + 1
            for i in range(2)
        ]
        arrays = {"x": x, "weight": w, "bias": (K * groups,)}
        cases.append(Case("conv_transpose2d", note, arrays, params, terms=x[1] // groups * R * S + 1))
        arrays = {"grad_y": (x[0], K * groups, *out), "x": x, "weight": w}
        terms = max(K * R * S, x[0] * x[2] * x[3], x[0] * out[0] * out[1])
        cases.append(Case("conv_transpose2d_backward", note, arrays, params, terms=terms))
    return cases


# rows, inputs, outputs
LINEARS = [
    ((1,), 1, 1),
    ((3,), 7, 9),
    ((5, 2), 65, 17),
    ((2, 3, 4), 33, 64),
    ((), 10, 5),
    ((37,), 300, 129),
]


def linear_cases() -> list[Case]:
    cases = []
    for rows, inputs, outputs in LINEARS:
        note = f"{rows} of {inputs} to {outputs}"
        arrays = {"x": (*rows, inputs), "weight": (outputs, inputs), "bias": (outputs,)}
        cases.append(Case("linear", note, arrays, terms=inputs + 1))
        cases.append(Case("linear", f"{note}, relu", arrays, {"activation": "relu"}, terms=inputs + 1))
        arrays = {"grad_y": (*rows, outputs), "x": (*rows, inputs), "weight": (outputs, inputs)}
        cases.append(Case("linear_backward", note, arrays, terms=max(outputs, int(np.prod(rows)))))
    return cases
