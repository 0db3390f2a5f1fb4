"""Schedules that follow others or a metric, averaged models, gradient clipping: beside torch's."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import nn, optim
from cnnext.optim import swa_utils

# ---- schedules ----


def optimizers(lr: float = 0.1) -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")
    ours = optim.SGD(
        [{"params": [nn.Parameter(np.ones(1))]}, {"params": [nn.Parameter(np.ones(1))], "lr": 0.02}], lr=lr
    )
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    theirs = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.02}], lr=lr)
    return ours, theirs


def rates(optimizer: Any) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


SEQUENCES: dict[str, Any] = {
    "warm-up and cosine": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 12)], milestones=[4]
    ),
    "three": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.5, 3), s.ExponentialLR(o, 0.9), s.StepLR(o, 2)], milestones=[3, 9]
    ),
    "from the second": lambda s, o: s.SequentialLR(
        o, [s.ExponentialLR(o, 0.5), s.PolynomialLR(o, 8)], milestones=[0]
    ),
    "one": lambda s, o: s.SequentialLR(o, [s.MultiStepLR(o, [2, 3])], milestones=[]),
    "warm restarts": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.2, total_iters=3), s.CosineAnnealingWarmRestarts(o, 4, 2)], milestones=[3]
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequential(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = optimizers()
    schedule = SEQUENCES[name](optim.lr_scheduler, ours)
    reference = SEQUENCES[name](torch.optim.lr_scheduler, theirs)
    for step in range(16):
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-9, abs=1e-12), step
        assert schedule.get_last_lr() == pytest.approx([float(lr) for lr in reference.get_last_lr()])
        theirs.step()
        schedule.step()
        reference.step()
    assert schedule.last_epoch == reference.last_epoch
    state = schedule.state_dict()
    assert {"_milestones", "_schedulers", "last_epoch", "_last_lr"} <= set(state)
    assert set(state) <= set(reference.state_dict())


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequential_resumes(name: str, tmp_path: Any) -> None:
    pytest.importorskip("safetensors")

    def make() -> tuple[Any, Any]:
        optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=0.1)
        return optimizer, SEQUENCES[name](optim.lr_scheduler, optimizer)

    optimizer, schedule = make()
    for _ in range(5):
        schedule.step()
    cx.save({"schedule": schedule.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state")
    other, resumed = make()
    state = cx.load(tmp_path / "state")
    other.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["schedule"])
    for _ in range(8):
        schedule.step()
        resumed.step()
        assert rates(other) == rates(optimizer)
    one = optim.lr_scheduler.SequentialLR(other, [optim.lr_scheduler.StepLR(other, 2)], [])
    if name != "one":
        with pytest.raises(ValueError, match="schedulers, here are 1"):
            one.load_state_dict(state["schedule"])


def test_a_sequence_within_a_sequence() -> None:
    s = optim.lr_scheduler
    found = []
    for first in (True, False):
        optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=1.0)
        inner = s.SequentialLR(
            optimizer, [s.ConstantLR(optimizer, 0.5, 100), s.ExponentialLR(optimizer, 0.9)], [2]
        )
        parts = [inner, s.StepLR(optimizer, 1, 0.1)] if first else [s.StepLR(optimizer, 1, 0.1), inner]
        schedule = s.SequentialLR(optimizer, parts, [4 if first else 2])
        seen = []
        for _ in range(6):
            seen += rates(optimizer)
            schedule.step()
        found.append(seen)
    np.testing.assert_allclose(found[0], [0.5, 0.5, 1.0, 0.9, 1.0, 0.1])
    np.testing.assert_allclose(found[1], [1.0, 0.1, 0.5, 0.5, 1.0, 0.9])


def test_a_schedule_of_another_optimizer() -> None:
    ours, _ = optimizers()
    other, _ = optimizers()
    s = optim.lr_scheduler
    with pytest.raises(ValueError, match=r"schedulers\[1\] is for another optimizer"):
        s.SequentialLR(ours, [s.StepLR(ours, 1), s.StepLR(other, 1)], [2])


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize("mult", [1, 2, 3])
def test_warm_restarts_at_fractions_of_epochs(mult: int) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = optimizers()
    schedule = optim.lr_scheduler.CosineAnnealingWarmRestarts(ours, 3, mult, 0.001)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, 3, mult, 0.001)
    for step in [*np.arange(0, 25, 0.4), 7.25, 1.5]:
        schedule.step(float(step))
        reference.step(float(step))
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-6, abs=1e-9), step
        assert schedule.last_epoch == reference.last_epoch


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 2, "factor": 0.5},
        {"mode": "max", "patience": 1, "cooldown": 2},
        {"patience": 0, "threshold": 0.05, "threshold_mode": "abs", "min_lr": 0.01},
        {"mode": "max", "patience": 0, "threshold": 0.1, "threshold_mode": "abs", "min_lr": [0.03, 0.001]},
        {"mode": "max", "patience": 1, "threshold": 0.2, "eps": 0.005},
    ],
)
def test_plateaus(options: dict, tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    ours, theirs = optimizers()
    schedule = optim.lr_scheduler.ReduceLROnPlateau(ours, **options)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    metrics = np.abs(np.sin(np.arange(40) * 0.7)) + 1 / (1 + np.arange(40))
    seen = set()
    for i, metric in enumerate([*metrics, float("nan"), 0.1, 0.1]):
        schedule.step(cx.Tensor(np.float64(metric)) if i % 2 else metric)
        reference.step(metric)
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-12)
        assert schedule.get_last_lr() == pytest.approx(reference.get_last_lr())
        assert schedule.in_cooldown == reference.in_cooldown
        seen.add(rates(ours)[0])
        if i == 20:
            cx.save(schedule.state_dict(), tmp_path / "state")
            schedule = optim.lr_scheduler.ReduceLROnPlateau(ours, **options)
            schedule.load_state_dict(cx.load(tmp_path / "state"))
    assert len(seen) > 1
    assert set(schedule.state_dict()) <= set(reference.state_dict())


# ---- averages ----


def models() -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")

    def make(lib: Any) -> Any:
        return lib.Sequential(
            lib.Conv2d(2, 3, 3), lib.BatchNorm2d(3), lib.ReLU(), lib.Flatten(), lib.Linear(27, 2)
        )

    ours, theirs = make(nn), make(torch.nn)
    ours.load_state_dict({name: v.numpy() for name, v in theirs.state_dict().items()})
    return ours, theirs


def own_average(averaged: Any, current: Any, num_averaged: Any) -> Any:
    return averaged * 0.25 + current * (num_averaged + 1)


AVERAGES: dict[str, Any] = {
    "mean": lambda u: {},
    "mean, multi": lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
    "ema": lambda u: {"avg_fn": u.get_ema_avg_fn(0.7)},
    "ema, multi": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.7)},
    "ema with buffers": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.7), "use_buffers": True},
    "mean with buffers": lambda u: {"avg_fn": u.get_swa_avg_fn(), "use_buffers": True},
    "own": lambda u: {"avg_fn": own_average},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_models(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = models()
    average = swa_utils.AveragedModel(ours, **AVERAGES[name](swa_utils))
    reference = torch.optim.swa_utils.AveragedModel(theirs, **AVERAGES[name](torch.optim.swa_utils))
    assert list(average.state_dict()) == list(reference.state_dict())
    rng = np.random.default_rng(0)
    for _ in range(4):
        x = rng.standard_normal((5, 2, 5, 5)).astype(np.float32)
        ours(cx.Tensor(x))  # moves the buffers
        theirs(torch.from_numpy(x))
        for p, tp in zip(ours.parameters(), theirs.parameters(), strict=True):
            step = rng.standard_normal(p.shape).astype(np.float32)
            with cx.no_grad():
                p.add_(cx.Tensor(step))
            with torch.no_grad():
                tp.add_(torch.from_numpy(step))
        average.update_parameters(ours)
        reference.update_parameters(theirs)
        for (key, v), tv in zip(average.state_dict().items(), reference.state_dict().values(), strict=True):
            np.testing.assert_allclose(v.numpy(), tv.numpy(), rtol=1e-5, atol=1e-6, err_msg=key)
            assert str(v.dtype) in str(tv.dtype)
    average.eval()
    reference.eval()
    with cx.no_grad():
        y = average(cx.Tensor(x))
    np.testing.assert_allclose(
        y.numpy(), reference(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )
    other = swa_utils.AveragedModel(ours, **AVERAGES[name](swa_utils))
    other.load_state_dict(average.state_dict())
    average.update_parameters(ours)
    other.update_parameters(ours)
    for a, b in zip(average.state_dict().values(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_an_average_is_evaluated_with_the_weights_of_now() -> None:
    # The layers keep packed and folded weights between calls; an update must reach them.
    ours = nn.Sequential(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    average = swa_utils.AveragedModel(ours, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5)).eval()
    average.update_parameters(ours)
    x = cx.randn(1, 16, 12, 12)
    with cx.no_grad():
        before = [average(x).numpy().copy() for _ in range(3)][-1]
        for p in ours.parameters():
            p.add_(1.0)
        average.update_parameters(ours)
        after = average(x).numpy()
        plain = x
        for layer in average.module:
            plain = type(layer).forward(layer, plain)
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(after, plain.numpy(), rtol=1e-4, atol=1e-4)


def test_the_model_is_left_alone_and_the_average_has_no_gradients() -> None:
    ours = nn.Linear(2, 2)
    average = swa_utils.AveragedModel(ours)
    before = ours.weight.detach().numpy().copy()
    average.update_parameters(ours)
    average.module.weight.detach().fill_(7)
    np.testing.assert_array_equal(ours.weight.detach().numpy(), before)
    assert average.module.weight.is_leaf
    assert average.n_averaged.item() == 1


def test_update_bn() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = models()
    ours[1].momentum, theirs[1].momentum = 0.3, 0.3
    ours[2].eval()
    batches = [np.random.default_rng(i).standard_normal((4, 2, 5, 5)).astype(np.float32) for i in range(3)]
    swa_utils.update_bn(iter([(b, None) for b in batches[:2]] + [batches[2]]), ours)
    torch.optim.swa_utils.update_bn([torch.from_numpy(b) for b in batches], theirs)
    for (key, v), tv in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(v.numpy(), tv.numpy(), rtol=1e-5, atol=1e-6, err_msg=key)
    assert ours[1].momentum == 0.3
    assert ours.training
    assert not ours[2].training
    with pytest.raises(ZeroDivisionError):
        swa_utils.update_bn((1 / 0 for _ in range(2)), ours.eval())
    assert ours[1].momentum == 0.3
    assert not ours[1].training
    swa_utils.update_bn(iter([]), nn.Linear(2, 2))


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize(
    "options", [{}, {"anneal_epochs": 4, "anneal_strategy": "linear"}, {"anneal_epochs": 0}]
)
def test_swalr(options: dict) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = optimizers()
    schedules = [
        (lib.lr_scheduler.ExponentialLR(o, 0.9), lib.swa_utils.SWALR(o, swa_lr=[0.05, 0.5], **options))
        for lib, o in ((optim, ours), (torch.optim, theirs))
    ]
    theirs.step()
    for epoch in range(18):
        for first, then in schedules:
            # torch's ExponentialLR goes on from the present rate, ours from the initial one.
            (first if epoch < 5 and options.get("anneal_epochs") != 0 else then).step()
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-6, abs=1e-9), epoch
    assert rates(ours) == pytest.approx([0.05, 0.5])


def test_errors_of_averages() -> None:
    ours, _ = optimizers()
    model = nn.Linear(2, 2)
    for call, error, message in [
        (lambda: swa_utils.get_ema_avg_fn(1.5), ValueError, "decay=1.5 must lie between 0 and 1"),
        (lambda: swa_utils.get_ema_multi_avg_fn(-1), ValueError, "decay=-1"),
        (lambda: swa_utils.AveragedModel(3), TypeError, "model must be a Module, got int"),
        (lambda: swa_utils.AveragedModel(model, None, max, max), ValueError, "either avg_fn or multi_avg_fn"),
        (
            lambda: swa_utils.AveragedModel(model).update_parameters(nn.Linear(2, 2, bias=False)),
            ValueError,
            "model has other parameters than the averages: bias",
        ),
        (
            lambda: swa_utils.AveragedModel(model).update_parameters(nn.Linear(3, 2)),
            ValueError,
            r"weight has shape \[2, 3\], its average \[2, 2\]",
        ),
        (lambda: swa_utils.SWALR(ours, 0.1, anneal_strategy="x"), ValueError, "anneal_strategy='x'"),
        (lambda: swa_utils.SWALR(ours, 0.1, anneal_epochs=-1), ValueError, "anneal_epochs=-1"),
        (lambda: swa_utils.SWALR(ours, [0.1]), ValueError, "swa_lr has 1 values for 2 parameter groups"),
    ]:
        with pytest.raises(error, match=message):
            call()


# ---- gradient clipping ----


@pytest.mark.parametrize("norm_type", [1, 2, 3.0, float("inf")])
@pytest.mark.parametrize("limit", [0.5, 1000.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_by_norm(norm_type: float, limit: float, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    grads = [rng.standard_normal(shape).astype(dtype) for shape in ((5, 4), (3,), (0, 2), ())]
    ours = [nn.Parameter(np.zeros_like(g)) for g in grads] + [nn.Parameter(np.ones(3))]
    theirs = [torch.nn.Parameter(torch.from_numpy(np.zeros_like(g))) for g in grads]
    for p, tp, g in zip(ours, theirs, grads, strict=False):
        p.grad, tp.grad = cx.Tensor(g.copy()), torch.from_numpy(g.copy())
    if norm_type == float("inf"):
        del theirs[2]  # torch finds no largest of no elements
    norm = nn.utils.clip_grad_norm_((p for p in ours), limit, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit, norm_type)
    tol = 1e-5 if dtype == np.float32 else 1e-12
    assert norm.dtype == dtype
    assert norm.item() == pytest.approx(expected.item(), rel=tol)
    clipped = [p.grad for p in ours if p.grad is not None and p.grad.numel()]
    for g, tg in zip(clipped, [tp.grad for tp in theirs if tp.numel()], strict=True):
        np.testing.assert_allclose(g.numpy(), tg.numpy(), rtol=tol)


def test_clipping_what_is_not_finite() -> None:
    torch = pytest.importorskip("torch")
    for bad in (np.nan, np.inf):
        p, tp = nn.Parameter(np.zeros(2, np.float32)), torch.nn.Parameter(torch.zeros(2))
        g = np.array([1.0, bad], np.float32)
        p.grad, tp.grad = cx.Tensor(g.copy()), torch.from_numpy(g.copy())
        with pytest.raises(RuntimeError, match=r"order 2\.0 is (nan|inf); the gradients cannot be clipped"):
            nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
        np.testing.assert_array_equal(p.grad.numpy(), g)
        nn.utils.clip_grad_norm_(p, 1.0)
        torch.nn.utils.clip_grad_norm_(tp, 1.0)
        np.testing.assert_array_equal(p.grad.numpy(), tp.grad.numpy())
    with pytest.raises(ValueError, match=r"norm_type=0\.0 must be positive"):
        nn.utils.clip_grad_norm_(p, 1.0, 0)
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0
    assert nn.utils.get_total_norm([cx.ones(4), cx.ones(5)]).item() == 3
