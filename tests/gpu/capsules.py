"""What is written into DLPack's capsules by hand."""

from __future__ import annotations

import ctypes
from typing import Any

CPU, CUDA = 1, 2  # DLDeviceType
_BFLOAT = 4  # DLDataTypeCode


def _tensor(capsule: Any) -> int:
    """The address of an unversioned capsule's DLTensor."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return pointer(capsule, b"dltensor")


def set_device(capsule: Any, device_type: int) -> None:
    ctypes.c_int32.from_address(_tensor(capsule) + 8).value = device_type


def set_bfloat16(capsule: Any) -> None:
    """Of a capsule of 16-bit integers."""
    ctypes.c_uint8.from_address(_tensor(capsule) + 20).value = _BFLOAT


def unset_bfloat16(capsule: Any) -> bool:
    """Makes one of bfloat16 one of integers; whether it was one."""
    code = ctypes.c_uint8.from_address(_tensor(capsule) + 20)
    was = code.value == _BFLOAT
    code.value = 0 if was else code.value
    return was
