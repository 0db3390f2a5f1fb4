"""Module: a tree of layers with parameters and buffers, as torch.nn.Module names things."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..devices import copied_to, cuda_name, device_of, names_device, parse_device
from ..tape import Variable
from ..tensor import Tensor, as_array, parse_dtype
from .hooks import Hooked
from .tree import Tree

_array = Variable.data  # the slot that Parameter.data hides
_moments = itertools.count()


class Parameter(Tensor):
    """A tensor that a Module registers as one of its parameters when it is assigned to an attribute."""

    __slots__ = ("_given",)

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)

    @property
    def data(self) -> Any:
        """The array. Whoever has it may write to it, so that giving it away counts as a change (state())."""
        self._given = next(_moments)
        return _array.__get__(self)

    @data.setter
    def data(self, array: Any) -> None:
        self._given = next(_moments)
        _array.__set__(self, array)

    def own_array(self) -> Any:
        """The array, for those who neither keep nor change it."""
        return _array.__get__(self)

    def state(self) -> tuple[int, int]:
        """As long as it stays the same, this is the same Parameter with the same values.

        Provided that nobody held its array before: what they do with it cannot be seen.
        """
        return self._given, self._version.count

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class IncompatibleKeys(NamedTuple):
    """What load_state_dict(strict=False) did not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module(Hooked, Tree):
    """Base of all layers: subclass it, make layers and Parameters in __init__, compute in forward."""

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(training=True, _parameters={}, _buffers={}, _modules={}, _not_saved=set())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._hooks.call(self, args, kwargs) if self._hooks else self.forward(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: not what fuse() put there."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name != "_fused" and not getattr(type(value), "stays_here", False)
        }

    # -- attributes --

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__
        if "_modules" in attributes:
            for registry in (attributes["_parameters"], attributes["_modules"], attributes["_buffers"]):
                if name in registry:
                    return registry[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        registries = (
            self.__dict__.get("_parameters"),
            self.__dict__.get("_buffers"),
            self.__dict__.get("_modules"),
        )
        if None in registries:
            if isinstance(value, (Parameter, Module)):
                raise AttributeError(f"cannot assign {name!r} before Module.__init__() is called")
            object.__setattr__(self, name, value)
            return
        parameters, buffers, modules = registries
        if isinstance(value, Parameter):
            self._forget(name, but=parameters)
            parameters[name] = value
        elif isinstance(value, Module):
            self._forget(name, but=modules)
            modules[name] = value
        elif name in parameters:
            if value is not None:
                raise TypeError(
                    f"{name!r} is a parameter: assign a Parameter or None, not {type(value).__name__}"
                )
            parameters[name] = None
        elif name in modules and value is None:
            modules[name] = None
        elif name in buffers:
            buffers[name] = None if value is None else value if isinstance(value, Variable) else Tensor(value)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if not self._forget(name):
            object.__delattr__(self, name)

    def _forget(self, name: str, but: dict[str, Any] | None = None) -> bool:
        """Take a name out of wherever it is registered; it keeps its place in the registry `but`."""
        found = False
        for registry in (self._parameters, self._buffers, self._modules):
            found |= name in registry
            if registry is not but:
                registry.pop(name, None)
        self._not_saved.discard(name)
        self.__dict__.pop(name, None)
        return found

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._parameters, *self._buffers, *self._modules})

    def _check_name(self, name: Any, kind: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name must be a str, got {name!r}")
        if not name or "." in name:
            raise ValueError(f"{kind} name {name!r} must not be empty nor hold a dot")
        if hasattr(self, name) and not any(
            name in r for r in (self._parameters, self._buffers, self._modules)
        ):
            raise ValueError(f"{kind} name {name!r} is already an attribute")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None stands for one that is absent."""
        self._check_name(name, "parameter")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"parameter {name!r} must be a Parameter or None, got {type(param).__name__}")
        self._forget(name, but=self._parameters)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter; persistent=False keeps it out of state_dict."""
        self._check_name(name, "buffer")
        self._forget(name, but=self._buffers)
        self._buffers[name] = tensor if tensor is None or isinstance(tensor, Variable) else Tensor(tensor)
        if not persistent:
            self._not_saved.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child."""
        self._check_name(name, "module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"module {name!r} must be a Module or None, got {type(module).__name__}")
        self._forget(name, but=self._modules)
        self._modules[name] = module

    register_module = add_module

    # -- modes --

    def train(self, mode: bool = True) -> Module:
        """Training mode here and below: dropout drops, batch norm uses the batch."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode={mode!r} must be a bool")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Switch recording for all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        zero_grads(self.parameters(), set_to_none)

    def to(
        self, *targets: Any, dtype: Any = None, device: Any = None, memory_format: str | None = None
    ) -> Module:
        """Parameters and buffers on another device ('cpu', 'cuda', 'cuda:N'), floating ones in another dtype.

        memory_format is taken and changes nothing: layers follow the memory format of their input.
        """
        for target in targets:
            if names_device(target):
                device = target
            elif isinstance(target, Variable):
                dtype, device = target.dtype, device_of(target.data)
            else:
                dtype = target
        dtype = None if dtype is None else parse_dtype(dtype)
        if dtype is not None and dtype.kind != "f":
            raise TypeError(f"Module.to takes floating dtypes, got {dtype}")
        if device is not None:
            self._move(parse_device(device))
        if dtype is None:
            return self
        for _, value in (*self.named_parameters(), *self.named_buffers()):
            if value.data.dtype.kind == "f":
                value.data = value.data.astype(
                    dtype, copy=False
                )  # the same Parameter: optimisers go on holding it
                value._version.count += 1
                if value.grad is not None:
                    value.grad = value.grad.to(dtype)
        return self

    def _move(self, device: str) -> None:
        for _, value in (*self.named_parameters(), *self.named_buffers()):
            if value.device != device:
                value.data = copied_to(value.data, device)
                value._version.count += 1
                if value.grad is not None:
                    value.grad = value.grad.to(device)

    def cpu(self) -> Module:
        """On the host."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Module:
        """On a CUDA device: a number, its name, or CuPy's current one."""
        return self.to(device=cuda_name(device))

    def float(self) -> Module:
        """To float32."""
        return self.to(np.float32)

    def double(self) -> Module:
        """To float64."""
        return self.to(np.float64)

    # -- state --

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, as detached tensors that share memory."""
        state = {}
        for path, module in self._all_paths(""):
            for name, value in (*module._parameters.items(), *module._buffers.items()):
                if value is not None and name not in module._not_saved:
                    state[prefix + (f"{path}.{name}" if path else name)] = value.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values in by name. Nothing is changed unless all that are to be copied fit.

        strict: names missing from or unknown to the module are an error. ValueError lists all faults.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        arrays = {name: as_array(state_dict[name]) for name in own if name in state_dict}
        problems = [
            f"size mismatch for {name}: {list(array.shape)} is given, the model has {list(own[name].shape)}"
            for name, array in arrays.items()
            if array.shape != own[name].shape
        ]
        if strict and unexpected:
            problems.insert(0, f"unexpected key(s): {', '.join(map(repr, unexpected))}")
        if strict and missing:
            problems.insert(0, f"missing key(s): {', '.join(map(repr, missing))}")
        if problems:
            raise ValueError(f"load_state_dict for {type(self).__name__}:\n    " + "\n    ".join(problems))
        for name, array in arrays.items():
            own[name].copy_(array)
        return IncompatibleKeys(missing, unexpected)

    # -- printing --

    def extra_repr(self) -> str:
        """The configuration, for repr."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [f"({name}): " + text.replace("\n", "\n  ") for name, text in self._child_reprs()]
        if not lines and "\n" not in extra:
            return f"{type(self).__name__}({extra})"
        return (
            f"{type(self).__name__}(\n  " + "\n  ".join((extra.split("\n") if extra else []) + lines) + "\n)"
        )

    def _child_reprs(self) -> list[tuple[str, str]]:
        """What repr shows of each child, and its name."""
        return [(name, repr(module)) for name, module in self._modules.items()]


def zero_grads(parameters: Iterable[Tensor], set_to_none: bool) -> None:
    """Drop gradients, or fill them with zeros."""
    for parameter in parameters:
        if parameter.grad is not None:
            if set_to_none:
                parameter.grad = None
            else:
                parameter.grad = parameter.grad.detach().zero_()
