"""Making, training, saving and mixing on devices: run by tests/test_device_arrays.py, on cupys' stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import nn, optim
from cupys import asarray, cupy, devices, ndarray  # noqa: F401

pytestmark = pytest.mark.usefixtures("cupy")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)


def on(device: str, values: Any) -> cx.Tensor:
    return cx.tensor(values, device=device)


# ---- creation

MADE = {
    "zeros": lambda **how: cx.zeros(2, 3, **how),
    "ones": lambda **how: cx.ones(2, 3, dtype=np.float16, **how),
    "full": lambda **how: cx.full((2, 3), 7, **how),
    "tensor": lambda **how: cx.tensor([[1.0, 2.0]], **how),
    "arange": lambda **how: cx.arange(5, **how),
    "rand": lambda **how: cx.rand(2, 3, **how),
    "randn": lambda **how: cx.randn(2, 3, **how),
    "randint": lambda **how: cx.randint(0, 9, (4,), **how),
    "randperm": lambda **how: cx.randperm(6, **how),
    "zeros_like": lambda **how: cx.zeros_like(X, **how),
    "ones_like": lambda **how: cx.ones_like(X, **how),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_on_a_device(name: str) -> None:
    """It has the host's values and dtype; a seed gives the same ones everywhere."""
    cx.manual_seed(4)
    host = MADE[name]()
    assert host.device == "cpu"
    for device, there in [("cuda", "cuda:1"), ("cuda:0", "cuda:0"), ("cpu", "cpu")]:
        cx.manual_seed(4)
        made = MADE[name](device=device)
        assert made.device == there
        assert type(made.data) is (np.ndarray if there == "cpu" else ndarray)
        assert made.dtype == host.dtype
        np.testing.assert_array_equal(made.cpu().numpy(), host.numpy())
    assert devices == [1]
    for wrong, error in [("cuda:5", ValueError), ("gpu", NotImplementedError)]:
        with pytest.raises(error, match=f"device '{wrong}'"):
            MADE[name](device=wrong)


def test_it_can_require_gradients() -> None:
    for made in (
        cx.zeros(2, device="cuda:0", requires_grad=True),
        cx.randn(2, device="cuda:0", requires_grad=True),
    ):
        assert made.requires_grad
        assert made.is_leaf


def test_tensor_stays_where_its_data_is() -> None:
    there = on("cuda:0", X)
    same = cx.tensor(there)
    assert same.device == "cuda:0"
    assert not np.shares_memory(same.data, there.data)
    assert cx.tensor(there, device="cpu").device == "cpu"
    assert cx.zeros_like(there).device == "cuda:0"
    assert cx.ones_like(there, device="cuda:1").device == "cuda:1"


# ---- layers

LAYERS = {
    "Conv2d": lambda **how: nn.Conv2d(2, 3, 3, **how),
    "ConvTranspose2d": lambda **how: nn.ConvTranspose2d(2, 3, 3, **how),
    "Linear": lambda **how: nn.Linear(4, 5, **how),
    "BatchNorm2d": lambda **how: nn.BatchNorm2d(4, **how),
    "LayerNorm": lambda **how: nn.LayerNorm(4, **how),
    "GroupNorm": lambda **how: nn.GroupNorm(2, 4, **how),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_made_on_a_device(name: str) -> None:
    cx.manual_seed(1)
    host = LAYERS[name]().state_dict()
    cx.manual_seed(1)
    layer = LAYERS[name](device="cuda:0")
    assert {value.device for value in (*layer.parameters(), *layer.buffers())} == {"cuda:0"}
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value.cpu().numpy(), host[key].detach().numpy())
    layer.reset_parameters()
    assert {value.device for value in (*layer.parameters(), *layer.buffers())} == {"cuda:0"}
    with pytest.raises(ValueError, match="device 'cuda:9' does not exist"):
        LAYERS[name](device="cuda:9")


@pytest.mark.parametrize("fill", [nn.init.zeros_, nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_])
def test_initialisation_on_a_device(fill: Any) -> None:
    weights = [cx.ones(6, 5, device=device) for device in ("cpu", "cuda:0")]
    for weight in weights:
        cx.manual_seed(2)
        fill(weight)
    assert weights[1].device == "cuda:0"
    np.testing.assert_array_equal(weights[1].cpu().numpy(), weights[0].numpy())


# ---- optimisers


def with_gradients(device: str) -> list[nn.Parameter]:
    parameters = [nn.Parameter(on(device, values).data) for values in (X, X[0, 0])]
    for p in parameters:
        p.grad = cx.ones_like(p.detach()) * 3.0
    return parameters


def test_states_are_where_the_parameters_are() -> None:
    p = with_gradients("cuda:0")[0]
    state = optim.Adam([p])._state_of(p, amsgrad=True)
    assert {value.device for name, value in state.items() if name != "step"} == {"cuda:0"}


