"""What tests/test_cuda_*.py stand on, which run on a GPU, or on the test bed of tests/cuda_host.

CNNEXT_CUDA_DRIVER names the library with the driver's API (libcuda.so.1 where it is not set). On the test
bed it is libcnnext_cuda_host.so, as is CNNEXT_CUDA_LIBRARY: tools/run_cuda_bed_tests.sh sets both.
CNNEXT_EXPECT_CUDA=1 makes a failure of what is skipped where there is no device.
"""

from __future__ import annotations

import os

import cnnext as cx
import pytest

#: Whether the device is the test bed: what runs there takes a few thousand times as long.
ON_BED = "CNNEXT_CUDA_DRIVER" in os.environ
EXPECTED = bool(os.environ.get("CNNEXT_EXPECT_CUDA"))


def need_device() -> None:
    """At the top of a module of tests: skips it where there is no device."""
    reason = cx.info().cuda
    if reason == "available":
        return
    if EXPECTED:
        raise RuntimeError(f"CNNEXT_EXPECT_CUDA is set, but there is no CUDA device: {reason}")
    pytest.skip(f"no CUDA device: {reason}", allow_module_level=True)
