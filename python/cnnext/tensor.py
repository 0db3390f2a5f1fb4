"""Tensor: an array with a gradient, with torch's method names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import elementary as el
from . import leaf_hooks
from .autograd import backward
from .devices import (
    as_cupy,
    asarray_like,
    copied_to,
    cuda_name,
    device_of,
    is_on_device,
    names_device,
    parse_device,
)
from .dtypes import DEFAULT_DTYPE, is_floating, parse_dtype
from .grad_mode import mode as _mode
from .handles import RemovableHandle
from .tape import Variable, set_variable_type, wrap
from .tensor_math import TensorMath, array_index

_MEMORY_FORMATS = ("contiguous_format", "channels_last", "preserve_format")


def as_array(data: Any, dtype: Any = None) -> Any:
    """An array of `data`, without a copy where it is one already; Python floats become float32."""
    if isinstance(data, Variable):
        data = data.data
    if is_on_device(data):
        data = as_cupy(data)
    if isinstance(data, np.ndarray) or is_on_device(data):
        return data if dtype is None or data.dtype == dtype else data.astype(dtype)
    if hasattr(data, "__dlpack__") and not isinstance(data, np.generic):
        array = np.from_dlpack(data)
    else:
        array = np.asarray(data)
        if array.dtype.kind == "f" and not isinstance(data, np.generic) and dtype is None:
            array = array.astype(DEFAULT_DTYPE)
    if array.dtype.kind not in "biu" and not is_floating(array.dtype):
        raise TypeError(
            f"data of type {type(data).__name__} gives dtype {array.dtype}; only numbers and bools are taken"
        )
    return array if dtype is None or array.dtype == dtype else array.astype(dtype)


class Tensor(TensorMath):
    """An array that can carry a gradient.

    data: a NumPy or CuPy array (kept, not copied), a Tensor, anything with __dlpack__, or numbers in lists.
    requires_grad: record what is computed from it, so that backward() fills .grad; floating dtypes only.
    """

    __slots__ = ()
    __array_priority__ = 1000  # ndarray + Tensor is Tensor.__radd__

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self._init(as_array(data))
        if requires_grad:
            self.requires_grad_()

    # -- what it is --

    shape = property(lambda self: self.data.shape, doc="The sizes, a tuple.")
    dtype = property(lambda self: self.data.dtype, doc="The NumPy dtype.")
    ndim = property(lambda self: self.data.ndim, doc="The number of dimensions.")
    is_leaf = property(lambda self: self._node is None, doc="True where no recorded operation made it.")
    grad_fn = property(lambda self: self._node, doc="The recorded operation that made it, or None.")
    T = property(lambda self: self.permute(*range(self.ndim)[::-1]), doc="All dimensions reversed.")

    @property
    def device(self) -> str:
        """'cpu', or 'cuda:N' for a CuPy array."""
        return device_of(self.data)

    @property
    def requires_grad(self) -> bool:
        """Are operations on it recorded?"""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switch recording for this leaf; returns self."""
        if self._node is not None and not requires_grad:
            raise RuntimeError("requires_grad can be switched off for leaves only; use detach()")
        if requires_grad and not is_floating(self.data.dtype):
            raise TypeError(
                f"only tensors of a floating dtype can require gradients; this one is {self.data.dtype}"
            )
        self._requires_grad = bool(requires_grad)
        return self

    def size(self, dim: int | None = None) -> Any:
        """The shape, or its entry `dim`."""
        return self.data.shape if dim is None else self.data.shape[dim]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.data.ndim

    def numel(self) -> int:
        """The number of elements."""
        return int(self.data.size)

    def __len__(self) -> int:
        if self.data.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.data.shape[0]

    def __repr__(self) -> str:
        text = np.array2string(
            copied_to(self.data, "cpu"), separator=", ", precision=4, prefix="tensor(", threshold=1000
        )
        notes = [] if self.data.dtype in (np.float32, np.int64, np.bool_) else [f"dtype={self.data.dtype}"]
        if is_on_device(self.data):
            notes.append(f"device='{self.device}'")
        if self._node is not None:
            notes.append(f"grad_fn={self._node!r}")
        elif self._requires_grad:
            notes.append("requires_grad=True")
        return f"tensor({', '.join([text, *notes])})"

    # -- gradients --

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """hook(self) within each backward(), as soon as self.grad is complete; for leaves (torch's name)."""
        if self._node is not None or not self._requires_grad:
            raise RuntimeError("register_post_accumulate_grad_hook: only for leaves that require grad")
        return leaf_hooks.add(self, hook)

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add this tensor's gradients to .grad of the leaves; `gradient` may be left out for one element."""
        backward(self, gradient, retain_graph, create_graph)

    def detach(self) -> Tensor:
        """The same memory without history."""
        result = wrap(self.data)
        result._share_version(self)
        return result

    # -- to the outside --

    def _plain(self, what: str) -> Any:
        if self._requires_grad:
            raise RuntimeError(
                f"Can't call {what} on a Tensor that requires grad. Use tensor.detach().{what} instead."
            )
        return self.data

    def numpy(self) -> np.ndarray:
        """The NumPy array itself, sharing memory; RuntimeError for a tensor that requires grad."""
        array = self._plain("numpy()")
        if is_on_device(array):
            raise TypeError(f"the tensor is on {self.device}, which NumPy cannot show: use .cpu() first")
        return np.asarray(array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError("a change of dtype needs a copy, but copy=False was given")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        return self._plain("__dlpack__()").__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.data.size != 1:
            raise ValueError(
                f"item() is for tensors of one element; this one has shape {list(self.data.shape)}"
            )
        return self.data.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self.data.tolist()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.data.dtype.kind not in "iu":
            raise TypeError(f"only an integer tensor can be an index; this one is {self.data.dtype}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.data.ndim == 0 else format(repr(self), spec)

    def __iter__(self) -> Iterator[Tensor]:
        if self.data.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self)))

    def __contains__(self, element: Any) -> bool:
        return bool((self == element).data.any())

    def __reduce__(self) -> tuple:
        if self._node is not None:
            raise RuntimeError(
                "only leaves can be copied or pickled; use detach() or clone() for a tensor with history"
            )
        return _rebuild, (type(self), self.data, self._requires_grad, self.grad)

    # -- dtype, device, memory format --

    def to(
        self, *targets: Any, dtype: Any = None, device: Any = None, memory_format: str | None = None
    ) -> Tensor:
        """On another device, with another dtype and/or memory format; self where nothing changes.

        device: 'cpu', 'cuda' (CuPy's current device) or 'cuda:N'; needs CuPy. Gradients go the way back.
        """
        for target in targets:
            if isinstance(target, Variable):
                dtype, device = target.data.dtype, device_of(target.data)
            elif names_device(target):
                device = target
            else:
                dtype = target
        result = self
        if device is not None and parse_device(device) != self.device:
            result = el.to_device(self, device=parse_device(device), source=self.device)
        if dtype is not None and parse_dtype(dtype) != self.data.dtype:
            result = el.cast(result, dtype=parse_dtype(dtype))
        return result if memory_format in (None, "preserve_format") else result.contiguous(memory_format)

    def float(self) -> Tensor:
        """To float32."""
        return self.to(np.float32)

    def double(self) -> Tensor:
        """To float64."""
        return self.to(np.float64)

    def half(self) -> Tensor:
        """To float16."""
        return self.to(np.float16)

    def bfloat16(self) -> Tensor:
        """To bfloat16; needs ml_dtypes."""
        return self.to("bfloat16")

    def long(self) -> Tensor:
        """To int64."""
        return self.to(np.int64)

    def int(self) -> Tensor:
        """To int32."""
        return self.to(np.int32)

    def bool(self) -> Tensor:
        """To bool."""
        return self.to(np.bool_)

    def cpu(self) -> Tensor:
        """On the host."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Tensor:
        """On a CUDA device: a number, its name, or CuPy's current one."""
        return self.to(device=cuda_name(device))

    def is_contiguous(self, memory_format: str = "contiguous_format") -> Any:
        """Is the memory in this order, without gaps?"""
        if _memory_format(memory_format) == "channels_last":
            return self.data.ndim == 4 and bool(self.data.transpose(0, 2, 3, 1).flags.c_contiguous)
        return bool(self.data.flags.c_contiguous)

    def contiguous(self, memory_format: str = "contiguous_format") -> Tensor:
        """In this memory order, 'contiguous_format' or 'channels_last' (4-d only); self where it is."""
        if _memory_format(memory_format) == "channels_last" and self.data.ndim != 4:
            raise ValueError(
                f"memory_format='channels_last' needs 4 dimensions; this tensor has {self.data.ndim}"
            )
        if memory_format == "preserve_format" or self.is_contiguous(memory_format):
            return self
        return el.contiguous(self, channels_last=memory_format == "channels_last")

    def clone(self) -> Tensor:
        """A copy in the same memory format, differentiable."""
        return el.copy(self)

    # -- changes in place --

    def _assign(self, function: Any, *others: Any, **params: Any) -> Tensor:
        """self = function(self, *others): in its memory, and on the tape as the new history of self.

        function: a primitive, or a composition of them. If its rules keep the first argument, backward
        fails, as that argument is overwritten.
        """
        tracked = _mode.enabled and any(isinstance(o, Variable) and o._requires_grad for o in (self, *others))
        if tracked and self._requires_grad and self._node is None:
            raise RuntimeError("a leaf that requires grad is changed in place; do it under no_grad()")
        if tracked and self._view is not None:
            raise NotImplementedError(
                "changing a view in place where gradients are recorded is not supported; write it out of "
                "place, or change the base by index"
            )
        old = wrap(self.data)
        old._node, old._index, old._requires_grad = self._node, self._index, self._requires_grad
        old._version = self._version
        result = function(old, *others, **params)
        mine, new = self.data, result.data
        if new.shape != mine.shape or not np.can_cast(new.dtype, mine.dtype, "same_kind"):
            raise ValueError(
                f"change in place: the result, {new.dtype} of shape {list(new.shape)}, does not fit the "
                f"tensor, {mine.dtype} of shape {list(mine.shape)}"
            )
        mine[...] = new
        self._version.count += 1
        if tracked:
            self._version.epoch += 1
            self._node, self._index, self._requires_grad = result._node, result._index, result._requires_grad
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        index = array_index(index)
        if not isinstance(value, Variable):
            value = asarray_like(value, self.data, self.data.dtype)
        if _mode.enabled and (self._requires_grad or (isinstance(value, Variable) and value._requires_grad)):
            self._assign(el.setitem, value, index=index)
            return
        array = value.data if isinstance(value, Variable) else value
        if array.ndim and device_of(array) != self.device:
            raise ValueError(f"the value is on {device_of(array)}, but the tensor is on {self.device}")
        self.data[index] = array
        self._version.count += 1

    def copy_(self, source: Any) -> Tensor:
        """Overwrite with `source`, broadcast, cast and copied from its device."""
        if isinstance(source, Variable):
            source = source.to(device=self.device)  # type: ignore[attr-defined]
        elif isinstance(source, np.ndarray) or is_on_device(source):
            source = copied_to(as_array(source), self.device)
        self[...] = source
        return self

    def fill_(self, value: float) -> Tensor:
        """Overwrite with one value."""
        self[...] = value
        return self

    def zero_(self) -> Tensor:
        """Overwrite with zeros."""
        return self.fill_(0)

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        """clamp in place."""
        return self._assign(el.clamp, min=min, max=max)


set_variable_type(Tensor)


def _memory_format(memory_format: Any) -> str:
    if memory_format not in _MEMORY_FORMATS:
        raise ValueError(f"memory_format must be one of {', '.join(_MEMORY_FORMATS)}; got {memory_format!r}")
    return memory_format


def _rebuild(cls: type[Tensor], data: Any, requires_grad: bool, grad: Any) -> Tensor:
    result = cls.__new__(cls)
    result._init(data)
    result._requires_grad, result.grad = requires_grad, grad
    return result
