"""What nn and optim compute without kernels of their own, on fake_cuda: see tests/test_device_arrays.py."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext.nn import functional as F
from cnnext.optim import swa_utils
from tensor_cases import LAST, X, cupy, ndarray  # noqa: F401 - a fixture


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("image", [X, LAST], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize(
    "options",
    [
        {"scale_factor": 2},
        {"size": (7, 3), "mode": "bilinear"},
        {"size": 2, "mode": "nearest"},
        {"scale_factor": 2, "mode": "bilinear", "align_corners": True},
    ],
)
def test_interpolate(image: Any, options: dict) -> None:
    x = cx.Tensor(image, requires_grad=True)
    found = []
    for device in ("cpu", "cuda:0"):
        x.grad = None
        y = F.interpolate(x.to(device), **options)
        assert y.device == device
        (y * y).sum().backward()
        found.append((y.detach().cpu().numpy(), x.grad.numpy()))
    for host, there in zip(*found, strict=True):
        np.testing.assert_array_equal(there, host)


@pytest.mark.usefixtures("cupy")
def test_clipping() -> None:
    for norm_type in (1, 2, float("inf")):
        grads = []
        for device in ("cpu", "cuda:0"):
            p = cx.nn.Parameter(X.copy()).to(device).detach().requires_grad_()
            p.grad = cx.Tensor(X.copy()).to(device)
            norm = cx.nn.utils.clip_grad_norm_([p], 0.5, norm_type)
            grads.append((norm.item(), p.grad.cpu().numpy()))
            assert p.grad.device == device
        assert grads[0][0] == grads[1][0]
        np.testing.assert_array_equal(grads[0][1], grads[1][1])


@pytest.mark.usefixtures("cupy")
def test_averages() -> None:
    model = cx.nn.Sequential(cx.nn.Linear(3, 2), cx.nn.BatchNorm1d(2))
    expected = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    there = swa_utils.AveragedModel(model, "cuda:0", multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    for _ in range(3):
        with cx.no_grad():
            model[0].weight.add_(1.0)
        expected.update_parameters(model)
        there.update_parameters(model)
    want = expected.module.state_dict()
    for name, value in there.module.state_dict().items():
        assert type(value.data) is ndarray, name
        np.testing.assert_array_equal(value.cpu().numpy(), want[name].numpy(), err_msg=name)


@pytest.mark.usefixtures("cupy")
def test_hooks() -> None:
    layer, seen = cx.nn.Identity(), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(gi[0].device) or (gi[0] * 2,))
    x = cx.Tensor(X, requires_grad=True)
    layer(x.to("cuda:0")).sum().backward()
    assert seen == ["cuda:0"]
    np.testing.assert_array_equal(x.grad.numpy(), np.full_like(X, 2))


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("name", ["orthogonal_", "eye_", "dirac_", "sparse_"])
def test_initialisers_of_weights_there(name: str) -> None:
    shape = (4, 3, 3, 3) if name in ("orthogonal_", "dirac_") else (4, 3)
    weights = []
    for device in ("cpu", "cuda:1"):
        cx.manual_seed(0)
        w = cx.ones(*shape).to(device)
        getattr(cx.nn.init, name)(w, *([0.5] if name == "sparse_" else []))
        assert w.device == device
        weights.append(w.cpu().numpy())
    np.testing.assert_array_equal(*weights)
