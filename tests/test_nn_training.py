"""Initialisation, training from a seed and beside torch, gradient clipping."""

from __future__ import annotations

import importlib.util

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import build, channels_last
from cnnext import nn

# ---- initialisation ----


@pytest.mark.parametrize(
    ("name", "kwargs", "expected_std"),
    [
        ("kaiming_uniform_", {}, np.sqrt(2 / 1800)),
        ("kaiming_uniform_", {"a": np.sqrt(5)}, np.sqrt(1 / 3 / 1800)),
        ("kaiming_normal_", {"nonlinearity": "relu", "mode": "fan_out"}, np.sqrt(2 / 2700)),
        ("kaiming_normal_", {"nonlinearity": "tanh"}, 5 / 3 / np.sqrt(1800)),
        ("xavier_uniform_", {}, np.sqrt(2 / 4500)),
        ("xavier_normal_", {"gain": 2.0}, 2 * np.sqrt(2 / 4500)),
        ("normal_", {"mean": 0.0, "std": 0.7}, 0.7),
        ("uniform_", {"a": -1.0, "b": 1.0}, 1 / np.sqrt(3)),
        ("trunc_normal_", {"std": 0.02}, 0.02),
        ("trunc_normal_", {"std": 1.0, "a": -2.0, "b": 2.0}, 0.879626),
        ("trunc_normal_", {"std": 1.0, "a": -0.5, "b": 0.5}, 0.283890),
    ],
)
def test_initialisers(name, kwargs, expected_std):
    cx.manual_seed(1)
    w = nn.Parameter(np.empty((300, 200, 3, 3), np.float32))
    assert getattr(nn.init, name)(w, **kwargs) is w
    assert w.is_leaf
    values = w.detach().numpy().astype(np.float64)
    assert abs(values.std() / expected_std - 1) < 0.01
    assert abs(values.mean()) < 0.01 * expected_std
    if name == "trunc_normal_":
        assert np.abs(values).max() <= kwargs.get("b", 2)
    if "uniform" in name:
        bound = expected_std * np.sqrt(3)
        assert np.abs(values).max() <= bound * (1 + 1e-6)
        assert np.abs(values).max() > bound * 0.999
    cx.manual_seed(1)
    again = getattr(nn.init, name)(nn.Parameter(np.empty((300, 200, 3, 3), np.float32)), **kwargs)
    np.testing.assert_array_equal(w.detach().numpy(), again.detach().numpy())


def test_constant_initialisers_and_errors():
    w = nn.Parameter(np.empty((2, 3)))
    np.testing.assert_array_equal(nn.init.ones_(w).detach().numpy(), np.ones((2, 3)))
    np.testing.assert_array_equal(nn.init.zeros_(w).detach().numpy(), np.zeros((2, 3)))
    np.testing.assert_array_equal(nn.init.constant_(w, 2.5).detach().numpy(), np.full((2, 3), 2.5))
    assert nn.init.calculate_gain("leaky_relu", 0.2) == pytest.approx(np.sqrt(2 / 1.04))
    for call, message in [
        (lambda: nn.init.kaiming_normal_(cx.ones(3)), "at least 2 dimensions"),
        (lambda: nn.init.kaiming_normal_(w, mode="fan"), "mode='fan' must be"),
        (lambda: nn.init.kaiming_normal_(w, nonlinearity="swish"), "nonlinearity='swish' must be"),
        (lambda: nn.init.normal_(w, std=-1), "std=-1 must not be negative"),
        (lambda: nn.init.trunc_normal_(w, std=0), "std=0 must be positive"),
        (lambda: nn.init.trunc_normal_(w, a=3, b=2), "a=3 below b=2"),
        (lambda: nn.init.trunc_normal_(w, mean=9), "mean=9 must be at most two standard deviations"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="expected a Tensor, got ndarray"):
        nn.init.zeros_(np.ones(2))


@pytest.mark.parametrize(
    ("text", "fan_in"),
    [("Conv2d(40, 500, 5)", 1000), ("ConvTranspose2d(40, 500, 5)", 12500), ("Linear(400, 300)", 400)],
)
def test_default_initialisation_is_torchs(text, fan_in):
    """Weight and bias uniform within +-1 / sqrt(fan_in); torch itself is held to the same."""
    cx.manual_seed(0)
    libraries = [nn]
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)
        libraries.append(torch.nn)
    for library in libraries:
        for p in build(text, library).parameters():
            size = np.abs(p.detach().numpy()) * np.sqrt(fan_in)
            assert 0.98 < size.max() <= 1.0 + 1e-6
            assert size.mean() == pytest.approx(0.5, rel=0.1)


