"""Modules: registration, state, modes, printing, initialisation, every layer, training from a seed."""

from __future__ import annotations

import copy
import importlib.util
import pickle

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import channels_last
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

# One of each layer: (torch's constructor as well as ours, shape of an input)
LAYERS = [
    ("Conv2d(4, 6, 3)", (2, 4, 7, 6)),
    ("Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=2, groups=2, bias=False)", (2, 4, 9, 8)),
    ("Conv2d(4, 6, 3, padding='same')", (2, 4, 5, 6)),
    ("Conv2d(4, 6, 3, padding='valid')", (4, 5, 6)),
    ("ConvTranspose2d(4, 6, 3)", (2, 4, 5, 6)),
    ("ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 1)", (2, 4, 5, 6)),
    ("MaxPool2d(2)", (2, 3, 7, 6)),
    ("MaxPool2d((3, 2), stride=2, padding=1, dilation=(1, 1), ceil_mode=True)", (2, 3, 8, 6)),
    ("AvgPool2d(2)", (2, 3, 7, 6)),
    ("AvgPool2d(3, 2, 1, True, False)", (2, 3, 8, 6)),
    ("AdaptiveAvgPool2d((2, None))", (2, 3, 7, 6)),
    ("AdaptiveAvgPool2d(1)", (3, 7, 6)),
    ("BatchNorm2d(3)", (2, 3, 4, 5)),
    ("BatchNorm2d(3, eps=0.01, momentum=None)", (2, 3, 4, 5)),
    ("BatchNorm2d(3, affine=False, track_running_stats=False)", (2, 3, 4, 5)),
    ("BatchNorm2d(3, bias=False)", (2, 3, 4, 5)),
    ("BatchNorm1d(3)", (4, 3)),
    ("BatchNorm1d(3)", (4, 3, 5)),
    ("Linear(6, 4)", (2, 3, 6)),
    ("Linear(6, 4, bias=False)", (6,)),
    ("ReLU()", (2, 3)),
    ("ReLU(inplace=True)", (2, 3)),
    ("ReLU6()", (2, 3)),
    ("LeakyReLU(0.3)", (2, 3)),
    ("LeakyReLU(0.3, True)", (2, 3)),
    ("GELU()", (2, 3)),
    ("GELU('tanh')", (2, 3)),
    ("SiLU()", (2, 3)),
    ("Sigmoid()", (2, 3)),
    ("Tanh()", (2, 3)),
    ("Softmax(1)", (2, 3)),
    ("LogSoftmax(dim=-1)", (2, 3)),
    ("Dropout()", (2, 3)),
    ("Flatten()", (2, 3, 4)),
    ("Flatten(0, 1)", (2, 3, 4)),
    ("Identity()", (2, 3)),
    (
        "Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), Sequential(MaxPool2d(2), Flatten()))",
        (2, 3, 6, 6),
    ),
]


def build(text, library):
    return eval(text, {name: getattr(library, name) for name in dir(library)})


