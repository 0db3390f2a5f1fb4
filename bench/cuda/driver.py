"""As much of the CUDA driver's API as measuring needs, by ctypes: it is there wherever a GPU can be used.

Everything is in the device's primary context and its legacy default stream, where torch's and CuPy's default
streams and cnnext's calls are too; so that one stopwatch serves them all.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

#: Names another library than the system's driver, such as the tests' stand-in.
VARIABLE = "CNNEXT_CUDA_DRIVER"
_NAMES = ("libcuda.so.1", "libcuda.so")
_ATTRIBUTES = {  # CUdevice_attribute
    "clock_khz": 13,
    "multiprocessors": 16,
    "memory_clock_khz": 36,
    "bus_bits": 37,
    "l2_bytes": 38,
    "major": 75,
    "minor": 76,
}
_DEVICE = c_uint64  # CUdeviceptr
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (c_void_p,),
    "cuDeviceGetCount": (c_void_p,),
    "cuDeviceGet": (c_void_p, c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuMemGetInfo_v2": (c_void_p, c_void_p),
    "cuMemAlloc_v2": (c_void_p, c_size_t),
    "cuMemFree_v2": (_DEVICE,),
    "cuMemcpyHtoD_v2": (_DEVICE, c_void_p, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, _DEVICE, c_size_t),
    "cuMemcpyDtoDAsync_v2": (_DEVICE, _DEVICE, c_size_t, c_void_p),
    "cuMemsetD32Async": (_DEVICE, c_uint, c_size_t, c_void_p),
    "cuEventCreate": (c_void_p, c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventElapsedTime": (c_void_p, c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
    "cuModuleLoadData": (c_void_p, c_char_p),
    "cuModuleGetFunction": (c_void_p, c_void_p, c_char_p),
    "cuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, c_void_p, c_void_p),
}


class DriverError(RuntimeError):
    """There is no driver or no such device, or a call of it failed; the message says which."""


class Driver:
    """One device's primary context, current in this thread."""

    def __init__(self, device: int = 0) -> None:
        self.library = _open()
        self.call("cuInit", 0)
        if not 0 <= device < self.integer("cuDeviceGetCount"):
            count = self.integer("cuDeviceGetCount")
            raise DriverError(f"there is no CUDA device {device}; there are {count}")
        self.device = self.integer("cuDeviceGet", device)
        context = c_void_p()
        self.call("cuDevicePrimaryCtxRetain", byref(context), self.device)
        self.context = context
        self.enter()

    def enter(self) -> None:
        """Makes the context this thread's current one: a library may have chosen another."""
        self.call("cuCtxSetCurrent", self.context)

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            text = c_char_p()
            self.library.cuGetErrorString(status, byref(text))
            raise DriverError(f"{name}: {(text.value or b'an unknown error').decode()} ({status})")

    def integer(self, name: str, *arguments: Any) -> int:
        """What a function writes through its first argument."""
        value = c_int()
        self.call(name, byref(value), *arguments)
        return value.value

    def attribute(self, name: str) -> int:
        return self.integer("cuDeviceGetAttribute", _ATTRIBUTES[name], self.device)

    def describe(self) -> dict[str, Any]:
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), self.device)
        version = self.integer("cuDriverGetVersion")
        return {
            "device": name.value.decode(),
            "capability": f"{self.attribute('major')}.{self.attribute('minor')}",
            "multiprocessors": self.attribute("multiprocessors"),
            "clock_mhz": self.attribute("clock_khz") / 1e3,
            "l2_bytes": self.attribute("l2_bytes"),
            "memory_bytes": self.memory()[1],
            "driver_cuda": f"{version // 1000}.{version % 1000 // 10}",
            "driver": _kernel_driver(),
        }

    def memory(self) -> tuple[int, int]:
        """Bytes of the device that are free, and all."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def synchronize(self) -> None:
        self.call("cuCtxSynchronize")

    # ---- memory ----

    def allocate(self, size: int) -> int:
        address = _DEVICE()
        self.call("cuMemAlloc_v2", byref(address), size)
        return address.value

    def free(self, address: int) -> None:
        self.call("cuMemFree_v2", address)

    def write(self, address: int, host: int, size: int) -> None:
        self.call("cuMemcpyHtoD_v2", address, host, size)

    def read(self, host: int, address: int, size: int) -> None:
        self.call("cuMemcpyDtoH_v2", host, address, size)

    def copy(self, to: int, source: int, size: int) -> None:
        self.call("cuMemcpyDtoDAsync_v2", to, source, size, None)

    def fill(self, address: int, words: int) -> None:
        """Writes that many words of four bytes."""
        self.call("cuMemsetD32Async", address, 0, words, None)

    # ---- events ----

    def event(self) -> c_void_p:
        event = c_void_p()
        self.call("cuEventCreate", byref(event), 0)
        return event

    def record(self, event: c_void_p) -> None:
        self.call("cuEventRecord", event, None)

    def elapsed_ms(self, start: c_void_p, stop: c_void_p) -> float:
        value = c_float()
        self.call("cuEventElapsedTime", byref(value), start, stop)
        return value.value

    def drop(self, event: c_void_p) -> None:
        self.call("cuEventDestroy_v2", event)

    # ---- kernels ----

    def kernel(self, ptx: str, name: str) -> c_void_p:
        """A kernel of PTX, which the driver assembles for the device."""
        module, function = c_void_p(), c_void_p()
        self.call("cuModuleLoadData", byref(module), ptx.encode())
        self.call("cuModuleGetFunction", byref(function), module, name.encode())
        return function

    def launch(self, function: c_void_p, grid: int, block: int, *arguments: Any) -> None:
        """arguments: ctypes values."""
        pointers = (c_void_p * len(arguments))(*(ctypes.addressof(value) for value in arguments))
        self.call("cuLaunchKernel", function, grid, 1, 1, block, 1, 1, 0, None, pointers, None)


def _open() -> Any:
    named = os.environ.get(VARIABLE)
    reasons = []
    for name in (named,) if named else _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
            continue
        for function, arguments in _FUNCTIONS.items():
            getattr(library, function).argtypes = arguments
        library.cuGetErrorString.argtypes = (c_int, c_void_p)
        return library
    raise DriverError(f"no CUDA driver: {reasons[0]}")


def _kernel_driver() -> str:
    """The driver's release, "580.159.04", as its kernel module gives it; empty where it gives none."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as file:
            words = file.readline().split()
    except OSError:
        return ""
    return next((word for word in words if word[0].isdigit() and "." in word), "")
