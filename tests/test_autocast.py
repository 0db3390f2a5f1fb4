"""Mixed precision: which dtype runs where, whose gradient has which, and what the tape makes of it."""

from __future__ import annotations

import threading
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import autocast_mode, nn, ops
from cnnext import functional as F

ml_dtypes = pytest.importorskip("ml_dtypes")

HALVES = ["float16", "bfloat16"]
RNG = np.random.default_rng(0)


def values(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


X, W, B = values(2, 3, 8, 9), values(4, 3, 3, 3, scale=0.2), values(4, scale=0.2)
ROWS, DENSE, DENSE_B = values(5, 6), values(7, 6, scale=0.4), values(7, scale=0.4)
UP = values(3, 4, 2, 2, scale=0.3)


def leaf(array: np.ndarray) -> cx.Tensor:
    return cx.Tensor(array.copy(), requires_grad=True)


def error(actual: Any, wanted: Any) -> float:
    """The largest difference over the largest value."""
    wanted = np.asarray(wanted, np.float64)
    return float(np.abs(np.asarray(actual, np.float64) - wanted).max() / np.abs(wanted).max())


LOWERED = {
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding=1), X, W, B),
    "conv2d relu": (lambda x, w, b: F.conv2d(x, w, b, activation="relu"), X, W, B),
    "conv2d gelu": (lambda x, w, b: F.conv2d(x, w, b, activation="gelu"), X, W, B),
    "conv2d of one image": (lambda x, w, b: F.conv2d(x, w, b), X[0], W, B),
    "conv_transpose2d": (lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2), X, UP, B),
    "linear": (F.linear, ROWS, DENSE, DENSE_B),
    "linear relu": (lambda x, w, b: F.linear(x, w, b, activation="relu"), ROWS, DENSE, DENSE_B),
    "conv2d_relu_max_pool2d": (lambda x, w, b: F.conv2d_relu_max_pool2d(x, w, b, pool_size=2), X, W, B),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", LOWERED)
def test_what_runs_in_the_lower_dtype(name: str, dtype: str) -> None:
    """The same bits as with all casts written out, forwards and backwards."""
    call, *arrays = LOWERED[name]
    ours, by_hand = [leaf(a) for a in arrays], [leaf(a) for a in arrays]
    with cx.autocast(dtype):
        y = call(*ours)
    wanted = call(*(t.to(dtype) for t in by_hand)) if name != "conv2d_relu_max_pool2d" else None
    if wanted is None:
        wanted = F.max_pool2d(F.relu(F.conv2d(*(t.to(dtype) for t in by_hand))), 2)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.detach().numpy(), wanted.detach().numpy())
    assert error(y.detach().numpy(), call(*arrays).numpy()) < (0.02 if dtype == "bfloat16" else 0.003)
    g = values(*y.shape).astype(dtype)
    y.backward(g)
    wanted.backward(g)
    for mine, theirs in zip(ours, by_hand, strict=True):
        assert mine.dtype == mine.grad.dtype == np.float32
        np.testing.assert_array_equal(mine.grad.numpy(), theirs.grad.numpy())


def test_the_kernels_are_those_of_16_bits() -> None:
    with cx.no_grad(), cx.autocast("bfloat16"):
        F.conv2d(X, W)
        assert cx._C.last_kernel()
        lower = cx._C.last_kernel()
    ops.conv2d(X.astype(ml_dtypes.bfloat16), W.astype(ml_dtypes.bfloat16))
    assert cx._C.last_kernel() == lower


RAISED = {
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "layer_norm": lambda x: F.layer_norm(x, 6),
    "group_norm": lambda x: F.group_norm(x, 2),
    "cross_entropy": lambda x: F.cross_entropy(x, np.array([0, 1, 5, 2, 3])),
    "cross_entropy of probabilities": lambda x: F.cross_entropy(x, F.softmax(x.detach(), 1)),
    "nll_loss": lambda x: F.nll_loss(x, np.array([0, 1, 5, 2, 3])),
    "mse_loss": lambda x: F.mse_loss(x, cx.zeros(5, 6)),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", RAISED)
def test_what_runs_in_float32(name: str, dtype: str) -> None:
    x = cx.Tensor(ROWS.astype(dtype), requires_grad=True)
    wide = cx.Tensor(x.detach().numpy().astype(np.float32), requires_grad=True)
    with cx.autocast(dtype):
        y = RAISED[name](x)
    assert y.dtype == np.float32
    wanted = RAISED[name](wide)
    np.testing.assert_array_equal(y.detach().numpy(), wanted.detach().numpy())
    y.sum().backward()
    wanted.sum().backward()
    assert x.grad.dtype == dtype
    np.testing.assert_array_equal(x.grad.numpy(), wide.grad.numpy().astype(dtype))


SAME = {
    "relu": F.relu,
    "gelu": F.gelu,
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 1),
    "dropout": lambda x: F.dropout(x, 0.4),
    "sum": lambda x: x + x,
    "number": lambda x: x * 1.5,
    "mean": lambda x: x.mean((2, 3)),
}


