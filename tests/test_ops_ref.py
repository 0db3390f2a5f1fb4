"""The reference backend in float64: forwards against plain NumPy, backwards against the forwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from cnnext import ops, testing
from op_case import Case, widen
from op_cases import all_cases

CASES = all_cases()


def cases_of(*names: str) -> list[Any]:
    found = [case for case in CASES if case.op in names]
    assert {case.op for case in found} == set(names)
    return [pytest.param(case, id=str(case)) for case in found]


@pytest.fixture(autouse=True)
def _on_ref() -> Any:
    with testing.backend("ref"):
        yield


def run(case: Case, arrays: dict[str, Any] | None = None) -> tuple[np.ndarray, ...]:
    result = case.run(widen(case.make()) if arrays is None else arrays)
    if result[0].size:
        assert testing.last_kernel().startswith("ref/")
    return result


def close(actual: np.ndarray, expected: Any, tolerance: float = 1e-12) -> None:
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(
        actual, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max(initial=0))
    )


# ---- forwards against NumPy


@pytest.mark.parametrize("case", cases_of("conv2d"))
def test_conv2d(case: Case) -> None:
    arrays = widen(case.make())
    params = {k: v for k, v in case.params.items() if k not in ("activation", "algorithm")}
    plain = {k: v for k, v in arrays.items() if k != "residual"}
    if arrays["x"].ndim == 3:
        plain["x"] = arrays["x"][None]
    expected = oracles.conv2d(**plain, **params) + arrays.get("residual", 0.0)
    if case.params.get("activation"):
        expected = oracles.activation(expected, case.params["activation"])
    actual = run(case, arrays)[0]
    close(actual, expected.reshape(actual.shape))


@pytest.mark.parametrize("case", cases_of("linear"))
def test_linear(case: Case) -> None:
    arrays = widen(case.make())
    expected = arrays["x"] @ arrays["weight"].T + arrays["bias"]
    if case.params.get("activation"):
        expected = np.maximum(expected, 0)
    close(run(case)[0], expected)


@pytest.mark.parametrize("case", cases_of("max_pool2d"))
def test_max_pool2d(case: Case) -> None:
    arrays = case.make()
    params = {"return_indices": False, **case.params}
    expected = oracles.max_pool2d(arrays["x"], **params)
    actual = run(case, arrays)
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    if params["return_indices"]:
        assert actual[1].dtype == (np.int64 if params.get("indices") != "window" else expected[1].dtype)


@pytest.mark.parametrize("case", cases_of("avg_pool2d", "adaptive_avg_pool2d"))
def test_avg_pool2d(case: Case) -> None:
    x = widen(case.make())["x"]
    expected = getattr(oracles, case.op)(x if x.ndim == 4 else x[None], **case.params)
    close(run(case, {"x": x})[0], expected if x.ndim == 4 else expected[0])


@pytest.mark.parametrize("case", cases_of("activation"))
def test_activation(case: Case) -> None:
    close(run(case)[0], oracles.activation(widen(case.make())["x"], **case.params))


@pytest.mark.parametrize("case", cases_of("batch_norm"))
def test_batch_norm(case: Case) -> None:
    arrays = widen(case.make())
    expected = oracles.batch_norm(arrays["x"], *list(arrays.values())[1:], case.params["eps"])
    close(run(case)[0], expected)


@pytest.mark.parametrize("case", cases_of("batch_norm_forward"))
def test_batch_norm_training(case: Case) -> None:
    arrays = widen(case.make())
    x, eps, momentum = arrays["x"], case.params["eps"], case.params["momentum"]
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1]
    mean, var = x.mean(axes), x.var(axes)
    unbiased = var * count / (count - 1)
    running = [
        (1 - momentum) * arrays["running_mean"] + momentum * mean,
        (1 - momentum) * arrays["running_var"] + momentum * unbiased,
    ]
    y, save_mean, save_invstd = run(case, arrays)
    close(y, oracles.batch_norm(x, mean, var, arrays["weight"], arrays["bias"], eps), 1e-11)
    close(save_mean, mean)
    close(save_invstd, 1 / np.sqrt(var + eps), 1e-11)
    close(arrays["running_mean"], running[0])
    close(arrays["running_var"], running[1], 1e-11)


@pytest.mark.parametrize("case", cases_of("softmax", "log_softmax"))
def test_softmax(case: Case) -> None:
    expected = oracles.log_softmax(widen(case.make())["x"], case.params["dim"])
    close(run(case)[0], np.exp(expected) if case.op == "softmax" else expected)


@pytest.mark.parametrize("case", cases_of("cross_entropy"))
def test_cross_entropy(case: Case) -> None:
    arrays = widen(case.make())
    expected = oracles.cross_entropy(**arrays, **case.params)
    actual = run(case)[0]
    close(actual, expected.reshape(actual.shape))


@pytest.mark.parametrize("case", cases_of("bias_add", "bias_grad", "add", "contiguous"))
def test_per_channel_and_add(case: Case) -> None:
    arrays = widen(case.make())
    first, *others = arrays.values()
    if case.op == "bias_grad":
        expected = first.sum((0, *range(2, first.ndim)))
    elif case.op == "bias_add":
        expected = first + oracles.per_channel(others[0], first.ndim)
    else:
        expected = first + others[0] if others else first
    actual = run(case)[0]
    close(actual, expected)
    if case.op == "contiguous":
        last = case.params["channels_last"] and first.ndim > 2
        assert (np.moveaxis(actual, -3, -1) if last else actual).flags.c_contiguous


def test_dropout_keeps_and_scales() -> None:
    x = np.ones((40, 50, 7))
    y = ops.dropout(x, 0.3, seed=3)
    kept = y != 0
    assert abs(kept.mean() - 0.7) < 4 * (0.3 * 0.7 / x.size) ** 0.5
    np.testing.assert_allclose(y[kept], 1 / 0.7)
    np.testing.assert_array_equal(y, ops.dropout(x, 0.3, seed=3))
    assert (y != ops.dropout(x, 0.3, seed=4)).any()
    tail = ops.dropout(x.reshape(-1)[1000:], 0.3, seed=3, offset=1000)
    np.testing.assert_array_equal(y.reshape(-1)[1000:], tail)
    np.testing.assert_array_equal(ops.dropout(x, 0.3, False, seed=3), x)
    np.testing.assert_array_equal(ops.dropout(x, 1.0, seed=3), np.zeros_like(x))
    np.testing.assert_array_equal(ops.dropout(x, 0.0, seed=3), x)


# ---- backwards against the forwards

# A linear map and its adjoint: <A x, g> = <x, A* g>; for random x and g one wrong term would show.


def inner(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float((a * b).sum())


def adjoint(left: float, right: float, size: float) -> None:
    assert abs(left - right) <= 1e-11 * max(1.0, size)


@pytest.mark.parametrize("case", cases_of("conv2d_backward_data", "conv2d_backward_weights"))
def test_conv2d_backward(case: Case) -> None:
    arrays = widen(case.make())
    params = dict(case.params)
    shape = params.pop("input_shape" if case.op.endswith("data") else "weight_shape")
    (result,) = run(case, arrays)
    assert result.shape == shape
    for seed in range(2):
        other = np.random.default_rng(seed).standard_normal(shape)
        pairs = (other, arrays["weight"]) if case.op.endswith("data") else (arrays["x"], other)
        y = ops.conv2d(*pairs, **params)
        adjoint(inner(y, arrays["grad_y"]), inner(other, result), np.abs(y * arrays["grad_y"]).sum())


@pytest.mark.parametrize("case", cases_of("conv_transpose2d"))
def test_conv_transpose2d(case: Case) -> None:
    """It is conv2d's backward-data, plus the rows that output_padding adds."""
    arrays = widen(case.make())
    (y,) = run(case, arrays)
    params = {k: v for k, v in case.params.items() if k != "output_padding"}
    probe = np.random.default_rng(1).standard_normal(y.shape)
    back = ops.conv2d(probe, arrays["weight"], **params)[:, :, : arrays["x"].shape[2], : arrays["x"].shape[3]]
    no_bias = y - arrays["bias"][:, None, None]
    adjoint(inner(no_bias, probe), inner(arrays["x"], back), np.abs(no_bias * probe).sum())


