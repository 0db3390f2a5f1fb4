"""Optimisers and schedules: trajectories against torch, groups, state, errors."""

from __future__ import annotations

import cnnext as cx
import numpy as np
import pytest
from cnnext import nn, optim

SHAPES = [(5, 3), (4,), (2, 3, 2, 2), ()]

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "maximize": True}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True}),
    ("Adam", {"lr": 0.05, "maximize": True}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.2, "amsgrad": True, "maximize": True}),
]
IDS = [f"{name} {options}" for name, options in OPTIMIZERS]


def parameters(dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(np.asarray(rng.standard_normal(s), dtype)) for s in SHAPES]


def gradients(step, dtype=np.float32):
    rng = np.random.default_rng(100 + step)
    return [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]


def take_steps(optimizer, params, steps, skip=()):
    """skip: (step, parameter number) pairs without a gradient."""
    for step in steps:
        for i, (p, g) in enumerate(zip(params, gradients(step, params[0].dtype), strict=True)):
            p.grad = None if (step, i) in skip else cx.Tensor(g)
        optimizer.step()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
def test_trajectories_against_torch(name, options, dtype):
    torch = pytest.importorskip("torch")
    ours = parameters(dtype)
    theirs = [torch.nn.Parameter(torch.tensor(p.detach().numpy())) for p in ours]
    optimizer, reference = (
        getattr(optim, name)(ours, **options),
        getattr(torch.optim, name)(theirs, **options),
    )
    skip = {(0, 1), (4, 2)}  # a parameter that starts late, one that pauses
    for step in range(20):
        take_steps(optimizer, ours, [step], skip)
        for i, (p, g) in enumerate(zip(theirs, gradients(step, dtype), strict=True)):
            p.grad = None if (step, i) in skip else torch.tensor(g)
        reference.step()
        for p, tp in zip(ours, theirs, strict=True):
            tol = 1e-5 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(p.detach().numpy(), tp.detach().numpy(), rtol=tol, atol=tol)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_defaults_and_options_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours = getattr(optim, name)(parameters())
    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))])
    for option, value in ours.defaults.items():
        assert theirs.defaults[option] == value, option
    take_steps(ours, ours.param_groups[0]["params"], range(2))
    assert set(ours.state_dict()) == {"state", "param_groups"}


def test_state_has_torchs_names():
    torch = pytest.importorskip("torch")
    for name, options in OPTIMIZERS:
        p, tp = nn.Parameter(np.ones(2, np.float32)), torch.nn.Parameter(torch.ones(2))
        ours, theirs = getattr(optim, name)([p], **options), getattr(torch.optim, name)([tp], **options)
        p.grad, tp.grad = cx.ones(2), torch.ones(2)
        ours.step()
        theirs.step()
        expected = {n for n, v in theirs.state_dict()["state"].get(0, {}).items() if v is not None}
        assert set(ours.state_dict()["state"].get(0, {})) == expected, name


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=IDS)
def test_resuming_from_state_gives_the_same_bits(name, options, tmp_path):
    pytest.importorskip("safetensors")
    whole = parameters()
    optimizer = getattr(optim, name)(whole, **options)
    take_steps(optimizer, whole, range(3))
    cx.save({"optimizer": optimizer.state_dict(), "params": whole}, tmp_path / "state")
    take_steps(optimizer, whole, range(3, 6))

    saved = cx.load(tmp_path / "state")
    resumed = [nn.Parameter(p) for p in saved["params"]]
    other = getattr(optim, name)(resumed, lr=123.0)
    other.load_state_dict(saved["optimizer"])
    take_steps(other, resumed, range(3, 6))
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_loading_torchs_state():
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.detach().numpy())) for p in ours]
    reference = torch.optim.Adam(theirs, lr=0.05)
    for step in range(6):
        if step == 3:
            optimizer = optim.Adam(ours)
            optimizer.load_state_dict(reference.state_dict())
            with cx.no_grad():
                for p, tp in zip(ours, theirs, strict=True):
                    p.copy_(tp.detach().numpy())
        for p, g in zip(theirs, gradients(step), strict=True):
            p.grad = torch.tensor(g)
        reference.step()
        if step >= 3:
            take_steps(optimizer, ours, [step])
    for p, tp in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), tp.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_groups_have_options_of_their_own():
    a, b, c = (nn.Parameter(np.ones(2, np.float32)) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.1, momentum=0.5)
    optimizer.add_param_group({"params": [c], "momentum": 0.0, "name": "head"})
    for p in (a, b, c):
        p.grad = cx.ones(2)
    optimizer.step()
    assert [p.detach().numpy()[0] for p in (a, b, c)] == pytest.approx([0.9, 0.0, 0.9])
    assert [g["momentum"] for g in optimizer.param_groups] == [0.5, 0.5, 0.0]
    assert optimizer.param_groups[2]["name"] == "head"
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert a.detach().numpy()[0] == pytest.approx(0.9)
    assert [g["params"] for g in optimizer.state_dict()["param_groups"]] == [[0], [1], [2]]
    assert "Parameter Group 1\n" in repr(optimizer)


