"""What Conv2d keeps between calls without gradients: its weight in the order that the kernels read."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .. import ops
from ..devices import is_on_device
from ..tensor import Tensor
from .module import Parameter


def _references(weight: Parameter) -> int:
    array = weight.own_array()
    return sys.getrefcount(array)


# What _references() says where nobody else has the array; how it counts is the interpreter's affair.
_OWN = _references(Parameter(np.empty(1, np.float32)))


def is_held_elsewhere(weight: Parameter) -> bool:
    """May somebody change the values without the version's knowing, who has the array or a view of it?"""
    array = weight.own_array()
    if not isinstance(array, np.ndarray) or not array.flags.owndata:
        return True
    del array
    return _references(weight) != _OWN


class KeptWeight:
    """At most one packed weight, and what it was packed from and for.

    It is good for as long as the weight is the same Parameter with the same version, whose array nobody has
    been given since. It is not made while anybody else holds that array or a view of it, because writing
    there changes no version; so it cannot be out of date. The first call of a kind only takes note, so that
    a single one after every training step packs nothing in vain. Copies and pickles of it are empty.
    """

    __slots__ = ("_kept", "_noted", "_useless")

    def __init__(self) -> None:
        self.clear()
        self._useless: Any = None  # a kind of call whose kernels read the weight as it lies

    def clear(self) -> None:
        """Forget the packed weight."""
        self._kept: tuple[Any, Any, ops.PackedWeight] | None = None
        self._noted: Any = None

    def __reduce__(self) -> tuple:
        return KeptWeight, ()

    def get(self, x: Tensor, weight: Any, *geometry: Any) -> ops.PackedWeight | None:
        """The packed weight for this call of ops.conv2d, or None: the weight itself is to be used."""
        if not isinstance(weight, Parameter) or is_on_device(x.data):
            return None
        image = x.data
        call = (image.shape, image.strides, image.dtype, geometry)
        state = weight.state()
        kept = self._kept
        if kept is not None and kept[1] != state:
            self.clear()
            kept = None
        again = self._noted == call
        self._noted = call
        if kept is not None and kept[0] == call:
            return kept[2]
        return self._pack(call, state, x, weight) if again and call != self._useless else None

    def _pack(self, call: Any, state: Any, x: Tensor, weight: Parameter) -> ops.PackedWeight | None:
        if x.ndim != 4 or x.dtype != np.float32 or weight.own_array().dtype != np.float32:
            return None
        if is_held_elsewhere(weight):
            return None
        nbytes = weight.own_array().nbytes
        shape, *_, geometry = call
        channels_last = x.is_contiguous("channels_last") and not x.is_contiguous()
        try:
            packed = ops.pack_weight(
                weight.own_array(), *geometry, input_shape=shape, channels_last=channels_last
            )
        except (ValueError, TypeError, NotImplementedError, MemoryError):
            return None  # if it matters, the convolution says so
        if packed.nbytes <= nbytes:  # only the copy that every handle holds
            self._useless = call
            return None
        self._kept = (call, state, packed)
        return packed
