"""Cases of element-wise operations, normalisation, softmax and loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from op_case import Case, Maker, positive, wide

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh")
FLAT = [(1,), (7,), (8,), (9,), (17,), (33,), (65,), (2, 3, 5, 7), (3, 130)]


def elementwise_cases() -> list[Case]:
    cases = []
    for shape in FLAT:
        for kind in ACTIVATIONS:
            rule = "exact" if kind in ("relu", "relu6") else "smooth"
            params = {"kind": kind, "negative_slope": 0.2}
            cases.append(Case("activation", f"{kind} {shape}", {"x": wide(shape)}, params, rule=rule))
            arrays = {"grad_y": shape, "x": wide(shape)}
            cases.append(Case("activation_backward", f"{kind} {shape}", arrays, params, rule=rule))
        cases.append(Case("add", str(shape), {"x": shape, "y": shape}, rule="exact"))
        dropped = {"p": 0.3, "seed": 2**40 + 7, "offset": 5}
        cases.append(Case("dropout", str(shape), {"x": shape}, dropped, rule="exact"))
    for shape in [(1, 1), (3, 7), (2, 8, 5), (2, 17, 3, 5), (1, 65, 7, 9), (4, 33, 2, 3)]:
        count = int(np.prod(shape)) // shape[1]
        cases.append(Case("bias_add", str(shape), {"x": shape, "bias": (shape[1],)}, rule="exact"))
        cases.append(Case("bias_grad", str(shape), {"grad_y": shape}, terms=count))
    for shape in [(5,), (2, 3, 5, 7), (3, 5, 7)]:
        for last in (False, True):
            cases.append(
                Case("contiguous", f"{shape} {last}", {"x": shape}, {"channels_last": last}, rule="exact")
            )
    return cases


# shape, dim
SOFTMAXES = [
    ((1,), 0),
    ((7,), 0),
    ((3, 10), 1),
    ((3, 10), 0),
    ((2, 17, 5, 3), 1),
    ((2, 37, 5, 9), 1),
    ((1, 3, 41, 43), 1),
    ((2, 5, 7, 33), -1),
    ((4, 65), -1),
    ((2, 3, 1), 1),
]


def norm_cases() -> list[Case]:
    cases = []
    for shape in [(2, 1), (5, 7), (3, 8, 5), (2, 17, 3, 5), (1, 33, 7, 9), (4, 65, 2, 3)]:
        channels = (shape[1],)
        arrays = {"x": shape, "running_mean": channels, "running_var": positive(channels), "weight": channels,
                  "bias": channels}  # fmt: skip
        cases.append(
            Case("batch_norm", f"evaluation {shape}", arrays, {"eps": 1e-3}, rule="smooth", scale=32)
        )
        params = {"training": True, "momentum": 0.3, "eps": 1e-3}
        cases.append(Case("batch_norm_forward", f"training {shape}", arrays, params, rule="smooth", scale=64))
        arrays = {"grad_y": shape, "x": shape, "weight": channels, "save_mean": channels,
                  "save_invstd": positive(channels)}  # fmt: skip
        for training in (True, False):
            note = f"{'training' if training else 'evaluation'} {shape}"
            cases.append(
                Case("batch_norm_backward", note, arrays, {"training": training}, rule="smooth", scale=256)
            )
    for shape, dim in SOFTMAXES:
        for op in ("softmax", "log_softmax"):
            cases.append(
                Case(op, f"{shape} along {dim}", {"x": wide(shape)}, {"dim": dim}, rule="smooth", scale=16)
            )
            arrays = {"grad_y": shape, "y": shape}
            note = f"{shape} along {dim}"
            cases.append(Case(f"{op}_backward", note, arrays, {"dim": dim}, rule="smooth", scale=256))
    return cases


def _labels(shape: tuple[int, ...], classes: int, dtype: Any = np.int64, ignore: int | None = None) -> Maker:
    def make(rng: np.random.Generator) -> np.ndarray:
        target = rng.integers(0, classes, shape).astype(dtype)
        if ignore is not None and target.size > 1:
            target.flat[::3] = ignore
        return target

    return make


def _distribution(shape: tuple[int, ...]) -> Maker:
    def make(rng: np.random.Generator) -> np.ndarray:
        p = rng.random(shape)
        return (p / p.sum(1 if len(shape) > 1 else 0, keepdims=True)).astype(np.float32)

    return make


def loss_cases() -> list[Case]:
    cases = []
    for shape in [(5,), (4, 10), (3, 7, 5), (2, 17, 3, 4), (2, 37, 5, 9)]:
        target = (shape[0], *shape[2:]) if len(shape) > 1 else ()
        classes = shape[1] if len(shape) > 1 else shape[0]
        for reduction in ("none", "mean", "sum"):
            kinds = [
                ("labels", _labels(target, classes), {}),
                (
                    "ignored",
                    _labels(target, classes, np.int32, 1),
                    {"ignore_index": 1, "label_smoothing": 0.1},
                ),
                ("plain", _labels(target, classes, np.int32, -3), {"ignore_index": -3}),
                ("uint8", _labels(target, classes, np.uint8), {"label_smoothing": 0.2}),
                ("probabilities", _distribution(shape), {"label_smoothing": 0.1}),
            ]
            for kind, maker, params in kinds:
                arrays = {"x": shape, "target": maker, "weight": positive((classes,))}
                params = {"reduction": reduction, **params}
                note = f"{shape} {kind} {reduction}"
                cases.append(Case("cross_entropy", note, arrays, params, rule="smooth", scale=64))
                arrays = {"grad_loss": target if reduction == "none" else (), **arrays}
                cases.append(Case("cross_entropy_backward", note, arrays, params, rule="smooth", scale=64))
    return cases