@pytest.mark.parametrize("case", cases_of("conv_transpose2d_backward"))
def test_conv_transpose2d_backward(case: Case) -> None:
    arrays = widen(case.make())
    grad_x, grad_weight, grad_bias = run(case, arrays)
    g, x, w = arrays.values()
    rng = np.random.default_rng(2)
    dx, dw = rng.standard_normal(x.shape), rng.standard_normal(w.shape)
    y = ops.conv_transpose2d(dx, w, None, **case.params)
    adjoint(inner(y, g), inner(dx, grad_x), np.abs(y * g).sum())
    y = ops.conv_transpose2d(x, dw, None, **case.params)
    adjoint(inner(y, g), inner(dw, grad_weight), np.abs(y * g).sum())
    close(grad_bias, g.sum((0, 2, 3)))


@pytest.mark.parametrize("case", cases_of("linear_backward"))
def test_linear_backward(case: Case) -> None:
    arrays = widen(case.make())
    g, x, w = (arrays[k] for k in ("grad_y", "x", "weight"))
    grad_x, grad_weight, grad_bias = run(case, arrays)
    rows_g, rows_x = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
    close(grad_x, g @ w)
    close(grad_weight, rows_g.T @ rows_x)
    close(grad_bias, rows_g.sum(0))


@pytest.mark.parametrize("case", cases_of("avg_pool2d_backward", "adaptive_avg_pool2d_backward"))
def test_avg_pool2d_backward(case: Case) -> None:
    arrays = widen(case.make())
    params = dict(case.params)
    shape = params.pop("input_shape")
    (grad_x,) = run(case, arrays)
    probe = np.random.default_rng(3).standard_normal(shape)
    if case.op.startswith("adaptive"):
        y = ops.adaptive_avg_pool2d(probe, arrays["grad_y"].shape[2:])
    else:
        y = ops.avg_pool2d(probe, **params)
    adjoint(inner(y, arrays["grad_y"]), inner(probe, grad_x), np.abs(y).sum())


