"""Runs of layers computed as one operation: what is fused, when, and with the same results."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import channels_last as nhwc
from cnnext import nn


def images(*shape: int, seed: int = 0, dtype: Any = np.float32, channels_last: bool = False) -> cx.Tensor:
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return cx.Tensor(nhwc(x) if channels_last else x)


def settled(channels: int, seed: int = 3, **options: Any) -> nn.BatchNorm2d:
    """A batch norm whose parameters and statistics have seen something."""
    rng = np.random.default_rng(seed)
    norm = nn.BatchNorm2d(channels, **options)
    with cx.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            if tensor is not None:
                tensor.copy_(rng.standard_normal(channels).astype(np.float32))
        norm.running_var.copy_((rng.random(channels) + 0.5).astype(np.float32))
    return norm


def one_by_one(model: nn.Sequential, x: cx.Tensor) -> cx.Tensor:
    for layer in model:
        x = layer(x)
    return x


def fused(model: nn.Sequential) -> list[str | None]:
    return [getattr(layer, "_fused", None) for layer in model]


def block(*layers: Any) -> nn.Sequential:
    cx.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *layers)


POOLED = ["conv2d+relu+max_pool2d"] * 3
# name, model in evaluation, what each layer then is part of
EVALUATED = [
    ("conv relu pool", lambda: block(nn.ReLU(), nn.MaxPool2d(2)), POOLED),
    ("conv relu pool, overlapping", lambda: block(nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)), POOLED),
    ("conv norm", lambda: block(settled(8)), ["conv2d+batch_norm"] * 2),
    ("conv norm relu", lambda: block(settled(8), nn.ReLU()), ["conv2d+batch_norm+relu"] * 3),
    ("norm without affine", lambda: block(settled(8, affine=False), nn.SiLU()),
     ["conv2d+batch_norm+silu"] * 3),
    ("everything", lambda: block(settled(8), nn.ReLU(), nn.MaxPool2d(2)),
     ["conv2d+batch_norm+relu+max_pool2d"] * 4),
    ("two convolutions", lambda: block(nn.GELU(), nn.Conv2d(8, 4, 1, bias=False), settled(4), nn.LeakyReLU()),
     ["conv2d+gelu"] * 2 + ["conv2d+batch_norm+leaky_relu"] * 3),
    ("dense", lambda: block(nn.Flatten(), nn.Linear(8 * 12 * 10, 5), nn.Tanh()),
     [None, None] + ["linear+tanh"] * 2),
    ("ceil", lambda: block(nn.ReLU(), nn.MaxPool2d(3, ceil_mode=True)), ["conv2d+relu"] * 2 + [None]),
    ("dilated", lambda: block(nn.ReLU(), nn.MaxPool2d(2, dilation=2)), ["conv2d+relu"] * 2 + [None]),
    ("another slope", lambda: block(nn.LeakyReLU(0.2), nn.MaxPool2d(2)), [None] * 3),
    ("pool without relu", lambda: block(nn.Tanh(), nn.MaxPool2d(2)), ["conv2d+tanh"] * 2 + [None]),
    ("statistics of the batch", lambda: block(nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU()),
     [None] + ["batch_norm+relu"] * 2),
]  # fmt: skip


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("model", "runs"), [e[1:] for e in EVALUATED], ids=[e[0] for e in EVALUATED])
def test_evaluation(model: Any, runs: list[str | None], channels_last: bool) -> None:
    model, x = model().eval(), images(2, 3, 12, 10, channels_last=channels_last)
    names, text = list(model.state_dict()), repr(model)
    with cx.no_grad():
        got = [model(x) for _ in range(3)]  # the third with packed weights
        want = one_by_one(model, x)
    for y in got:
        np.testing.assert_allclose(y.numpy(), want.numpy(), rtol=1e-5, atol=1e-5)
    assert fused(model) == runs
    assert list(model.state_dict()) == names
    assert repr(model) == text
    y = model(x)  # recorded
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), want.numpy(), rtol=1e-5, atol=1e-5)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_has_the_gradients_of_the_layers(dtype: Any) -> None:
    def gradients(apart: bool) -> list[np.ndarray]:
        cx.manual_seed(6)  # of the layers that are made before the block
        model = block(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3), settled(4), nn.ReLU(), nn.Flatten(),
                      nn.Linear(48, 5), nn.ReLU()).to(dtype)  # fmt: skip
        x = images(3, 3, 12, 10, dtype=dtype)
        x.requires_grad_()
        y = one_by_one(model, x) if apart else model(x)
        (y * y).sum().backward()
        if not apart:
            normed = ["conv2d+batch_norm+relu"] * 3
            assert fused(model) == [*POOLED, *normed, None, *["linear+relu"] * 2]
        return [x.grad.numpy(), *(p.grad.numpy() for p in model.parameters())]

    for got, want in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_folded_norm_follows_what_it_is_made_of() -> None:
    model, x = block(settled(8), nn.ReLU()).eval(), images(2, 3, 9, 7)
    conv, norm = model[0], model[1]
    changes = [
        lambda: None,
        lambda: conv.weight.mul_(1.5),
        lambda: conv.bias.add_(0.25),
        lambda: norm.weight.mul_(0.5),
        lambda: norm.running_mean.add_(1),
        lambda: norm.running_var.data.__imul__(3),  # through the array: no version says so
        lambda: norm.bias.data.__iadd__(0.5),
        lambda: setattr(norm, "eps", 0.5),
        lambda: conv.weight.data.__imul__(2),
        lambda: setattr(conv, "weight", nn.Parameter(conv.weight.detach().numpy()[:, ::-1].copy())),
        lambda: model.load_state_dict({k: v * 0.5 for k, v in model.state_dict().items()}),
    ]
    with cx.no_grad():
        for change in changes:
            change()
            for _ in range(3):
                got = model(x)
            np.testing.assert_allclose(
                got.numpy(), one_by_one(model, x).detach().numpy(), rtol=1e-5, atol=1e-5
            )


def test_a_weight_that_somebody_holds_may_change_at_any_time() -> None:
    model, x = block(settled(8), nn.ReLU()).eval(), images(2, 3, 9, 7)
    held = model[0].weight.data
    with cx.no_grad():
        model(x)
        held *= 2
        np.testing.assert_allclose(
            model(x).numpy(), one_by_one(model, x).detach().numpy(), rtol=1e-5, atol=1e-5
        )


def test_modes_are_followed() -> None:
    model, x = block(settled(8), nn.ReLU()), images(4, 3, 9, 7)
    for training in (False, True, False):
        model.train(training)
        before = model[1].running_mean.numpy().copy()
        with cx.no_grad():
            got = model(x)
        assert (model[1].running_mean.numpy() != before).any() == training
        assert fused(model) == ["conv2d+batch_norm+relu"] * 3
        if not training:
            np.testing.assert_allclose(
                got.numpy(), one_by_one(model, x).detach().numpy(), rtol=1e-5, atol=1e-5
            )


# name, the layers behind a convolution, what each then is part of in training
TRAINED = [
    ("norm", lambda: [settled(8)], ["conv2d+batch_norm"] * 2),
    ("norm relu", lambda: [settled(8), nn.ReLU()], ["conv2d+batch_norm+relu"] * 3),
    ("in place", lambda: [settled(8, affine=False), nn.ReLU(inplace=True)], ["conv2d+batch_norm+relu"] * 3),
    ("norm relu6", lambda: [settled(8), nn.ReLU6()], ["conv2d+batch_norm+relu6"] * 3),
    ("no statistics", lambda: [nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU()],
     ["conv2d+batch_norm+relu"] * 3),
    ("cumulative", lambda: [settled(8, momentum=None), nn.SiLU()], ["conv2d+batch_norm"] * 2 + [None]),
    ("pool", lambda: [settled(8, bias=False), nn.ReLU(), nn.MaxPool2d(2)],
     ["conv2d+batch_norm+relu"] * 3 + [None]),
    ("two", lambda: [settled(8), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False), settled(4, eps=0.1)],
     ["conv2d+batch_norm+relu"] * 3 + ["conv2d+batch_norm"] * 2),
    ("evaluated norm", lambda: [settled(8).eval(), nn.ReLU()], ["conv2d+batch_norm+relu"] * 3),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("layers", "runs"), [e[1:] for e in TRAINED], ids=[e[0] for e in TRAINED])
def test_training(layers: Any, runs: list[str | None], channels_last: bool, dtype: Any) -> None:
    x = images(3, 3, 12, 10, channels_last=channels_last, dtype=dtype)
    models = []
    for _ in range(2):
        cx.manual_seed(4)  # some of the layers have weights
        models.append(block(*layers()).to(dtype))
    grads = []
    for model, run in zip(models, (lambda m, x: m(x), one_by_one), strict=True):
        for _ in range(3):
            model.zero_grad()
            y = run(model, x)
            (y * y * y).sum().backward()
        with cx.no_grad():
            grads.append(
                [y.detach().numpy(), run(model, x).numpy(), *(p.grad.numpy() for p in model.parameters())]
            )
    assert fused(models[0]) == runs
    for got, want in zip(*grads, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-4 * max(1, np.abs(want).max()))
    for (name, got), want in zip(
        models[0].state_dict().items(), models[1].state_dict().values(), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=name)


def test_summary_shows_what_runs_in_one_in_training() -> None:
    model = block(nn.BatchNorm2d(8), nn.ReLU())
    model(images(2, 3, 9, 7))
    assert [row.fused for row in cx.summary(model, (2, 3, 9, 7)).rows[1:]] == ["conv2d+batch_norm+relu"] * 3


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (lambda: [nn.BatchNorm2d(8)], (3, 12, 10)),
        (lambda: [nn.BatchNorm2d(8)], (1, 3, 1, 1)),
        (lambda: [nn.BatchNorm2d(7)], (2, 3, 9, 7)),
        (lambda: [nn.BatchNorm2d(8)], (2, 5, 9, 7)),
        (lambda: [nn.BatchNorm2d(8).to(np.float64)], (2, 3, 9, 7)),
    ],
    ids=["unbatched", "one value", "features", "channels", "dtype"],
)
def test_wrong_input_in_training_raises_and_counts_as_the_layers_do(layers: Any, shape: tuple) -> None:
    found = []
    for run in (lambda m, x: m(x), one_by_one):
        model = block(*layers())
        try:
            run(model, images(*shape))
        except Exception as error:
            found.append((type(error), str(error), int(model[1].num_batches_tracked.item())))
    assert len(found) == 2
    assert found[0] == found[1]


class Loud(nn.ReLU):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * 2


def shared() -> nn.Sequential:
    relu = nn.ReLU()
    return block(relu, nn.Conv2d(8, 8, 1), relu)


def normed(layer: Any) -> nn.Sequential:
    model = block(nn.BatchNorm2d(8), nn.ReLU())
    if layer == "hook":
        model[1].register_full_backward_hook(lambda m, grad_input, grad_output: None)
    if layer == "twice":
        model = block(model[1], nn.Conv2d(8, 8, 1), model[1])
    return model


@pytest.mark.parametrize("how", ["hook", "twice"])
def test_a_norm_that_is_not_plain_is_called_itself(how: str) -> None:
    model, x = normed(how), images(2, 3, 12, 10)
    model(x)
    assert not any(fused(model))


def hooked() -> nn.Sequential:
    model = block(nn.ReLU(), nn.MaxPool2d(2))
    model[1].register_forward_hook(lambda m, args, out: None)
    return model


def overridden() -> nn.Sequential:
    model = block(nn.ReLU(), nn.MaxPool2d(2))
    vars(model[1])["forward"] = lambda x: x * 3
    return model


@pytest.mark.parametrize("make", [lambda: block(Loud(), nn.MaxPool2d(2)), shared, hooked, overridden])
def test_what_is_not_plain_is_called_itself(make: Any) -> None:
    model, x = make().eval(), images(2, 3, 12, 10)
    with cx.no_grad():
        want = one_by_one(model, x)
        np.testing.assert_array_equal(model(x).numpy(), want.numpy())
    assert not any(fused(model))


def test_changed_rows_and_settings_are_planned_anew() -> None:
    model, x = block(nn.ReLU(), nn.MaxPool2d(2)), images(2, 3, 12, 10)

    def check(runs: list[str | None]) -> None:
        np.testing.assert_allclose(
            model(x).numpy(), one_by_one(model, x).detach().numpy(), rtol=1e-5, atol=1e-6
        )
        assert fused(model) == runs

    with cx.no_grad():
        check(POOLED)
        pool = model[2]
        pool.ceil_mode = True
        check(["conv2d+relu"] * 2 + [None])
        pool.ceil_mode = False
        relu = model[1]
        model[1] = Loud()
        check([None] * 3)
        assert not hasattr(relu, "_fused")
        model[1] = nn.ReLU()
        model.append(nn.Flatten())
        check([*POOLED, None])
        del model[1]
        check([None] * 3)


def test_wrong_input_raises_what_the_layers_raise() -> None:
    model = block(settled(8), nn.ReLU(), nn.MaxPool2d(2)).eval()
    with cx.no_grad(), pytest.raises(ValueError, match="expected 4D input"):
        model(images(3, 12, 10))
    with cx.no_grad(), pytest.raises(ValueError, match="5 channels"):
        model(images(2, 5, 12, 10))
    with pytest.raises(ValueError, match="5 channels"):
        block(nn.ReLU(), nn.MaxPool2d(2))(images(2, 5, 12, 10))
    assert block(nn.ReLU(), nn.MaxPool2d(2))(images(3, 12, 10)).shape == (8, 6, 5)
    assert block(nn.ReLU(), nn.MaxPool2d(2))(images(0, 3, 12, 10)).shape == (0, 8, 6, 5)


def test_copies_and_pickles() -> None:
    model, x = block(settled(8), nn.ReLU(), nn.MaxPool2d(2)).eval(), images(2, 3, 12, 10)
    with cx.no_grad():
        want = model(x).numpy()
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            other[0].weight.mul_(2)
            np.testing.assert_allclose(other(x).numpy(), one_by_one(other, x).numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(model(x).numpy(), want)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 3, 3, padding=1), settled(3), nn.ReLU()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())

    def forward(self, x: cx.Tensor) -> cx.Tensor:
        return x + self.body(self.relu1(self.bn1(self.conv1(x))))


def test_fuse_plans_ahead_and_joins_named_layers() -> None:
    cx.manual_seed(1)
    model, x = Residual().eval(), images(2, 3, 9, 7)
    with cx.no_grad():
        want = model(x).numpy()
    names, text = list(model.state_dict()), repr(model)
    assert cx.fuse(model, [["conv1", "bn1", "relu1"]]) is model
    assert fused(model.body) == ["conv2d+relu"] * 2
    with cx.no_grad():
        for _ in range(3):
            np.testing.assert_allclose(model(x).numpy(), want, rtol=1e-5, atol=1e-5)
    assert model.bn1._fused == "conv2d+batch_norm+relu"
    assert (list(model.state_dict()), repr(model)) == (names, text)
    y = model(x)
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), want, rtol=1e-5, atol=1e-5)
    assert model.bn1.weight.grad is not None
    model.train()(x)
    assert model.bn1.num_batches_tracked.item() == 1
    other = copy.deepcopy(model.eval())
    assert not hasattr(other.conv1, "_fused")  # joined where it is, not in its copies
    other.conv1.weight.requires_grad_(False).zero_()
    with cx.no_grad():
        assert np.abs(other(x).numpy() - model(x).numpy()).max() > 1e-3
        alone = copy.deepcopy(model.conv1)
        np.testing.assert_allclose(alone(x).numpy(), plain(model.conv1, x).numpy(), rtol=1e-5, atol=1e-6)


def plain(layer: nn.Module, x: cx.Tensor) -> cx.Tensor:
    return type(layer).forward(layer, x)


@pytest.mark.parametrize("name", ["conv1", "bn1", "relu1"])
@pytest.mark.parametrize("change", ["replaced", "identity", "own forward"])
def test_a_run_ends_where_a_layer_changes(name: str, change: str) -> None:
    model, x = Residual().eval(), images(2, 3, 9, 7)
    cx.fuse(model, [["conv1", "bn1", "relu1"]])
    factor = {}
    with cx.no_grad():
        model(x)
        layer = getattr(model, name)
        if change == "replaced":
            new = {"conv1": nn.Conv2d(3, 3, 3, padding=1), "bn1": settled(3, 7), "relu1": nn.Sigmoid()}
            setattr(model, name, new[name])
        elif change == "identity":
            setattr(model, name, nn.Identity())
        else:
            layer.forward = lambda x: plain(layer, x) * 2
            factor[layer] = 2
        y = x
        for each in (model.conv1, model.bn1, model.relu1):
            y = plain(each, y) * factor.get(each, 1)
        np.testing.assert_allclose(model(x).numpy(), (x + model.body(y)).numpy(), rtol=1e-5, atol=1e-5)
    assert not hasattr(model.bn1, "_fused")


def test_a_setting_given_as_a_list() -> None:
    model, x = block(nn.ReLU(), nn.MaxPool2d(2, dilation=[1, 1])).eval(), images(2, 3, 12, 10)
    with cx.no_grad():
        model(x)
        model[2].dilation = [2, 2]
        assert model(x).shape == one_by_one(model, x).shape


def test_what_else_may_stand_for_a_parameter() -> None:
    model, x = block(settled(8)).eval(), images(2, 3, 9, 7)
    del model[0].bias
    model[0].bias = cx.ones(8)
    del model[1].weight
    model[1].weight = cx.full((8,), 2.0)
    with cx.no_grad():
        np.testing.assert_allclose(model(x).numpy(), one_by_one(model, x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_who_holds_a_weight_changes_no_bit(dtype: Any) -> None:
    model, x = block(settled(8), nn.ReLU()).eval().to(dtype), images(2, 3, 9, 7).to(dtype)
    with cx.no_grad():
        want = model(x).numpy().copy()
        held = model.state_dict()
        np.testing.assert_array_equal(model(x).numpy(), want)
        next(iter(held.values())).mul_(2)
        assert (model(x).numpy() != want).any()


def test_fuse_refuses() -> None:
    with pytest.raises(TypeError, match="model is list"):
        cx.fuse([])
    with pytest.raises(AttributeError, match="conv9"):
        cx.fuse(Residual(), [["conv9", "relu1"]])
    with pytest.raises(ValueError, match="has a layer twice"):
        cx.fuse(Residual(), [["conv1", "conv1"]])
    with pytest.raises(ValueError, match="'body' is Sequential"):
        cx.fuse(Residual(), [["conv1", "body"]])
    model = Residual()
    with pytest.raises(ValueError, match="'bn1' is in a run already"):
        cx.fuse(model, [["conv1", "bn1"], ["bn1", "relu1"]])
    cx.fuse(model, [["conv1", "bn1"]])  # nothing was joined
    with pytest.raises(ValueError, match="'bn1' is in a run already"):
        cx.fuse(model, [["bn1", "relu1"]])
    with pytest.raises(TypeError, match="'conv1' must be a list"):
        cx.fuse(Residual(), ["conv1", "bn1"])
    for names in ([], ["conv1"]):
        with pytest.raises(ValueError, match="two layers or more"):
            cx.fuse(Residual(), [names])


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 3, padding=1), settled(3), nn.ReLU()
        self.row = nn.Row()

    def forward(self, x: cx.Tensor, residual: cx.Tensor | None = None) -> cx.Tensor:
        if residual is None:
            return self.row(x, self.conv, self.norm, self.relu)
        return self.row(x, self.conv, self.norm, residual=residual, then=self.relu)


def test_a_row_of_no_layers_hands_on() -> None:
    x = images(1, 2, 3, 3)
    assert cx.nn.Row()(x) is x
    np.testing.assert_array_equal(
        cx.nn.Row()(x, residual=x, then=cx.nn.ReLU()).numpy(), (x + x).relu().numpy()
    )


@pytest.mark.parametrize("training", [False, True])
def test_a_residual_goes_into_the_last_run_of_a_row(training: bool) -> None:
    cx.manual_seed(3)
    model = cx.nn.Sequential(cx.models.mobilenet.InvertedResidual(4, 4, 1, 6)).train(training)
    x = images(2, 4, 9, 7)
    twin = copy.deepcopy(model)
    with cx.no_grad(), cx.profile() as p:
        got = model(x)
        want = x
        for layer in twin[0].conv.children():
            want = layer(want)
    np.testing.assert_allclose(got.numpy(), (x + want).numpy(), rtol=1e-5, atol=1e-5)
    assert ("add" in [event.name for event in p.events]) == training


@pytest.mark.parametrize("training", [False, True])
def test_a_residual_comes_behind_an_activation_of_the_row(training: bool) -> None:
    """Without `then` the sum is the last thing: relu(y) + x, not relu(y + x)."""
    x = images(2, 3, 9, 7)
    rows = [(nn.ReLU(),), (settled(3), nn.ReLU()), (settled(3), nn.ReLU6()), (nn.ReLU(), nn.MaxPool2d(1))]
    for behind in rows:
        cx.manual_seed(1)
        layers = (nn.Conv2d(3, 3, 3, padding=1).train(training), *(layer.train(training) for layer in behind))
        with cx.no_grad():
            want = one_by_one(copy.deepcopy(layers), x) + x
            np.testing.assert_allclose(
                nn.Row()(x, *layers, residual=x).numpy(), want.numpy(), rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("how", ["hook", "forward", "class"])
@pytest.mark.parametrize("stride", [1, 2])
def test_what_watches_a_blocks_convolutions_is_called(how: str, stride: int) -> None:
    """An inverted residual runs them as a row, unless somebody looks on or has changed them."""
    cx.manual_seed(3)
    model, x, seen = cx.models.mobilenet.InvertedResidual(4, 4, stride, 6).eval(), images(2, 4, 9, 7), []
    with cx.no_grad():
        inside = one_by_one(model.conv, x)
        want = inside + x if stride == 1 else inside
        np.testing.assert_allclose(model(x).numpy(), want.numpy(), rtol=1e-5, atol=1e-5)
        if how == "hook":
            handle = model.conv.register_forward_hook(lambda module, args, out: seen.append(out.numpy()))
        elif how == "forward":
            plain = model.conv.forward
            model.conv.forward = lambda x: seen.append(plain(x).numpy()) or plain(x)
        else:

            class Watched(nn.Sequential):
                def forward(self, x: Any) -> Any:
                    y = super().forward(x)
                    seen.append(y.numpy())
                    return y

            model.conv = Watched(*model.conv.children()).eval()
        np.testing.assert_allclose(model(x).numpy(), want.numpy(), rtol=1e-5, atol=1e-5)
        assert len(seen) == 1
        np.testing.assert_allclose(seen[0], inside.numpy(), rtol=1e-5, atol=1e-5)
        if how == "hook":
            handle.remove()
            model(x)
            assert len(seen) == 1


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [None, (2, 3, 9, 7), (1, 3, 1, 1), (1,)])
def test_a_row_is_its_layers_one_after_the_other(shape: Any, training: bool, channels_last: bool) -> None:
    cx.manual_seed(2)
    model = Branch().train(training)
    x = images(2, 3, 9, 7, channels_last=channels_last)
    residual = None if shape is None else images(*shape, seed=4)
    twin = copy.deepcopy(model)

    def plainly(x: cx.Tensor) -> cx.Tensor:
        y = twin.norm(twin.conv(x))
        return twin.relu(y if residual is None else y + residual)

    for enabled in (False, True, False):
        with cx.enable_grad() if enabled else cx.no_grad():
            got, want = model(x, residual), plainly(x)
            np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-5)
        if enabled:
            got.sum().backward()
            want.sum().backward()
            np.testing.assert_allclose(
                model.conv.weight.grad.numpy(), twin.conv.weight.grad.numpy(), rtol=1e-4, atol=1e-4
            )
    if shape is None:
        assert model.conv._fused == "conv2d+batch_norm+relu"
    model.conv = twin.conv = nn.Conv2d(3, 3, 1)
    with cx.no_grad():
        np.testing.assert_allclose(model(x, residual).numpy(), plainly(x).numpy(), rtol=1e-5, atol=1e-5)
    assert "row" not in "".join(model.state_dict())


def test_a_residual_of_a_wrong_shape_is_refused_as_the_sum_is() -> None:
    model = Branch().eval()
    with cx.no_grad(), pytest.raises(ValueError, match="broadcast"):
        model(images(2, 3, 9, 7), images(2, 3, 9, 6))
