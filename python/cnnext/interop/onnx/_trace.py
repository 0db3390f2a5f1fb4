"""What a model computes, as a list of calls: of primitives, and of a few functions that stand for many.

The model runs twice, with two batch sizes: what differs between the two depends on the batch, and a constant
that differs was computed from x by something that is no operation of cnnext's.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ... import functional
from ...grad_mode import enable_grad
from ...nn import Module
from ...nn import functional as nn_functional
from ...nn.module import Parameter
from ...tape import Primitive, Variable
from ...tensor import Tensor

#: Functions that are one operation here, and which of their arguments are tensors.
_FUNCTIONS = {
    "layer_norm": ("x", "weight", "bias"),
    "group_norm": ("x", "weight", "bias"),
    "interpolate": ("x",),
}
#: Parameters that may hold sizes of the batch.
_SHAPES = ("shape", "output_size")
_active = threading.Lock()


@dataclass(eq=False)
class Value:
    """An array of the run. Constants and the model's own state have it; results have its shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    array: np.ndarray | None = None
    is_state: bool = False


class Call(NamedTuple):
    """One operation. Of params' sizes, -1 stands for one that depends on the batch."""

    name: str
    args: tuple[Value | None, ...]
    params: dict[str, Any]
    outputs: tuple[Value, ...]


class Trace(NamedTuple):
    """A run: its operations in order, its input, its outputs and their sizes (-1: depends on the batch)."""

    calls: list[Call]
    x: Value
    outputs: list[Value]
    sizes: list[tuple[int, ...]]


def _array(variable: Variable) -> Any:
    return variable.own_array() if isinstance(variable, Parameter) else variable.data


