"""What Conv2d keeps of its weight between calls: the same bits as without it, and never out of date."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import nn, ops
from cnnext.nn import functional as F

RNG = np.random.default_rng(5)


def image(n: int = 2, c: int = 32, h: int = 9, w: int = 11, channels_last: bool = False) -> cx.Tensor:
    x = cx.Tensor(RNG.standard_normal((n, c, h, w)).astype(np.float32))
    return x.contiguous("channels_last") if channels_last else x


def plainly(conv: nn.Conv2d, x: cx.Tensor) -> np.ndarray:
    """What conv computes, without anything kept."""
    with cx.no_grad():
        y = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    return y.numpy()


def keeps(conv: nn.Conv2d) -> bool:
    return conv._kept._kept is not None


def warm(conv: nn.Conv2d, x: cx.Tensor) -> None:
    """Calls conv until it keeps its weight."""
    with cx.no_grad():
        conv(x)
        conv(x)
    assert keeps(conv)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((32, 48, 3), {"padding": 1}),  # Winograd
        ((32, 48, 1), {}),
        ((32, 20, (3, 2)), {"stride": (2, 1), "padding": ((0, 1), (2, 1)), "dilation": (1, 2)}),
        ((32, 40, 3), {"groups": 2, "padding": "same", "bias": False}),
        ((32, 64, 5), {"padding": "valid"}),
    ],
)
def test_the_same_bits(sizes: tuple, options: dict[str, Any], channels_last: bool) -> None:
    conv = nn.Conv2d(*sizes, **options)
    x, other = image(channels_last=channels_last), image(3, 32, 12, 10, channels_last)
    expected = {id(t): plainly(conv, t) for t in (x, other)}
    with cx.no_grad():
        for t in (x, x, x, other, x, other, other, other, x):
            y = conv(t)
            np.testing.assert_array_equal(y.numpy(), expected[id(t)])
            assert y.is_contiguous("channels_last") == channels_last
    assert keeps(conv)


def test_it_is_packed_once_from_the_second_call_on(monkeypatch: pytest.MonkeyPatch) -> None:
    packs = []
    pack_weight = ops.pack_weight
    monkeypatch.setattr(ops, "pack_weight", lambda *a, **k: packs.append(1) or pack_weight(*a, **k))
    conv, x = nn.Conv2d(32, 32, 3, padding=1), image()
    counts = []
    with cx.no_grad():
        for _ in range(4):
            conv(x)
            counts.append(len(packs))
        conv(image(1))  # one call of another kind: what is kept stays
        conv(x)
    assert counts == [0, 1, 1, 1]
    assert len(packs) == 1


def test_no_gradient_of_anything_is_needed() -> None:
    conv, x = nn.Conv2d(32, 32, 3, padding=1), image()
    conv.eval()
    for _ in range(3):
        conv(x)
    assert not keeps(conv)  # its parameters require gradients
    conv.requires_grad_(False)
    for _ in range(3):
        conv(x)
    assert keeps(conv)
    x.requires_grad_()
    conv(x).sum().backward()
    assert not keeps(conv)
    assert x.grad is not None


def set_data(conv: nn.Conv2d) -> None:
    conv.weight.data = conv.weight.data * 2


def scale_data(conv: nn.Conv2d) -> None:
    conv.weight.data *= 2


def write_data(conv: nn.Conv2d) -> None:
    conv.weight.data[3, 1] = 7


def replace(conv: nn.Conv2d) -> None:
    conv.weight = nn.Parameter(np.ones_like(conv.weight.data))


def write_numpy(conv: nn.Conv2d) -> None:
    conv.weight.detach().numpy()[0] = 1


def write_asarray(conv: nn.Conv2d) -> None:
    np.asarray(conv.weight.detach())[0] = 1


def write_memoryview(conv: nn.Conv2d) -> None:
    memoryview(conv.weight.data).cast("B")[:] = bytes(conv.weight.data.nbytes)


def without_grad(change: Callable[[cx.Tensor], Any]) -> Callable[[nn.Conv2d], None]:
    def run(conv: nn.Conv2d) -> None:
        with cx.no_grad():
            change(conv.weight)

    return run


def set_item(weight: cx.Tensor) -> None:
    weight[0] = 3


def add(weight: cx.Tensor) -> None:
    weight += 1


def set_view(weight: cx.Tensor) -> None:
    weight[1].fill_(2)


def step(make: Callable[..., Any]) -> Callable[[nn.Conv2d], None]:
    def run(conv: nn.Conv2d) -> None:
        conv.weight.grad = cx.Tensor(np.ones(conv.weight.shape, np.float32))
        make([conv.weight], lr=0.1).step()

    return run


def load(conv: nn.Conv2d) -> None:
    conv.load_state_dict({name: value.detach() * 2 for name, value in conv.state_dict().items()})


def write_state(conv: nn.Conv2d) -> None:
    conv.state_dict()["weight"].zero_()


def there_and_back(conv: nn.Conv2d) -> None:
    conv.double()
    conv.weight.data += 1
    conv.float()


CHANGES = {
    "data = ": set_data,
    "data *= ": scale_data,
    "data[...] = ": write_data,
    "a new Parameter": replace,
    "numpy()": write_numpy,
    "asarray": write_asarray,
    "memoryview": write_memoryview,
    "setitem": without_grad(set_item),
    "+=": without_grad(add),
    "copy_": without_grad(lambda w: w.copy_(np.ones(w.shape, np.float32))),
    "zero_": without_grad(lambda w: w.zero_()),
    "clamp_": without_grad(lambda w: w.clamp_(-0.01, 0.01)),
    "a view's fill_": without_grad(set_view),
    "detach().fill_": lambda conv: conv.weight.detach().fill_(0.5),
    "init": lambda conv: nn.init.ones_(conv.weight),
    "reset_parameters": lambda conv: conv.reset_parameters(),
    "SGD": step(cx.optim.SGD),
    "SGD with momentum": step(lambda p, lr: cx.optim.SGD(p, lr=lr, momentum=0.9)),
    "AdamW": step(cx.optim.AdamW),
    "load_state_dict": load,
    "a state_dict's zero_": write_state,
    "double() and float()": there_and_back,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_is_noticed(change: Callable[[nn.Conv2d], Any]) -> None:
    conv, x = nn.Conv2d(32, 32, 3, padding=1), image()
    before = plainly(conv, x)
    for _ in range(2):
        warm(conv, x)
        change(conv)
        with cx.no_grad():
            after = [conv(x).numpy() for _ in range(4)]
        expected = plainly(conv, x)
        assert not np.array_equal(before, expected)
        for y in after:
            np.testing.assert_array_equal(y, expected)


HOLD = {
    "data": lambda conv: conv.weight.data,
    "a view of data": lambda conv: conv.weight.data[2:3].T,
    "numpy()": lambda conv: conv.weight.detach().numpy(),
    "memoryview": lambda conv: np.frombuffer(memoryview(conv.weight.data).cast("B"), np.float32),
    "strides": lambda conv: np.lib.stride_tricks.as_strided(conv.weight.data),
    "detach()": lambda conv: conv.weight.detach(),
    "state_dict()": lambda conv: conv.state_dict()["weight"],
    "a row": lambda conv: conv.weight.detach()[1],
    "another Parameter": lambda conv: nn.Parameter(conv.weight, requires_grad=False),
}


@pytest.mark.parametrize("hold", HOLD.values(), ids=HOLD.keys())
def test_nothing_is_kept_while_others_have_the_array(hold: Callable[[nn.Conv2d], Any]) -> None:
    conv, x = nn.Conv2d(32, 32, 3, padding=1), image()
    held = hold(conv)  # before anything is kept
    for value in (1, 2):
        with cx.no_grad():
            for _ in range(3):
                conv(x)
        assert not keeps(conv)
        held[...] = value
        with cx.no_grad():
            y = conv(x).numpy()
        np.testing.assert_array_equal(y, plainly(conv, x))
    del held
    warm(conv, x)
    np.testing.assert_array_equal(conv(x).detach().numpy(), plainly(conv, x))


def test_nothing_is_kept_while_dlpack_lends_the_array() -> None:
    conv, x = nn.Conv2d(32, 32, 3, padding=1), image()
    lent = conv.weight.detach().__dlpack__()
    with cx.no_grad():
        for _ in range(3):
            conv(x)
    assert not keeps(conv)
    del lent
    warm(conv, x)


def test_an_array_that_belongs_to_another_is_not_trusted() -> None:
    memory = np.ones(32 * 32 * 9 + 1, np.float32)
    conv, x = nn.Conv2d(32, 32, 3, padding=1), image()
    conv.weight = nn.Parameter(memory[1:].reshape(32, 32, 3, 3), requires_grad=False)
    for value in (1, 2):
        memory[:] = value
        with cx.no_grad():
            y = [conv(x).numpy() for _ in range(3)]
        np.testing.assert_array_equal(y[2], plainly(conv, x))
        np.testing.assert_array_equal(y[0], y[2])
    assert not keeps(conv)


def test_changed_geometry_is_noticed() -> None:
    conv, x = nn.Conv2d(32, 32, 3, padding=1), image()
    warm(conv, x)
    conv.padding, conv.stride = (0, 1), (2, 1)
    with cx.no_grad():
        for _ in range(3):
            np.testing.assert_array_equal(conv(x).numpy(), plainly(conv, x))


def test_copies_and_pickles_are_without_it() -> None:
    conv, x = nn.Conv2d(32, 32, 3, padding=1), image()
    warm(conv, x)
    names = list(conv.state_dict())
    assert names == ["weight", "bias"]
    for twin in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert not keeps(twin)
        with cx.no_grad():
            for _ in range(3):
                twin(x)
            twin.weight.zero_()
            for _ in range(3):
                np.testing.assert_array_equal(twin(x).numpy(), plainly(twin, x))
    warm(conv, x)
    assert len(pickle.dumps(conv)) < 2 * conv.weight.numel() * 4  # Winograd's are four times as many


def test_modules_that_share_a_weight() -> None:
    one, two, x = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1), image()
    two.weight = one.weight
    with cx.no_grad():
        for _ in range(4):
            one(x), two(x)
    assert keeps(one)
    assert keeps(two)
    with cx.no_grad():
        one.weight.zero_()
    for conv in (one, two):
        np.testing.assert_array_equal(conv(x).detach().numpy(), plainly(conv, x))


def test_what_kernels_read_as_it_lies_is_not_kept() -> None:
    conv = nn.Conv2d(32, 32, 3, padding=1, groups=32)
    with cx.no_grad():
        for _ in range(3):
            conv(image())
    assert not keeps(conv)
    conv = nn.Conv2d(32, 32, 3, dtype=np.float64)
    with cx.no_grad():
        for _ in range(3):
            conv(image().double())
    assert not keeps(conv)


def test_wrong_input_is_told_as_ever() -> None:
    conv = nn.Conv2d(32, 32, 3)
    messages = set()
    for _ in range(3):
        with cx.no_grad(), pytest.raises(ValueError, match="x") as raised:
            conv(image(c=31))
        messages.add(str(raised.value))
    assert len(messages) == 1
