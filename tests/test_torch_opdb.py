"""PyTorch's own samples of the operations (its op_db): values, shapes, indices, and what it refuses.

Each sample runs on torch tensors and on NumPy arrays, contiguous, channels-last and strided.
"""

from __future__ import annotations

import warnings
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pytest
from cnnext import ops

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")

NAMES = {
    "nn.functional.conv2d": "conv2d",
    "nn.functional.conv_transpose2d": "conv_transpose2d",
    "nn.functional.max_pool2d": "max_pool2d",
    "nn.functional.max_unpool2d": "max_unpool2d",
    "nn.functional.avg_pool2d": "avg_pool2d",
    "nn.functional.adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "nn.functional.linear": "linear",
    "nn.functional.relu": "relu",
    "nn.functional.relu6": "relu6",
    "nn.functional.leaky_relu": "leaky_relu",
    "nn.functional.gelu": "gelu",
    "nn.functional.silu": "silu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "nn.functional.batch_norm": "batch_norm",
    "nn.functional.cross_entropy": "cross_entropy",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
}
REFUSES = {
    "conv2d": 10,
    "max_pool2d": 7,
    "max_unpool2d": 1,
    "avg_pool2d": 5,
    "adaptive_avg_pool2d": 3,
    "gelu": 1,
}
VARIANTS = ("", "grad", "without_cudnn")  # not: other dtypes and complex numbers


@lru_cache(maxsize=1)
def op_db() -> dict[str, list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("torch.testing._internal.common_methods_invocations")
    found: dict[str, list[Any]] = {}
    for op in module.op_db:
        if op.name in NAMES and op.variant_test_name in VARIANTS:
            found.setdefault(NAMES[op.name], []).append(op)
    return found


@cache
def samples(name: str, dtype: Any) -> list[Any]:
    """(operation, [arguments, keywords], what torch gives) of every sample, its floats as dtype."""
    if dtype != torch.float32:  # torch takes seconds to make its samples
        found = []
        for op, inputs, _ in samples(name, torch.float32):
            inputs = convert(inputs, lambda t: t.to(dtype) if t.is_floating_point() else t)
            found.append((op, inputs, run(op, inputs)))
        return found
    found = []
    for op in op_db()[name]:
        for sample in op.sample_inputs("cpu", dtype, requires_grad=False):
            inputs = [
                [sample.input, *sample.args],
                {k: v for k, v in sample.kwargs.items() if k != "inplace"},
            ]
            found.append((op.op, inputs, run(op.op, inputs)))
    return found


def run(op: Any, inputs: Any) -> Any:
    args, keywords = convert(inputs, torch.clone)  # batch_norm writes its arguments
    return op(*args, **keywords)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    """torch's OpenMP threads cost milliseconds a call on a busy machine, and the samples are tiny."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def strided(tensor: Any) -> Any:
    """The same values, every other element of a larger tensor."""
    if tensor.ndim == 0:
        return tensor
    room = tensor.new_zeros([2 * n for n in tensor.shape])
    view = room[tuple(slice(None, None, 2) for _ in tensor.shape)]
    view.copy_(tensor)
    return view


def channels_last(tensor: Any) -> Any:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor.clone()


LAYOUTS = {"contiguous": torch.clone, "channels-last": channels_last, "strided": strided}


def convert(value: Any, change: Any) -> Any:
    """The value with every tensor in it changed; torch.Size stays."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(convert(item, change) for item in value)
    if isinstance(value, dict):
        return {key: convert(item, change) for key, item in value.items()}
    return value


def check(name: str, library: str, layout: str, dtype: Any) -> None:
    assert samples(name, dtype)
    for number, (_, inputs, wanted) in enumerate(samples(name, dtype)):
        given = convert(inputs, LAYOUTS[layout])
        if library == "numpy":
            given = convert(given, lambda t: t.numpy())
        result = getattr(ops, name)(*given[0], **given[1])
        results, expected = (v if isinstance(v, tuple) else (v,) for v in (result, wanted))
        assert len(results) == len(expected)
        for got, want in zip(results, expected, strict=True):
            compare(got, want, library, f"sample {number}: {convert(inputs, lambda t: t.shape)}")


def compare(got: Any, want: Any, library: str, where: str) -> None:
    if library == "numpy":
        assert isinstance(got, np.ndarray), where
        got = torch.from_numpy(got)
    assert isinstance(got, torch.Tensor), where
    assert got.shape == want.shape, where
    if torch.equal(got, want):
        return
    assert want.is_floating_point(), f"{where}\nindices {got} are not {want}"
    close = {"rtol": 1e-5, "atol": 1e-5, "equal_nan": True}
    torch.testing.assert_close(got, want, **close, msg=lambda m: f"{where}\n{m}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("name", NAMES.values())
def test_samples(name: str, library: str, layout: str, dtype: Any) -> None:
    check(name, library, layout, dtype)


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("name", REFUSES)
def test_what_torch_refuses_is_refused(name: str, library: str) -> None:
    count = 0
    for op in op_db()[name]:
        if op.error_inputs_func is None:
            continue
        for error in op.error_inputs("cpu"):
            sample = error.sample_input
            given = [[sample.input, *sample.args], dict(sample.kwargs)]
            if library == "numpy":
                given = convert(given, lambda t: t.numpy())
            with pytest.raises((ValueError, TypeError, NotImplementedError)) as caught:
                getattr(ops, name)(*given[0], **given[1])
            assert str(caught.value), sample
            count += 1
    assert count == REFUSES[name], "torch's list changed"
