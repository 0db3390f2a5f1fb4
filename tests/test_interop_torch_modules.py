"""cnnext's modules in torch models: swapped in place, trained, compiled and exported."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", minversion="2.4")

import cnnext.interop.torch as cxt  # noqa: E402
from torch_networks import ResNet, train, vgg  # noqa: E402

nn = torch.nn


def batch(size: int = 32, count: int = 4) -> Any:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 10


def swapped(model: Any) -> Any:
    """A copy of the model with cnnext's modules."""
    ours = copy.deepcopy(model)
    cxt.replace(ours)
    return ours


MODULES = {
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), 1, groups=2), (2, 4, 7, 8)),
    "Conv2d same": (lambda: nn.Conv2d(4, 6, (5, 3), padding="same", bias=False), (4, 7, 8)),
    "Conv2d reflect": (lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"), (2, 4, 7, 8)),
    "Conv2d circular same": (
        lambda: nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"), (2, 4, 7, 8),
    ),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), (2, 4, 5, 6)),
    "Linear": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 4, 7, 8)),
    "MaxPool2d indices": (lambda: nn.MaxPool2d(2, return_indices=True), (4, 7, 8)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (5, 4)),
    "BatchNorm1d of rows": (lambda: nn.BatchNorm1d(4), (5, 4, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4, momentum=0.3), (3, 4, 5, 6)),
    "BatchNorm2d cumulative": (lambda: nn.BatchNorm2d(4, momentum=None), (3, 4, 5, 6)),
    "BatchNorm2d stateless": (
        lambda: nn.BatchNorm2d(4, track_running_stats=False, affine=False), (3, 4, 5, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_a_module_computes_what_torchs_does(name: str) -> None:
    make, shape = MODULES[name]
    theirs = make().double()
    ours = swapped(theirs)
    assert type(ours) is getattr(cxt, type(theirs).__name__)
    assert isinstance(ours, type(theirs))
    assert repr(ours) == repr(theirs)
    for training in (True, True, False):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        y, wanted = ours.train(training)(x), theirs.train(training)(x)
        torch.testing.assert_close(y, wanted)
        y, wanted = (v[0] if isinstance(v, tuple) else v for v in (y, wanted))
        g = torch.randn_like(wanted)
        parameters = list(zip(ours.parameters(), theirs.parameters(), strict=True))
        grads = torch.autograd.grad(y, [x, *(p for p, _ in parameters)], g)
        torch.testing.assert_close(grads, torch.autograd.grad(wanted, [x, *(q for _, q in parameters)], g))
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


def test_modules_with_more_inputs() -> None:
    x = torch.randn(2, 3, 7, 9)
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    y, indices = swapped(pool)(x)
    assert torch.equal(swapped(unpool)(y, indices, x.shape), unpool(y, indices, x.shape))
    up = nn.ConvTranspose2d(3, 4, 3, stride=2)
    torch.testing.assert_close(swapped(up)(x, output_size=[16, 20]), up(x, output_size=[16, 20]))


def test_a_constructor_draws_torchs_numbers() -> None:
    torch.manual_seed(3)
    theirs = nn.Conv2d(3, 4, 3)
    torch.manual_seed(3)
    ours = cxt.Conv2d(3, 4, 3)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_replace_changes_the_model_in_place() -> None:
    model = vgg("111", 4, norm=True)
    parameters = dict(model.named_parameters())
    names, state = list(model.state_dict()), torch.get_rng_state()
    modules = {name: id(module) for name, module in model.named_modules()}
    report = cxt.replace(model)
    assert list(model.state_dict()) == names
    assert all(parameters[name] is p for name, p in model.named_parameters())
    assert list(parameters) == [name for name, _ in model.named_parameters()]
    assert {name: id(module) for name, module in model.named_modules()} == modules
    assert torch.equal(torch.get_rng_state(), state)
    assert len(report.swapped) == 3 * 3 + 2
    assert [run.kinds for run in report.fused] == [*[("BatchNorm2d", "ReLU")] * 3, ("Linear", "ReLU")]
    assert report.fused[0].names == ("features.1", "features.2")
    assert cxt.replace(model).swapped == ()


def test_the_report_says_what_was_left_and_why() -> None:
    class Scaled(nn.Conv2d):
        def forward(self, input: Any) -> Any:
            return 2 * super().forward(input)

    own = nn.Conv2d(3, 3, 1)
    own.forward = lambda x: x  # type: ignore[method-assign]
    model = nn.Sequential(
        nn.Conv2d(3, 3, 3), nn.ReLU(), nn.MaxPool2d(2), Scaled(3, 3, 1), own, nn.LazyConv2d(3, 1),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Conv3d(1, 1, 1),
        nn.Linear(3, 3, dtype=torch.complex64), nn.Dropout(), nn.Dropout(),
    )  # fmt: skip
    report = cxt.replace(model)
    reasons = {module.name: module.reason for module in report.left}
    assert [swap.name for swap in report.swapped] == ["0", "2"]
    assert report.fused[0].names == ("0", "1", "2")
    assert set(reasons) == {"3", "4", "5", "6", "6.parametrizations.weight.0", "7", "8", "9", "10"}
    assert "subclass of Conv2d" in reasons["3"]
    assert "forward of its own" in reasons["4"]
    assert "call it once" in reasons["5"]
    assert "parametrized" in reasons["6"]
    assert "no such module" in reasons["7"]
    assert "complex64" in reasons["8"]
    text = str(report)
    assert text.startswith("swapped 2: 1 Conv2d, 1 MaxPool2d\nfused 1: 1 Conv2d+ReLU+MaxPool2d\nleft 9:\n")
    assert "  Dropout: cnnext has no such module (9, 10)" in text
    with pytest.raises(TypeError, match="model is list"):
        cxt.replace([model])


def test_a_run_is_left_where_somebody_looks_between() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    x = torch.randn(1, 3, 8, 8)
    wanted = model(x)
    assert len(cxt.replace(model).fused) == 1
    calls: list[str] = []
    run = torch.ops.cnnext.conv2d_relu_max_pool2d.default

    class Names(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls.append(func)
            return func(*args, **(kwargs or {}))

    with Names():
        torch.testing.assert_close(model(x), wanted)
    assert run in calls
    seen: list[Any] = []
    handle = model[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    calls.clear()
    with Names():
        torch.testing.assert_close(model(x), wanted)
    assert len(seen) == 1
    assert run not in calls
    handle.remove()
    torch.testing.assert_close(model[:1](x), nn.functional.conv2d(x, model[0].weight, model[0].bias))
    assert not cxt.replace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), fuse=False).fused


def test_copies_and_pickles() -> None:
    model = swapped(vgg("11", 4))
    x, _ = batch(8)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = vgg("11", 4)
    fresh.load_state_dict(torch.load(file))
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
        torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-5)


NETWORKS = {
    "resnet": lambda: ResNet(8, blocks=(1, 1, 1, 1)),
    "vgg": lambda: vgg("11111", 8),
    "vgg-bn": lambda: vgg("1111", 8, norm=True),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_swapped_network_trains_as_the_original(name: str, channels_last: bool) -> None:
    torch.manual_seed(1)
    model = NETWORKS[name]().double()
    x, labels = batch(64)
    x = x.double()
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    ours = swapped(model)
    wanted = train(model, 6, x, labels)
    assert train(ours, 6, x, labels) == pytest.approx(wanted, rel=1e-7)
    torch.testing.assert_close(ours.state_dict(), model.state_dict(), rtol=1e-5, atol=1e-7)
    assert wanted[-1] < wanted[0]


def test_float32_training_stays_near() -> None:
    torch.manual_seed(1)
    model = NETWORKS["vgg-bn"]()
    x, labels = batch(32)
    ours = swapped(model)
    assert train(ours, 4, x, labels, 0.01) == pytest.approx(train(model, 4, x, labels, 0.01), rel=1e-3)


def test_compile_without_a_graph_break() -> None:
    """Training and evaluation, one graph each, for changing batch sizes; compiled code is torch's own."""
    torch.manual_seed(1)
    model = swapped(
        nn.Sequential(vgg("11", 4, norm=True).features, nn.Conv2d(8, 4, 3, padding="same"), nn.ReLU())
    )
    model.append(nn.MaxPool2d(2))
    cxt.replace(model)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (3, 5):
        x = torch.randn(count, 3, 16, 12)
        ours, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = compiled(ours), model(wanted)
        torch.testing.assert_close(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
        torch.testing.assert_close(ours.grad, wanted.grad)
    torch.testing.assert_close(compiled._orig_mod.state_dict(), model.state_dict())
    for left, right in zip(compiled.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad)
    with torch.no_grad():
        torch.testing.assert_close(compiled.eval()(x), model.eval()(x))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own
def test_inductor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code calls the operations with the layouts that they were traced with."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # its cache outlives changes of operations
    torch.manual_seed(1)
    model = swapped(vgg("1", 4, norm=True))
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    compiled = torch.compile(model, fullgraph=True)
    y = compiled(x)
    y.sum().backward()
    grads = [p.grad for p in model.parameters()]
    model.zero_grad()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.reset_running_stats()
    z = model(x)
    z.sum().backward()
    torch.testing.assert_close(y, z)
    torch.testing.assert_close(grads, [p.grad for p in model.parameters()])


def test_export() -> None:
    model = swapped(vgg("11", 4)).eval()
    x = torch.randn(3, 3, 16, 16)
    dynamic = {"input": {0: torch.export.Dim("batch", min=2, max=64)}}
    program = torch.export.export(model, (x,), dynamic_shapes=dynamic)
    assert "cnnext.conv2d_relu_max_pool2d" in str(program.graph)
    for count in (3, 6):
        x = torch.randn(count, 3, 16, 16)
        torch.testing.assert_close(program.module()(x), model(x))
