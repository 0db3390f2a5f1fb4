"""The one table of cases of every operation: what test_ops_ref.py and test_ops_cpu.py run.

H != W and every parameter asymmetric, sizes around the lanes of each instruction set (8, 16, 32, 64), size 1,
groups, dilation, four-sided padding.
"""

from __future__ import annotations

from functools import lru_cache

from op_case import Case
from op_cases_conv import conv_cases, linear_cases, transposed_cases, winograd_cases
from op_cases_pool import pool_cases, unpool_cases
from op_cases_rest import elementwise_cases, loss_cases, norm_cases


@lru_cache(maxsize=1)
def all_cases() -> list[Case]:
    """Every case of every operation."""
    return [
        *conv_cases(),
        *winograd_cases(),
        *transposed_cases(),
        *linear_cases(),
        *pool_cases(),
        *unpool_cases(),
        *elementwise_cases(),
        *norm_cases(),
        *loss_cases(),
    ]
