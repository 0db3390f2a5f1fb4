"""Tensors and modules between the host and CUDA devices, on fake_cuda: run by tests/test_device_arrays.py.

CuPy is a stand-in whose arrays are NumPy's: tested is which device everything is on, and the way back.
"""

from __future__ import annotations

import sys

import cnnext as cx
import numpy as np
import pytest
from cupys import cupy, devices, ndarray  # noqa: F401

X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
LAST = np.moveaxis(np.moveaxis(X, 1, -1).copy(), -1, 1)


@pytest.mark.usefixtures("cupy")
def test_there_and_back() -> None:
    t = cx.Tensor(X)
    assert t.to("cpu") is t
    assert t.device == "cpu"
    for where, device in [("cuda", "cuda:1"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")]:
        moved = t.to(where)
        assert moved.device == device
        assert type(moved.data) is ndarray
        assert moved.to(device=where) is moved
        back = moved.cpu()
        assert type(back.data) is np.ndarray
        np.testing.assert_array_equal(back.numpy(), X)
    assert t.cuda().device == "cuda:1"
    assert t.cuda(0).cuda("cuda:1").device == "cuda:1"
    assert t.to(moved).device == "cuda:1"
    assert t.to("cuda:0", np.float64).dtype == np.float64
    assert devices == [1]


@pytest.mark.usefixtures("cupy")
def test_the_memory_format_is_kept() -> None:
    moved = cx.Tensor(LAST).to("cuda")
    assert moved.is_contiguous("channels_last")
    assert moved.cpu().is_contiguous("channels_last")
    np.testing.assert_array_equal(moved.cpu().numpy(), X)


@pytest.mark.usefixtures("cupy")
def test_gradients_go_the_way_back() -> None:
    x = cx.Tensor(X, requires_grad=True)
    y = (x.to("cuda:0") * 3 + 1) ** 2
    assert y.device == "cuda:0"
    y.sum().backward()
    assert x.grad.device == "cpu"
    np.testing.assert_allclose(x.grad.numpy(), 6 * (3 * X + 1), rtol=1e-6)


@pytest.mark.usefixtures("cupy")
def test_what_shows_a_tensor() -> None:
    t = cx.Tensor(X[0, 0, 0]).to("cuda:0")
    assert "device='cuda:0'" in repr(t)
    assert t[1].item() == X[0, 0, 0, 1]
    assert t.tolist() == X[0, 0, 0].tolist()
    with pytest.raises(TypeError, match=r"on cuda:0, which NumPy cannot show: use .cpu\(\)"):
        t.numpy()
    t[0] = 7
    assert t[0].item() == 7


@pytest.mark.usefixtures("cupy")
def test_modules() -> None:
    model = cx.nn.Sequential(cx.nn.Conv2d(3, 4, 3), cx.nn.BatchNorm2d(4))
    parameters = list(model.parameters())
    before = [p.numpy().copy() for p in map(cx.Tensor.detach, parameters)]
    parameters[0].grad = cx.ones_like(parameters[0].detach())
    assert model.to("cuda") is model
    assert {t.device for t in (*model.parameters(), *model.buffers())} == {"cuda:1"}
    assert list(map(id, model.parameters())) == list(map(id, parameters))
    assert parameters[0].grad.device == "cuda:1"
    assert all(p.requires_grad for p in parameters)
    model.cpu()
    assert {t.device for t in (*model.parameters(), *model.buffers())} == {"cpu"}
    for parameter, values in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(parameter.detach().numpy(), values)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("cuda:2", ValueError, "device 'cuda:2' does not exist; there are 2 CUDA devices"),
        ("cuda:", NotImplementedError, "device 'cuda:' is not supported"),
        ("cuda:x", NotImplementedError, "device 'cuda:x' is not supported"),
        ("mps", NotImplementedError, "device 'mps' is not supported: tensors live on 'cpu' and 'cuda'"),
    ],
)
def test_what_is_no_device(device: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        cx.ones(2).to(device)
    with pytest.raises(error, match=message):
        cx.nn.Linear(2, 2).to(device=device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_without_cupy(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"pip install 'cnnext\[cuda13\]'"):
        cx.ones(2).to(device)