def test_a_state_is_restored_where_the_parameters_are() -> None:
    host, device = with_gradients("cpu"), with_gradients("cuda:0")
    optimizer = optim.Adam(host, lr=0.1)
    optimizer.step()
    other = optim.Adam(device, lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    for mine, theirs in zip(device, host, strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert other.state[mine][name].device == "cuda:0"
            np.testing.assert_array_equal(
                other.state[mine][name].cpu().numpy(), optimizer.state[theirs][name].numpy()
            )
    again = optim.Adam(host)
    again.load_state_dict(other.state_dict())
    assert again.state[host[0]]["exp_avg"].device == "cpu"


def test_clipping_on_a_device() -> None:
    norms = []
    for device in ("cpu", "cuda:0"):
        parameters = with_gradients(device)
        norms.append(nn.utils.clip_grad_norm_(parameters, 1.0).item())
        assert all(p.grad.device == device for p in parameters)
        total = sum((p.grad.cpu().numpy() ** 2).sum() for p in parameters)
        assert total == pytest.approx(1.0, rel=1e-5)
        nn.utils.clip_grad_value_(parameters, 0.01)
        assert max(p.grad.cpu().numpy().max() for p in parameters) == np.float32(0.01)
    assert norms[0] == pytest.approx(norms[1])


@pytest.mark.parametrize("bad", [False, True])
def test_loss_scaling_on_a_device(bad: bool) -> None:
    parameters = [*with_gradients("cuda:0"), *with_gradients("cuda:1"), *with_gradients("cpu")]
    if bad:
        parameters[2].grad[0, 0, 0, 0] = float("inf")
    scaler = optim.GradScaler(init_scale=2.0)
    scaled = scaler.scale(on("cuda:0", [1.0]))
    assert (scaled.device, scaled.item()) == ("cuda:0", 2.0)
    optimizer = optim.SGD(parameters)
    scaler.unscale_(optimizer)
    assert parameters[0].grad.device == "cuda:0"
    assert parameters[0].grad[0, 0, 0, 1].item() == 1.5
    scaler.update()
    assert scaler.get_scale() == (1.0 if bad else 2.0)


def test_a_gradient_that_stayed_behind() -> None:
    p = with_gradients("cuda:0")[0]
    p.grad = p.grad.cpu()
    with pytest.raises(ValueError, match="a gradient is on cpu, its parameter on cuda:0"):
        optim.SGD([p]).step()


# ---- checkpoints


def test_checkpoints_go_through_the_host(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to("cuda:0")
    optimizer = optim.Adam(model.parameters())
    for p in model.parameters():
        optimizer._state_of(p, amsgrad=False)["exp_avg"].fill_(0.5)
    path = tmp_path / "state.safetensors"
    cx.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    state = cx.load(path)
    assert {value.device for value in state["model"].values()} == {"cpu"}
    for device in ("cpu", "cuda:0", "cuda:1"):
        other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(device)
        other.load_state_dict(state["model"])
        theirs = optim.Adam(other.parameters())
        theirs.load_state_dict(state["optimizer"])
        for (name, mine), value in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
            assert value.device == device, name
            np.testing.assert_array_equal(value.cpu().numpy(), mine.cpu().numpy())
        assert {s["exp_avg"].device for s in theirs.state.values()} == {device}
    cx.nn.Conv2d(3, 4, 3).load_state_dict(model[0].state_dict())  # from a device without a file


# ---- mixing

A, B = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
MIXED = {
    "add": (lambda a, b: a + b, "^add: y is on the CPU, but x is on cuda:0"),
    "reversed": (lambda a, b: b - a, "y is on cuda:0, but x is on the CPU"),
    "an array": (lambda a, b: a * b.numpy(), "y is on the CPU, but x is on cuda:0"),
    "compare": (lambda a, b: a < b, "y is on the CPU, but x is on cuda:0"),
    "copy a part": (lambda a, b: a.__setitem__(0, b[0]), "the value is on cpu, but the tensor is on cuda:0"),
}


@pytest.mark.parametrize("name", MIXED)
def test_host_and_device_are_not_mixed(name: str) -> None:
    call, message = MIXED[name]
    with pytest.raises(ValueError, match=message):
        call(on("cuda:0", A), on("cpu", B))


def test_in_place_and_recorded() -> None:
    a = cx.ones(2, 3, device="cuda:0", requires_grad=True)
    with pytest.raises(ValueError, match="y is on the CPU, but x is on cuda:0"):
        _ = a * on("cpu", B)
    with cx.no_grad(), pytest.raises(ValueError, match="y is on the CPU, but x is on cuda:0"):
        a += on("cpu", B)


def test_errors_of_one_device_are_not_blamed_on_two() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        _ = on("cuda:0", A) + on("cuda:0", A[:, :2])
    with pytest.raises(ValueError, match="broadcast"):
        _ = on("cpu", A) + on("cpu", A[:, :2])


def test_numbers_go_anywhere() -> None:
    a = on("cuda:0", A)
    for y in (a + 1, 2.0 * a, a / 3, cx.where(a > 0, a, 0.0), a.clamp(0, 1), a**2):
        assert y.device == "cuda:0"
    a[0] = 5
    a[1] = [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(a.cpu().numpy(), [[5, 5, 5], [1, 2, 3]])


def test_copy_crosses_devices() -> None:
    a, b = on("cuda:0", A), on("cpu", 2 * B)
    assert a.copy_(b) is a
    np.testing.assert_array_equal(a.cpu().numpy(), 2 * B)
    b.copy_(a * 2)
    np.testing.assert_array_equal(b.numpy(), 4 * B)
    a.copy_(asarray(B))
    a.copy_(B * 3)
    assert a.device == "cuda:0"


# ---- autocast


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_casts_stay_on_the_device(dtype: str) -> None:
    pytest.importorskip("ml_dtypes")
    from cnnext import autocast_mode

    w = nn.Parameter(on("cuda:0", A).data)
    with cx.autocast(dtype):
        x, half = autocast_mode.lowered(on("cuda:0", B), w)
        assert (x.device, half.device, half.dtype) == ("cuda:0", "cuda:0", dtype)
        assert autocast_mode.lowered(w)[0] is half
        assert autocast_mode.raised(x).dtype == np.float32
    half.backward(half.detach())
    assert (w.grad.device, w.grad.dtype) == ("cuda:0", np.float32)
