"""Models as ONNX files and back: ONNX Runtime computes what the model does, and what is loaded again does."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import models, nn
from cnnext.models.convnext import ConvNeXt
from cnnext.models.resnet import BasicBlock, Bottleneck, ResNet
from cnnext.models.segnet import SegNet
from cnnext.models.vgg import VGG, _features
from cnnext.nn import functional as F

onnx = pytest.importorskip("onnx")
from cnnext.interop import onnx as cxo  # noqa: E402 - it needs onnx
from onnx_files import WEIGHT, node, saved  # noqa: E402

# ---- every network of cnnext.models, the large ones with less of each kind of layer


def small_vgg(batch_norm: bool) -> VGG:
    classifier = nn.Sequential(nn.Linear(16 * 49, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 7))
    return VGG(_features((8, "M", 16, 16, "M"), batch_norm), 7, classifier)


def known(name: str) -> Callable[[], nn.Module]:
    return lambda: models.create(name)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "digits-cnn": (known("digits-cnn"), (1, 8, 8)),
    "mnist-cnn": (known("mnist-cnn"), (1, 28, 28)),
    "lenet5": (known("lenet5"), (1, 28, 28)),
    "vgg11": (lambda: small_vgg(False), (3, 12, 20)),  # 3 x 5 to 7 x 7: no window fits
    "vgg11_bn": (lambda: small_vgg(True), (3, 28, 28)),
    "vgg16": (lambda: small_vgg(False), (3, 56, 28)),
    "vgg16_bn": (lambda: small_vgg(True), (3, 13, 13)),
    "vgg_cifar": (lambda: VGG(_features((8, "M", 16, "M"), True), 1, nn.Linear(16, 5)), (3, 32, 32)),
    "resnet18": (lambda: ResNet(BasicBlock, (2, 1), 5), (3, 33, 32)),
    "resnet50": (lambda: ResNet(Bottleneck, (1, 1), 5), (3, 32, 32)),
    "resnet18_cifar": (lambda: ResNet(BasicBlock, (1, 1), 5, cifar=True), (3, 16, 16)),
    "mobilenet_v2": (lambda: models.create("mobilenet_v2", classes=10), (3, 32, 32)),
    "mobilenet_v2_cifar": (known("mobilenet_v2_cifar"), (3, 16, 16)),
    "convnext_tiny": (lambda: ConvNeXt((8, 16), (1, 2), 5, drop=0.1), (3, 32, 32)),
    "segnet": (lambda: SegNet((8, 16), (1, 2), 4), (3, 16, 24)),
    "segnet_small": (lambda: SegNet((8, 16, 16), (1, 1, 1), 5, 1), (1, 16, 24)),
}


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, *shape), dtype=np.float32)


def infer(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with cx.no_grad():
        return model(cx.Tensor(x)).numpy()


def with_statistics(model: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics of batch norm and biases that show where they are left out."""
    rng = np.random.default_rng(1)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.copy_(rng.standard_normal(tensor.shape, dtype=np.float32) * 0.1)
        elif name.endswith("running_var"):
            tensor.copy_(rng.random(tensor.shape, dtype=np.float32) + 0.5)
    return model.eval()


def runtime(path: Path, x: np.ndarray) -> list[np.ndarray]:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})


def assert_close(got: Any, expected: np.ndarray, rtol: float = 2e-5) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * max(float(np.abs(expected).max()), 1e-3))


def test_there_is_a_row_for_each_model() -> None:
    assert sorted(MODELS) == models.names()


@pytest.mark.parametrize("name", MODELS)
def test_a_network_goes_out_and_comes_back(name: str, tmp_path: Path) -> None:
    create, shape = MODELS[name]
    cx.manual_seed(0)
    model, path = with_statistics(create()), tmp_path / "model.onnx"
    cxo.export(model, images(2, *shape), path)
    onnx.checker.check_model(path, full_check=True)
    x = images(3, *shape)  # another batch size than the example's
    expected = infer(model, x)
    loaded = cxo.load(path)
    np.testing.assert_array_equal(infer(loaded, x), expected)
    assert sorted(loaded.state_dict()) == sorted(model.state_dict())
    assert not loaded.training
    assert_close(runtime(path, x)[0], expected)


# ---- single operations


