"""The optimisers' updates in place, against their definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cnnext import ops


def random_tensors(shapes: list[tuple[int, ...]], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


SHAPES = [(1,), (7,), (17, 3), (65,), (4, 3, 3, 3)]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_sgd(nesterov: bool, maximize: bool) -> None:
    params, buffers = random_tensors(SHAPES, 1), [np.zeros(s, np.float32) for s in SHAPES]
    wide = [p.astype(np.float64) for p in params]
    momenta = [np.zeros(s) for s in SHAPES]
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0 if nesterov else 0.25, "weight_decay": 0.01}
    for step in range(3):
        grads = random_tensors(SHAPES, 10 + step)
        ops.sgd_step(
            params, grads, buffers, **options, nesterov=nesterov, maximize=maximize, first_step=step == 0
        )
        for p, g, m in zip(wide, grads, momenta, strict=True):
            d = (-g if maximize else g) + options["weight_decay"] * p
            m[...] = d if step == 0 else options["momentum"] * m + (1 - options["dampening"]) * d
            p -= options["lr"] * (d + options["momentum"] * m if nesterov else m)
    for p, q in zip(params, wide, strict=True):
        np.testing.assert_allclose(p, q, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam(decoupled: bool, amsgrad: bool) -> None:
    params = random_tensors(SHAPES, 1)
    zeros = [[np.zeros(s, np.float32) for s in SHAPES] for _ in range(3)]
    wide = [p.astype(np.float64) for p in params]
    means, squares, maxima = [[np.zeros(s) for s in SHAPES] for _ in range(3)]
    lr, b1, b2, eps, decay = 0.01, 0.9, 0.99, 1e-8, 0.1
    for step in range(1, 4):
        grads = random_tensors(SHAPES, 20 + step)
        state = (*zeros[:2], zeros[2] if amsgrad else None)
        how = {"lr": lr, "beta1": b1, "beta2": b2, "eps": eps, "weight_decay": decay, "decoupled": decoupled}
        ops.adam_step(params, grads, *state, step=step, **how)
        for p, g, m, v, top in zip(wide, grads, means, squares, maxima, strict=True):
            if decoupled:
                p *= 1 - lr * decay
            d = g if decoupled else g + decay * p
            m[...] = b1 * m + (1 - b1) * d
            v[...] = b2 * v + (1 - b2) * d * d
            np.maximum(top, v, out=top)
            root = np.sqrt((top if amsgrad else v) / (1 - b2**step)) + eps
            p -= lr * m / (1 - b1**step) / root
    for p, q in zip(params, wide, strict=True):
        np.testing.assert_allclose(p, q, rtol=2e-6, atol=2e-6)


def test_sgd_without_momentum_takes_no_buffers() -> None:
    param, grad = random_tensors([(5, 3), (5, 3)], 0)
    before = param.copy()
    ops.sgd_step([param], [grad], None, lr=0.5)
    np.testing.assert_allclose(param, before - 0.5 * grad, rtol=1e-6, atol=1e-6)


def test_strided_parameters_are_updated_where_they_are() -> None:
    whole = np.zeros((4, 6), np.float32)
    ops.sgd_step([whole[:, ::2]], [np.ones((4, 3), np.float32)], None, lr=1.0)
    np.testing.assert_array_equal(whole, np.tile(np.array([-1, 0], np.float32), (4, 3)))


@pytest.mark.parametrize(
    ("params", "grads", "buffers", "error", "message"),
    [
        ([np.zeros(3, np.float32)], [], None, ValueError, "grads has 0 arrays"),
        ([np.zeros(3, np.float32)], [np.zeros(4, np.float32)], None, ValueError, "grad"),
        ([np.zeros(3, np.float32)], [np.zeros(3)], None, TypeError, "grad"),
        (
            np.zeros(3, np.float32),
            [np.zeros(3, np.float32)],
            None,
            TypeError,
            "params must be a list of arrays",
        ),
        (None, [np.zeros(3, np.float32)], None, TypeError, "params must be a list of arrays, got None"),
        ([[1.0]], [np.zeros(1, np.float32)], None, TypeError, "params must be a NumPy array"),
        ([np.zeros(3, np.int64)], [np.zeros(3, np.int64)], None, TypeError, "float32 or float64"),
    ],
)
def test_errors(params: object, grads: object, buffers: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ops.sgd_step(params, grads, buffers, lr=0.1)


def test_momentum_needs_buffers() -> None:
    with pytest.raises((ValueError, TypeError), match="buffers"):
        ops.sgd_step([np.zeros(3, np.float32)], [np.zeros(3, np.float32)], None, lr=0.1, momentum=0.9)


def test_read_only_parameters_are_refused() -> None:
    param = np.zeros(3, np.float32)
    param.flags.writeable = False
    with pytest.raises(ValueError, match="params is read-only"):
        ops.sgd_step([param], [np.zeros(3, np.float32)], None, lr=0.1)
