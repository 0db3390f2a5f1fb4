"""Hooks of modules: the same programs on cnnext and torch see and change the same things."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import nn

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 6, 5))


def values(x: Any) -> Any:
    """Tensors of either library as arrays, in tuples and dicts too."""
    if isinstance(x, (tuple, list)):
        return tuple(values(v) for v in x)
    if isinstance(x, dict):
        return {name: values(v) for name, v in x.items()}
    return x.detach().numpy().copy() if hasattr(x, "detach") else x


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, (tuple, list)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        assert_same(list(ours.values()), list(theirs.values()))
    elif isinstance(ours, np.ndarray):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    else:
        assert ours == theirs


def on_both(program: Any, data: np.ndarray = IMAGE) -> None:
    """program(nn, x, log, model) on both libraries: what it logs and returns, and all gradients, agree."""
    torch = pytest.importorskip("torch")

    def make(lib: Any) -> Any:
        return lib.Sequential(
            lib.Conv2d(3, 4, 3, padding=1), lib.BatchNorm2d(4), lib.ReLU(), lib.MaxPool2d(2), lib.Flatten()
        )

    theirs, ours = make(torch.nn).double(), make(nn).double()
    ours.load_state_dict({name: v.numpy() for name, v in theirs.state_dict().items()})
    results = []
    for lib, model, x in (
        (nn, ours, cx.Tensor(data.copy(), requires_grad=True)),
        (torch.nn, theirs, torch.from_numpy(data.copy()).requires_grad_()),
    ):
        log: list[Any] = []
        y = program(lib, x, log, model)
        grads = [p.grad for p in (x, *model.parameters())]
        results.append((values(y), values(log), values(grads)))
    assert_same(*results)


# ---- before and after forward ----


@pytest.mark.parametrize("training", [True, False])
def test_forward_hooks_see_and_change_what_passes(training: bool) -> None:
    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        model.train(training)
        conv, norm, relu, *_ = model
        model(x)  # as runs, before there are hooks
        norm.register_forward_hook(lambda m, args, out: log.append(("norm", args, out)))
        conv.register_forward_pre_hook(lambda m, args: args[0] * 2)
        conv.register_forward_pre_hook(lambda m, args: log.append(("conv", args)))
        relu.register_forward_hook(lambda m, args, out: out + args[0] * 0.1)
        model.register_forward_hook(lambda m, args, out: log.append((type(m).__name__, len(args))))
        y = model(x)
        (y * y).sum().backward()
        return y

    on_both(program)


def test_order_prepend_and_removal() -> None:
    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        layer = model[2]
        handles = {
            name: layer.register_forward_hook(
                lambda m, a, out, name=name: log.append(name), prepend=name in "cd"
            )
            for name in "abcd"
        }
        layer.register_forward_pre_hook(lambda m, a: log.append("pre1"))
        layer.register_forward_pre_hook(lambda m, a: log.append("pre0"), prepend=True)
        model(x)
        handles["b"].remove()
        handles["b"].remove()
        model(x)
        with layer.register_forward_hook(lambda m, a, out: log.append("within")):
            model(x)
        return model(x)

    on_both(program)


def test_keyword_arguments() -> None:
    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        class Scale(lib.Module):
            def forward(self, x: Any, by: float = 1.0) -> Any:
                return x * by

        layer = Scale()
        layer.register_forward_pre_hook(
            lambda m, args, kwargs: log.append((args, dict(kwargs))), with_kwargs=True
        )
        layer.register_forward_pre_hook(
            lambda m, args, kwargs: (args, {"by": kwargs.get("by", 1.0) + 1}), with_kwargs=True
        )
        layer.register_forward_hook(
            lambda m, args, kwargs, out: log.append((args, kwargs, out)), with_kwargs=True
        )
        return layer(x), layer(x, by=3.0)

    on_both(program)


@pytest.mark.filterwarnings("ignore:.*always_call:UserWarning")
def test_always_call() -> None:
    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        class Broken(lib.Module):
            def forward(self, x: Any) -> Any:
                raise ZeroDivisionError("inside")

        def fails(*_: Any) -> None:
            raise KeyError("in the hook")

        layer = Broken()
        layer.register_forward_hook(lambda m, a, out: log.append("never"))
        layer.register_forward_hook(lambda m, a, out: log.append(("always", out)), always_call=True)
        layer.register_forward_hook(fails, always_call=True)
        with pytest.raises(ZeroDivisionError):
            layer(x)
        return x

    on_both(program)
    layer = nn.ReLU()
    layer.register_forward_pre_hook(lambda m, a: 1 / 0)
    layer.register_forward_hook(lambda m, a, out: 1 / 0, always_call=True)
    with (
        pytest.warns(UserWarning, match="always_call=True raised ZeroDivisionError"),
        pytest.raises(ZeroDivisionError),
    ):
        layer(cx.ones(2))


# ---- gradients ----


def test_backward_hooks_see_the_gradients() -> None:
    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        for i, layer in enumerate(model):
            layer.register_full_backward_hook(lambda m, gi, go, i=i: log.append((i, gi, go)))
            layer.register_full_backward_pre_hook(lambda m, go, i=i: log.append((i, go)))
        model.register_full_backward_hook(lambda m, gi, go: log.append(("all", gi, go)))
        y = model(x)
        (y * y * y).sum().backward()
        return y

    on_both(program)


def test_backward_hooks_change_the_gradients() -> None:
    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        model[0].register_full_backward_hook(lambda m, gi, go: (gi[0] * 3,))
        model[2].register_full_backward_hook(lambda m, gi, go: (gi[0] + go[0],))
        model[2].register_full_backward_hook(lambda m, gi, go: log.append(gi), prepend=True)
        model[2].register_full_backward_pre_hook(lambda m, go: (go[0] * 0.5,))
        y = model(x)
        (y * y).sum().backward()
        return y

    on_both(program)


def test_gradients_of_many_arguments_and_results() -> None:
    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        class Two(lib.Module):
            def forward(self, a: Any, number: float, b: Any, c: Any) -> tuple:
                return a * b * number, b * c, c

        layer = Two()
        layer.register_full_backward_hook(lambda m, gi, go: log.append((gi, go)))
        layer.register_full_backward_pre_hook(lambda m, go: log.append(go))
        out = layer(x, 2.0, x * 3, x.detach())
        (out[1] * out[1]).sum().backward()
        return out

    on_both(program)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_backward_hooks_where_no_input_requires_a_gradient() -> None:
    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        model[0].register_full_backward_hook(lambda m, gi, go: log.append((gi, go)))
        x.requires_grad_(False)
        y = model(x)
        y.sum().backward()
        model[0].register_full_backward_hook(lambda m, gi, go: (go[0],))
        with pytest.raises(RuntimeError, match=r"(must|should always) return None"):
            model(x).sum().backward()
        model.zero_grad()  # ours adds to no gradient where backward fails
        return y

    on_both(program)


def test_gradients_of_gradients_pass_the_hooks() -> None:
    torch = pytest.importorskip("torch")

    def program(lib: Any, x: Any, log: list, model: Any) -> Any:
        grad = cx.grad if lib is nn else torch.autograd.grad
        layer = lib.Sequential(lib.Tanh())
        layer[0].register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
        layer[0].register_full_backward_pre_hook(lambda m, go: log.append(go))
        y = layer(x)
        (first,) = grad((y * y).sum(), x, create_graph=True)
        (second,) = grad((first * first).sum(), x)
        return y, first, second

    on_both(program)


def test_backward_hooks_see_nothing_without_gradients() -> None:
    seen = []
    layer = nn.Linear(3, 2)
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(go))
    with cx.no_grad():
        layer(cx.ones(1, 3))
    y = layer(cx.ones(1, 3))
    assert not seen
    y.sum().backward()
    assert len(seen) == 1


# ---- runs ----


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.row = nn.Row()
        self.use_row = False

    def forward(self, x: Any) -> Any:
        if self.use_row:
            return self.row(x, self.conv, self.norm, self.relu)
        return self.relu(self.norm(self.conv(x)))


@pytest.mark.parametrize("name", ["conv", "norm", "relu"])
@pytest.mark.parametrize("how", ["fuse", "row"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_hooked_layer_is_in_no_run(name: str, how: str, recorded: bool) -> None:
    model, x = Named().eval(), cx.Tensor(IMAGE.astype(np.float32))
    model.norm.running_mean.copy_(np.linspace(-1, 1, 4))
    with cx.no_grad():
        parts = {"conv": model.conv(x)}
        parts["norm"] = model.norm(parts["conv"])
        parts["relu"] = model.relu(parts["norm"])
    model.use_row = how == "row"
    if how == "fuse":
        cx.fuse(model, [["conv", "norm", "relu"]])
    seen: list[Any] = []

    def run() -> Any:
        if recorded:
            return model(x).detach()
        with cx.no_grad():
            return model(x)

    np.testing.assert_allclose(run().numpy(), parts["relu"].numpy(), rtol=1e-5, atol=1e-5)
    assert model.conv._fused == "conv2d+batch_norm+relu"
    layer = getattr(model, name)
    handle = layer.register_forward_hook(lambda m, args, out: seen.append(out.detach().numpy()))
    np.testing.assert_allclose(run().numpy(), parts["relu"].numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen[0], parts[name].numpy(), rtol=1e-5, atol=1e-5)
    assert not hasattr(layer, "_fused")
    handle.remove()
    run()
    assert len(seen) == 1
    assert model.conv._fused == "conv2d+batch_norm+relu"


def test_fuse_refuses_a_hooked_layer() -> None:
    model = Named()
    with (
        model.norm.register_full_backward_hook(print),
        pytest.raises(ValueError, match="'norm' is BatchNorm2d; it must be a plain layer"),
    ):
        cx.fuse(model, [["conv", "norm"]])
    cx.fuse(model, [["conv", "norm"]])


# ---- copies and errors ----


def test_copies_have_the_hooks_and_handles_are_of_the_original() -> None:
    layer = nn.ReLU()
    handle = layer.register_forward_hook(negated)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    handle.remove()
    assert layer(cx.ones(1)).item() == 1
    assert [other(cx.ones(1)).item() for other in copies] == [-1, -1]
    del layer
    handle.remove()


def negated(module: nn.Module, args: tuple, out: cx.Tensor) -> cx.Tensor:
    return -out


def test_errors() -> None:
    layer, x = nn.ReLU(), cx.Tensor(IMAGE, requires_grad=True)
    with pytest.raises(TypeError, match="hook must be callable, got int"):
        layer.register_forward_hook(3)
    with (
        layer.register_forward_pre_hook(lambda m, a, k: a, with_kwargs=True),
        pytest.raises(RuntimeError, match=r"a tuple \(new_args, new_kwargs\)"),
    ):
        layer(x)
    for result, error, message in [
        ((None, None), RuntimeError, "returned 2 gradients for grad_input, expected 1"),
        ((cx.ones(3),), ValueError, r"grad_input\[0\] of shape \[3\], it must be \[2, 3, 6, 5\]"),
    ]:
        with layer.register_full_backward_hook(lambda m, gi, go, r=result: r):
            y = layer(x)
            with pytest.raises(error, match=message):
                y.sum().backward()
    with (
        layer.register_full_backward_pre_hook(lambda m, go: go * 2),
        pytest.raises(RuntimeError, match="returned 2 gradients for grad_output, expected 1"),
    ):
        layer(x).sum().backward()

    class Named(nn.Module):
        def forward(self, x: cx.Tensor) -> dict[str, cx.Tensor]:
            return {"y": x * 2}

    layer = Named()
    layer.register_full_backward_hook(lambda m, gi, go: None)
    with pytest.warns(UserWarning, match="Named see .* tuples of Tensors; its forward returned dict"):
        layer(x)


def test_a_watched_tensor_is_not_changed_in_place() -> None:
    layer = nn.ReLU(inplace=True)
    layer.register_full_backward_hook(lambda m, gi, go: None)
    with pytest.raises(NotImplementedError, match="changing a view in place"):
        layer(cx.Tensor(IMAGE, requires_grad=True) * 2)
