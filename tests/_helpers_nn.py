"""What tests of layers share: gradients checked in float64 by central differences, layers from text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cnnext as cx
import numpy as np

EPS = 1e-5


def random_arrays(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Standard normal float64 arrays."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def apart(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Distinct float64 values around 0, none within 0.02 of another or of 0: safe for max, relu and abs."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    return ((rng.permutation(n) - n // 2 + 0.5) * 0.05).reshape(shape)


def channels_last(array: np.ndarray) -> np.ndarray:
    """The same values in NHWC memory."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def build(text: str, library: Any) -> Any:
    """The layer that `text` constructs, of cnnext.nn or torch.nn."""
    return eval(text, {name: getattr(library, name) for name in dir(library)})


def _projected(fn: Callable, tensors: Sequence[cx.Tensor], seed: int) -> cx.Tensor:
    """fn's outputs, weighted by fixed random numbers and summed: a scalar that depends on all of them."""
    outputs = fn(*tensors)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    rng = np.random.default_rng(seed)
    terms = [(o * rng.standard_normal(o.shape)).sum() for o in outputs if o.dtype.kind == "f"]
    return sum(terms[1:], terms[0])


def numeric_gradient(scalar: Callable[[], float], array: np.ndarray, eps: float = EPS) -> np.ndarray:
    """Central differences of scalar() for every element of `array`, changed and restored in place."""
    result = np.empty(array.shape)
    for i in np.ndindex(array.shape):
        old = array[i]
        array[i] = old + eps
        up = scalar()
        array[i] = old - eps
        down = scalar()
        array[i] = old
        result[i] = (up - down) / (2 * eps)
    return result


def check_gradients(fn: Callable, *arrays: np.ndarray, tol: float = 1e-6, seed: int = 7) -> None:
    """Every gradient of fn(*tensors) against central differences."""
    copies = [np.array(a, np.float64, order="K") for a in arrays]
    tensors = [cx.Tensor(a, requires_grad=True) for a in copies]
    grads = cx.grad(_projected(fn, tensors, seed), tensors, allow_unused=True)

    def scalar() -> float:
        with cx.no_grad():
            return _projected(fn, tensors, seed).item()

    for i, (array, grad) in enumerate(zip(copies, grads, strict=True)):
        expected = numeric_gradient(scalar, array)
        if grad is None:  # no way from the argument to the result
            grad = cx.zeros_like(array)
        assert grad.shape == array.shape
        assert grad.dtype == array.dtype
        np.testing.assert_allclose(grad.numpy(), expected, rtol=tol, atol=tol, err_msg=f"argument {i}")


def check_second_order(fn: Callable, *arrays: np.ndarray, tol: float = 1e-5) -> None:
    """The gradients of fn's gradients, for its arguments and for the gradient that comes in."""
    tensors = [cx.Tensor(np.array(a, np.float64, order="K")) for a in arrays]
    out = fn(*tensors)
    out = out[0] if isinstance(out, (tuple, list)) else out
    incoming = np.random.default_rng(3).standard_normal(out.shape)

    def gradients(g: cx.Tensor, *xs: cx.Tensor) -> tuple[Any, ...]:
        with cx.enable_grad():  # the numeric side calls this under no_grad
            xs = tuple(x if x.requires_grad else x.detach().requires_grad_() for x in xs)
            y = fn(*xs)
            y = y[0] if isinstance(y, (tuple, list)) else y
            return cx.grad(y, xs, g, create_graph=True)

    check_gradients(gradients, incoming, *(t.numpy() for t in tensors), tol=tol)
