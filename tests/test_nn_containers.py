"""Lists and dicts of modules and parameters, and walking over what a module holds, beside torch's."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import nn


def on_both(program: Any) -> None:
    """program(nn) gives the same on torch.nn."""
    torch = pytest.importorskip("torch")
    assert program(nn) == program(torch.nn)


def names(module: Any) -> list[str]:
    return [name for name, _ in module.named_modules()]


def test_module_list() -> None:
    def program(lib: Any) -> Any:
        rows = lib.ModuleList([lib.Linear(2, 2), lib.Linear(2, 2)])
        rows += [lib.ReLU()]
        rows.append(lib.Linear(2, 2)).extend([lib.Tanh(), lib.Tanh(), lib.Tanh()])
        rows.insert(0, lib.Sequential(lib.ReLU()))
        more = rows + lib.ModuleList([lib.Identity()])
        found = [repr(rows), repr(more), list(more.state_dict()), len(rows), repr(lib.ModuleList())]
        popped = rows.pop(1)
        del rows[-2:]
        return [*found, repr(popped), repr(rows), names(rows), repr(rows[:2]), repr(rows[-1])]

    on_both(program)
    with pytest.raises(IndexError, match="index 3 is out of range for 2 modules"):
        nn.ModuleList([nn.ReLU(), nn.ReLU()])[3]
    with pytest.raises(TypeError, match="module '0' must be a Module or None, got int"):
        nn.ModuleList([3])
    with pytest.raises(TypeError, match="unsupported operand"):
        nn.ModuleList() + 3


def test_module_dict() -> None:
    def program(lib: Any) -> Any:
        table = lib.ModuleDict({"a": lib.Linear(2, 3), "b": lib.ReLU()})
        table["c"] = lib.Tanh()
        table.update([("d", lib.Identity()), ("a", lib.Linear(3, 2))])
        found = [repr(table), list(table), len(table), "b" in table, "z" in table, list(table.state_dict())]
        popped = table.pop("b")
        del table["c"]
        keys, kinds = list(table.keys()), [type(m).__name__ for m in table.values()]
        found += [repr(popped), keys, kinds, [name for name, _ in table.items()]]
        table.clear()
        return [*found, len(table), repr(table)]

    on_both(program)
    with pytest.raises(KeyError):
        nn.ModuleDict()["a"]
    with pytest.raises(ValueError, match=r"module name 'a\.b' must not"):
        nn.ModuleDict({"a.b": nn.ReLU()})


def test_parameter_list() -> None:
    def program(lib: Any) -> Any:
        def parameter(*shape: int) -> Any:
            return nn.Parameter(np.zeros(shape, np.float32)) if lib is nn else torch_parameter(*shape)

        rows = lib.ParameterList([parameter(2, 3)])
        rows += [parameter(4)]
        rows.append(parameter(1)).extend([parameter(2)])
        rows[1] = parameter(5)
        shapes = [[tuple(p.shape) for p in part] for part in (rows, rows[1:3], [rows[-1]])]
        return len(rows), shapes, list(rows.state_dict()), repr(rows).replace("torch.", "")

    def torch_parameter(*shape: int) -> Any:
        torch = pytest.importorskip("torch")
        return torch.nn.Parameter(torch.zeros(*shape))

    on_both(program)
    rows = nn.ParameterList([cx.ones(3), np.ones(2)])
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in rows)
    with pytest.raises(TypeError, match="an iterable of parameters, got Tensor"):
        nn.ParameterList(cx.ones(3))
    with pytest.raises(IndexError, match="index -3 is out of range for 2 parameters"):
        rows[-3]


def test_names_of_what_is_shared() -> None:
    def program(lib: Any) -> Any:
        shared = lib.BatchNorm2d(2)
        model = lib.Sequential(shared, lib.Sequential(shared, lib.ReLU()))
        found = []
        for once in (True, False):
            found.append([name for name, _ in model.named_modules(prefix="m", remove_duplicate=once)])
            for what in (model.named_parameters, model.named_buffers):
                found.append([name for name, _ in what("p", True, once)])
                found.append([name for name, _ in what(recurse=False, remove_duplicate=once)])
        memo = {shared}
        found.append([name for name, _ in model.named_modules(memo)])
        found.append(len(memo))
        found.append([name for name, _ in model.named_children()])
        found.append([type(m).__name__ for m in model.children()])
        found.append(model.get_buffer("1.0.running_mean") is shared.running_mean)
        found.append(model.get_parameter("0.weight") is shared.weight)
        return found

    on_both(program)
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    for call, message in [
        (lambda: model.get_parameter("0.bias"), r"Linear has no parameter 'bias' \(of '0.bias'\)"),
        (lambda: model.get_buffer("0.weight"), "Linear has no buffer 'weight'"),
        (lambda: model.get_parameter("3.weight"), "no submodule '3'"),
    ]:
        with pytest.raises(AttributeError, match=message):
            call()


def test_repr_of_a_configuration_of_many_lines() -> None:
    def program(lib: Any) -> Any:
        class Wide(lib.Module):
            def extra_repr(self) -> str:
                return "one=1\ntwo=2"

        outer = Wide()
        outer.inner = Wide()
        return repr(Wide()), repr(outer)

    on_both(program)


# ---- the initialisers that draw no independent values ----


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 7), (6, 2, 3, 3), (20, 2, 3, 3), (1, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orthogonal(shape: tuple[int, ...], dtype: Any) -> None:
    cx.manual_seed(3)
    w = nn.Parameter(np.empty(shape, dtype))
    assert nn.init.orthogonal_(w, gain=1.5) is w
    rows = w.detach().numpy().reshape(shape[0], -1).astype(np.float64) / 1.5
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_orthogonal_matrices_are_drawn_evenly() -> None:
    # Over all rotations and reflections: elements of mean 0 and variance 1 / n, determinants of either sign.
    cx.manual_seed(4)
    drawn = np.stack([nn.init.orthogonal_(cx.zeros(3, 3)).numpy() for _ in range(3000)])
    assert np.abs(drawn.mean(0)).max() < 0.05
    np.testing.assert_allclose((drawn**2).mean(0), np.full((3, 3), 1 / 3), atol=0.03)
    assert abs((np.linalg.det(drawn) > 0).mean() - 0.5) < 0.05


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("eye_", (3, 5), {}),
        ("eye_", (4, 2), {}),
        ("dirac_", (4, 3, 3, 3), {}),
        ("dirac_", (3, 4, 5, 3), {}),
        ("dirac_", (6, 2, 3, 3), {"groups": 3}),
        ("dirac_", (4, 3, 4), {"groups": 2}),
    ],
)
def test_fixed_initialisers_are_torchs(name: str, shape: tuple[int, ...], options: dict) -> None:
    torch = pytest.importorskip("torch")
    ours = getattr(nn.init, name)(nn.Parameter(np.full(shape, 7, np.float32)), **options)
    theirs = getattr(torch.nn.init, name)(torch.full(shape, 7.0), **options)
    np.testing.assert_array_equal(ours.detach().numpy(), theirs.numpy())


def test_dirac_convolutions_hand_on_their_input() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight)
    x = cx.randn(1, 4, 5, 5)
    np.testing.assert_array_equal(conv(x).detach().numpy(), x.numpy())


def test_sparse() -> None:
    cx.manual_seed(5)
    w = nn.init.sparse_(nn.Parameter(np.empty((200, 50), np.float32)), sparsity=0.301, std=0.5)
    values = w.detach().numpy()
    assert ((values == 0).sum(0) == 61).all()
    assert abs(values[values != 0].std() / 0.5 - 1) < 0.05
    assert len({tuple(column) for column in (values == 0).T}) == 50


def test_initialisers_refuse() -> None:
    w = cx.zeros(4, 3)
    for call, message in [
        (lambda: nn.init.orthogonal_(cx.zeros(3)), r"2 dimensions or more; the tensor has shape \[3\]"),
        (lambda: nn.init.eye_(cx.zeros(3)), "eye_ needs 2 dimensions"),
        (lambda: nn.init.dirac_(w), "dirac_ needs 3, 4 or 5 dimensions"),
        (lambda: nn.init.dirac_(cx.zeros(4, 2, 3), 3), "groups=3 must divide"),
        (lambda: nn.init.sparse_(cx.zeros(3), 0.5), "sparse_ needs 2 dimensions"),
        (lambda: nn.init.sparse_(w, 1.5), "sparsity=1.5 must lie between"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
