"""The question that explain() is asked about a case of op_cases.py."""

from __future__ import annotations

import cnnext as cx
import numpy as np
from op_case import Case

CONV = ("conv2d", "conv2d_backward_data", "conv2d_backward_weights", "conv_transpose2d")
POOL = ("max_pool2d", "max_pool2d_backward")


def explained(case: Case, arrays: dict[str, np.ndarray], layout: str, device: str = "cpu") -> cx.Explanation:
    params = dict(case.params)
    shapes = {name: array.shape for name, array in arrays.items()}
    x = params.pop("input_shape", None) or shapes["x"]
    args = [params.pop("weight_shape", None) or shapes["weight"]] if case.op in CONV else []
    if "indices_kind" in params:
        params["indices"] = params.pop("indices_kind")
    if "bias" in arrays:
        params["bias"] = True
    dtype = next(iter(arrays.values())).dtype.name
    return cx.explain(case.op, x, *args, **params, channels_last=layout == "nhwc", dtype=dtype, device=device)
