"""The networks of cnnext.models beside the same networks in torch, under torchvision's names and sizes."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import models
from cnnext.models import convnext
from cnnext.nn import init

# name: (parameters, arrays in the state_dict, image size, function of torch_nets and its arguments); the
# first two as torchvision has them
NETS: dict[str, tuple[int, int, int, str, tuple]] = {
    "resnet18": (11_689_512, 122, 32, "resnet", ((2, 2, 2, 2), False)),
    "resnet50": (25_557_032, 320, 32, "resnet", ((3, 4, 6, 3), True)),
    "resnet18_cifar": (11_173_962, 122, 32, "resnet", ((2, 2, 2, 2), False, True)),
    "vgg11": (132_863_336, 22, 32, "vgg", ("11222", False)),
    "vgg11_bn": (132_868_840, 62, 32, "vgg", ("11222", True)),
    "vgg16": (138_357_544, 32, 32, "vgg", ("22333", False)),
    "vgg16_bn": (138_365_992, 97, 32, "vgg", ("22333", True)),
    "vgg_cifar": (4_509_450, 44, 32, "vgg", ("1122", True, True)),
    "mobilenet_v2": (3_504_872, 314, 32, "mobilenet_v2", ()),
    "mobilenet_v2_cifar": (2_236_682, 314, 32, "mobilenet_v2", (True,)),
    "convnext_tiny": (28_589_128, 182, 32, "convnext", ()),
    "segnet": (29_449_932, 177, 45, "segnet", ()),
}


@pytest.fixture
def quick_init(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of normal numbers over and over: drawing 138 million would be most of a test's time."""
    block = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)

    def tiled(tensor: Any, draw: Any, scale: float, offset: float) -> Any:
        return init._fill(tensor, np.resize(block * np.float32(scale), tensor.shape))

    monkeypatch.setattr(init, "_scaled", tiled)


def perturb(model: cx.nn.Module) -> None:
    """What is constant at the start takes values of its own, so that nothing can be mistaken for another."""
    rng = np.random.default_rng(1)
    for name, value in model.state_dict().items():
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "layer_scale" or (value.ndim == 1 and leaf in ("weight", "running_var")):
            value.copy_(rng.uniform(0.5, 1.5, value.shape))
        elif leaf in ("bias", "running_mean"):
            value.copy_(rng.uniform(-0.1, 0.1, value.shape))


def torch_weights(model: cx.nn.Module) -> Any:
    torch = pytest.importorskip("torch")
    from torch_nets import Weights

    return Weights({name: torch.from_numpy(v.numpy().copy()) for name, v in model.state_dict().items()})


@pytest.mark.parametrize("name", NETS)
def test_networks_against_torch(name: str, quick_init: None) -> None:
    torch = pytest.importorskip("torch")
    import torch_nets

    parameters, arrays, size, function, arguments = NETS[name]
    model = models.create(name).eval()
    perturb(model)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == arrays
    weights = torch_weights(model)
    images = np.random.default_rng(0).standard_normal((2, 3, size, size + 3)).astype(np.float32)
    with torch.no_grad(), cx.no_grad():
        expected = getattr(torch_nets, function)(weights, torch.from_numpy(images), False, *arguments).numpy()
        for memory_format in ("contiguous_format", "channels_last"):
            logits = model(cx.Tensor(images).contiguous(memory_format)).numpy()
            assert logits.shape == expected.shape
            assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    assert weights.unused() == set()  # with the counts: these are torchvision's names, all of them


SMALL: dict[str, tuple[Any, str, tuple]] = {
    "resnet": (
        lambda: models.ResNet(models.resnet.BasicBlock, (1, 1), 5, True),
        "resnet",
        ((1, 1), False, True),
    ),
    "bottlenecks": (lambda: models.ResNet(models.resnet.Bottleneck, (1, 1), 5), "resnet", ((1, 1), True)),
    "mobilenet_v2_cifar": (lambda: models.mobilenet_v2_cifar(dropout=0.0), "mobilenet_v2", (True,)),
    "convnext": (lambda: models.ConvNeXt((8, 12), (1, 2), 5, 0.0, 0.5), "convnext", ((1, 2),)),
    "segnet": (lambda: models.SegNet((6, 8), (1, 2), 5), "segnet", ((1, 2),)),
}


@pytest.mark.parametrize("name", SMALL)
def test_gradients_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    import torch_nets

    cx.manual_seed(0)
    make, function, arguments = SMALL[name]
    model = make().to(np.float64)
    weights = torch_weights(model)
    for key, _ in model.named_parameters():
        weights.state[key].requires_grad_()
    images = np.random.default_rng(0).standard_normal((3, 3, 10, 8))
    y = model(cx.Tensor(images))
    expected = getattr(torch_nets, function)(weights, torch.from_numpy(images), True, *arguments)
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-6, atol=1e-8)
    g = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(g)
    expected.backward(torch.from_numpy(g))
    for key, parameter in model.named_parameters():
        theirs = weights.state[key].grad.numpy()
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(parameter.grad.numpy(), theirs, atol=1e-6 * scale + 1e-9, err_msg=key)


def test_a_torch_state_dict_loads_from_safetensors(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from safetensors.torch import save_file

    model = models.mobilenet_v2()
    theirs = {k: torch.rand(v.shape).to(torch.int64 if v.ndim == 0 else torch.float32)
              for k, v in model.state_dict().items()}  # fmt: skip
    save_file(theirs, tmp_path / "weights.safetensors")
    model.load_state_dict(cx.load(tmp_path / "weights.safetensors"))
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), theirs[key].numpy())


def test_how_they_start() -> None:
    cx.manual_seed(0)
    vgg = models.vgg_cifar()
    assert vgg.features[4].weight.detach().std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert vgg.classifier[1].weight.detach().std().item() == pytest.approx(0.01, rel=0.05)
    resnet = models.resnet18_cifar()
    assert resnet.conv1.weight.detach().std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert resnet.fc.weight.detach().numpy().max() == pytest.approx(1 / 512**0.5, rel=0.01)
    net = models.ConvNeXt((32, 64), (1, 2), 5, drop=0.1)
    assert net.features[2][1].weight.detach().std().item() == pytest.approx(0.02, rel=0.05)
    assert set(net.features[1][0].layer_scale.detach().numpy().ravel()) == {np.float32(1e-6)}
    assert [b.stochastic_depth.p for b in (net.features[1][0], *net.features[3])] == [0, 0.05, 0.1]
    assert set(net.classifier[2].bias.detach().numpy()) == {0}


def test_stochastic_depth() -> None:
    cx.manual_seed(0)
    layer = convnext.StochasticDepth(0.25)
    x = cx.ones(4000, 2, 1, 1)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert (y[:, 0] == y[:, 1]).all()  # an image is dropped as a whole
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.03)
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match="p=1 must be"):
        convnext.StochasticDepth(1)


def test_names() -> None:
    assert set(NETS) | {"lenet5", "digits-cnn", "mnist-cnn", "segnet_small"} == set(models.names())
    assert models.create("vgg_cifar", classes=7).classifier[1].out_features == 7


def test_segnet_small_has_a_class_for_every_pixel() -> None:
    model = models.create("segnet_small", classes=5)
    assert model(cx.randn(2, 1, 32, 30)).shape == (2, 5, 32, 30)
    assert not any(isinstance(module, cx.nn.Linear) for module in model.modules())
    assert sum(isinstance(module, cx.nn.MaxUnpool2d) for module in model.modules()) == 1
