"""What ONNX files write in several nodes, near misses of it, and files made to do harm."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import nn

onnx = pytest.importorskip("onnx")
from cnnext.interop import onnx as cxo  # noqa: E402 - it needs onnx
from onnx_files import WEIGHT, node, saved  # noqa: E402

X = np.random.default_rng(0).standard_normal((2, 4, 8, 8), np.float32)
ERF = np.vectorize(math.erf)


def number(value: float, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.float32)


def made(op: str, inputs: str, output: str) -> Any:
    return onnx.helper.make_node(op, inputs.split(), [output], f"makes {output}")


def gelu(*factors: str) -> list[Any]:
    """(1 + erf(x / root)) and products with the factors, one after the other."""
    nodes = [made("Div", "x root", "z"), made("Erf", "z", "e"), made("Add", "e one", "p0")]
    names = [f"p{i}" for i in range(len(factors))] + ["y"]
    for i, factor in enumerate(factors):
        nodes.append(made("Mul", f"{names[i]} {factor}", names[i + 1]))
    return nodes


NUMBERS = {"root": number(math.sqrt(2)), "one": number(1), "half": number(0.5)}


@pytest.mark.parametrize("factors", [("x", "half"), ("half", "x")])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
@pytest.mark.parametrize("root", [math.sqrt(2), 1.41421])
def test_gelu_in_several_nodes_is_one(factors: Any, shape: Any, root: float, tmp_path: Path) -> None:
    arrays = {name: array.reshape(shape) for name, array in (NUMBERS | {"root": number(root)}).items()}
    loaded = cxo.load(saved(tmp_path / "model.onnx", gelu(*factors), arrays))
    assert [type(module) for module in loaded.modules()].count(nn.GELU) == 1
    expected = X * 0.5 * (1 + ERF(X / math.sqrt(2)))
    np.testing.assert_allclose(loaded(cx.Tensor(X)).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("factors", "changed"),
    [
        (("x", "x"), {}),
        (("x", "x", "half"), {}),
        (("half", "half", "x"), {}),
        (("x", "half"), {"root": number(1.4143)}),
        (("x", "half"), {"half": number(0.50005)}),
        (("x", "half"), {"one": number(1, 1, 1, 1, 1, 1)}),
        (("x", "half"), {"half": number(0.5, 1, 1, 1, 1, 1)}),
        (("x", "half"), {"root": number(math.sqrt(2), 1, 1, 1, 1, 1)}),
    ],
)
def test_what_is_nearly_gelu_is_not_taken_for_it(factors: Any, changed: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", gelu(*factors), NUMBERS | changed)
    with pytest.raises(NotImplementedError, match=r"operator Erf .*'makes e'"):
        cxo.load(path)


@pytest.mark.parametrize("perm", [[0, 1], [1, 0], None])
def test_a_transposed_matrix_has_its_order(perm: list[int] | None, tmp_path: Path) -> None:
    matrix = np.arange(16, dtype=np.float32).reshape(4, 4)
    order = {} if perm is None else {"perm": perm}
    nodes = [onnx.helper.make_node("Transpose", ["m"], ["t"], "turns", **order), made("MatMul", "x t", "y")]
    loaded = cxo.load(saved(tmp_path / "model.onnx", nodes, {"m": matrix}, shape=("N", 4)))
    expected = X[0, 0].reshape(-1, 4) @ (matrix if perm == [0, 1] else matrix.T)
    y = loaded(cx.Tensor(X[0, 0].reshape(-1, 4))).detach().numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def sparse() -> Any:
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "i")
    return onnx.helper.make_sparse_tensor(values, indices, [2, 4, 3, 3])


def nested(levels: int) -> Any:
    """If within If within If."""
    inner = made("Relu", "x", "y")
    for _ in range(levels):
        graph = onnx.helper.make_graph([inner], "branch", [], [onnx.ValueInfoProto(name="y")])
        inner = onnx.helper.make_node("If", ["x"], ["y"], "nests", then_branch=graph, else_branch=graph)
    return inner


DEEP = ".".join(["deep"] * 3000)


def test_files_made_to_do_harm_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    empty = [onnx.helper.make_node("Constant", [], [name], f"makes {name}") for name in ("w", "half")]
    two = {name: NUMBERS[name] for name in ("root", "one")}
    convolution = node("Conv", "x", "w")
    for nodes, more, says in (
        ([convolution], {"sparse": (sparse(),)}, "sparse initializer 'w'"),
        ([empty[0], convolution], {}, "operator Constant .*'makes w'"),
        ([empty[1], *gelu("x", "half")], {"arrays": two}, "operator Erf .*'makes e'"),
        ([nested(10)], {}, "operator If .*'nests'"),
        ([node("Conv", "x", DEEP)], {"arrays": {DEEP: WEIGHT["w"]}}, "node 'the node': a name has 14999"),
        ([onnx.helper.make_node("Relu", ["x"], ["y"], "n" * 5000)], {}, "node 'n{1000}': a name has 5000"),
    ):
        with pytest.raises((ValueError, NotImplementedError), match=says) as error:
            cxo.load(saved(path, nodes, **more))
        assert str(path) in str(error.value)
        assert len(str(error.value)) < 3000