@pytest.mark.parametrize("dtype", [*HALVES, "float32"])
@pytest.mark.parametrize("name", SAME)
def test_what_has_its_inputs_dtype(name: str, dtype: str) -> None:
    x = cx.Tensor(X.astype(dtype), requires_grad=True)
    wide = cx.Tensor(X.astype(dtype).astype(np.float32), requires_grad=True)
    with cx.autocast("float16"):
        cx.manual_seed(3)
        y = SAME[name](x)
    cx.manual_seed(3)
    wanted = SAME[name](wide)
    assert y.dtype == dtype
    np.testing.assert_allclose(
        y.detach().numpy().astype(np.float32),
        wanted.detach().numpy().astype(dtype).astype(np.float32),
        rtol=0.01,
    )
    y.sum().backward()
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("dtype", HALVES)
def test_batch_norms_statistics_are_float32(dtype: str, activation: str | None) -> None:
    """As on the same values in float32, and rounded once."""
    x = values(4, 3, 5, 6).astype(dtype)
    results = []
    for data in (x, x.astype(np.float32)):
        norm = nn.BatchNorm2d(3)
        norm.weight.data[:] = [0.5, 1.0, 2.0]
        t = cx.Tensor(data, requires_grad=True)
        y = norm.normalised(t, activation)
        y.backward(np.ones(y.shape, data.dtype) * np.arange(6).astype(data.dtype))
        results.append((norm, t, y))
    (norm, t, y), (wide_norm, wide, wanted) = results
    assert (y.dtype, t.grad.dtype) == (dtype, dtype)
    assert norm.running_mean.dtype == norm.weight.grad.dtype == np.float32
    np.testing.assert_array_equal(norm.running_mean.numpy(), wide_norm.running_mean.numpy())
    np.testing.assert_array_equal(norm.running_var.numpy(), wide_norm.running_var.numpy())
    np.testing.assert_array_equal(y.detach().numpy(), wanted.detach().numpy().astype(dtype))
    np.testing.assert_array_equal(t.grad.numpy(), wide.grad.numpy().astype(dtype))
    np.testing.assert_array_equal(norm.weight.grad.numpy(), wide_norm.weight.grad.numpy())
    norm.eval()
    with cx.no_grad():
        assert norm(cx.Tensor(x)).dtype == dtype


def test_gradients_of_gradients_of_a_mixed_batch_norm() -> None:
    def second(data: np.ndarray) -> np.ndarray:
        x, norm = cx.Tensor(data, requires_grad=True), nn.BatchNorm2d(3)
        y = F.relu(norm(x))
        (g,) = cx.grad((y * y).sum(), [x], create_graph=True)
        return cx.grad((g * g).sum(), [x])[0].numpy()

    x = values(4, 3, 2, 2).astype(np.float16)
    assert error(second(x), second(x.astype(np.float32))) < 0.02


def test_float64_is_left_alone() -> None:
    x, w = leaf(X).double(), leaf(W).double()
    with cx.autocast("float16"):
        assert F.conv2d(x, w).dtype == np.float64
        assert F.softmax(x, 1).dtype == np.float64
        with pytest.raises(TypeError, match="dtype"):
            F.conv2d(x, W)


def test_integers_and_indices_are_left_alone() -> None:
    with cx.autocast("float16"):
        y, indices = F.max_pool2d(cx.Tensor(X), 2, return_indices=True)
    assert (y.dtype, indices.dtype) == (np.float32, np.int64)


# ---- the switch ----


def test_nested_and_disabled_contexts() -> None:
    def dtype() -> Any:
        return F.linear(ROWS, DENSE).dtype

    assert not cx.is_autocast_enabled()
    assert cx.get_autocast_dtype() is None
    with cx.autocast("float16"):
        assert cx.is_autocast_enabled()
        assert cx.get_autocast_dtype() == np.float16
        assert dtype() == np.float16
        with cx.autocast("bfloat16"):
            assert dtype() == ml_dtypes.bfloat16
            with cx.autocast(enabled=False):
                assert not cx.is_autocast_enabled()
                assert dtype() == np.float32
            assert dtype() == ml_dtypes.bfloat16
        with pytest.raises(ZeroDivisionError), cx.autocast("bfloat16"):
            _ = 1 / 0
        assert dtype() == np.float16
    assert dtype() == np.float32