@pytest.mark.parametrize(("text", "shape"), LAYERS, ids=[text for text, _ in LAYERS])
def test_layers_against_torch(text, shape):
    torch = pytest.importorskip("torch")
    ours, theirs = build(text, nn), build(text, torch.nn)
    assert repr(ours) == repr(theirs)
    assert [(n, tuple(p.shape)) for n, p in ours.named_parameters()] == [
        (n, tuple(p.shape)) for n, p in theirs.named_parameters()
    ]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({n: v.numpy() for n, v in theirs.state_dict().items()})
    a = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    dropout = "Dropout" in text
    for training in (False,) if dropout else (True, True, False):
        ours.train(training)
        theirs.train(training)
        x, tx = cx.Tensor(a, requires_grad=True), torch.from_numpy(a.copy()).requires_grad_()
        y, ty = ours(x * 1.0), theirs(tx * 1.0)
        np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=1e-4, atol=1e-5)
        g = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
        ours.zero_grad()
        theirs.zero_grad()
        y.backward(g)
        ty.backward(torch.from_numpy(g))
        np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-3, atol=1e-4)
        for p, tp in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), tp.grad.numpy(), rtol=1e-3, atol=1e-4)
    for (name, v), tv in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(v.numpy(), tv.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_layer_is_in_the_table():
    tested = " ".join(text for text, _ in LAYERS)
    others = {"Module", "Parameter", "ModuleList", "MaxUnpool2d", "CrossEntropyLoss", "MSELoss", "NLLLoss"}
    for name in nn.__all__:
        if name[0].isupper() and name not in others:
            assert f"{name}(" in tested, name


def test_constructors_have_torchs_arguments_and_defaults():
    torch = pytest.importorskip("torch")
    import inspect

    for name in nn.__all__:
        if not name[0].isupper() or name in ("Parameter", "Module", "Sequential", "ModuleList", "Identity"):
            continue

        def arguments(lib, name=name):
            parameters = inspect.signature(getattr(lib, name)).parameters.values()
            return [
                (p.name, p.default, p.kind)
                for p in parameters
                if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            ]

        assert arguments(nn) == arguments(torch.nn), name


def test_unpooling_and_the_losses_against_torch():
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    y, i = nn.MaxPool2d(2, return_indices=True)(cx.Tensor(a))
    ty, ti = torch.nn.MaxPool2d(2, return_indices=True)(torch.from_numpy(a))
    np.testing.assert_array_equal(i.numpy(), ti.numpy())
    ours, theirs = nn.MaxUnpool2d(2), torch.nn.MaxUnpool2d(2)
    assert repr(ours) == repr(theirs)
    np.testing.assert_array_equal(
        ours(y, i, output_size=a.shape[2:]).numpy(), theirs(ty, ti, output_size=a.shape[2:]).numpy()
    )
    logits, labels = a.reshape(6, 35)[:, :5], np.array([0, 4, 2, -100, 1, 3])
    weight = np.arange(1, 6, dtype=np.float32)
    for loss, tloss in [
        (nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss()),
        (
            nn.CrossEntropyLoss(weight, ignore_index=2, reduction="sum", label_smoothing=0.1),
            torch.nn.CrossEntropyLoss(
                torch.from_numpy(weight), ignore_index=2, reduction="sum", label_smoothing=0.1
            ),
        ),
        (nn.NLLLoss(weight), torch.nn.NLLLoss(torch.from_numpy(weight))),
    ]:
        t = np.where(labels == -100, 2, labels) if loss.ignore_index == 2 else labels
        np.testing.assert_allclose(
            loss(cx.Tensor(logits), t).numpy(),
            tloss(torch.from_numpy(logits), torch.from_numpy(t)).numpy(),
            rtol=1e-5,
        )
        assert repr(loss) == repr(tloss)
        assert list(loss.state_dict()) == list(tloss.state_dict())
    np.testing.assert_allclose(
        nn.MSELoss(reduction="sum")(cx.Tensor(a), a * 2).numpy(), (a.astype(np.float64) ** 2).sum(), rtol=1e-5
    )


def test_conv_transpose_output_size():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = cx.randn(1, 2, 4, 5)
    assert layer(x).shape == (1, 3, 7, 9)
    assert layer(x, output_size=(8, 9)).shape == (1, 3, 8, 9)
    assert layer(x, output_size=(1, 3, 8, 10)).shape == (1, 3, 8, 10)
    with pytest.raises(ValueError, match=r"output_size=\(9, 9\): entry 0 must lie between 7 and 8"):
        layer(x, output_size=(9, 9))


def test_four_sided_padding():
    layer = nn.Conv2d(1, 2, 3, padding=((1, 2), (0, 1)))
    assert layer(cx.randn(1, 1, 4, 5)).shape == (1, 2, 5, 4)
    assert "padding=((1, 2), (0, 1))" in repr(layer)


def test_layers_keep_channels_last():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.MaxPool2d(2)
    )
    x = channels_last(np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32))
    x = cx.Tensor(x, requires_grad=True)
    y = model(x)
    assert y.is_contiguous("channels_last")
    (y * y).sum().backward()
    assert x.grad.is_contiguous("channels_last")


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


