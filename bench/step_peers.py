"""Who takes part in whole steps beside cnnext, and how torch's network becomes what they run."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

#: The packages that each needs: the networks are torch's.
PEERS = {
    "torch": ("torch",),
    "torch_compile": ("torch",),
    "onnxruntime": ("torch", "onnx", "onnxruntime"),
    "openvino": ("torch", "openvino"),
}
_FORWARD_ONLY = ("onnxruntime", "openvino")


def is_torch(peer: str) -> bool:
    """Does torch run it, eager or compiled?"""
    return peer in PEERS and peer not in _FORWARD_ONLY


def takes_part(peer: str, training: bool, layout: str) -> bool:
    return peer not in _FORWARD_ONLY or (not training and layout == "nchw")


def session(peer: str, model: Any, x: Any, threads: int) -> Callable[[], np.ndarray]:
    """A call of the network in ONNX Runtime or OpenVINO, which arrange its weights once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both tracers announce their successors
        return (_onnxruntime if peer == "onnxruntime" else _openvino)(model, x, threads)


def _onnxruntime(model: Any, x: Any, threads: int) -> Callable[[], np.ndarray]:
    import onnxruntime
    import torch

    written = io.BytesIO()
    torch.onnx.export(model, (x,), written, dynamo=False, input_names=["x"], output_names=["y"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    runs = onnxruntime.InferenceSession(written.getvalue(), options, providers=["CPUExecutionProvider"])
    inputs = {"x": x.numpy()}
    return lambda: runs.run(None, inputs)[0]


def _openvino(model: Any, x: Any, threads: int) -> Callable[[], np.ndarray]:
    import openvino

    from bench.libraries.openvino_ import OpenVino

    library = OpenVino(threads)
    converted = openvino.convert_model(model, example_input=x)
    converted.reshape(list(x.shape))
    request = library.core.compile_model(converted, "CPU", library.settings).create_infer_request()
    image = openvino.Tensor(x.numpy(), shared_memory=True)

    def run() -> np.ndarray:
        request.set_input_tensor(image)  # which lives as long as this function
        request.infer()
        return request.get_output_tensor(0).data

    return run
