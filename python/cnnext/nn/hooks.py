"""Hooks of modules: functions that are called before and after forward, and with the gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..elementary import reshape
from ..functional._common import as_tensor
from ..grad_mode import mode
from ..handles import RemovableHandle
from ..tape import Variable, defvjp, primitive, wrap


class _Hook(NamedTuple):
    function: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False


class Hooks:
    """The hooks of one module, false where there are none; each kind is a dict by the handle's id."""

    def __init__(self) -> None:
        self.before: dict[int, _Hook] = {}
        self.after: dict[int, _Hook] = {}
        self.before_backward: dict[int, _Hook] = {}
        self.backward: dict[int, _Hook] = {}

    def __bool__(self) -> bool:
        return bool(self.before or self.after or self.before_backward or self.backward)

    def add(self, kind: str, hook: _Hook, prepend: bool) -> RemovableHandle:
        """Add a hook, behind the others of its kind or before them."""
        if not callable(hook.function):
            raise TypeError(f"hook must be callable, got {type(hook.function).__name__}")
        hooks, handle = getattr(self, kind), RemovableHandle(self, kind)
        others = dict(hooks)
        if prepend:
            hooks.clear()
        hooks[handle.id] = hook
        if prepend:
            hooks.update(others)
        return handle

    def call(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """module.forward(*args, **kwargs) with all hooks."""
        called: set[int] = set()
        result = None
        try:
            for hook in list(self.before.values()):
                args, kwargs = _before(hook, module, args, kwargs)
            watch = None
            if mode.enabled and (self.before_backward or self.backward):
                watch = _BackwardWatch(module, self)
                args = watch.over_inputs(args)
            result = module.forward(*args, **kwargs)
            for id_, hook in list(self.after.items()):
                called.add(id_)
                result = _after(hook, module, args, kwargs, result)
            return result if watch is None else watch.over_outputs(result)
        except Exception:
            for id_, hook in list(self.after.items()):
                if hook.always_call and id_ not in called:
                    try:
                        result = _after(hook, module, args, kwargs, result)
                    except Exception as error:
                        warnings.warn(
                            f"a forward hook with always_call=True raised {error!r} while another error was "
                            "on its way",
                            stacklevel=3,
                        )
            raise


def _before(hook: _Hook, module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    if not hook.with_kwargs:
        new = hook.function(module, args)
        return args if new is None else new if isinstance(new, tuple) else (new,), kwargs
    new = hook.function(module, args, kwargs)
    if new is None:
        return args, kwargs
    if not isinstance(new, tuple) or len(new) != 2:
        raise RuntimeError(
            f"a forward pre-hook with kwargs must return None or a tuple (new_args, new_kwargs), got {new!r}"
        )
    return new


def _after(hook: _Hook, module: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
    given = (args, kwargs, result) if hook.with_kwargs else (args, result)
    new = hook.function(module, *given)
    return result if new is None else new


# ---- gradients ----


@primitive
def _watched(*xs: Any, on_gradients: Callable[[tuple], tuple]) -> Any:
    """The arguments themselves; their gradients pass through on_gradients."""
    return xs


defvjp(_watched, joint=lambda gs, on_gradients: on_gradients(gs))


class _BackwardWatch:
    """One call of a module whose gradients are watched, with gates before its outputs and its inputs.

    The gradient of the outputs is noted when it passes the first gate; the hooks are called when that of the
    inputs passes the second, or at the first where no input requires a gradient.
    """

    def __init__(self, module: Any, hooks: Hooks) -> None:
        self._module = module
        self._before = [hook.function for hook in hooks.before_backward.values()]
        self._hooks = [hook.function for hook in hooks.backward.values()]
        self._inputs: list[int] = []
        self._input_count = 0
        self._input_kinds: dict[int, tuple[tuple[int, ...], Any]] = {}
        self._grad_output: tuple | None = None

    def over_inputs(self, args: tuple) -> tuple:
        """The positional arguments behind the gate."""
        self._input_count = len(args)
        self._input_kinds = {i: (a.shape, a.dtype) for i, a in enumerate(args) if isinstance(a, Variable)}
        self._inputs, args = _gated(args, self._on_grad_input)
        return args

    def over_outputs(self, result: Any) -> Any:
        """The results before the gate."""
        if not isinstance(result, (Variable, tuple)):
            warnings.warn(
                f"backward hooks of {type(self._module).__name__} see Tensors and tuples of Tensors; its "
                f"forward returned {type(result).__name__}, so that they are not called",
                stacklevel=4,
            )
            return result
        many = isinstance(result, tuple)
        values = result if many else (result,)
        self._outputs, gated = _gated(values, self._on_grad_output)
        self._output_count = len(values)
        return gated if many else gated[0]

    def _on_grad_output(self, gs: tuple) -> tuple:
        grads = _spread(self._outputs, gs, self._output_count)
        for hook in self._before:
            grads = _changed(grads, hook(self._module, grads), "grad_output")
        self._grad_output = grads
        if not self._inputs:
            nothing = (None,) * self._input_count
            for hook in self._hooks:
                new = hook(self._module, nothing, grads)
                if new is not None and not (isinstance(new, tuple) and all(g is None for g in new)):
                    raise RuntimeError(
                        "a full backward hook must return None where no input of the module requires a "
                        f"gradient; it returned {type(new).__name__}"
                    )
            self._grad_output = None
        return _handed_on(grads, self._outputs)

    def _on_grad_input(self, gs: tuple) -> tuple:
        if self._grad_output is None:  # no gradient came through the outputs: that of another way round
            return gs
        like = next(g for g in gs if g is not None).data
        spread = _spread(self._inputs, gs, self._input_count)
        grads = tuple(
            [
                wrap(np.zeros_like(like, shape=self._input_kinds[i][0], dtype=self._input_kinds[i][1]))
                if g is None and i in self._input_kinds
                else g
                for i, g in enumerate(spread)
            ]
        )
        for hook in self._hooks:
            grads = _changed(grads, hook(self._module, grads, self._grad_output), "grad_input")
        self._grad_output = None
        return _handed_on(grads, self._inputs)


def _gated(values: tuple, on_gradients: Callable[[tuple], tuple]) -> tuple[list[int], tuple]:
    """Those that require a gradient behind a gate: their places, and all values."""
    places = [i for i, v in enumerate(values) if isinstance(v, Variable) and v._requires_grad]
    if not places:
        return places, values
    gated = list(values)
    behind = _watched(*[values[i] for i in places], on_gradients=on_gradients)
    for i, variable in zip(places, behind, strict=True):
        variable._share_version(values[i])  # the same memory: a change in place is seen, or refused
        gated[i] = variable
    return places, type(values)(*gated) if hasattr(values, "_fields") else tuple(gated)


def _spread(places: list[int], gs: tuple, count: int) -> tuple:
    """Gradients at their places, None elsewhere."""
    grads: list[Any] = [None] * count
    for i, g in zip(places, gs, strict=True):
        grads[i] = g
    return tuple(grads)


def _handed_on(grads: tuple, places: list[int]) -> tuple:
    """Views, because who has seen a gradient may keep it: the engine adds to no view."""
    chosen = [grads[i] for i in places]
    return tuple([None if g is None else reshape(g, shape=g.shape) for g in chosen])


def _changed(grads: tuple, new: Any, name: str) -> tuple:
    """What a hook returned in the place of gradients."""
    if new is None:
        return grads
    new = new if isinstance(new, (tuple, list)) else (new,)
    if len(new) != len(grads):
        raise RuntimeError(f"a backward hook returned {len(new)} gradients for {name}, expected {len(grads)}")
    checked = tuple([None if g is None else as_tensor(g) for g in new])
    for i, (g, old) in enumerate(zip(checked, grads, strict=True)):
        if g is not None and old is not None and g.shape != old.shape:
            raise ValueError(
                f"a backward hook returned {name}[{i}] of shape {list(g.shape)}, it must be {list(old.shape)}"
            )
    return checked


class Hooked:
    """What a Module has of hooks, under torch.nn.Module's names."""

    _hooks: Hooks | None = None  # of the class: most modules have none

    def _add_hook(self, kind: str, hook: _Hook, prepend: bool) -> RemovableHandle:
        if self._hooks is None:
            self.__dict__["_hooks"] = Hooks()
        return self._hooks.add(kind, hook, prepend)  # type: ignore[union-attr]

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call hook(module, args) before forward; what it returns, unless None, replaces the arguments.

        with_kwargs: hook(module, args, kwargs), which returns None or (args, kwargs). prepend: before the
        hooks that there are. Returns a handle with remove().
        """
        return self._add_hook("before", _Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call hook(module, args, output) after forward; what it returns, unless None, replaces the output.

        with_kwargs: hook(module, args, kwargs, output). always_call: also where forward raised, with the
        output None. A layer with hooks is in no run: it is always computed by itself. Returns a handle.
        """
        return self._add_hook("after", _Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call hook(module, grad_output) once the outputs' gradients are known, before all others.

        grad_output: a tuple, one gradient for each output, None where there is none. A tuple that the hook
        returns takes its place. Returns a handle.
        """
        return self._add_hook("before_backward", _Hook(hook), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call hook(module, grad_input, grad_output) when the gradients of the inputs are known.

        Tuples with a gradient for each positional argument (zeros for a Tensor that has none, None for
        anything else) and each output (None where there is none); a tuple that the hook returns takes
        grad_input's place. Inputs and outputs of such a module must not be changed in place
        (ReLU(inplace=True)): NotImplementedError. Returns a handle.
        """
        return self._add_hook("backward", _Hook(hook), prepend)