class Apply(nn.Module):
    """A function of x as a module, with what it uses."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Any) -> Any:
        return self.function(x, *self.layers)


class Scaled(nn.Module):
    """A parameter that is no layer's, used twice, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(cx.rand(4, 1, 1))
        self.register_buffer("shift", cx.rand(4, 1, 1))

    def forward(self, x: Any) -> Any:
        return (x * self.scale + self.shift) * self.scale


def inplace(x: Any) -> Any:
    y = x * 2
    z = F.relu(y, inplace=True)
    y += 1
    return z * y


OPERATIONS: dict[str, nn.Module] = {
    "conv same": nn.Conv2d(4, 6, (3, 2), padding="same", dilation=(1, 3)),
    "conv four-sided, strided": nn.Conv2d(4, 6, 3, 2, padding=((1, 0), (2, 1)), groups=2, bias=False),
    "conv transposed": nn.ConvTranspose2d(4, 6, 3, (2, 3), 1, output_padding=(1, 2), groups=2, dilation=2),
    "max-pool ceil": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "max-pool dilated": nn.MaxPool2d((3, 2), 1, padding=((2, 1), (0, 1)), dilation=(2, 1)),
    "average pool": nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "adaptive pool": nn.AdaptiveAvgPool2d((3, 4)),
    "unpool": Apply(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)),
    "activations": nn.Sequential(nn.LeakyReLU(0.2), nn.SiLU(), nn.GELU(), nn.Tanh(), nn.Sigmoid()),
    "gelu by tanh": nn.GELU("tanh"),
    "relu6": nn.ReLU6(),
    "softmax": nn.Softmax(1),
    "log softmax": nn.LogSoftmax(-1),
    "layer norm": nn.Sequential(nn.LayerNorm((8, 12)), nn.LayerNorm2d(4), nn.LayerNorm(12, bias=False)),
    "group norm": nn.Sequential(nn.GroupNorm(2, 4), nn.GroupNorm(4, 4, affine=False)),
    "dense over the last axis": nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3, bias=False)),
    "upsample": nn.Sequential(nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=1.5, mode="bilinear")),
    "upsample to a size": nn.Upsample((11, 9), mode="bilinear", align_corners=True),
    "nearest-exact": nn.Upsample((11, 9), mode="nearest-exact"),
    "pad": Apply(lambda x: F.pad(x, (1, 2, -1, 0), value=0.5)),
    "arithmetic": Apply(lambda x: (x * 0.5 - 1).exp() / (x.abs() + 1).sqrt() + (-x) ** 2 - x.clamp(-1, 0.5)),
    "minimum and maximum": Apply(lambda x: x.maximum(x * 2).minimum(x.clamp(min=0.1))),
    "reductions": Apply(lambda x: x.mean((2, 3)) + x.sum((2, 3)) * x.amax((2, 3)) - x.amin((2, 3))),
    "shapes": Apply(lambda x: cx.cat([x.flatten(2).transpose(1, 2), x.reshape(x.shape[0], 96, 4)], 2)),
    "batch in the middle": Apply(lambda x: x.reshape(2, x.shape[0] * 2, 8, 12)),
    "products": Apply(lambda x: (x @ x.transpose(2, 3)).squeeze().unsqueeze(1)),
    "shared": Apply(lambda x, conv: conv(conv(x)), nn.Conv2d(4, 4, 1)),
    "parameters": Scaled(),
    "in place": Apply(inplace),
    "nothing": nn.Identity(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_goes_out_and_comes_back(name: str, tmp_path: Path) -> None:
    model, path = copy.deepcopy(OPERATIONS[name]).eval(), tmp_path / "model.onnx"
    cxo.export(model, images(2, 4, 8, 12), path)
    onnx.checker.check_model(path, full_check=True)
    x = images(3, 4, 8, 12)
    expected = infer(model, x)
    assert_close(infer(cxo.load(path), x), expected, 1e-6)
    assert_close(runtime(path, x)[0], expected)


def test_outputs_and_names(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = Apply(lambda x, conv: (conv(x), x, conv.weight), nn.Conv2d(4, 2, 1))
    cxo.export(model.eval(), images(2, 4, 3, 3), path)
    graph = onnx.load(path).graph
    assert [o.name for o in graph.output] == ["y0", "y1", "y2"]
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == ["N", 4, 3, 3]
    assert {i.name for i in graph.initializer} == {"layers.0.weight", "layers.0.bias"}
    x = images(1, 4, 3, 3)
    results = [y.detach().numpy() for y in cxo.load(path)(x)]
    np.testing.assert_array_equal(results[1], x)
    for got, expected in zip(results, runtime(path, x), strict=True):
        assert_close(got, expected)


# ---- a loaded model is a model


def test_a_loaded_model_trains(tmp_path: Path) -> None:
    cx.manual_seed(0)
    model = with_statistics(ResNet(BasicBlock, (1, 1), 5, cifar=True))
    cxo.export(model, images(1, 3, 8, 8), tmp_path / "model.onnx")
    state = cx.random.generator().bit_generator.state
    loaded = cxo.load(tmp_path / "model.onnx")
    assert loaded.bn1.momentum == model.bn1.momentum
    assert repr(cx.random.generator().bit_generator.state) == repr(state)  # no random number was drawn
    x, labels = images(4, 3, 8, 8), np.arange(4)
    gradients = []
    for network in (model, copy.deepcopy(loaded)):
        network.train()
        F.cross_entropy(network(cx.Tensor(x)), labels).backward()
        gradients.append({name: p.grad.numpy() for name, p in network.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient)
    assert all(p.grad is None for p in loaded.parameters())


def test_neighbours_run_as_one_operation(tmp_path: Path) -> None:
    cxo.export(models.create("lenet5").eval(), images(1, 1, 28, 28), tmp_path / "model.onnx")
    loaded = cxo.load(tmp_path / "model.onnx")
    with cx.profile() as profile, cx.no_grad():
        loaded(images(2, 1, 28, 28))
    assert [e.name for e in profile.events].count("conv2d_relu_max_pool2d") == 2


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_a_model_that_torch_wrote(opset: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Flat(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 3, 1, 2).reshape(x.size(0), -1)  # the batch's size is computed in the graph

    class Permuted(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1)

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(8), torch.nn.GELU()),
        *(torch.nn.MaxPool2d(3, 2, 1), torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.nn.SiLU()),
        *(torch.nn.Hardswish(), torch.nn.Upsample(scale_factor=2), torch.nn.ConvTranspose2d(8, 4, 2, 2)),
        *(torch.nn.Upsample(scale_factor=2, mode="bilinear"), torch.nn.GroupNorm(2, 4), torch.nn.ReLU6()),
        *(torch.nn.AdaptiveAvgPool2d(4), Permuted(), torch.nn.LayerNorm(4), Flat(), torch.nn.Linear(64, 5)),
        torch.nn.Softmax(1),
    ).eval()
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs nothing but torch is an old one
        torch.onnx.export(
            *(model, (torch.from_numpy(images(2, 3, 32, 32)),), str(path)),
            dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes={"x": {0: "N"}},
        )  # fmt: skip
    loaded, x = cxo.load(path), images(3, 3, 32, 32)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    assert_close(infer(loaded, x), expected)
    kinds = [type(module) for module in loaded.modules()]
    assert kinds.count(nn.GELU) == kinds.count(nn.SiLU) == 1  # which the graph writes as several nodes


# ---- what is refused


@pytest.mark.parametrize(
    ("wrong", "arrays", "says"),
    [
        (node("Det"), {}, "operator Det .*'the node'"),
        (node("Relu", domain="mine"), {}, "operator mine.Relu .*'the node'"),
        (node("LpPool", kernel_shape=[2, 2]), {}, "operator LpPool"),
        (node("MaxPool", kernel_shape=[2]), {}, "MaxPool .*'the node'.*kernel_shape=\\[2\\]"),
        (node("AveragePool", kernel_shape=[2, 2], dilations=[2, 1]), {}, "dilations=\\[2, 1\\]"),
        (node("Conv", "x", "x"), {}, "Conv .*input W that is not constant"),
        (node("Conv", "x", "w"), {"w": np.ones((2, 4, 3), np.float32)}, "a weight of 3 axes"),
        (node("ConvTranspose", "x", "w", auto_pad="SAME_UPPER"), WEIGHT, "auto_pad"),
        (node("Pad", "x", "p", mode="edge"), {"p": np.zeros(8, np.int64)}, "mode='edge'"),
        (node("Pad", "x", "x"), {}, "input pads that is not constant"),
        (node("Erf"), {}, "operator Erf"),  # known as a part of GELU alone
        (node("Resize", "x", "", "s", mode="cubic"), {"s": np.ones(4, np.float32)}, "mode='cubic'"),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)
def test_what_is_not_supported_is_named(wrong: Any, arrays: dict, says: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", [wrong], arrays)
    with pytest.raises(NotImplementedError, match=says) as error:
        cxo.load(path)
    assert str(path) in str(error.value)


def test_damaged_files(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.onnx", [node("Conv", "x", "w")], WEIGHT).read_bytes()
    path = tmp_path / "damaged.onnx"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"damaged\.onnx"):
            cxo.load(path)
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            cxo.load(path)
        except (ValueError, NotImplementedError) as error:
            assert str(path) in str(error)  # noqa: PT017 - or it loads


def test_inconsistent_graphs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for nodes, arrays in (
        ([node("Conv", "x", "nowhere")], {}),
        ([node("Conv", "x", "w", strides=[0, 1])], WEIGHT),
        ([node("Conv", "x", "w", group=3)], WEIGHT),
        ([node("Relu", "x", "x")], {}),
    ):
        with pytest.raises(ValueError, match=r"model\.onnx"):
            cxo.load(saved(path, nodes, arrays))
    with pytest.raises(FileNotFoundError):
        cxo.load(tmp_path / "none.onnx")
    with pytest.raises(TypeError, match="takes 1 inputs"):
        cxo.load(saved(path, [node("Relu")]))(1, 2)


def test_data_in_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    model = onnx.load(saved(folder / "model.onnx", [node("Conv", "x", "w")], WEIGHT))
    onnx.save_model(
        *(model, folder / "apart.onnx"), save_as_external_data=True, location="data.bin", size_threshold=0
    )
    x = images(2, 4, 8, 8)
    expected = infer(cxo.load(folder / "model.onnx"), x)
    np.testing.assert_array_equal(infer(cxo.load(folder / "apart.onnx"), x), expected)

    apart = onnx.load(folder / "apart.onnx", load_external_data=False)
    (location,) = (e for e in apart.graph.initializer[0].external_data if e.key == "location")
    (tmp_path / "data.bin").write_bytes((folder / "data.bin").read_bytes())
    os.symlink(tmp_path / "data.bin", folder / "link.bin")
    for outside in ("../data.bin", str(tmp_path / "data.bin"), "link.bin", "..", ""):
        location.value = outside
        (folder / "wrong.onnx").write_bytes(apart.SerializeToString())
        with pytest.raises(ValueError, match="outside of the model's folder"):
            cxo.load(folder / "wrong.onnx")
    (folder / "data.bin").write_bytes(b"1234")
    with pytest.raises(ValueError, match="'w'"):
        cxo.load(folder / "apart.onnx")


def test_export_refuses(tmp_path: Path) -> None:
    path, x = tmp_path / "model.onnx", images(1, 4, 8, 8)
    half_trained = nn.Sequential(nn.ReLU(), nn.Dropout()).eval()
    half_trained[1].train()
    with pytest.raises(ValueError, match="1 is in training mode"):
        cxo.export(half_trained, x, path)
    with pytest.raises(TypeError, match=r"must be a cnnext\.nn\.Module"):
        cxo.export(np.tanh, x, path)
    with pytest.raises(TypeError, match="floating array"):
        cxo.export(nn.ReLU().eval(), np.ones((2, 2), np.int64), path)
    for function, says in (
        (lambda x: x.flip(2), "operation flip"),
        (lambda x: x * float(x.mean().item()), "multiply: one of its arguments depends on x"),
        (lambda x: x.reshape(x.shape[0] * 2, x.shape[0], -1), "depends on the batch size"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[1] * 1.0, "indices are supported"),
        (lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(9, 8)), "usual"),
        (lambda x: x if x.shape[0] == 1 else x * 2, "something else for another batch size"),
    ):
        model = Apply(function).eval()
        with pytest.raises(NotImplementedError, match=says):
            cxo.export(model, x, path)
        assert not path.exists()
    assert cx.Tensor(x).flip(2).numpy().shape == x.shape  # nothing of the recording stays


def test_without_onnx_one_line_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['onnx'] = None; import cnnext as cx; cx.interop.onnx"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "ImportError: cnnext.interop.onnx needs onnx: pip install 'cnnext[onnx]'" in run.stderr


def test_the_page_begins_with_an_example_and_names_every_operator() -> None:
    from cnnext.interop.onnx._layers import BUILDERS

    page = (Path(__file__).resolve().parent.parent / "docs" / "onnx.md").read_text()
    for name in (*BUILDERS, "Erf"):
        assert re.search(rf"\b{name}\b", page), name
    example = page.split("```")[1]  # which tests/test_readme.py runs
    assert len([line for line in example.splitlines() if line]) <= 11  # with the language's name
