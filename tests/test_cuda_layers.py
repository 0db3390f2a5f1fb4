"""The layers of cnnext.nn on CUDA beside the host: results, gradients, and that they stay on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cnnext as cx
import gpu
import numpy as np
import pytest
from cnnext import nn
from cnnext.nn import functional as F

gpu.need_device()
from gpu import libraries  # noqa: E402

libraries.need_cupy()
pytestmark = pytest.mark.cuda
IMAGE = (2, 4, 6, 7)

#: A layer, and the shape of its input.
LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=(1, 2), padding=1, groups=2), IMAGE),
    "Conv2d, depthwise": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), IMAGE),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 5, 3, stride=2, output_padding=1), IMAGE),
    "Linear": (lambda: nn.Linear(7, 5), (3, 7)),
    "Linear of images": (lambda: nn.Linear(7, 5), IMAGE),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "AvgPool2d": (lambda: nn.AvgPool2d((2, 3), padding=1), IMAGE),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, 3)), IMAGE),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(7), IMAGE),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), IMAGE),
    "ReLU": (nn.ReLU, IMAGE),
    "ReLU6": (nn.ReLU6, IMAGE),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), IMAGE),
    "GELU": (nn.GELU, IMAGE),
    "SiLU": (nn.SiLU, IMAGE),
    "Sigmoid": (nn.Sigmoid, IMAGE),
    "Tanh": (nn.Tanh, IMAGE),
    "Softmax": (lambda: nn.Softmax(1), IMAGE),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), IMAGE),
    "Flatten": (nn.Flatten, IMAGE),
    "Dropout": (lambda: nn.Dropout(0.4), IMAGE),
    "Conv2d, ReLU, MaxPool2d": (
        lambda: nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.MaxPool2d(2)),
        IMAGE,
    ),
    "Conv2d, BatchNorm2d, ReLU6": (
        lambda: nn.Sequential(nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU6()),
        IMAGE,
    ),
}


def result_and_gradients(layer: Any, shape: tuple[int, ...], device: str, last: bool) -> list[np.ndarray]:
    """The result, and the gradients of x and of all parameters, on the host."""
    host = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    x = cx.Tensor(host)
    if last:
        x = x.contiguous("channels_last")
    x = cx.Tensor(x.to(device).data, requires_grad=True)
    cx.manual_seed(5)  # of dropout
    y = layer.to(device)(x)
    weights = np.random.default_rng(2).standard_normal(y.shape).astype(np.float32)
    (y * cx.Tensor(weights).to(device)).sum().backward()
    found = [y.detach(), x.grad, *(p.grad for p in layer.parameters())]
    assert {t.device for t in found} == {"cpu" if device == "cpu" else "cuda:0"}
    return [t.cpu().numpy() for t in found]


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize(
    ("name", "last"),
    [(n, last) for n, (_, shape) in LAYERS.items() for last in (False, True) if not last or len(shape) == 4],
)
def test_as_on_the_host(name: str, last: bool, mode: str) -> None:
    make, shape = LAYERS[name]
    found = []
    for device in ("cpu", "cuda"):
        cx.manual_seed(0)
        layer = make().train(mode == "training")
        found.append(result_and_gradients(layer, shape, device, last))
    for on_cpu, on_cuda in zip(*found, strict=True):
        np.testing.assert_allclose(on_cuda, on_cpu, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("last", [False, True])
def test_batch_norm_of_16_bits_beside_float32(last: bool, mode: str) -> None:
    """Statistics, parameters and their gradients are float32; the host computes the images in float32."""
    host = np.random.default_rng(1).standard_normal((2, *IMAGE)).astype(np.float16)
    found = []
    for device in ("cpu", "cuda"):
        layer = nn.BatchNorm2d(4).train(mode == "training").to(device)
        x, weights = (cx.Tensor(array) for array in host)
        if last:
            x = x.contiguous("channels_last")
        x = cx.Tensor(x.to(device).data, requires_grad=True)
        y = layer(x)
        (y * weights.to(device)).sum().backward()
        assert (y.dtype, x.grad.dtype, layer.weight.grad.dtype) == (np.float16, np.float16, np.float32)
        found.append([t.cpu().numpy() for t in (y.detach(), x.grad, layer.weight.grad, layer.running_var)])
    for on_cpu, on_cuda in zip(*found, strict=True):
        np.testing.assert_allclose(on_cuda, on_cpu, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_inference_without_gradients(name: str) -> None:
    """Layers in a row take other ways where nothing is recorded, and keep what they made for later calls."""
    make, shape = LAYERS[name]
    cx.manual_seed(0)
    layer = make().eval()
    x = cx.Tensor(np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    with cx.no_grad():
        wanted = layer(x).numpy()
        layer.to("cuda")
        for _ in range(3):
            y = layer(x.to("cuda"))
            assert y.device == "cuda:0"
            np.testing.assert_allclose(y.cpu().numpy(), wanted, rtol=1e-3, atol=2e-5)


LOSSES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "CrossEntropyLoss": lambda x, labels, _: nn.CrossEntropyLoss(label_smoothing=0.1)(x, labels),
    "cross_entropy, summed": lambda x, labels, _: F.cross_entropy(x, labels, reduction="sum"),
    "MSELoss": lambda x, _, target: nn.MSELoss()(x, target),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    rng = np.random.default_rng(3)
    host = [rng.standard_normal((4, 5)).astype(np.float32), rng.integers(0, 5, 4), rng.random((4, 5))]
    host[2] = host[2].astype(np.float32)
    found = []
    for device in ("cpu", "cuda"):
        x, labels, target = (cx.Tensor(array).to(device) for array in host)
        x = cx.Tensor(x.data, requires_grad=True)
        loss = LOSSES[name](x, labels, target)
        loss.backward()
        found.append((loss.item(), x.grad.cpu().numpy()))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-4, atol=1e-6)


def test_max_unpool() -> None:
    host = np.random.default_rng(4).standard_normal(IMAGE).astype(np.float32)
    found = []
    for device in ("cpu", "cuda"):
        x = cx.Tensor(cx.Tensor(host).to(device).data, requires_grad=True)
        y, indices = nn.MaxPool2d(2, return_indices=True)(x)
        z = nn.MaxUnpool2d(2)(y, indices, output_size=IMAGE)
        (z * z).sum().backward()
        found.append((z.detach().cpu().numpy(), x.grad.cpu().numpy()))
    for on_cpu, on_cuda in zip(*found, strict=True):
        np.testing.assert_array_equal(on_cuda, on_cpu)


def test_gradients_of_gradients() -> None:
    host = np.random.default_rng(5).standard_normal(IMAGE).astype(np.float32)
    found = []
    for device in ("cpu", "cuda"):
        cx.manual_seed(0)
        layer = nn.Conv2d(4, 3, 3).to(device)
        x = cx.Tensor(cx.Tensor(host).to(device).data, requires_grad=True)
        (F.silu(layer(x)) ** 2).sum().backward(create_graph=True)
        slope = x.grad
        x.grad = None
        (slope * slope).sum().backward()
        found.append(x.grad.detach().cpu().numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1e-3)
