"""A small net on CUDA beside the same net on the host: forwards, backwards, optimisers, there and back."""

from __future__ import annotations

import copy
from typing import Any

import cnnext as cx
import gpu
import numpy as np
import pytest
from cnnext import _C, nn

gpu.need_device()
from gpu import driver, libraries  # noqa: E402

libraries.need_cupy()
pytestmark = pytest.mark.cuda


def small_net() -> Any:
    """What classifiers of images are made of. A bias before batch norm has gradients of rounding alone, which
    Adam would make steps of: there is none.
    """
    cx.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 12, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12 * 2 * 2, 5),
    )


OPTIMIZERS = {
    "sgd": lambda parameters: cx.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda parameters: cx.optim.Adam(parameters, lr=0.01),
    "adamw": lambda parameters: cx.optim.AdamW(parameters, lr=0.01, amsgrad=True),
}


def train(model: Any, optimizer: Any, device: str, steps: int) -> list[float]:
    rng = np.random.default_rng(3)
    loss_of, losses = nn.CrossEntropyLoss(), []
    for _ in range(steps):
        x = cx.Tensor(rng.standard_normal((6, 3, 8, 8)).astype(np.float32)).to(device)
        target = cx.Tensor(rng.integers(0, 5, 6)).to(device)
        optimizer.zero_grad()
        loss = loss_of(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_the_host_s(name: str) -> None:
    models = {"cpu": small_net(), "cuda": small_net().to("cuda")}
    losses = {}
    for device, model in models.items():
        optimizer = OPTIMIZERS[name](model.parameters())
        losses[device] = train(model, optimizer, device, 3 if gpu.ON_BED else 10)
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=2e-3)
    on_host = models["cuda"].cpu().state_dict()
    for key, value in models["cpu"].state_dict().items():
        # Adam divides by what may be almost nothing, so its first steps enlarge rounding.
        np.testing.assert_allclose(
            on_host[key].detach().numpy(), value.detach().numpy(), rtol=2e-2, atol=2e-3, err_msg=key
        )


def test_gradients_are_the_host_s() -> None:
    """Of one step, where nothing enlarges rounding."""
    models = {"cpu": small_net(), "cuda": small_net().to("cuda")}
    gradients = {}
    for device, model in models.items():
        train(model, cx.optim.SGD(model.parameters(), lr=0.0), device, 1)
        assert {p.grad.device for p in model.parameters()} == {"cpu" if device == "cpu" else "cuda:0"}
        gradients[device] = [p.grad.to("cpu").numpy() for p in model.parameters()]
    for on_cuda, on_cpu in zip(gradients["cuda"], gradients["cpu"], strict=True):
        np.testing.assert_allclose(on_cuda, on_cpu, rtol=1e-3, atol=1e-5)


def test_the_same_training_gives_the_same_bits() -> None:
    states = []
    for run in range(2):
        driver.shuffle(977 * run)
        try:
            model = small_net().to("cuda")
            train(model, OPTIMIZERS["sgd"](model.parameters()), "cuda", 2)
            states.append([p.detach().to("cpu").numpy().tobytes() for p in model.parameters()])
        finally:
            driver.shuffle(0)
    assert states[0] == states[1]


def test_inference() -> None:
    model = small_net().eval()
    fused = cx.fuse(copy.deepcopy(model))
    x = cx.Tensor(np.random.default_rng(4).standard_normal((2, 3, 8, 8)).astype(np.float32))
    with cx.no_grad():
        wanted = model(x).numpy()
        for net in (model, fused):
            y = net.to("cuda")(x.to("cuda"))
            assert _C.last_kernel().startswith("cuda/")
            assert y.device == "cuda:0"
            np.testing.assert_allclose(y.cpu().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_a_model_that_was_saved(tmp_path: Any) -> None:
    """Trained on CUDA, saved, and read on the host."""
    pytest.importorskip("safetensors")
    model = small_net().to("cuda")
    train(model, OPTIMIZERS["sgd"](model.parameters()), "cuda", 1)
    cx.save(model.state_dict(), tmp_path / "model.safetensors")
    other = small_net()
    other.load_state_dict(cx.load(tmp_path / "model.safetensors"))
    for mine, its in zip(other.parameters(), model.cpu().parameters(), strict=True):
        np.testing.assert_array_equal(mine.detach().numpy(), its.detach().numpy())
