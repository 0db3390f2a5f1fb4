"""The tape: primitives record themselves on it, with rules for their gradients.

A *primitive* is a function of arrays; called on variables it records a node. `defvjp` gives it one rule an
argument: a function from the gradient of the output to the gradient of that argument. Rules are written with
primitives, so that a gradient can be differentiated again. A rule names what it uses, and only that is kept
alive until the backward pass:

    g          the gradient of the output; `gs`: the gradients of all outputs, None where there is none
    out, outN  the first output, output number N
    shapes     the shapes of the arguments;  `params`: the keyword arguments of the call, as a dict
    wanted     for which arguments a gradient is asked (joint rules)
    others     the argument, or the keyword argument, of that name

The engine itself sums a gradient over broadcast axes and casts it to the argument's dtype.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .devices import two_devices
from .grad_mode import mode as _mode

_order = itertools.count()
FREED: Any = object()


class Version:
    """Counts the in-place changes of one memory, for all its views; `epoch` counts the recorded ones."""

    count = epoch = 0  # of the class: most memory never changes, and one is made with every variable


class Variable:
    """An array with a place on the tape. `cnnext.Tensor` adds the arithmetic."""

    __slots__ = ("__weakref__", "_index", "_node", "_requires_grad", "_version", "_view", "data", "grad")

    data: Any  # numpy.ndarray or cupy.ndarray
    grad: Any
    _requires_grad: bool
    _node: Node | None  # what made it; None for a leaf
    _index: int  # which output of that node
    _version: Version
    _view: int | None  # for a view, the epoch of its memory when the view was made

    __hash__ = object.__hash__

    def _init(self, data: Any) -> None:
        self.data = np.asarray(data) if isinstance(data, np.generic) else data  # ufuncs return scalars
        self.grad = self._node = self._view = None
        self._requires_grad = False
        self._index = 0
        self._version = Version()

    def _share_version(self, other: Variable) -> None:
        self._version = other._version
        self._view = other._version.epoch


_variable_type: type[Variable] = Variable


def set_variable_type(cls: type[Variable]) -> None:
    """Let primitives return `cls`, which has +, sum_to(shape), to(dtype) and clone()."""
    global _variable_type
    _variable_type = cls


def wrap(data: Any) -> Any:
    """A variable around `data`, outside the tape; arrays are not copied."""
    variable = _variable_type.__new__(_variable_type)
    variable._init(data)
    return variable


def edge_of(variable: Variable) -> tuple[Any, int]:
    """Where a gradient of `variable` goes: an output of a node, or the leaf itself."""
    return (variable._node, variable._index) if variable._node is not None else (variable, 0)


def _argument_names(fn: Callable) -> tuple[str, ...]:
    code = getattr(fn, "__wrapped__", fn).__code__
    return code.co_varnames[: code.co_argcount]


class _Rule:
    __slots__ = ("fn", "names", "needs_g", "pick")

    def __init__(self, fn: Callable) -> None:
        self.fn = fn
        self.names = _argument_names(fn)
        self.needs_g = "g" in self.names
        # Of two names and more it gives a tuple.
        self.pick = operator.itemgetter(*self.names) if len(self.names) > 1 else self._pick_few

    def _pick_few(self, values: dict[str, Any]) -> tuple:
        return tuple([values[name] for name in self.names])


class Primitive:
    """A function of arrays that records itself. Only positional arguments may carry gradients."""

    def __init__(self, fn: Callable, view: bool = False, nondiff: Iterable[int] = ()) -> None:
        self.fn, self.view, self.nondiff = fn, view, frozenset(nondiff)
        self.name = fn.__name__.strip("_")
        self.arguments = _argument_names(fn)
        self.rules: tuple[_Rule | None, ...] = ()
        self.joint: _Rule | None = None
        self._plans: dict[tuple[bool, ...], tuple] = {}

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *args: Any, **params: Any) -> Any:
        # Plain loops here and below: a comprehension costs as much as some of the operations.
        arrays: list[Any] = []
        needs: list[bool] = []
        for a in args:
            if isinstance(a, Variable):
                arrays.append(a.data)
                needs.append(a._requires_grad)
            else:
                arrays.append(a)
                needs.append(False)
        try:
            result = self.fn(*arrays, **params)
        except Exception as error:  # nothing is paid for it where all goes well
            self._blame_devices(arrays, error)
            raise
        many = type(result) is tuple
        outputs = tuple([wrap(r) for r in result]) if many else (wrap(result),)
        if self.view and isinstance(args[0], Variable) and np.may_share_memory(result, arrays[0]):
            outputs[0]._share_version(args[0])
        if True in needs and _mode.enabled:
            self._record(args, arrays, tuple(needs), params, outputs)
        return outputs if many else outputs[0]

    def _blame_devices(self, arrays: list, error: Exception) -> None:
        """Raise what is wrong, where host and device arrays were mixed and only their library said so."""
        if not isinstance(error, ValueError):  # of ops, which says so itself
            mixed = two_devices(arrays, self.arguments or [f"argument {i}" for i in range(len(arrays))])
            if mixed is not None:
                raise ValueError(f"{self.name}: {mixed}") from error

    def _plan(self, needs: tuple[bool, ...]) -> _Plan:
        """For which arguments there is a gradient to compute, and which arguments and outputs that needs."""
        if self.joint is not None:
            wanted, used = needs, [self.joint]
        else:
            wanted = tuple(
                n and i < len(self.rules) and self.rules[i] is not None for i, n in enumerate(needs)
            )
            used = [rule for rule, w in zip(self.rules, wanted, strict=False) if w]
        names = {name for rule in used for name in rule.names}
        saved_args = [(name, i) for i, name in enumerate(self.arguments) if name in names and i < len(needs)]
        saved_outs = [(name, int(name[3:] or 0)) for name in sorted(names) if _is_output(name)]
        plan = self._plans[needs] = _Plan(wanted, saved_args, saved_outs)
        return plan

    def _record(
        self, args: tuple, arrays: list, needs: tuple[bool, ...], params: dict, outputs: tuple
    ) -> None:
        wanted, saved_args, saved_outs = self._plans.get(needs) or self._plan(needs)
        if True not in wanted:
            return
        edges: list[Any] = [None] * len(args)
        dtypes: list[Any] = [None] * len(args)
        shapes: list[Any] = []
        for array in arrays:
            shapes.append(getattr(array, "shape", ()))
        for i, w in enumerate(wanted):
            if not w:
                continue
            a = args[i]
            if a._view is not None and a._view != a._version.epoch:
                raise RuntimeError(
                    f"{self.name}: this view was made before its base was changed in place: its history is "
                    "out of date; make the view again after the change"
                )
            node = a._node
            edges[i] = (a, 0) if node is None else (node, a._index)
            dtypes[i] = arrays[i].dtype
        node = Node()
        node.primitive, node.params, node.order, node.outputs = self, params, next(_order), len(outputs)
        node.edges, node.dtypes, node.wanted = edges, dtypes, wanted
        node.shapes = tuple(shapes)
        for i, out in enumerate(outputs):
            if i not in self.nondiff and out.data.dtype.kind not in "biu":
                out._node, out._index, out._requires_grad = node, i, True
        # Outputs are saved without their node: node -> output -> node would be a cycle that only gc frees.
        node.saved = saved = []
        for name, i in saved_args:
            saved.append(_save(name, args[i], args[i], None))
        for name, i in saved_outs:
            saved.append(_save(name, outputs[i].data, outputs[i], i))


class _Plan(NamedTuple):
    """What a call keeps where given arguments are on the tape: names and numbers of arguments and outputs."""

    wanted: tuple[bool, ...]
    args: list[tuple[str, int]]
    outs: list[tuple[str, int]]


def _is_output(name: str) -> bool:
    return name.startswith("out") and (len(name) == 3 or name[3:].isdigit())


# A value kept for the backward pass: its name, itself, its version and the count that this had, and for an
# output its number.
_Saved = tuple[str, Any, "Version | None", int, "int | None"]


def _save(name: str, value: Any, source: Any, output: int | None) -> _Saved:
    version = source._version if isinstance(source, Variable) else None
    return name, value, version, 0 if version is None else version.count, output


class Node:
    """One recorded call. `order` grows along every edge, so that it is a topological order."""

    __slots__ = (
        "__weakref__",
        "dtypes",
        "edges",
        "order",
        "outputs",
        "params",
        "primitive",
        "saved",
        "shapes",
        "wanted",
    )

    def __repr__(self) -> str:
        return f"<{self.primitive.name} node>"

    def _unpack(self, saved: _Saved) -> Any:
        name, value, version, count, output = saved
        if version is not None and version.count != count:
            shape = list(np.shape(value.data if isinstance(value, Variable) else value))
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace "
                f"operation: {name!r} of {self.primitive.name}, shape {shape}, is at version "
                f"{version.count}; expected version {count} instead"
            )
        if output is None:
            return value
        variable = wrap(value)
        variable._version = version
        if output not in self.primitive.nondiff and value.dtype.kind not in "biu":
            variable._node, variable._index, variable._requires_grad = self, output, True
        return variable

    def vjp(self, gs: tuple, wanted: tuple[bool, ...]) -> tuple[list, dict[str, Any]]:
        """Gradients of the wanted arguments, and the values that the rules were given."""
        if self.saved is FREED:
            raise RuntimeError(
                f"Trying to backward through the graph a second time: what {self.primitive.name} saved has "
                "been freed. Pass retain_graph=True to the first backward() or grad()"
            )
        g, params, shapes, dtypes = gs[0], self.params, self.shapes, self.dtypes
        values = {}
        for saved in self.saved:
            values[saved[0]] = self._unpack(saved)
        values.update(params)
        values.update(g=g, gs=gs, shapes=shapes, params=params, wanted=wanted)
        joint, grads = self.primitive.joint, []
        if joint is not None:
            grads += joint.fn(*joint.pick(values))
        else:
            for rule, w in zip(self.primitive.rules, wanted):  # noqa: B905 - rules may be fewer or more
                run = w and (g is not None or not rule.needs_g)
                grads.append(rule.fn(*rule.pick(values)) if run else None)
        for i, grad in enumerate(grads):
            if grad is None or not wanted[i]:
                grads[i] = None
                continue
            if grad.data.shape != shapes[i]:
                grads[i] = grad = grad.sum_to(shapes[i])
            if grad.data.dtype != dtypes[i]:
                grads[i] = grad.to(dtypes[i])
        return grads, values


def primitive(fn: Callable | None = None, *, view: bool = False, nondiff: Iterable[int] = ()) -> Any:
    """Make a primitive of a function of arrays (a decorator).

    view: the result may share the memory of the first argument. nondiff: the numbers of outputs that carry no
    gradient (those of integer or bool dtype never do).
    """
    return Primitive(fn, view, nondiff) if fn is not None else lambda fn: Primitive(fn, view, nondiff)


def defvjp(target: Primitive, *rules: Callable | None, joint: Callable | None = None) -> None:
    """Give a primitive its gradient: one rule an argument (None: no gradient), or a joint one for all."""
    target.rules = tuple(None if rule is None else _Rule(rule) for rule in rules)
    target.joint = None if joint is None else _Rule(joint)
    target._plans.clear()