# ---- constructors ----


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("Conv2d(0, 2, 3)", ValueError, "in_channels=0 must be at least 1"),
        ("Conv2d(1.5, 2, 3)", TypeError, "in_channels must be an int, got 1.5"),
        ("Conv2d(4, 6, 3, groups=4)", ValueError, "out_channels=6 must be divisible by groups=4"),
        ("Conv2d(3, 6, 3, groups=2)", ValueError, "in_channels=3 must be divisible by groups=2"),
        ("Conv2d(1, 1, 0)", ValueError, "kernel_size=0 must be at least 1"),
        ("Conv2d(1, 1, (1, 2, 3))", ValueError, "must be an int or a pair"),
        ("Conv2d(1, 1, 3, stride=0)", ValueError, "stride=0 must be at least 1"),
        ("Conv2d(1, 1, 3, padding=-1)", ValueError, "padding=-1 must be at least 0"),
        ("Conv2d(1, 1, 3, padding='full')", ValueError, "padding='full' must be 'same', 'valid'"),
        ("Conv2d(1, 1, 3, padding=((1, 1), 0))", ValueError, "must be"),
        ("Conv2d(1, 1, 3, padding_mode='reflect')", NotImplementedError, "padding_mode='reflect'"),
        ("Conv2d(1, 1, 3, padding_mode='ones')", ValueError, "padding_mode='ones' is unknown"),
        ("Conv2d(1, 1, 3, device='cuda')", NotImplementedError, "device 'cuda'"),
        ("Conv2d(1, 1, 3, dtype='int32')", TypeError, "floating dtype"),
        ("ConvTranspose2d(1, 1, 3, output_padding=1)", ValueError, "smaller than stride or dilation"),
        ("Linear(0, 1)", ValueError, "in_features=0"),
        ("MaxPool2d(0)", ValueError, "kernel_size=0"),
        ("MaxPool2d(2, stride=0)", ValueError, "stride=0"),
        ("AvgPool2d(2, divisor_override=0)", ValueError, "divisor_override=0"),
        ("AdaptiveAvgPool2d((1, 2, 3))", ValueError, "must be an int or a pair"),
        ("BatchNorm2d(0)", ValueError, "num_features=0"),
        ("Dropout(1.5)", ValueError, "p=1.5 must be a probability"),
        ("GELU('fast')", ValueError, "approximate='fast'"),
        ("CrossEntropyLoss(label_smoothing=2)", ValueError, "label_smoothing=2 must lie between 0 and 1"),
        ("CrossEntropyLoss(reduction='max')", ValueError, "reduction='max' must be one of none, mean, sum"),
    ],
)
def test_constructor_errors(text, error, message):
    with pytest.raises(error, match=message):
        build(text, nn)


def test_dtype_argument():
    assert nn.Conv2d(1, 1, 3, dtype="float64").weight.dtype == np.float64
    assert nn.BatchNorm2d(1, device="cpu", dtype=np.float64).running_var.dtype == np.float64


# ---- initialisation ----


@pytest.mark.parametrize(
    ("name", "kwargs", "expected_std"),
    [
        ("kaiming_uniform_", {}, np.sqrt(2 / 1800)),
        ("kaiming_uniform_", {"a": np.sqrt(5)}, np.sqrt(1 / 3 / 1800)),
        ("kaiming_normal_", {"nonlinearity": "relu", "mode": "fan_out"}, np.sqrt(2 / 2700)),
        ("kaiming_normal_", {"nonlinearity": "tanh"}, 5 / 3 / np.sqrt(1800)),
        ("xavier_uniform_", {}, np.sqrt(2 / 4500)),
        ("xavier_normal_", {"gain": 2.0}, 2 * np.sqrt(2 / 4500)),
        ("normal_", {"mean": 0.0, "std": 0.7}, 0.7),
        ("uniform_", {"a": -1.0, "b": 1.0}, 1 / np.sqrt(3)),
    ],
)
def test_initialisers(name, kwargs, expected_std):
    cx.manual_seed(1)
    w = nn.Parameter(np.empty((300, 200, 3, 3), np.float32))
    assert getattr(nn.init, name)(w, **kwargs) is w
    assert w.is_leaf
    values = w.detach().numpy().astype(np.float64)
    assert abs(values.std() / expected_std - 1) < 0.01
    assert abs(values.mean()) < 0.01 * expected_std
    if "uniform" in name:
        bound = expected_std * np.sqrt(3)
        assert np.abs(values).max() <= bound * (1 + 1e-6)
        assert np.abs(values).max() > bound * 0.999
    cx.manual_seed(1)
    again = getattr(nn.init, name)(nn.Parameter(np.empty((300, 200, 3, 3), np.float32)), **kwargs)
    np.testing.assert_array_equal(w.detach().numpy(), again.detach().numpy())


