"""ONNX models: `load` makes a module of cnnext.nn of one, `export` writes one.

    import cnnext.interop.onnx as cxo
    model = cxo.load("resnet18.onnx")            # a Module: its initialisers are its parameters
    cxo.export(model, x, "again.onnx")           # opset 20, any batch size

docs/onnx.md says which operators.
"""

try:
    import onnx as _onnx  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "onnx":
        raise
    raise ImportError("cnnext.interop.onnx needs onnx: pip install 'cnnext[onnx]'") from None

from ._export import export
from ._graph import Graph
from ._load import load

__all__ = ["Graph", "export", "load"]