def test_as_a_decorator() -> None:
    @cx.autocast("float16")
    def f(depth: int) -> list:
        return [F.linear(ROWS, DENSE).dtype, *(f(depth - 1) if depth else [])]

    assert f(2) == [np.float16] * 3
    assert not cx.is_autocast_enabled()


def test_it_is_this_threads() -> None:
    seen = []

    def look() -> None:
        seen.append(cx.is_autocast_enabled())
        with cx.autocast("bfloat16"):
            seen.append(F.linear(ROWS, DENSE).dtype)

    with cx.autocast("float16"):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert cx.get_autocast_dtype() == np.float16
    assert seen == [False, ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", ["float32", "cuda", np.float32, np.int16, "int8"])
def test_what_is_no_dtype_of_it(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"autocast: dtype='.*' must be 'float16' or 'bfloat16'"):
        cx.autocast(dtype)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="autocast: enabled=1 must be a bool"):
        cx.autocast("float16", enabled=1)
    with pytest.raises(TypeError, match="dtype must name a NumPy dtype"):
        cx.autocast(lambda: None)


# ---- the tape ----


def casts_of(parameter: Any) -> Any:
    return autocast_mode.lowered(parameter)[0]


def test_a_parameter_is_cast_once() -> None:
    w = nn.Parameter(W.copy())
    with cx.autocast("float16"):
        first = casts_of(w)
        assert first.requires_grad
        assert casts_of(w) is first
        with cx.autocast(enabled=False), cx.autocast("float16"):
            assert casts_of(w) is first
        with cx.no_grad():
            assert not casts_of(w).requires_grad
            assert casts_of(w) is casts_of(w)
        assert casts_of(w) is first
    assert not autocast_mode.mode.casts
    with cx.autocast("float16"):
        assert casts_of(w) is not first


def test_a_parameter_that_changes_is_cast_anew() -> None:
    w = nn.Parameter(W.copy())

    def check() -> None:
        np.testing.assert_array_equal(casts_of(w).detach().numpy(), w.detach().numpy().astype(np.float16))

    with cx.autocast("float16"):
        check()
        with cx.no_grad():
            w.mul_(2)
        check()
        w.data[0] = 7
        check()
        w.data = values(4, 3, 3, 3)
        check()
        w.grad = cx.ones_like(w.detach())
        cx.optim.SGD([w], lr=1.0).step()
        check()
        w.requires_grad_(False)
        assert not casts_of(w).requires_grad


def test_casts_of_the_dead_are_dropped() -> None:
    with cx.autocast("float16"), cx.no_grad():
        w = nn.Parameter(W.copy())
        casts_of(w)
        assert len(autocast_mode.mode.casts) == 1
        del w
        assert not autocast_mode.mode.casts


def test_a_look_without_gradients_does_not_cost_them() -> None:
    layer = nn.Linear(6, 7)
    with cx.autocast("float16"):
        with cx.no_grad():
            layer(cx.Tensor(ROWS))
        layer(cx.Tensor(ROWS)).sum().backward()
    assert layer.weight.grad is not None


def test_a_weight_that_is_used_twice() -> None:
    layer, x = nn.Linear(6, 6), cx.Tensor(ROWS)
    with cx.autocast("float16"):
        layer(F.relu(layer(x))).sum().backward()
    w, b = leaf(layer.weight.detach().numpy()), leaf(layer.bias.detach().numpy())
    half, half_b = w.half(), b.half()
    F.linear(F.relu(F.linear(x.half(), half, half_b)), half, half_b).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), w.grad.numpy())
    np.testing.assert_array_equal(layer.bias.grad.numpy(), b.grad.numpy())


def test_backward_inside_and_outside() -> None:
    grads = []
    for inside in (True, False):
        x, w = leaf(X), leaf(W)
        with cx.autocast("float16"):
            loss = (F.conv2d(x, w) ** 2).mean()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        grads.append((x.grad.numpy(), w.grad.numpy()))
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_passes_in_one_context() -> None:
    layer, x = nn.Linear(6, 7), cx.Tensor(ROWS)
    with cx.autocast("float16"):
        layer(x).sum().backward()
        once = layer.weight.grad.numpy().copy()
        layer(x).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), 2 * once)


