"""Modules: registration, names, modes, state, printing."""

from __future__ import annotations

import copy
import pickle

import cnnext as cx
import numpy as np
import pytest
from cnnext import nn


class Small(nn.Module):
    """A bit of everything that a module can hold."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.blocks = nn.ModuleList([nn.Linear(36, 8), nn.Linear(8, 8)])
        self.scale = nn.Parameter(np.ones(1, np.float32))
        self.absent = None
        self.register_parameter("nothing", None)
        self.register_buffer("mean", cx.zeros(3))
        self.register_buffer("scratch", cx.zeros(2), persistent=False)

    def forward(self, x):
        x = self.features(x).flatten(1)
        for block in self.blocks:
            x = block(x).relu()
        return x * self.scale


SMALL_NAMES = [
    "scale",
    "mean",
    "features.0.weight",
    "features.1.weight",
    "features.1.bias",
    "features.1.running_mean",
    "features.1.running_var",
    "features.1.num_batches_tracked",
    "blocks.0.weight",
    "blocks.0.bias",
    "blocks.1.weight",
    "blocks.1.bias",
]


# ---- registration ----


def test_names_and_order():
    model = Small()
    assert list(model.state_dict()) == SMALL_NAMES
    assert [n for n, _ in model.named_parameters()] == [
        n for n in SMALL_NAMES if "running" not in n and "tracked" not in n and n != "mean"
    ]
    assert [n for n, _ in model.named_buffers()] == [
        "mean",
        "scratch",
        "features.1.running_mean",
        "features.1.running_var",
        "features.1.num_batches_tracked",
    ]
    assert [n for n, _ in model.named_children()] == ["features", "blocks"]
    assert [n for n, _ in model.named_modules()][:4] == ["", "features", "features.0", "features.1"]
    assert len(list(model.modules())) == 9
    assert model.get_submodule("blocks.1") is model.blocks[1]
    assert model.nothing is None
    assert "scale" in dir(model)


def test_names_and_order_against_torch():
    torch = pytest.importorskip("torch")

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            t = torch.nn
            self.features = t.Sequential(
                t.Conv2d(1, 4, 3, bias=False), t.BatchNorm2d(4), t.ReLU(), t.MaxPool2d(2)
            )
            self.blocks = t.ModuleList([t.Linear(36, 8), t.Linear(8, 8)])
            self.scale = t.Parameter(torch.ones(1))
            self.register_parameter("nothing", None)
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("scratch", torch.zeros(2), persistent=False)

    assert list(Torch().state_dict()) == list(Small().state_dict())
    assert repr(Torch()).replace("Torch", "Small") == repr(Small())


def test_shared_parameters_are_listed_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert len(model.state_dict()) == 4
    shared = nn.Linear(2, 2)
    twice = nn.Sequential(shared, shared)
    assert len(list(twice.parameters())) == 2
    assert len(list(twice.modules())) == 2
    assert list(twice.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_attributes_move_between_registries():
    m = nn.Module()
    m.x = 1
    m.x = nn.Parameter(np.ones(2))
    assert [n for n, _ in m.named_parameters()] == ["x"]
    m.x = nn.ReLU()
    assert [n for n, _ in m.named_children()] == ["x"]
    assert not list(m.parameters())
    del m.x
    with pytest.raises(AttributeError, match="'Module' object has no attribute 'x'"):
        _ = m.x
    m.register_buffer("b", np.zeros(2))
    m.b = np.ones(2)
    assert isinstance(m.b, cx.Tensor)
    m.add_module("child", nn.ReLU())
    m.child = None
    assert not list(m.children())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: setattr(m, "scale", cx.ones(1)),
            TypeError,
            "'scale' is a parameter: assign a Parameter or None",
        ),
        (
            lambda m: m.register_parameter("a", cx.ones(1)),
            TypeError,
            "must be a Parameter or None, got Tensor",
        ),
        (lambda m: m.register_buffer("a.b", None), ValueError, "must not be empty nor hold a dot"),
        (lambda m: m.register_buffer("forward", None), ValueError, "is already an attribute"),
        (lambda m: m.add_module(1, nn.ReLU()), TypeError, "module name must be a str"),
        (lambda m: m.add_module("a", 1), TypeError, "must be a Module or None, got int"),
        (lambda m: m.get_submodule("blocks.7"), AttributeError, "no submodule '7'"),
        (lambda m: m.train("yes"), ValueError, "mode='yes' must be a bool"),
        (lambda m: m.to("cuda"), NotImplementedError, "device 'cuda' is not supported"),
        (lambda m: m.to(np.int32), TypeError, "floating dtypes, got int32"),
        (lambda m: nn.Module()(1), NotImplementedError, r"Module does not define forward\(\)"),
        (lambda m: nn.Sequential(1), TypeError, "entry 0 is int, not a Module"),
        (lambda m: m.blocks[5], IndexError, "index 5 is out of range for 2 modules"),
    ],
)
def test_module_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(Small())


def test_a_module_without_init_says_so():
    class Bad(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) is called"):
        Bad()


def test_sequential_and_module_list():
    model = nn.Sequential({"a": nn.Linear(2, 3), "b": nn.ReLU()})
    assert model.a is model[0] is model[-2]
    assert list(model.state_dict()) == ["a.weight", "a.bias"]
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(model) == 3
    assert list(model[1:].state_dict()) == ["2.weight", "2.bias"]
    assert model[1:](cx.ones(1, 3)).shape == (1, 1)
    model.append(nn.Tanh()).insert(0, nn.Identity())
    assert [type(m).__name__ for m in model] == ["Identity", "Linear", "ReLU", "Linear", "Tanh"]
    model[1] = nn.Linear(2, 3, bias=False)
    del model[0]
    assert list(model.state_dict()) == ["0.weight", "2.weight", "2.bias"]
    rows = nn.ModuleList([nn.ReLU()]).extend([nn.Tanh(), nn.Tanh()])
    assert len(rows) == 3
    assert isinstance(rows[:2], nn.ModuleList)


# ---- modes and state ----


def test_train_eval_apply_zero_grad():
    model = Small()
    assert model.training
    model.eval()
    assert not any(m.training for m in model.modules())
    model.train()
    seen = []
    assert model.apply(lambda m: seen.append(type(m).__name__)) is model
    assert seen[-1] == "Small"
    model(cx.randn(2, 1, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad(set_to_none=False)
    assert all(not p.grad.numpy().any() for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(False)
    assert not model(cx.randn(2, 1, 8, 8)).requires_grad


def test_to_changes_parameters_in_their_place():
    model = Small()
    before = list(model.parameters())
    model(cx.randn(2, 1, 8, 8)).sum().backward()
    assert model.double() is model
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    assert {str(v.dtype) for v in model.state_dict().values()} == {"float64", "int64"}
    assert model.scale.grad.dtype == np.float64
    assert model(cx.randn(2, 1, 8, 8, dtype="float64")).dtype == np.float64
    assert model.float().to("cpu").scale.dtype == np.float32
    assert model.to(memory_format=cx.channels_last).to("float32") is model


def test_state_dict_shares_memory_and_loads_by_copy():
    a, b = Small(), Small()
    state = a.state_dict()
    assert np.shares_memory(state["scale"].data, a.scale.data)
    assert not state["scale"].requires_grad
    b.load_state_dict(state)
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        np.testing.assert_array_equal(x.numpy(), y.numpy(), err_msg=name)
        assert not np.shares_memory(x.data, y.data)
    assert b.scale.requires_grad
    assert list(a.state_dict(prefix="model.")) == [f"model.{n}" for n in SMALL_NAMES]


def test_load_state_dict_lists_all_that_is_wrong_and_changes_nothing():
    model = Small()
    before = {n: v.numpy().copy() for n, v in model.state_dict().items()}
    state = {n: v.numpy() + 1 for n, v in model.state_dict().items()}
    state["blocks.0.bias"] = np.zeros(3)
    del state["scale"], state["mean"]
    state["extra"] = np.zeros(1)
    with pytest.raises(ValueError, match="load_state_dict for Small") as error:
        model.load_state_dict(state)
    text = str(error.value)
    assert "missing key(s): 'scale', 'mean'" in text
    assert "unexpected key(s): 'extra'" in text
    assert "size mismatch for blocks.0.bias: [3] is given, the model has [8]" in text
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    with pytest.raises(ValueError, match=r"size mismatch for blocks\.0\.bias"):
        model.load_state_dict(state, strict=False)
    del state["blocks.0.bias"]
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["scale", "mean", "blocks.0.bias"]
    assert result.unexpected_keys == ["extra"]
    np.testing.assert_array_equal(model.blocks[0].weight.detach().numpy(), state["blocks.0.weight"])


def test_torch_state_dicts_load():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    ours = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    ours.load_state_dict(theirs.state_dict())
    a = np.random.default_rng(0).standard_normal((2, 1, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(
        ours(cx.Tensor(a)).detach().numpy(),
        theirs(torch.from_numpy(a)).detach().numpy(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_copies_and_pickles():
    model = Small()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model.features))):
        assert type(next(other.parameters())) is nn.Parameter
    other = copy.deepcopy(model)
    with cx.no_grad():
        other.scale += 1.0
    assert model.scale.item() == 1.0
    assert list(other.state_dict()) == SMALL_NAMES


def test_batch_norm_layer():
    layer = nn.BatchNorm2d(3)
    x = cx.randn(4, 3, 2, 2)
    layer(x)
    layer(x)
    assert layer.num_batches_tracked.item() == 2
    layer.eval()(x)
    assert layer.num_batches_tracked.item() == 2
    layer.reset_running_stats()
    assert layer.num_batches_tracked.item() == 0
    with pytest.raises(ValueError, match="BatchNorm2d: expected 4D input, got 2D"):
        layer(cx.randn(4, 3))
    with pytest.raises(ValueError, match="expected 2D or 3D input, got 4D"):
        nn.BatchNorm1d(3)(x)