def _plane(case: Case, indices: np.ndarray, shape: Any) -> np.ndarray:
    """Plane indices, flat over the last two axes."""
    params = {
        k: v
        for k, v in case.params.items()
        if k in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    }
    if case.params.get("indices_kind") == "window":
        indices = ops.convert_indices(indices, shape, **params, source="window", target="plane")
    return indices.reshape(*indices.shape[:2], -1)


def _as_written(case: Case, shape: Any, values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Zeros with the values added at their indices."""
    flat = np.zeros((*shape[:2], shape[2] * shape[3]))
    plane = _plane(case, indices, shape)
    for n, c in np.ndindex(*shape[:2]):
        np.add.at(flat[n, c], plane[n, c], values.reshape(plane.shape)[n, c])
    return flat.reshape(shape)


@pytest.mark.parametrize("case", cases_of("max_pool2d_backward"))
def test_max_pool2d_backward(case: Case) -> None:
    arrays = widen(case.make())
    shape = case.params["input_shape"]
    close(run(case, arrays)[0], _as_written(case, shape, arrays["grad_y"], arrays["indices"]))


@pytest.mark.parametrize("case", cases_of("max_unpool2d"))
def test_max_unpool2d(case: Case) -> None:
    arrays = widen(case.make())
    (y,) = run(case, arrays)
    close(y, _as_written(case, y.shape, arrays["x"], arrays["indices"]))


@pytest.mark.parametrize("case", cases_of("max_pool2d_gather", "max_unpool2d_backward"))
def test_gather(case: Case) -> None:
    arrays = widen(case.make())
    source, indices = arrays.values()
    flat = source.reshape(*source.shape[:2], -1)
    expected = np.take_along_axis(flat, _plane(case, indices, source.shape), -1).reshape(indices.shape)
    np.testing.assert_array_equal(run(case, arrays)[0], expected)


def numeric(f: Any, x: np.ndarray, direction: np.ndarray, step: float = 1e-5) -> float:
    """The derivative of f along the direction, by Richardson's central differences."""

    def central(h: float) -> float:
        return float(f(x + h * direction) - f(x - h * direction)) / (2 * h)

    return (4 * central(step / 2) - central(step)) / 3


def check_gradient(f: Any, x: np.ndarray, gradient: np.ndarray, tolerance: float = 1e-6) -> None:
    direction = np.random.default_rng(7).standard_normal(x.shape)
    expected = numeric(f, x, direction)
    assert abs(inner(direction, gradient) - expected) <= tolerance * max(1.0, np.abs(gradient).sum())


@pytest.mark.parametrize("case", cases_of("activation_backward"))
def test_activation_backward(case: Case) -> None:
    arrays = widen(case.make())
    g, x = arrays.values()
    x[np.abs(x) < 1e-3] = 0.5  # away from the kinks
    x[np.abs(x - 6) < 1e-3] = 0.5
    check_gradient(lambda v: inner(ops.activation(v, **case.params), g), x, run(case, arrays)[0])


@pytest.mark.parametrize("case", cases_of("batch_norm_backward"))
def test_batch_norm_backward(case: Case) -> None:
    arrays = widen(case.make())
    g, x, weight = arrays["grad_y"], arrays["x"], arrays["weight"]
    bias = np.zeros_like(weight)
    if case.params["training"]:
        _, arrays["save_mean"], arrays["save_invstd"] = ops.batch_norm_forward(x, None, None, weight, bias)

        def forward(x: Any, weight: Any, bias: Any) -> np.ndarray:
            return ops.batch_norm(x, None, None, weight, bias, True)
    else:
        mean, var = arrays["save_mean"], 1 / arrays["save_invstd"] ** 2

        def forward(x: Any, weight: Any, bias: Any) -> np.ndarray:
            return ops.batch_norm(x, mean, var, weight, bias, False, eps=0.0)

    grad_x, grad_weight, grad_bias = run(case, arrays)
    check_gradient(lambda v: inner(forward(v, weight, bias), g), x, grad_x)
    check_gradient(lambda v: inner(forward(x, v, bias), g), weight, grad_weight)
    check_gradient(lambda v: inner(forward(x, weight, v), g), bias, grad_bias)


@pytest.mark.parametrize("case", cases_of("softmax_backward", "log_softmax_backward"))
def test_softmax_backward(case: Case) -> None:
    x = widen(case.make())["y"]
    forward = ops.softmax if case.op == "softmax_backward" else ops.log_softmax
    dim = case.params["dim"]
    g = widen(case.make())["grad_y"]
    gradient = run(case, {"grad_y": g, "y": forward(x, dim)})[0]
    check_gradient(lambda v: inner(forward(v, dim), g), x, gradient)


@pytest.mark.parametrize("case", cases_of("cross_entropy_backward"))
def test_cross_entropy_backward(case: Case) -> None:
    arrays = widen(case.make())
    g, x, target, weight = arrays.values()

    def loss(v: np.ndarray) -> float:
        return inner(ops.cross_entropy(v, target, weight, **case.params), g)

    check_gradient(loss, x, run(case, arrays)[0])