class _Recorder:
    def __init__(self, model: Module) -> None:
        self.calls: list[Call] = []
        self._values: dict[int, tuple[Value, Any, int]] = {}  # by id() of the array
        self._alive: list[Any] = []  # so that no id comes again
        self._thread = threading.get_ident()
        self._within = 0
        for name, variable in (*model.named_parameters(), *model.named_buffers()):
            array = _array(variable)
            self._bind(variable, Value(name, array.shape, array.dtype, array, is_state=True))

    def _bind(self, variable: Any, value: Value) -> Value:
        array = _array(variable)
        self._alive.append((variable, array))
        self._values[id(array)] = (value, variable._version, variable._version.count)
        return value

    def input(self, variable: Tensor) -> Value:
        """The model's argument."""
        return self._bind(variable, Value("x", variable.shape, variable.data.dtype))

    def value(self, given: Any) -> Value | None:
        """What an argument of a call is: something known, or a constant."""
        if given is None:
            return None
        array = _array(given) if isinstance(given, Variable) else given
        if id(array) in self._values:
            value, version, count = self._values[id(array)]
            if version.count != count:
                raise NotImplementedError(
                    "export: a tensor that was changed in place is used by another name"
                )
            return value
        array = np.asarray(array)
        return Value("", array.shape, array.dtype, array.copy())

    def record(self, name: str, args: Any, params: dict[str, Any], result: Any) -> None:
        """One call and its result."""
        given = tuple([self.value(a) for a in args])
        outputs = result if isinstance(result, tuple) else (result,)
        values = [
            self._bind(out, Value(f"v{len(self.calls)}_{i}", out.data.shape, out.data.dtype))
            for i, out in enumerate(outputs)
        ]
        self.calls.append(Call(name, given, dict(params), tuple(values)))

    def _watched(self, run: Callable, record: Callable) -> Any:
        """run(), and its record unless it is part of another call, or another thread's."""
        if threading.get_ident() != self._thread or self._within:
            return run()
        self._within += 1
        try:
            result = run()
        finally:
            self._within -= 1
        record(result)
        return result

    def primitive(self, call: Callable) -> Callable:
        """What takes the place of Primitive.__call__."""

        def recorded(primitive: Primitive, *args: Any, **params: Any) -> Any:
            return self._watched(
                lambda: call(primitive, *args, **params),
                lambda result: self.record(primitive.name, args, params, result),
            )

        return recorded

    def function(self, name: str, function: Callable) -> Callable:
        """What takes the place of one of _FUNCTIONS."""
        signature, tensors = inspect.signature(function), _FUNCTIONS[name]

        def recorded(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = [bound.arguments[n] for n in tensors]
            params = {n: v for n, v in bound.arguments.items() if n not in tensors}
            return self._watched(
                lambda: function(*args, **kwargs), lambda result: self.record(name, given, params, result)
            )

        return recorded

    def assign(self, assign: Callable) -> Callable:
        """What takes the place of Tensor._assign: the tensor has the value of the last call then."""

        def recorded(tensor: Tensor, *args: Any, **params: Any) -> Any:
            result = assign(tensor, *args, **params)
            if threading.get_ident() == self._thread and not self._within and self.calls:
                self._bind(tensor, self.calls[-1].outputs[0])
            return result

        return recorded


@contextmanager
def _replaced(*new: tuple[Any, str, Any]) -> Iterator[None]:
    old = [(owner, name, getattr(owner, name)) for owner, name, _ in new]
    try:
        for owner, name, value in new:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in old:
            setattr(owner, name, value)


def _run(model: Module, x: np.ndarray) -> Trace:
    recorder = _Recorder(model)
    functions = [
        (module, name, recorder.function(name, getattr(functional, name)))
        for name in _FUNCTIONS
        for module in (functional, nn_functional)
    ]
    variable = Tensor(x, requires_grad=True)  # so that everything runs by primitives
    value = recorder.input(variable)
    with (
        enable_grad(),
        _replaced(
            (Primitive, "__call__", recorder.primitive(Primitive.__call__)),
            (Tensor, "_assign", recorder.assign(Tensor._assign)),
            *functions,
        ),
    ):
        result = model(variable)
    found = [recorder.value(y) for y in (result if isinstance(result, (tuple, list)) else (result,))]
    outputs = [y for y in found if y is not None]
    return Trace(recorder.calls, value, outputs, [y.shape for y in outputs])


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a is b or bool(a == b)


def _same_value(a: Value | None, b: Value | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.name == b.name and (a.array is None or a.is_state or _same(a.array, b.array))


def _merged_sizes(first: tuple, second: tuple) -> tuple:
    return tuple(m if m == n else -1 for m, n in zip(first, second, strict=True))


def _merged(first: Call, second: Call) -> Call:
    """One call of what two batch sizes gave."""
    what = f"export: {first.name}"
    if first.name != second.name or len(first.args) != len(second.args):
        raise NotImplementedError(f"{what}: the model computes something else for another batch size")
    if not all(map(_same_value, first.args, second.args)):
        raise NotImplementedError(
            f"{what}: one of its arguments depends on x or on the batch size, but not through operations of "
            "cnnext"
        )
    params = {}
    for name, value in first.params.items():
        other = second.params.get(name)
        if name in _SHAPES and isinstance(value, tuple) and isinstance(other, tuple):
            params[name] = _merged_sizes(value, other)
        elif _same(value, other):
            params[name] = value
        else:
            raise NotImplementedError(f"{what}: {name}={value!r} depends on the batch size")
    return first._replace(params=params)


def trace(model: Module, x: np.ndarray) -> Trace:
    """The operations of model(x), whose first axis is the batch. One trace or profile at a time."""
    if not _active.acquire(blocking=False):
        raise RuntimeError("an export is active already; there can be one at a time")
    try:
        first = _run(model, x)
        second = _run(model, np.concatenate([x, x[::-1] * x.dtype.type(0.5)]))
    finally:
        _active.release()
    if len(first.calls) != len(second.calls) or not all(map(_same_value, first.outputs, second.outputs)):
        raise NotImplementedError("export: the model computes something else for another batch size")
    calls = list(map(_merged, first.calls, second.calls))
    sizes = [_merged_sizes(a, b) for a, b in zip(first.sizes, second.sizes, strict=True)]
    return first._replace(calls=calls, sizes=sizes)
