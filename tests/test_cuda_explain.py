"""explain(device="cuda"): its kernel and scratch are those of the real call, and nothing is launched."""

from __future__ import annotations

import cnnext as cx
import gpu
import numpy as np
import pytest
from cnnext import _C, roofline, testing
from op_cases import all_cases
from op_check import laid_out
from op_check_half import FLOAT16, cast
from op_explain import CONV, POOL, explained

gpu.need_device()
from gpu import arrays  # noqa: E402

pytestmark = pytest.mark.cuda
FEW = 6 if gpu.ON_BED else None  # cases of an operation


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("op", [*CONV, *POOL])
def test_it_says_what_the_call_then_does(op: str, dtype: str, layout: str) -> None:
    cases = sorted((c for c in all_cases() if c.op == op), key=lambda c: c.make().popitem()[1].size)
    for case in cases[:FEW]:
        made = case.make() if dtype == "float32" else cast(case.make(), FLOAT16.dtype)
        host = laid_out(made, layout)
        says = explained(case, host, layout, "cuda")
        result = case.run(arrays.INTERFACE.put_all(host))[0]
        if 0 in result.shape:
            continue
        does = testing.last_kernel(), _C.last_scratch_bytes()
        assert (says.kernel, says.scratch_bytes) == does, case
        assert says.isa == _C.cuda_devices()[0]
        assert roofline.family_of(says.kernel)[0]


@pytest.mark.parametrize(
    "op", ["conv2d_relu_max_pool2d", "conv2d_relu_max_pool2d_backward", "conv2d_batch_norm"]
)
def test_fused_operations_of_a_size_that_no_device_has(op: str) -> None:
    window = {} if op == "conv2d_batch_norm" else {"pool_size": 2}
    before = _C.memory_stats()["in_use_bytes"]
    says = cx.explain(op, (4096, 64, 512, 512), (64, 64, 3, 3), padding=1, device="cuda:0", **window)
    assert says.kernel.startswith(f"cuda/{op.removesuffix('_backward')}")
    assert says.bytes > 1 << 38
    assert says.tasks > 0
    assert _C.memory_stats()["in_use_bytes"] == before


def test_its_table_has_the_device_and_no_expected_speed() -> None:
    says = cx.explain("conv2d", (8, 64, 28, 28), (64, 64, 3, 3), padding=1, channels_last=True,
                      dtype="float16", device="cuda")  # fmt: skip
    assert says.kernel.startswith("cuda/conv2d_mma_")
    assert says.algorithm == "implicit GEMM, tensor cores"
    assert says.expected_gflops == 0
    assert _C.cuda_devices()[0] in str(says)
    assert "expected" not in str(says)
    assert np.prod(says.y_shape) == 8 * 64 * 28 * 28


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="'cuda:99' does not exist"):
        cx.explain("conv2d", (1, 4, 8, 8), (6, 4, 3, 3), device="cuda:99")
