"""Whole training steps with everything on a device: run by tests/test_device_arrays.py, on cupys' stand-in.

An operation that is given one array of the host fails here, as it would for real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import cli, data, nn, optim, train
from cnnext import functional as F
from cnnext.models.convnext import StochasticDepth
from cupys import computing, cupy, devices  # noqa: F401

pytest.importorskip("safetensors")
pytestmark = pytest.mark.usefixtures("computing")


def few(split: str, count: int) -> data.ImageSet:
    return data.digits(split).subset(np.arange(count), f"few/{split}")


def trained(folder: Path, device: str, **changes: Any) -> train.Trainer:
    config = train.TrainConfig.preset("digits", epochs=2, batch_size=20, **changes)
    cx.manual_seed(config.seed)
    run = train.Trainer(
        cx.models.create(config.model), config, few("train", 90), few("test", 40), train.RunFolder(folder),
        device=device,
    )  # fmt: skip
    run.run()
    return run


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "sgd", "lr": 0.05, "channels_last": True}, {"amp": "float16"}, {"amp": "bfloat16"}],
    ids=str,
)
def test_training(tmp_path: Path, changes: dict, computing: list[str]) -> None:  # noqa: F811
    """The same kernels compute it here, so that the numbers are those of the host."""
    host = trained(tmp_path / "host", "cpu", **changes)
    assert not computing
    device = trained(tmp_path / "device", "cuda:1", **changes)
    assert {"sgd_step" if "optimizer" in changes else "adam_step", "cross_entropy"} <= set(computing)
    assert {p.device for p in (*device.model.parameters(), *device.model.buffers())} == {"cuda:1"}
    for mine, theirs in zip(device.model.parameters(), host.model.parameters(), strict=True):
        np.testing.assert_allclose(
            mine.detach().cpu().numpy(), theirs.detach().numpy(), atol=0.02 if "amp" in changes else 1e-4
        )
    assert device.history[-1]["train_loss"] == pytest.approx(host.history[-1]["train_loss"], rel=0.02)
    # A checkpoint has no device.
    again = train.Trainer(
        cx.models.create(host.config.model), host.config, few("train", 90), few("test", 40),
        train.RunFolder(tmp_path / "device"), device="cpu",
    )  # fmt: skip
    again.resume()
    assert again.history == device.history
    for mine, theirs in zip(again.model.parameters(), device.model.parameters(), strict=True):
        np.testing.assert_array_equal(mine.detach().numpy(), theirs.detach().cpu().numpy())


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(
        "cnnext.train.runner.load_data", lambda *_: (few("train", 70), few("test", 40), few("test", 40))
    )
    arguments = ["train", "digits", "--epochs", "1", "--no-plots", "--out", str(tmp_path), "--amp", "float16"]
    assert cli.main([*arguments, "--device", "cuda"]) == 0
    out = capsys.readouterr().out
    assert ", on cuda:1" in out
    assert "test accuracy " in out
    assert devices == [1]
    assert cli.main([*arguments, "--device", "cuda:5"]) == 1
    assert "device 'cuda:5' does not exist; there are 2 CUDA devices" in capsys.readouterr().err


LAYERS = {
    "dropout": lambda: nn.Dropout(0.3),
    "avg_pool": lambda: nn.AvgPool2d(2),
    "adaptive": lambda: nn.AdaptiveAvgPool2d(2),
    "layer_norm": lambda: nn.LayerNorm((4, 6)),
    "transposed": lambda: nn.ConvTranspose2d(3, 2, 3, stride=2),
    "softmax": lambda: nn.Softmax(1),
    "log_softmax": lambda: nn.LogSoftmax(1),
    "pad": lambda: Padded(),
    "gelu": lambda: nn.GELU(),
    "stochastic_depth": lambda: StochasticDepth(0.5),
}


class Padded(nn.Module):
    def forward(self, x: Any) -> Any:
        return F.pad(x, (1, 2, 0, 1)).flatten(1)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_layers(name: str, channels_last: bool) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32)
    results = []
    for device in ("cpu", "cuda:1"):
        cx.manual_seed(3)
        layer = LAYERS[name]().to(device)
        x = cx.tensor(images, device=device)
        x = (x.contiguous("channels_last") if channels_last else x).requires_grad_()
        y = layer(x)
        assert y.device == device
        (y * y).sum().backward()
        grads = [p.grad for p in (x, *layer.parameters())]
        assert {g.device for g in grads} == {device}
        results.append([y.detach().cpu().numpy(), *(g.cpu().numpy() for g in grads)])
    for host, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, host, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "size"), [("lenet5", 28), ("segnet_small", 16)])
def test_models(name: str, size: int) -> None:
    images = np.random.default_rng(0).standard_normal((2, 1, size, size)).astype(np.float32)
    results = []
    for device in ("cpu", "cuda:1"):
        cx.manual_seed(0)
        model = cx.models.create(name).to(device)
        x = cx.tensor(images, device=device)
        y = model(x)
        (y * y).mean().backward()
        with cx.no_grad():
            z = model.eval()(x)
        assert {y.device, z.device, *(p.grad.device for p in model.parameters())} == {device}
        results.append([y.detach().cpu().numpy(), z.cpu().numpy()])
    for host, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, host, rtol=1e-4, atol=1e-5)


def test_losses() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    labels, soft = np.array([0, 3, 1, 2, 2]), F.softmax(rows[::-1].copy(), 1)
    losses = {
        "cross_entropy": lambda x, t, s: F.cross_entropy(x, t, label_smoothing=0.1),
        "probabilities": lambda x, t, s: F.cross_entropy(x, s),
        "nll": lambda x, t, s: F.nll_loss(F.log_softmax(x, 1), t, ignore_index=3),
        "mse": lambda x, t, s: F.mse_loss(x, s),
    }
    for loss in losses.values():
        found = []
        for device in ("cpu", "cuda:1"):
            x = cx.tensor(rows, device=device, requires_grad=True)
            y = loss(x, cx.tensor(labels, device=device), cx.tensor(soft, device=device))
            y.backward()
            assert (y.device, x.grad.device) == (device, device)
            found.append((y.item(), x.grad.cpu().numpy()))
        np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
        np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)
    with pytest.raises(ValueError, match="target is on the CPU, but x is on cuda:1"):
        F.cross_entropy(cx.tensor(rows, device="cuda:1"), labels)


def test_indexing() -> None:
    values = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    index = np.array([0, 2, 0, 0])
    uses = {
        "one element twice": lambda x: x[cx.tensor(index, device=x.device)],
        "the largest": lambda x: x.max(1).values,
        "a part": lambda x: x[1:, ::2],
    }
    for use in uses.values():
        grads = []
        for device in ("cpu", "cuda:1"):
            x = cx.tensor(values, device=device, requires_grad=True)
            y = use(x)
            (y * y).sum().backward()
            assert (y.device, x.grad.device) == (device, device)
            grads.append(x.grad.cpu().numpy())
        np.testing.assert_allclose(*grads, rtol=1e-6)


def test_scaled_steps_with_clipping() -> None:
    cx.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    model.to("cuda:1")
    optimizer, scaler = optim.AdamW(model.parameters(), lr=0.01), optim.GradScaler(init_scale=2.0**22)
    losses = []
    for images, labels in data.DataLoader(few("train", 200), 10, device="cuda:1"):
        with cx.autocast("float16"):
            loss = F.cross_entropy(model(cx.Tensor(images)), cx.Tensor(labels))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert scaler.get_scale() < 2.0**22
    assert np.isfinite(losses).all()
    assert {state["exp_avg"].device for state in optimizer.state.values()} == {"cuda:1"}
