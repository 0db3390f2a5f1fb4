"""Cases of the pools and of their indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from cnnext import ops, testing
from op_case import Case, Maker, few_values, pair

# note, (N, C, H, W), kernel, stride, padding, dilation, ceil_mode
POOLS = [
    ("all sizes 1", (1, 1, 1, 1), 1, None, 0, 1, False),
    ("2x2/2", (2, 5, 8, 10), 2, None, 0, 1, False),
    ("2x2/2, odd image", (2, 5, 7, 37), 2, None, 0, 1, False),
    ("2x2/2, ceil", (1, 3, 7, 35), 2, None, 0, 1, True),
    ("stride over 16", (2, 3, 20, 61), (2, 3), (3, 20), 0, 1, False),
    ("rows and columns between windows", (2, 3, 14, 71), (2, 1), (3, 2), 0, 1, False),
    ("1x2/2", (1, 40, 5, 66), (1, 2), (1, 2), 0, 1, False),
    ("3x3/2 padded", (2, 17, 11, 9), 3, 2, 1, 1, False),
    ("everything asymmetric", (2, 3, 13, 10), (3, 4), (2, 3), (1, 2), (2, 1), False),
    ("four-sided", (2, 9, 10, 7), (3, 4), (2, 1), ((2, 0), (1, 3)), 1, False),
    ("ceil", (2, 4, 10, 7), (3, 2), (2, 3), (1, 0), 1, True),
    ("ceil, four-sided", (1, 4, 8, 9), (3, 3), (3, 2), ((0, 2), (1, 2)), 1, True),
    ("same", (1, 6, 7, 10), (2, 3), (2, 3), "same", 1, False),
    ("valid, dilated", (1, 6, 9, 12), (2, 3), (1, 2), "valid", (3, 2), False),
    ("stride over the kernel", (1, 3, 11, 13), (2, 1), (3, 4), 0, 1, False),
    ("whole image", (2, 8, 5, 6), (5, 6), 1, 0, 1, False),
    ("5x5/1 padded", (2, 17, 9, 8), 5, 1, 2, 1, False),
    ("9x7/1: many taps", (2, 5, 12, 10), (9, 7), 1, (4, 3), 1, False),
    ("9x7/(2, 3)", (1, 70, 14, 11), (9, 7), (2, 3), (4, 3), 1, True),
    ("3x3/1, blocks of rows", (2, 3, 70, 67), 3, 1, 1, 1, False),
    ("3x2/1, more elements than windows", (2, 3, 70, 67), (3, 2), 1, 0, 1, False),
    ("2x3/1, more windows than elements", (3, 2, 9, 7), (2, 3), 1, ((1, 1), (2, 2)), 1, False),
    ("3x3/1 dilated", (5, 2, 9, 11), 3, 1, (2, 1), (2, 1), False),
    ("3x3/2, five planes", (1, 5, 13, 14), 3, 2, 1, 1, False),
    ("17x16 taps: uint16 codes", (1, 2, 20, 19), (17, 16), 1, 0, 1, False),
    ("one row", (2, 3, 1, 33), (1, 3), (1, 2), (0, 1), 1, False),
    *((f"C = {c}", (1, c, 6, 5), (2, 3), (2, 1), 1, 1, False)
      for c in (1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65)),
    *((f"W = {w}", (1, 2, 5, w), 3, (1, 2), 1, 1, False)
      for w in (2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 67)),
    *((f"W = {w}, 2x2/2", (1, 2, 4, w), 2, 2, 0, 1, False)
      for w in (2, 15, 16, 17, 32, 33, 65, 130)),
]  # fmt: skip


def _argmax(shape: tuple[int, ...], params: dict[str, Any], kind: str) -> Maker:
    def make(rng: np.random.Generator) -> np.ndarray:
        x = rng.standard_normal(shape).astype(np.float32)
        with testing.backend("ref"):
            return ops.max_pool2d(x, **params, return_indices=True, indices=kind)[1]

    return make


def pool_output(shape: tuple[int, ...], params: dict[str, Any]) -> tuple[int, ...]:
    """The shape of a pool's result, by the reference."""
    with testing.backend("ref"):
        return ops.max_pool2d(np.zeros(shape, np.float32), **params).shape


# note, (N, C, H, W), output_size
ADAPTIVE = [
    ("5x3 of 11x7", (2, 5, 11, 7), (5, 3)),
    ("global", (2, 33, 6, 5), 1),
    ("larger", (1, 2, 3, 4), 7),
    ("kept height", (1, 17, 6, 9), (None, 4)),
    ("C = 65", (1, 65, 7, 8), (2, 3)),
]


