"""Layers: every one against torch's, their constructors and error messages."""

from __future__ import annotations

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import build, channels_last
from cnnext import nn

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
    ("GroupNorm(2, 6)", (2, 6, 4, 5)),
    ("GroupNorm(3, 6, eps=0.01, affine=False)", (2, 6, 7)),
    ("GroupNorm(1, 6, bias=False)", (3, 6)),
    ("GroupNorm(6, 6)", (2, 6, 4, 5)),
    ("LayerNorm(6)", (2, 3, 6)),
    ("LayerNorm((3, 6), eps=1e-3, bias=False)", (2, 3, 6)),
    ("LayerNorm([6], elementwise_affine=False)", (2, 3, 4, 6)),
    ("LayerNorm(1)", (2, 3, 1)),
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
    ("Upsample((5, 9))", (2, 3, 4, 6)),
    ("Upsample(scale_factor=2, mode='bilinear')", (2, 3, 4, 6)),
    ("Upsample(None, (2, 1.5), 'bilinear', True)", (2, 3, 4, 6)),
    ("Upsample(scale_factor=1.6, mode='linear', recompute_scale_factor=True)", (2, 3, 7)),
    ("UpsamplingNearest2d(scale_factor=3)", (2, 3, 4, 6)),
    ("UpsamplingBilinear2d((7, 5))", (2, 3, 4, 6)),
    (
        "Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), Sequential(MaxPool2d(2), Flatten()))",
        (2, 3, 6, 6),
    ),
]


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
    others = {"Module", "Parameter", "ModuleList", "ModuleDict", "ParameterList", "Row", "LayerNorm2d"}
    others |= {"MaxUnpool2d", "CrossEntropyLoss", "MSELoss", "NLLLoss"}  # below
    for name in nn.__all__:
        if name[0].isupper() and name not in others:
            assert f"{name}(" in tested, name


def test_constructors_have_torchs_arguments_and_defaults():
    torch = pytest.importorskip("torch")
    import inspect

    for name in nn.__all__:
        others = ("Parameter", "Module", "Sequential", "ModuleList", "Identity", "Row", "LayerNorm2d")
        if not name[0].isupper() or name in others:
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
        ("GroupNorm(4, 6)", ValueError, "num_channels=6 must be divisible by num_groups=4"),
        ("GroupNorm(0, 6)", ValueError, "num_groups=0 must be at least 1"),
        ("LayerNorm2d((3, 4))", ValueError, "must be the number of channels"),
        ("LayerNorm(())", ValueError, "at least one size"),
        ("LayerNorm((3, 0))", ValueError, "normalized_shape=0"),
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