def test_gradients_of_gradients() -> None:
    def second(context: Any) -> np.ndarray:
        x, w = leaf(X), leaf(W)
        with context:
            loss = (F.conv2d(x, w) ** 2).mean().float()
        (g,) = cx.grad(loss, [x], create_graph=True)
        (g * g).sum().backward()
        return w.grad.numpy()

    assert error(second(cx.autocast("float16")), second(cx.autocast(enabled=False))) < 0.01


def test_a_parameter_may_change_before_backward() -> None:
    """What was multiplied is the cast, which stays."""
    x, w = leaf(X), nn.Parameter(W.copy())
    with cx.autocast("float16"):
        y = F.conv2d(x, w)
    with cx.no_grad():
        w.zero_()
    y.sum().backward()
    assert np.abs(x.grad.numpy()).max() > 0


# ---- layers, runs and packed weights ----


def test_a_packed_weight_is_computed_with_as_it_was_packed() -> None:
    packed = ops.pack_weight(W, input_shape=X.shape)
    with cx.no_grad(), cx.autocast("float16"):
        y = F.conv2d(cx.Tensor(X), packed, B)
        from_half = F.conv2d(cx.Tensor(X.astype(np.float16)), packed)
    assert (y.dtype, from_half.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(y.numpy(), ops.conv2d(X, packed, B))


def net() -> nn.Sequential:
    cx.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(8, 8, 1), nn.GELU(), nn.Flatten(),
        nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 5),
    )  # fmt: skip


def layer_by_layer(model: nn.Sequential, x: Any) -> cx.Tensor:
    for layer in model:
        x = type(layer).forward(layer, x)
    return x


@pytest.mark.parametrize("mode", ["train", "eval", "inference"])
@pytest.mark.parametrize("dtype", HALVES)
def test_runs_of_layers(mode: str, dtype: str) -> None:
    model = net().train(mode == "train")
    one_by_one = net().train(mode == "train")
    images = values(4, 3, 8, 8)
    tolerance = 0.05 if dtype == "bfloat16" else 0.005
    with cx.autocast(dtype):
        if mode == "inference":
            with cx.no_grad():
                y, wanted = model(cx.Tensor(images)), layer_by_layer(one_by_one, cx.Tensor(images))
        else:
            y, wanted = model(cx.Tensor(images)), layer_by_layer(one_by_one, cx.Tensor(images))
    assert y.dtype == wanted.dtype == dtype
    assert error(y.detach().numpy(), wanted.detach().numpy()) < tolerance
    if mode == "inference":
        return
    for result in (y, wanted):
        F.mse_loss(result.float(), cx.zeros(4, 5)).backward()
    for mine, theirs in zip(model.parameters(), one_by_one.parameters(), strict=True):
        assert mine.grad.dtype == np.float32
        if np.abs(theirs.grad.numpy()).max() > 1e-4:  # a bias before a batch norm has none
            assert error(mine.grad.numpy(), theirs.grad.numpy()) < tolerance
    for mine, theirs in zip(model.buffers(), one_by_one.buffers(), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5)


def test_kept_weights_come_and_go() -> None:
    """Inference in float32 packs weights; within the context they are not used, and behind it are right."""
    model = net().eval()
    x = cx.Tensor(values(4, 3, 8, 8))
    with cx.no_grad():
        plain = [model(x).numpy() for _ in range(3)]
        with cx.autocast("float16"):
            lower = [model(x).numpy() for _ in range(3)]
        after = [model(x).numpy() for _ in range(3)]
    for y in (*plain, *after):
        np.testing.assert_array_equal(y, plain[0])
    for y in lower:
        assert y.dtype == np.float16
        np.testing.assert_array_equal(y, lower[0])
    assert error(lower[0], plain[0]) < 0.005


def test_residual_blocks() -> None:
    cx.manual_seed(0)
    model = cx.models.create("resnet18", classes=4).eval()
    x = cx.Tensor(values(2, 3, 32, 32))
    with cx.no_grad():
        plain = model(x).numpy()
        with cx.autocast("bfloat16"):
            lower = model(x)
    assert lower.dtype == ml_dtypes.bfloat16
    assert error(lower.numpy(), plain) < 0.05


def test_fused_joins() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.norm(self.conv(x)))

    model = cx.fuse(Named(), [["conv", "norm", "relu"]])
    x = cx.Tensor(X)
    for training in (True, False):
        model.train(training)
        with cx.autocast("float16"):
            y = model(x)
        assert y.dtype == np.float16
        assert y.requires_grad


def test_what_is_off_changes_nothing() -> None:
    model, x = net(), cx.Tensor(values(4, 3, 8, 8))
    with cx.autocast(enabled=False):
        y = model(x)
    assert y.dtype == np.float32