def test_constant_initialisers_and_errors():
    w = nn.Parameter(np.empty((2, 3)))
    np.testing.assert_array_equal(nn.init.ones_(w).detach().numpy(), np.ones((2, 3)))
    np.testing.assert_array_equal(nn.init.zeros_(w).detach().numpy(), np.zeros((2, 3)))
    np.testing.assert_array_equal(nn.init.constant_(w, 2.5).detach().numpy(), np.full((2, 3), 2.5))
    assert nn.init.calculate_gain("leaky_relu", 0.2) == pytest.approx(np.sqrt(2 / 1.04))
    for call, message in [
        (lambda: nn.init.kaiming_normal_(cx.ones(3)), "at least 2 dimensions"),
        (lambda: nn.init.kaiming_normal_(w, mode="fan"), "mode='fan' must be"),
        (lambda: nn.init.kaiming_normal_(w, nonlinearity="swish"), "nonlinearity='swish' must be"),
        (lambda: nn.init.normal_(w, std=-1), "std=-1 must not be negative"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="expected a Tensor, got ndarray"):
        nn.init.zeros_(np.ones(2))


@pytest.mark.parametrize(
    ("text", "fan_in"),
    [("Conv2d(40, 500, 5)", 1000), ("ConvTranspose2d(40, 500, 5)", 12500), ("Linear(400, 300)", 400)],
)
def test_default_initialisation_is_torchs(text, fan_in):
    """Weight and bias uniform within +-1 / sqrt(fan_in); torch itself is held to the same."""
    cx.manual_seed(0)
    libraries = [nn]
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)
        libraries.append(torch.nn)
    for library in libraries:
        for p in build(text, library).parameters():
            size = np.abs(p.detach().numpy()) * np.sqrt(fan_in)
            assert 0.98 < size.max() <= 1.0 + 1e-6
            assert size.mean() == pytest.approx(0.5, rel=0.1)


# ---- repeatability ----


def _train(seed):
    cx.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64, 10),
    )
    optimizer = cx.optim.AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 1, 8, 8)).astype(np.float32)
    labels = rng.integers(0, 10, 16)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(model(cx.Tensor(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, b"".join(v.numpy().tobytes() for v in model.state_dict().values())


def test_a_run_repeats_bit_for_bit_from_its_seed():
    losses, weights = _train(3)
    assert (losses, weights) == _train(3)
    assert losses[-1] < losses[0]
    assert weights != _train(4)[1]


def test_a_run_repeats_bit_for_bit_for_any_number_of_threads():
    results = set()
    for threads in (1, 2, 3, 8):
        cx.set_num_threads(threads)
        results.add(_train(3)[1])
    assert len(results) == 1


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("optimizer", "options"), [("SGD", {"lr": 0.05, "momentum": 0.9}), ("AdamW", {"lr": 0.01})]
)
def test_twenty_steps_of_training_against_torch(optimizer, options, layout):
    torch = pytest.importorskip("torch")
    text = (
        "Sequential(Conv2d(2, 6, 3, padding=1), BatchNorm2d(6), ReLU(), MaxPool2d(2), "
        "Conv2d(6, 8, 3, groups=2), GELU(), AdaptiveAvgPool2d(2), Flatten(), Linear(32, 5))"
    )
    torch.manual_seed(0)
    theirs, ours = build(text, torch.nn).double(), build(text, nn).double()
    ours.load_state_dict(theirs.state_dict())
    step, reference = (
        getattr(lib.optim, optimizer)(model.parameters(), **options)
        for lib, model in ((cx, ours), (torch, theirs))
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        images, labels = rng.standard_normal((6, 2, 8, 9)), rng.integers(0, 5, 6)
        batch = channels_last(images) if layout == "channels_last" else images
        loss = nn.functional.cross_entropy(ours(cx.Tensor(batch)), labels, label_smoothing=0.1)
        step.zero_grad()
        loss.backward()
        step.step()
        expected = torch.nn.functional.cross_entropy(
            theirs(torch.from_numpy(images)), torch.from_numpy(labels), label_smoothing=0.1
        )
        reference.zero_grad()
        expected.backward()
        reference.step()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-7)
    for (name, v), tv in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(v.numpy(), tv.numpy(), rtol=1e-5, atol=1e-7, err_msg=name)


# ---- utils ----


def test_gradient_clipping():
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32) * 3
    for limit in (0.5, 100.0):
        p, tp = nn.Parameter(a.copy()), torch.nn.Parameter(torch.from_numpy(a.copy()))
        q = nn.Parameter(a.copy())  # without gradient
        (p * p).sum().backward()
        (tp * tp).sum().backward()
        norm = nn.utils.clip_grad_norm_([p, q], limit)
        tnorm = torch.nn.utils.clip_grad_norm_([tp], limit)
        assert norm.item() == pytest.approx(tnorm.item(), rel=1e-5)
        np.testing.assert_allclose(p.grad.numpy(), tp.grad.numpy(), rtol=1e-5)
    nn.utils.clip_grad_value_(p, 0.25)
    assert np.abs(p.grad.numpy()).max() == 0.25
