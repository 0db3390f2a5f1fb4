"""Loss scaling: what is skipped, how the scale moves, and training in float16 with it."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import functional as F
from cnnext import nn
from cnnext.optim import SGD, AdamW, GradScaler

INF, NAN = float("inf"), float("nan")


def parameter(*numbers: float) -> cx.Tensor:
    return nn.Parameter(np.array(numbers, np.float32))


def with_gradient(*numbers: float) -> tuple[cx.Tensor, SGD]:
    p = parameter(*[1.0] * len(numbers))
    p.grad = cx.Tensor(np.array(numbers, np.float32))
    return p, SGD([p], lr=1.0)


def test_a_step_is_that_of_the_unscaled_loss() -> None:
    x = np.array([1.0, 2.0, 3.0], np.float32)
    results = []
    for scaler in (GradScaler(init_scale=1024.0), GradScaler(enabled=False)):
        p = parameter(0.5, 1.0, -1.0)
        optimizer = SGD([p], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = ((p - x) ** 2).sum()
            scaled = scaler.scale(loss)
            assert scaled.item() == loss.item() * scaler.get_scale()
            scaled.backward()
            scaler.step(optimizer)
            scaler.update()
        results.append(p.detach().numpy().copy())
    np.testing.assert_array_equal(*results)  # a power of two loses nothing


def test_scale_takes_lists_and_tuples() -> None:
    scaler = GradScaler(init_scale=4.0)
    a, b = scaler.scale([cx.ones(()), (cx.ones(2),)])
    assert a.item() == 4
    assert b[0].tolist() == [4.0, 4.0]


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
def test_a_step_with_infinite_gradients_is_skipped(bad: float) -> None:
    p, optimizer = with_gradient(1.0, bad, 2.0)
    scaler = GradScaler(init_scale=8.0)
    version = p._version.count
    assert scaler.step(optimizer) is None
    assert p.tolist() == [1.0, 1.0, 1.0]
    assert p._version.count == version
    scaler.update()
    assert scaler.get_scale() == 4.0
    p.grad = cx.Tensor(np.array([4.0, 8.0, 12.0], np.float32))
    scaler.step(optimizer)
    assert p.tolist() == [0.0, -1.0, -2.0]


def test_one_bad_optimizer_of_two() -> None:
    (p, bad), (q, good) = with_gradient(NAN), with_gradient(2.0)
    scaler = GradScaler(init_scale=2.0)
    scaler.step(bad)
    scaler.step(good)
    assert (p.item(), q.item()) == (1.0, 0.0)
    scaler.update()
    assert scaler.get_scale() == 1.0


def test_clipping_between() -> None:
    p, optimizer = with_gradient(6.0, 8.0)
    scaler = GradScaler(init_scale=2.0)
    scaler.unscale_(optimizer)
    assert nn.utils.clip_grad_norm_([p], 1.0).item() == pytest.approx(5.0)
    scaler.step(optimizer)
    np.testing.assert_allclose(p.detach().numpy(), [0.4, 0.2], atol=1e-6)


def test_the_scale_beside_torchs() -> None:
    torch = pytest.importorskip("torch")
    how = {"init_scale": 64.0, "growth_factor": 3.0, "backoff_factor": 0.25, "growth_interval": 2}
    theirs, mine = torch.amp.GradScaler("cpu", **how), GradScaler(**how)
    t = torch.ones(1, requires_grad=True)
    torchs = torch.optim.SGD([t], lr=1e-3)
    p, optimizer = with_gradient(0.0)
    for number in [1, 2, 3, INF, 4, 5, 6, NAN, INF, 7, 8, 9, 10, 11]:
        theirs.scale(torch.zeros(()))  # else it refuses to step
        t.grad = torch.tensor([float(number)])
        p.grad = cx.Tensor(np.array([number], np.float32))
        optimizer.param_groups[0]["lr"] = 1e-3
        theirs.step(torchs)
        mine.step(optimizer)
        theirs.update()
        mine.update()
        assert mine.get_scale() == theirs.get_scale()
        np.testing.assert_allclose(p.item(), t.item(), rtol=1e-6)
    assert mine.state_dict() == theirs.state_dict()


def test_it_does_not_grow_beyond_float32() -> None:
    scaler = GradScaler(init_scale=2.0**127, growth_interval=1)
    _, optimizer = with_gradient(1.0)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**127


def test_state() -> None:
    scaler = GradScaler(init_scale=16.0, growth_interval=3)
    p, optimizer = with_gradient(1.0)
    for _ in range(2):
        scaler.step(optimizer)
        scaler.update()
    other = GradScaler()
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()
    p.grad = cx.Tensor(np.ones(1, np.float32))
    other.step(optimizer)
    other.update()
    assert other.get_scale() == 32.0
    assert GradScaler(enabled=False).state_dict() == {}
    with pytest.raises(ValueError, match="that of a disabled GradScaler"):
        other.load_state_dict({})
    other.update(new_scale=5.0)
    assert other.get_scale() == 5.0


def test_disabled() -> None:
    scaler = GradScaler(enabled=False)
    p, optimizer = with_gradient(INF)
    assert not scaler.is_enabled()
    assert scaler.get_scale() == 1.0
    loss = cx.ones(())
    assert scaler.scale(loss) is loss
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert p.item() == -INF


def test_calls_out_of_order() -> None:
    scaler = GradScaler()
    _, optimizer = with_gradient(1.0)
    with pytest.raises(RuntimeError, match=r"no step\(\) or unscale_\(\) since the last update"):
        scaler.update()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) has already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match=r"step\(\) has already been called"):
        scaler.step(optimizer)
    scaler.update()
    with pytest.raises(RuntimeError, match="has no gradients"):
        scaler.step(SGD([parameter(1.0)]))


def test_half_gradients_are_refused() -> None:
    p = nn.Parameter(np.ones(2, np.float16))
    p.grad = cx.ones(2, dtype=np.float16)
    with pytest.raises(TypeError, match="keep the parameters in float32"):
        GradScaler().unscale_(SGD([p]))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"init_scale": 0.0}, "init_scale=0.0"),
        ({"init_scale": INF}, "init_scale=inf"),
        ({"init_scale": NAN}, "init_scale=nan"),
        ({"growth_factor": 1.0}, "growth_factor=1.0 must be above 1"),
        ({"backoff_factor": 1.0}, "backoff_factor=1.0 must be above 0 and below 1"),
        ({"growth_interval": 0}, "growth_interval=0 must be at least 1"),
    ],
)
def test_what_is_out_of_range(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradScaler(**how)


def test_small_gradients_survive() -> None:
    """1e-6 / 64 is less than float16's least positive number, 6e-8."""
    x = np.full((1, 4), 2.0**-6, np.float32)

    def gradient(scaler: GradScaler) -> np.ndarray:
        w = nn.Parameter(np.ones((3, 4), np.float32))
        with cx.autocast("float16"):
            y = F.linear(x, w)
        scaler.scale(y.float().sum() * 1e-6).backward()
        scaler.unscale_(SGD([w]))
        return w.grad.numpy()

    assert not gradient(GradScaler(enabled=False)).any()
    np.testing.assert_allclose(gradient(GradScaler(init_scale=1024.0)), 2.0**-6 * 1e-6, rtol=0.01)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", None])
def test_training_on_digits(dtype: str | None) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    cx.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    optimizer = AdamW(model.parameters(), lr=5e-3)
    # So large that the first steps overflow float16 and must be skipped.
    scaler = GradScaler(init_scale=2.0**40, enabled=dtype == "float16")
    context = {} if dtype is None else {"dtype": dtype}
    skipped = 0
    for epoch in range(3):
        loader = cx.data.DataLoader(cx.data.digits("train"), 32, shuffle=True, seed=epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            with cx.autocast(**context, enabled=dtype is not None):
                loss = F.cross_entropy(model(cx.Tensor(images)), labels)
            assert loss.dtype == np.float32
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            before = scaler.get_scale()
            scaler.update()
            skipped += scaler.get_scale() < before
    assert (skipped > 0) is (dtype == "float16")
    assert all(p.dtype == np.float32 and np.isfinite(p.detach().numpy()).all() for p in model.parameters())
    model.eval()
    images, labels = next(iter(cx.data.DataLoader(cx.data.digits("test"), 360)))
    with cx.no_grad(), cx.autocast(**context, enabled=dtype is not None):
        right = (model(cx.Tensor(images)).numpy().argmax(1) == labels).mean()
    assert right > 0.95
