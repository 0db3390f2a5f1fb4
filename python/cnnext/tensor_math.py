"""The operators, reductions, shape changes and indexing of Tensor: thin methods over `cnnext.elementary`."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import elementary as el
from .devices import asarray_like
from .dtypes import DEFAULT_DTYPE, is_floating
from .tape import Primitive, Variable, wrap

if TYPE_CHECKING:
    from .tensor import Tensor

_NUMBERS = (bool, int, float, np.generic)


class ValuesAndIndices(NamedTuple):
    """What max and min along one dimension return."""

    values: Tensor
    indices: Tensor


def _operands(x: Variable, other: Any) -> tuple[Any, Any]:
    """Both sides of an operator. As in torch a number takes x's dtype, an integer side a floating one's."""
    if isinstance(other, (Variable, np.ndarray)):
        mine, theirs = x.data.dtype, other.dtype
        if mine is not theirs and is_floating(mine) is not is_floating(theirs):
            if is_floating(mine):
                other = el.cast(other, dtype=mine)
            else:
                x = el.cast(x, dtype=theirs)
        return x, other
    if isinstance(other, _NUMBERS):
        kind = x.data.dtype.kind
        if kind in "fV" or (kind in "iu" and isinstance(other, (int, np.integer))):  # V: bfloat16
            array = x.data  # here, not in asarray_like: a call costs as much as the rest
            on_host = type(array) is np.ndarray
            return x, np.asarray(other, array.dtype) if on_host else asarray_like(other, array, array.dtype)
        if isinstance(other, (float, np.floating)):
            return el.cast(x, dtype=DEFAULT_DTYPE), asarray_like(other, x.data, DEFAULT_DTYPE)
        return x, asarray_like(other, x.data, None)
    return x, other if hasattr(other, "__cuda_array_interface__") else NotImplemented


def _operator(primitive: Primitive, reverse: bool = False) -> Any:
    def method(self: Tensor, other: Any) -> Tensor:
        x, y = _operands(self, other)
        if y is NotImplemented:
            return NotImplemented
        return primitive(y, x) if reverse else primitive(x, y)

    method.__doc__ = f"{primitive.name}, element by element, with broadcasting."
    return method


def _inplace(primitive: Primitive) -> Any:
    def method(self: Tensor, other: Any) -> Tensor:
        _, y = _operands(self, other)
        return NotImplemented if y is NotImplemented else self._assign(primitive, y)

    method.__doc__ = f"{primitive.name} in place."
    return method


def _unary(primitive: Primitive) -> Any:
    def method(self: Tensor) -> Tensor:
        return primitive(self)

    method.__doc__ = f"{primitive.name}, element by element."
    return method


def as_axis(dim: int, ndim: int) -> int:
    """A non-negative axis; ValueError where it is out of range."""
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
        raise TypeError(f"dim must be an int, got {dim!r}")
    limit = max(ndim, 1)
    if not -limit <= dim < limit:
        raise ValueError(
            f"dim={dim} is out of range: a tensor of {ndim} dimensions takes {-limit} to {limit - 1}"
        )
    return int(dim) % limit


def _as_axes(dim: Any, ndim: int) -> tuple[int, ...]:
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    axes = tuple(as_axis(d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
    if len(set(axes)) != len(axes):
        raise ValueError(f"dim={dim} names a dimension twice")
    return axes if ndim else ()


def _sizes(sizes: tuple, name: str) -> tuple[int, ...]:
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    if not all(isinstance(n, (int, np.integer)) or hasattr(n, "__index__") for n in sizes):
        raise TypeError(f"{name}: sizes must be ints, got {sizes!r}")
    return tuple(int(n) for n in sizes)


def array_index(index: Any) -> Any:
    """An index with arrays in place of tensors and lists, copied, so that the tape never sees them change."""
    if isinstance(index, tuple):
        return tuple(array_index(i) for i in index)
    if isinstance(index, Variable):
        return index.data.copy()
    return np.array(index) if isinstance(index, (list, np.ndarray)) else index


class TensorMath(Variable):
    """What Tensor computes."""

    __slots__ = ()

    # -- operators --

    __add__ = __radd__ = add = _operator(el.add)
    __sub__ = sub = _operator(el.subtract)
    __rsub__ = _operator(el.subtract, reverse=True)
    __mul__ = __rmul__ = mul = _operator(el.multiply)
    __truediv__ = div = _operator(el.divide)
    __rtruediv__ = _operator(el.divide, reverse=True)
    __rpow__ = _operator(el.power, reverse=True)
    __iadd__ = add_ = _inplace(el.add)
    __isub__ = sub_ = _inplace(el.subtract)
    __imul__ = mul_ = _inplace(el.multiply)
    __itruediv__ = div_ = _inplace(el.divide)
    __eq__ = eq = _operator(el.equal)  # type: ignore[assignment]
    __ne__ = ne = _operator(el.not_equal)  # type: ignore[assignment]
    __lt__ = lt = _operator(el.less)
    __le__ = le = _operator(el.less_equal)
    __gt__ = gt = _operator(el.greater)
    __ge__ = ge = _operator(el.greater_equal)
    __and__ = __rand__ = _operator(el.logical_and)
    __or__ = __ror__ = _operator(el.logical_or)
    __hash__ = Variable.__hash__
    __invert__ = _unary(el.logical_not)
    __neg__ = neg = _unary(el.negative)
    __abs__ = abs = _unary(el.absolute)
    exp, log, sqrt, sin, cos, sign = map(_unary, (el.exp, el.log, el.sqrt, el.sin, el.cos, el.sign))
    maximum, minimum = _operator(el.maximum), _operator(el.minimum)

    def __pow__(self, exponent: Any) -> Tensor:
        if isinstance(exponent, (bool, int, float, np.generic)) and is_floating(self.data.dtype):
            return el.power_scalar(self, exponent=exponent)
        x, exponent = _operands(self, exponent)
        return NotImplemented if exponent is NotImplemented else el.power(x, exponent)

    pow = __pow__

    def __matmul__(self, other: Any) -> Tensor:
        if not isinstance(other, (Variable, np.ndarray)):
            return NotImplemented
        return el.matmul(self, other if isinstance(other, Variable) else wrap(other))

    def __rmatmul__(self, other: Any) -> Tensor:
        return el.matmul(wrap(other), self) if isinstance(other, np.ndarray) else NotImplemented

    matmul = __matmul__

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Limited to [min, max], two numbers; one may be None."""
        if min is None and max is None:
            raise ValueError("clamp: min and max are both None; give at least one")
        return el.clamp(self, min=min, max=max)

    clip = clamp

    def isnan(self) -> Tensor:
        """Where it is NaN."""
        return self != self

    def isfinite(self) -> Tensor:
        """Where it is neither NaN nor infinite."""
        return wrap(np.isfinite(self.data))

    def masked_fill(self, mask: Any, value: float) -> Tensor:
        """`value` where mask is True."""
        return el.where(mask, asarray_like(value, self.data, self.data.dtype), self)

    # -- reductions: dim is an int, a tuple, or None for all --

    def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """The sum; integers and bools sum as int64."""
        return el.sum_axes(self, axes=_as_axes(dim, self.data.ndim), keepdim=keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """The mean of a floating tensor."""
        if not is_floating(self.data.dtype):
            raise TypeError(
                f"mean() needs a floating dtype, this tensor is {self.data.dtype}: call float() first"
            )
        return el.mean_axes(self, axes=_as_axes(dim, self.data.ndim), keepdim=keepdim)

    def var(
        self,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Tensor:
        """The variance, divided by n - correction (1 where unbiased)."""
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        axes = _as_axes(dim, self.data.ndim)
        n = math.prod(self.data.shape[a] for a in axes)
        correction = (1 if unbiased else 0) if correction is None else correction
        centred = self - self.mean(axes, keepdim=True) if axes else self - self
        total = (centred * centred).sum(axes, keepdim) if axes else centred * centred
        return total / (n - correction if n > correction else 0.0)

    def std(
        self,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Tensor:
        """The square root of var."""
        return self.var(dim, unbiased, keepdim, correction=correction).sqrt()

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The maximum, or with dim the pair (values, indices). NaN wins."""
        return self._extreme(el.max_axes, el.argmax, dim, keepdim)

    def min(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The minimum, or with dim the pair (values, indices). NaN wins."""
        return self._extreme(el.min_axes, el.argmin, dim, keepdim)

    def _extreme(self, reduce: Primitive, arg: Primitive, dim: int | None, keepdim: bool) -> Any:
        if dim is None:
            return reduce(self, axes=_as_axes(None, self.data.ndim), keepdim=False)
        axis = as_axis(dim, self.data.ndim)
        if self.data.ndim == 0:
            return ValuesAndIndices(el.copy(self), wrap(np.zeros((), np.int64)))
        indices = arg(self, dim=axis, keepdim=True)
        values = el.gather(self, indices, dim=axis)
        return ValuesAndIndices(*(t if keepdim else t.squeeze(axis) for t in (values, indices)))

    def amax(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """The maximum over any dimensions; equal maxima share the gradient."""
        return el.max_axes(self, axes=_as_axes(dim, self.data.ndim), keepdim=keepdim)

    def amin(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """The minimum over any dimensions; equal minima share the gradient."""
        return el.min_axes(self, axes=_as_axes(dim, self.data.ndim), keepdim=keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The index of the first maximum, int64; of the flat tensor where dim is None."""
        return el.argmax(self, dim=None if dim is None else as_axis(dim, self.data.ndim), keepdim=keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The index of the first minimum, int64; of the flat tensor where dim is None."""
        return el.argmin(self, dim=None if dim is None else as_axis(dim, self.data.ndim), keepdim=keepdim)

    def any(self) -> Tensor:
        """Is any element true?"""
        return wrap(np.any(self.data))

    def all(self) -> Tensor:
        """Are all elements true?"""
        return wrap(np.all(self.data))

    def norm(self) -> Tensor:
        """The Euclidean norm of all elements."""
        return (self * self).sum().sqrt()

    # -- shapes --

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; a view where the memory allows it."""
        return el.reshape(self, shape=_sizes(shape, "reshape"))

    def view(self, *shape: Any) -> Tensor:
        """reshape that never copies; ValueError where it would have to."""
        result = self.reshape(*shape)
        if result.data.size and not np.may_share_memory(result.data, self.data):
            raise ValueError(
                f"view: shape {list(result.shape)} does not fit strides {self.data.strides}; use reshape()"
            )
        return result

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Dimensions start_dim to end_dim as one."""
        first, last = as_axis(start_dim, self.data.ndim), as_axis(end_dim, self.data.ndim)
        if first > last:
            raise ValueError(f"flatten: start_dim={start_dim} comes after end_dim={end_dim}")
        shape = self.data.shape
        return el.reshape(
            self, shape=(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
        )

    def permute(self, *dims: Any) -> Tensor:
        """Dimensions in another order, a view."""
        axes = tuple(as_axis(d, self.data.ndim) for d in _sizes(dims, "permute"))
        if sorted(axes) != list(range(self.data.ndim)):
            raise ValueError(f"permute: dims={axes} must name each of the {self.data.ndim} dimensions once")
        return el.permute(self, dims=axes)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two dimensions swapped, a view."""
        axes = list(range(self.data.ndim))
        i, j = as_axis(dim0, self.data.ndim), as_axis(dim1, self.data.ndim)
        axes[i], axes[j] = axes[j], axes[i]
        return el.permute(self, dims=tuple(axes))

    def t(self) -> Tensor:
        """The transposed matrix."""
        if self.data.ndim > 2:
            raise ValueError(f"t() is for at most 2 dimensions, this tensor has {self.data.ndim}")
        return self.permute(*range(self.data.ndim)[::-1])

    def squeeze(self, dim: Any = None) -> Tensor:
        """Without the dimensions of length 1 (those of `dim` where given)."""
        axes = _as_axes(dim, self.data.ndim)
        shape = tuple(n for i, n in enumerate(self.data.shape) if n != 1 or i not in axes)
        return el.reshape(self, shape=shape)

    def unsqueeze(self, dim: int) -> Tensor:
        """With a dimension of length 1 at `dim`."""
        shape = list(self.data.shape)
        shape.insert(as_axis(dim, self.data.ndim + 1), 1)
        return el.reshape(self, shape=tuple(shape))

    def expand(self, *sizes: Any) -> Tensor:
        """Dimensions of length 1 repeated to `sizes` (-1: as it is), a read-only view."""
        shape = _sizes(sizes, "expand")
        lead = len(shape) - self.data.ndim
        if lead < 0:
            raise ValueError(f"expand: {len(shape)} sizes for a tensor of {self.data.ndim} dimensions")
        own = self.data.shape
        return el.expand(
            self, shape=tuple(own[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(shape))
        )

    def sum_to(self, shape: tuple[int, ...]) -> Tensor:
        """Summed over the axes along which `shape` is broadcast to this one's: broadcasting undone."""
        return el.sum_to(self, shape=shape)

    def flip(self, *dims: Any) -> Tensor:
        """Dimensions reversed, a copy."""
        return el.flip(self, dims=tuple(as_axis(d, self.data.ndim) for d in _sizes(dims, "flip")))

    def split(self, size: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """Views of `size` elements each along dim (the last may be smaller), or of the listed sizes."""
        axis = as_axis(dim, self.data.ndim)
        n = self.data.shape[axis]
        sizes = [min(size, n - i) for i in range(0, n, size)] if isinstance(size, int) else list(size)
        if sum(sizes) != n:
            raise ValueError(f"split: sizes {sizes} do not sum to {n}, the length of dim {dim}")
        ends = list(itertools.accumulate(sizes))
        lead = (slice(None),) * axis
        return tuple(
            el.getitem(self, index=(*lead, slice(b - m, b))) for m, b in zip(sizes, ends, strict=True)
        )

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` views of equal size along dim."""
        return self.split(max(1, -(-self.data.shape[as_axis(dim, self.data.ndim)] // chunks)), dim)

    # -- indexing --

    def __getitem__(self, index: Any) -> Tensor:
        return el.getitem(self, index=array_index(index))

    def gather(self, dim: int, index: Any) -> Tensor:
        """The element of each position with its coordinate along `dim` taken from index (torch.gather)."""
        return el.gather(self, index, dim=as_axis(dim, self.data.ndim))

    # -- functions of cnnext.functional as methods --

    def relu(self) -> Tensor:
        """max(x, 0)."""
        return _functional().relu(self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-x))."""
        return _functional().sigmoid(self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent."""
        return _functional().tanh(self)

    def softmax(self, dim: int) -> Tensor:
        """exp(x) over its sum along dim."""
        return _functional().softmax(self, dim)

    def log_softmax(self, dim: int) -> Tensor:
        """The logarithm of softmax."""
        return _functional().log_softmax(self, dim)


def _functional() -> Any:
    from . import functional  # functional imports Tensor

    return functional