# ---- bfloat16 tensors, which NumPy files under void ----


def test_bfloat16_tensors() -> None:
    x = cx.Tensor(X).bfloat16()
    assert x.dtype == ml_dtypes.bfloat16
    x.requires_grad_()
    for y in (x * 2.0, 2.0 * x, x + 1, x / 3, x**2, x - x, x * cx.ones(1, dtype=np.int64)):
        assert y.dtype == ml_dtypes.bfloat16
    assert (x * cx.ones(1)).dtype == np.float32
    assert nn.Linear(3, 4).bfloat16().weight.dtype == ml_dtypes.bfloat16
    assert nn.Linear(3, 4, dtype="bfloat16").weight.dtype == ml_dtypes.bfloat16
    assert nn.Linear(3, 4).half().weight.dtype == np.float16
    (x * x).mean().backward()
    assert x.grad.dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_of_16_bits_do_not_stand_still(dtype: str) -> None:
    ones = cx.ones(3000, dtype=dtype)
    assert ones.sum().item() == float(np.array(3000, dtype))
    assert ones.mean().item() == 1
    bias = cx.zeros(1, dtype=dtype, requires_grad=True)
    (ones + bias).backward(np.ones(3000, dtype))
    assert bias.grad.item() == float(np.array(3000, dtype))


# ---- beside torch ----


def test_beside_torch() -> None:
    """Errors against float32 of a step within torch.autocast and within ours."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 24, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(96, 10),
    )  # fmt: skip
    ours = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip
    start = {name: value.detach().numpy().copy() for name, value in theirs.state_dict().items()}
    images, labels = values(16, 3, 12, 14), RNG.integers(0, 10, 16)

    def torchs(lower: bool) -> dict[str, np.ndarray]:
        theirs.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in start.items()})
        theirs.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            y = theirs(torch.from_numpy(images))
            loss = torch.nn.functional.cross_entropy(y, torch.from_numpy(labels))
        assert y.dtype == (torch.bfloat16 if lower else torch.float32)
        loss.backward()
        grads = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
        assert all(g.dtype == np.float32 for g in grads.values())
        return {"loss": loss.detach().float().numpy(), "y": y.detach().float().numpy(), **grads}

    def mine() -> dict[str, np.ndarray]:
        ours.load_state_dict(start)
        ours.zero_grad()
        with cx.autocast("bfloat16"):
            y = ours(cx.Tensor(images))
            loss = F.cross_entropy(y, labels)
        assert y.dtype == ml_dtypes.bfloat16
        loss.backward()
        grads = {name: p.grad.numpy() for name, p in ours.named_parameters()}
        return {"loss": loss.detach().numpy(), "y": y.detach().float().numpy(), **grads}

    exact, lower, found = torchs(False), torchs(True), mine()
    for name, wanted in exact.items():
        if name == "0.bias":
            continue  # before a batch norm: nothing but rounding
        scale = np.abs(wanted).max()
        bound = np.sqrt(np.mean((lower[name] - wanted) ** 2)) + 2.0**-9 * scale
        assert np.sqrt(np.mean((found[name] - wanted) ** 2)) < 2 * bound, name


def test_torchs_dtypes() -> None:
    """Which results have which dtype, as torch.autocast has it."""
    torch = pytest.importorskip("torch")
    TF = torch.nn.functional
    rows, dense = torch.from_numpy(ROWS), torch.from_numpy(DENSE)
    labels = np.array([0, 1, 5, 2, 3])
    with torch.autocast("cpu", torch.bfloat16), cx.autocast("bfloat16"):
        pairs = [
            (TF.linear(rows, dense), F.linear(ROWS, DENSE)),
            (TF.conv2d(torch.from_numpy(X), torch.from_numpy(W)), F.conv2d(X, W)),
            (TF.relu(TF.linear(rows, dense)), F.relu(F.linear(ROWS, DENSE))),
            (TF.relu(rows), F.relu(ROWS)),
            (
                TF.cross_entropy(rows.bfloat16(), torch.from_numpy(labels)),
                F.cross_entropy(cx.Tensor(ROWS).bfloat16(), labels),
            ),
            (rows + rows.bfloat16(), cx.Tensor(ROWS) + cx.Tensor(ROWS).bfloat16()),
            (rows.bfloat16() * 2.0, cx.Tensor(ROWS).bfloat16() * 2.0),
        ]
    for theirs, mine in pairs:
        assert str(theirs.dtype).removeprefix("torch.") == mine.dtype.name