def test_closure_zero_grad_and_versions():
    p = nn.Parameter(np.array([3.0]))
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with cx.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert p.item() == pytest.approx(2.4)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.item() == 0.0
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.step()
    y = (p * p).sum()
    p.grad = cx.ones(1, dtype="float64")
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_parameters_in_other_memory_orders():
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(0).standard_normal((4, 3, 2, 5)).astype(np.float32)
    for order in ((0, 2, 3, 1), (3, 1, 0, 2)):
        memory = np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))
        for name in ("SGD", "Adam"):
            p, tp = nn.Parameter(memory.copy(order="K")), torch.nn.Parameter(torch.tensor(a))
            assert not p.is_contiguous()
            options = {"momentum": 0.9} if name == "SGD" else {}
            ours, theirs = (
                getattr(optim, name)([p], lr=0.1, **options),
                getattr(torch.optim, name)([tp], lr=0.1, **options),
            )
            for step in range(3):
                g = np.random.default_rng(step).standard_normal(a.shape).astype(np.float32)
                p.grad, tp.grad = cx.Tensor(g), torch.tensor(g)
                ours.step()
                theirs.step()
            np.testing.assert_allclose(p.detach().numpy(), tp.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, "the optimizer got no parameters"),
        (lambda p: optim.SGD(p), TypeError, "not one Parameter"),
        (lambda p: optim.SGD([1]), TypeError, "an optimizer takes Tensors, got int"),
        (lambda p: optim.SGD([p, p]), ValueError, "a parameter appears twice"),
        (lambda p: optim.SGD([p * 2]), ValueError, "an optimizer takes leaf tensors"),
        (lambda p: optim.SGD([p], lr=-1), ValueError, "lr=-1 must be from 0.0"),
        (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "lr=nan"),
        (lambda p: optim.SGD([p], momentum=-0.1), ValueError, r"momentum=-0\.1"),
        (lambda p: optim.SGD([p], weight_decay=-1), ValueError, "weight_decay=-1"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov=True needs a momentum above 0"),
        (lambda p: optim.SGD([{"params": [p], "lr": -2}]), ValueError, "lr=-2"),
        (
            lambda p: optim.Adam([p], betas=(0.9, 1.0)),
            ValueError,
            r"betas\[1\]=1\.0 must be from 0\.0 to below 1\.0",
        ),
        (lambda p: optim.Adam([p], betas=(0.9,)), ValueError, "must be two numbers"),
        (lambda p: optim.Adam([p], eps=-1), ValueError, "eps=-1"),
        (lambda p: optim.SGD([p]).add_param_group([p]), TypeError, "param_group must be a dict"),
        (
            lambda p: optim.SGD([p]).load_state_dict(optim.SGD([cx.ones(1), cx.ones(1)]).state_dict()),
            ValueError,
            r"have sizes \[2\], the optimizer's \[1\]",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.Parameter(np.ones(2, np.float32)))


def test_a_gradient_or_state_of_another_shape():
    p = nn.Parameter(np.ones(2, np.float32))
    optimizer = optim.Adam([p])
    p.grad = cx.ones(3)
    with pytest.raises(ValueError, match=r"a gradient has shape \[3\], its parameter \[2\]"):
        optimizer.step()
    q = nn.Parameter(np.ones(3, np.float32))
    other = optim.Adam([q])
    q.grad = cx.ones(3)
    other.step()
    with pytest.raises(ValueError, match=r"saved 'exp_avg' has shape \[3\], its parameter \[2\]"):
        optimizer.load_state_dict(other.state_dict())
    p.grad = cx.ones(2)
    with pytest.raises(NotImplementedError):
        optim.Optimizer([p], {}).step()


# ---- schedules ----

SCHEDULES = [
    ("StepLR", (3,), {"gamma": 0.5}),
    ("MultiStepLR", ([2, 5, 5, 9],), {}),
    ("LinearLR", (), {"start_factor": 0.25, "total_iters": 6}),
    ("LinearLR", (), {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 10}),
    ("ConstantLR", (), {"factor": 0.25, "total_iters": 7}),
    ("ExponentialLR", (0.8,), {}),
    ("PolynomialLR", (), {"total_iters": 12, "power": 2.0}),
    ("CosineAnnealingWarmRestarts", (4,), {"eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", (3, 2), {}),
    ("CosineAnnealingLR", (8,), {"eta_min": 0.01}),
    ("CosineAnnealingLR", (30,), {}),
    ("LambdaLR", (lambda epoch: 0.9**epoch,), {}),
    ("LambdaLR", ([lambda epoch: 0.9**epoch, lambda epoch: 1 / (1 + epoch)],), {}),
    ("OneCycleLR", (1.0,), {"total_steps": 20}),
    ("OneCycleLR", ([1.0, 0.5],), {"epochs": 4, "steps_per_epoch": 5, "pct_start": 0.25}),
    ("OneCycleLR", (1.0,), {"total_steps": 20, "anneal_strategy": "linear", "three_phase": True}),
    (
        "OneCycleLR",
        (1.0,),
        {"total_steps": 20, "div_factor": 10.0, "final_div_factor": 50.0, "base_momentum": 0.8},
    ),
    ("OneCycleLR", (1.0,), {"total_steps": 20, "cycle_momentum": False}),
]


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize(("name", "args", "options"), SCHEDULES, ids=[f"{n} {o}" for n, _, o in SCHEDULES])
def test_schedules_against_torch(name, args, options, kind):
    torch = pytest.importorskip("torch")
    extra = {"momentum": 0.9} if kind == "SGD" else {}

    def make(lib, parameter):
        groups = [{"params": [parameter()]}, {"params": [parameter()], "lr": 0.02}]
        return getattr(lib, kind)(groups, lr=0.1, **extra)

    ours = make(optim, lambda: nn.Parameter(np.ones(1)))
    theirs = make(torch.optim, lambda: torch.nn.Parameter(torch.ones(1)))
    schedule = getattr(optim.lr_scheduler, name)(ours, *args, **options)
    reference = getattr(torch.optim.lr_scheduler, name)(theirs, *args, **options)
    for step in range(20):
        for group, expected in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert group["lr"] == pytest.approx(expected["lr"], rel=1e-9, abs=1e-12), step
            for key in ("momentum", "betas"):
                assert group.get(key) == pytest.approx(expected.get(key)), step
        assert schedule.get_last_lr() == pytest.approx(reference.get_last_lr())
        if step < 19:
            theirs.step()
            schedule.step()
            reference.step()
    if name == "OneCycleLR":
        schedule.step()
        with pytest.raises(ValueError, match="the cycle has 20 steps"):
            schedule.step()


@pytest.mark.parametrize(("name", "args", "options"), SCHEDULES, ids=[f"{n} {o}" for n, _, o in SCHEDULES])
def test_schedules_resume(name, args, options, tmp_path):
    pytest.importorskip("safetensors")

    def make():
        p, q = nn.Parameter(np.ones(1)), nn.Parameter(np.ones(1))
        optimizer = optim.SGD([{"params": [p]}, {"params": [q]}], lr=0.1, momentum=0.9)
        return optimizer, getattr(optim.lr_scheduler, name)(optimizer, *args, **options)

    optimizer, schedule = make()
    for _ in range(4):
        schedule.step()
    cx.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, tmp_path / "state")
    other, resumed = make()
    state = cx.load(tmp_path / "state")
    other.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["schedule"])
    for _ in range(5):
        schedule.step()
        resumed.step()
        assert [g["lr"] for g in other.param_groups] == [g["lr"] for g in optimizer.param_groups]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda o, s: s.StepLR(nn.ReLU(), 1), TypeError, "must be an Optimizer, got ReLU"),
        (lambda o, s: s.StepLR(o, 0), ValueError, "step_size=0"),
        (lambda o, s: s.StepLR(o, 1, last_epoch=3), ValueError, r"param_groups\[0\] has no 'initial_lr'"),
        (lambda o, s: s.LinearLR(o, start_factor=0), ValueError, "start_factor=0"),
        (lambda o, s: s.LinearLR(o, end_factor=2), ValueError, "end_factor=2"),
        (lambda o, s: s.LinearLR(o, total_iters=0), ValueError, "total_iters=0"),
        (lambda o, s: s.ConstantLR(o, factor=1.5), ValueError, "factor=1.5"),
        (lambda o, s: s.PolynomialLR(o, total_iters=0), ValueError, "total_iters=0"),
        (lambda o, s: s.CosineAnnealingWarmRestarts(o, 0), ValueError, "T_0=0"),
        (lambda o, s: s.CosineAnnealingWarmRestarts(o, 2, 1.5), ValueError, "T_mult=1.5 must be an int"),
        (lambda o, s: s.CosineAnnealingWarmRestarts(o, 2).step(-1), ValueError, "epoch=-1"),
        (lambda o, s: s.SequentialLR(o, [], []), ValueError, "schedulers is empty"),
        (lambda o, s: s.SequentialLR(o, [abs], []), TypeError, r"schedulers\[0\] is builtin_function"),
        (lambda o, s: s.SequentialLR(o, [s.ReduceLROnPlateau(o)], []), TypeError, "without metrics"),
        (lambda o, s: s.SequentialLR(o, [s.StepLR(o, 1)], [3]), ValueError, r"milestones=\[3\] must be 0"),
        (lambda o, s: s.SequentialLR(o, [s.StepLR(o, 1)], []).step(3), NotImplementedError, "epoch=3"),
        (lambda o, s: s.ReduceLROnPlateau(abs), TypeError, "must be an Optimizer"),
        (lambda o, s: s.ReduceLROnPlateau(o, "less"), ValueError, "mode='less' must be 'min' or 'max'"),
        (lambda o, s: s.ReduceLROnPlateau(o, factor=1.0), ValueError, "factor=1.0 must be below 1"),
        (lambda o, s: s.ReduceLROnPlateau(o, threshold_mode="x"), ValueError, "threshold_mode='x'"),
        (lambda o, s: s.ReduceLROnPlateau(o, min_lr=[0, 0]), ValueError, "min_lr has 2 values for 1"),
        (lambda o, s: s.CosineAnnealingLR(o, 0), ValueError, "T_max=0"),
        (lambda o, s: s.LambdaLR(o, [abs, abs]), ValueError, "lr_lambda has 2 values for 1 parameter groups"),
        (lambda o, s: s.OneCycleLR(o, 1.0), ValueError, "give total_steps, or both"),
        (lambda o, s: s.OneCycleLR(o, 1.0, total_steps=0), ValueError, "total_steps=0"),
        (lambda o, s: s.OneCycleLR(o, 1.0, total_steps=5, pct_start=2), ValueError, "pct_start=2"),
        (lambda o, s: s.OneCycleLR(o, 1.0, 5, anneal_strategy="x"), ValueError, "anneal_strategy='x'"),
        (lambda o, s: s.OneCycleLR(o, [1.0, 2.0], 5), ValueError, "2 values for 1 parameter groups"),
        (lambda o, s: s.StepLR(o, np.nan), ValueError, "step_size=nan must be at least 1"),
        (lambda o, s: s.StepLR(o, 2, np.inf), ValueError, "gamma=inf must be a finite number"),
        (lambda o, s: s.MultiStepLR(o, [2], np.nan), ValueError, "gamma=nan"),
        (lambda o, s: s.ExponentialLR(o, "0.9"), ValueError, "gamma=0.9 must be a finite number"),
        (lambda o, s: s.ConstantLR(o, total_iters=-1), ValueError, "total_iters=-1"),
        (lambda o, s: s.ConstantLR(o, np.nan), ValueError, "factor=nan"),
        (lambda o, s: s.PolynomialLR(o, 5, -1.0), ValueError, "power=-1.0 must be 0 or more"),
        (lambda o, s: s.CosineAnnealingLR(o, np.nan), ValueError, "T_max=nan"),
        (lambda o, s: s.CosineAnnealingLR(o, 5, np.nan), ValueError, "eta_min=nan"),
        (lambda o, s: s.CosineAnnealingWarmRestarts(o, 5, eta_min=np.inf), ValueError, "eta_min=inf"),
        (
            lambda o, s: s.OneCycleLR(o, 0.0, 5),
            ValueError,
            r"max_lr\[0\]=0.0 must be a finite number above 0",
        ),
        (lambda o, s: s.OneCycleLR(o, [np.nan], 5), ValueError, r"max_lr\[0\]=nan"),
        (lambda o, s: s.OneCycleLR(o, 1.0, 5, div_factor=0), ValueError, "div_factor=0"),
        (lambda o, s: s.OneCycleLR(o, 1.0, 5, final_div_factor=np.nan), ValueError, "final_div_factor=nan"),
        (lambda o, s: s.OneCycleLR(o, 1.0, 5, max_momentum=np.nan), ValueError, "max_momentum=nan"),
        (
            lambda o, s: s.ReduceLROnPlateau(o, factor=-0.5),
            ValueError,
            "factor=-0.5 must be below 1, and not",
        ),
        (lambda o, s: s.ReduceLROnPlateau(o, factor=np.nan), ValueError, "factor=nan"),
        (lambda o, s: s.ReduceLROnPlateau(o, patience=-1), ValueError, "patience=-1"),
        (lambda o, s: s.ReduceLROnPlateau(o, threshold=np.nan), ValueError, "threshold=nan"),
        (lambda o, s: s.ReduceLROnPlateau(o, min_lr=np.nan), ValueError, r"min_lr\[0\]=nan"),
        (lambda o, s: s.LRScheduler(o), NotImplementedError, None),
    ],
)
def test_schedule_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(optim.SGD([nn.Parameter(np.ones(1))], lr=0.1), optim.lr_scheduler)