# ---- repeatability ----


def _train(seed):
    cx.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64, 10),
    )
    optimizer = cx.optim.AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 1, 8, 8)).astype(np.float32)
    labels = rng.integers(0, 10, 16)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(model(cx.Tensor(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, b"".join(v.numpy().tobytes() for v in model.state_dict().values())


def test_a_run_repeats_bit_for_bit_from_its_seed():
    losses, weights = _train(3)
    assert (losses, weights) == _train(3)
    assert losses[-1] < losses[0]
    assert weights != _train(4)[1]


def test_a_run_repeats_bit_for_bit_for_any_number_of_threads():
    results = set()
    for threads in (1, 2, 3, 8):
        cx.set_num_threads(threads)
        results.add(_train(3)[1])
    assert len(results) == 1


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("optimizer", "options"), [("SGD", {"lr": 0.05, "momentum": 0.9}), ("AdamW", {"lr": 0.01})]
)
def test_twenty_steps_of_training_against_torch(optimizer, options, layout):
    torch = pytest.importorskip("torch")
    text = (
        "Sequential(Conv2d(2, 6, 3, padding=1), BatchNorm2d(6), ReLU(), MaxPool2d(2), "
        "Conv2d(6, 8, 3, groups=2), GELU(), AdaptiveAvgPool2d(2), Flatten(), Linear(32, 5))"
    )
    torch.manual_seed(0)
    theirs, ours = build(text, torch.nn).double(), build(text, nn).double()
    ours.load_state_dict(theirs.state_dict())
    step, reference = (
        getattr(lib.optim, optimizer)(model.parameters(), **options)
        for lib, model in ((cx, ours), (torch, theirs))
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        images, labels = rng.standard_normal((6, 2, 8, 9)), rng.integers(0, 5, 6)
        batch = channels_last(images) if layout == "channels_last" else images
        loss = nn.functional.cross_entropy(ours(cx.Tensor(batch)), labels, label_smoothing=0.1)
        step.zero_grad()
        loss.backward()
        step.step()
        expected = torch.nn.functional.cross_entropy(
            theirs(torch.from_numpy(images)), torch.from_numpy(labels), label_smoothing=0.1
        )
        reference.zero_grad()
        expected.backward()
        reference.step()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-7)
    for (name, v), tv in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(v.numpy(), tv.numpy(), rtol=1e-5, atol=1e-7, err_msg=name)


# ---- utils ----


def test_gradient_clipping():
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32) * 3
    for limit in (0.5, 100.0):
        p, tp = nn.Parameter(a.copy()), torch.nn.Parameter(torch.from_numpy(a.copy()))
        q = nn.Parameter(a.copy())  # without gradient
        (p * p).sum().backward()
        (tp * tp).sum().backward()
        norm = nn.utils.clip_grad_norm_([p, q], limit)
        tnorm = torch.nn.utils.clip_grad_norm_([tp], limit)
        assert norm.item() == pytest.approx(tnorm.item(), rel=1e-5)
        np.testing.assert_allclose(p.grad.numpy(), tp.grad.numpy(), rtol=1e-5)
    nn.utils.clip_grad_value_(p, 0.25)
    assert np.abs(p.grad.numpy()).max() == 0.25