def pool_cases() -> list[Case]:
    cases = []
    for note, x, kernel, stride, padding, dilation, ceil_mode in POOLS:
        params = {
            "kernel_size": kernel,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": ceil_mode,
        }
        y = pool_output(x, params)
        for kind in ("plane", "window"):
            with_indices = {**params, "return_indices": True, "indices": kind}
            cases.append(Case("max_pool2d", f"{note}, {kind}", {"x": x}, with_indices, rule="exact"))
            cases.append(
                Case("max_pool2d", f"{note}, {kind}, ties", {"x": few_values(x)}, with_indices, rule="exact")
            )
            indices = _argmax(x, params, kind)
            back = {**params, "indices_kind": kind}
            cases.append(
                Case(
                    "max_pool2d_backward",
                    f"{note}, {kind}",
                    {"grad_y": y, "indices": indices},
                    {"input_shape": x, **back},
                    terms=int(np.prod(pair(kernel))),
                )
            )
            cases.append(
                Case("max_pool2d_gather", f"{note}, {kind}", {"x": x, "indices": indices}, back, rule="exact")
            )
        cases.append(Case("max_pool2d", f"{note}, no indices", {"x": x}, params, rule="exact"))
        terms = int(np.prod(pair(kernel)))
        for include in (True, False):
            average = {**params, "count_include_pad": include}
            cases.append(Case("avg_pool2d", f"{note}, include {include}", {"x": x}, average, terms=terms))
            cases.append(
                Case(
                    "avg_pool2d_backward",
                    f"{note}, include {include}",
                    {"grad_y": y},
                    {"input_shape": x, **average},
                    terms=terms,
                )
            )
    for dtype in (np.uint8, np.int8):
        for shape in ((2, 3, 9, 7), (1, 65, 6, 70)):
            for stride, dilation, kind in ((2, 1, "plane"), (1, 2, "window"), ((1, 3), 1, "window")):
                params = {
                    "kernel_size": (3, 2),
                    "stride": stride,
                    "padding": (1, 0),
                    "dilation": dilation,
                    "return_indices": True,
                    "indices": kind,
                }
                note = f"{dtype.__name__} {shape} {stride} {kind}"
                arrays = {"x": few_values(shape, dtype)}
                cases.append(Case("max_pool2d", note, arrays, params, rule="exact"))
    # Planes that are summed in several bands, and at once.
    for x, kernel, stride, padding in (
        ((1, 2, 300, 70), (3, 5), 1, (1, 2)),
        ((1, 2, 301, 70), (7, 3), (1, 2), ((0, 6), (1, 0))),
        ((2, 1, 203, 131), (5, 4), (2, 3), ((4, 1), (3, 2))),
        ((1, 1, 100, 83), (3, 3), (40, 1), 1),
        ((3, 9, 5, 4), (2, 4), (1, 4), ((1, 0), (3, 0))),
    ):
        params = {"kernel_size": kernel, "stride": stride, "padding": padding}
        y, terms, note = pool_output(x, params), int(np.prod(kernel)), f"{x} {kernel} {stride}"
        params["count_include_pad"] = False
        back = {"input_shape": x, **params}
        cases.append(Case("avg_pool2d", note, {"x": x}, params, terms=terms))
        cases.append(Case("avg_pool2d_backward", note, {"grad_y": y}, back, terms=terms))
    divisor = {"kernel_size": (2, 3), "divisor_override": 5}
    cases.append(Case("avg_pool2d", "divisor", {"x": (2, 3, 6, 9)}, divisor, terms=6))
    cases.append(Case("avg_pool2d", "unbatched", {"x": (3, 6, 9)}, {"kernel_size": 2}, terms=4))
    for note, x, size in ADAPTIVE:
        height, width = pair(size)
        y = (*x[:2], height or x[2], width or x[3])
        cases.append(Case("adaptive_avg_pool2d", note, {"x": x}, {"output_size": size}, terms=x[2] * x[3]))
        cases.append(
            Case("adaptive_avg_pool2d_backward", note, {"grad_y": y}, {"input_shape": x}, terms=y[2] * y[3])
        )
    return cases


def unpool_cases() -> list[Case]:
    cases = []
    for kind in ("plane", "window"):
        for note, large, kernel, stride in [
            ("2x2", (2, 3, 8, 6), 2, None),
            ("3x2 apart", (1, 17, 11, 9), (3, 2), (3, 4)),
        ]:
            pool = {"kernel_size": kernel, "stride": stride}
            small = pool_output(large, pool)
            arrays = {"x": small, "indices": _argmax(large, pool, kind)}
            params = {**pool, "indices_kind": kind}
            size = {"output_size": large[2:]}
            cases.append(Case("max_unpool2d", f"{note}, {kind}", arrays, {**params, **size}, rule="exact"))
            arrays = {"grad_y": large, "indices": arrays["indices"]}
            cases.append(Case("max_unpool2d_backward", f"{note}, {kind}", arrays, params, rule="exact"))
    return cases
