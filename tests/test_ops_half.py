"""float16 and bfloat16: stored in 16 bits, summed in wider floats, rounded once at the end.

The inputs are rounded to 16 bits first; the oracle is the reference in float64 on those. The bound is
float32's of the same case and one rounding of the result.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import _C, ops, testing
from op_case import EPS, FLOAT_ISA, IMAGE_OPS, Case
from op_cases import all_cases
from op_check import BY_NAME, LAYOUTS, laid_out

ml_dtypes = pytest.importorskip("ml_dtypes")
from op_check_half import BFLOAT16, FLOAT16, HALVES, Half, cast, check_half  # noqa: E402

OPS = ("conv2d", "conv_transpose2d", "linear", "max_pool2d", "activation", "add", "bias_grad", "contiguous")
OTHERS = ("max_pool2d_gather",)
CASES = [c for c in all_cases() if c.op.startswith(OPS) and c.op not in OTHERS]


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("layout", ["nchw", "nhwc", "nhwc weights", "strided"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_float64(case: Case, layout: str, half: Half) -> None:
    arrays = laid_out(cast(case.make(), half.dtype), layout)
    before = {k: v.copy() for k, v in arrays.items()}
    check_half(case, half, case.run(arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name], err_msg=f"{name} was written")


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("case", [c for c in CASES if c.op.startswith(("conv", "bias", "max"))], ids=str)
def test_the_reference(case: Case, half: Half) -> None:
    arrays = cast(case.make(), half.dtype)
    with testing.backend("ref"):
        check_half(case, half, case.run(arrays))


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.op in IMAGE_OPS and "unbatched" not in c.note], ids=str
)
def test_the_result_has_the_format_of_x(case: Case, half: Half) -> None:
    arrays = cast(case.make(), half.dtype)
    for layout, order in (("nchw", (0, 1, 2, 3)), ("nhwc", (0, 2, 3, 1))):
        if layout == "nhwc" and arrays["x"].shape[1] == 1:
            continue  # the same memory as NCHW, and taken as that
        for result in case.run(laid_out(arrays, layout)):
            assert result.transpose(order).flags.c_contiguous


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_the_same_bits_for_any_number_of_threads(half: Half, layout: str, depthwise: bool) -> None:
    rng = np.random.default_rng(0)
    groups = 40 if depthwise else 1
    x = LAYOUTS[layout](rng.standard_normal((4, 40, 33, 35)).astype(half.dtype))
    w = rng.standard_normal((40, 40 // groups, 3, 3)).astype(half.dtype)
    params = {"padding": 1, "groups": groups}
    results = []
    for threads in (1, 2, 3, 8):
        _C.set_num_threads(threads)
        y = ops.conv2d(x, w, **params)
        results.append(b"".join(r.tobytes() for r in (y, *ops.conv2d_backward(y, x, w, **params))))
    assert len(set(results)) == 1


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_the_reference_rounds_once(half: Half) -> None:
    """Just above the middle of two neighbours: rounded to float32 first, it would fall on the even one."""
    step = 2 * half.rounding
    x = np.array([1, step / 2, 2.0**-20], half.dtype).reshape(1, 3, 1, 1)
    w = np.array([1, 1, 2.0**-20], half.dtype).reshape(1, 3, 1, 1)
    with testing.backend("ref"):
        assert float(ops.conv2d(x, w)[0, 0, 0, 0]) == 1 + step


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_every_value_survives_add(half: Half) -> None:
    """All 65,536: reading and writing loses nothing, NaN stays NaN."""
    bits = np.arange(65536, dtype=np.uint16)
    y = ops.add(bits.view(half.dtype), np.full(65536, -0.0).astype(half.dtype))
    nan = np.isnan(bits.view(half.dtype).astype(np.float32))
    np.testing.assert_array_equal(np.isnan(y.astype(np.float32)), nan)
    np.testing.assert_array_equal(y.view(np.uint16)[~nan], bits[~nan])


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [5, 64])
def test_nan_infinity_and_overflow(half: Half, layout: str, channels: int) -> None:
    x = np.ones((1, channels, 6, 7), np.float32)
    x[0, 1, 2, 3], x[0, 2, 5, 0] = np.nan, np.inf
    w = np.ones((33, channels, 3, 3), np.float32)
    w[1] = np.finfo(half.dtype if half is FLOAT16 else np.float32).max / 2
    w[2] = np.inf
    y = ops.conv2d(LAYOUTS[layout](x.astype(half.dtype)), w.astype(half.dtype), padding=1)
    y = y.astype(np.float32)
    assert np.isnan(y[0, :, 1:4, 2:5]).all()
    assert np.isinf(y[0, :, 4:, :2]).all()
    assert np.isinf(y[0, 1, 0, 5:]).all(), "too large for the type"
    assert np.isinf(y[0, 2, 0, 5:]).all(), "padding contributes nothing, even under an infinite weight"
    assert (y[0, 0, 0, 5:] == [6 * channels, 4 * channels]).all()


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_empty_batch(half: Half) -> None:
    x, w = np.zeros((0, 3, 5, 6), half.dtype), np.ones((4, 3, 3, 3), half.dtype)
    y = ops.conv2d(x, w)
    assert (y.shape, y.dtype) == ((0, 4, 3, 4), half.dtype)
    grad_x, grad_w, grad_b = ops.conv2d_backward(y, x, w)
    assert grad_x.shape == x.shape
    assert not grad_w.astype(np.float32).any()
    assert not grad_b.astype(np.float32).any()
    assert grad_w.shape == w.shape


def test_one_dtype_for_all() -> None:
    x, w = np.ones((1, 2, 4, 5), np.float16), np.ones((3, 2, 3, 3), np.float16)
    with pytest.raises(TypeError, match="weight has dtype float32, but x has float16"):
        ops.conv2d(x, w.astype(np.float32))
    with pytest.raises(TypeError, match="bias has dtype bfloat16, but weight has float16"):
        ops.conv2d(x, w, np.ones(3, ml_dtypes.bfloat16))
    with pytest.raises(TypeError, match=r"(out|y) has dtype float32"):
        ops.conv2d(x, w, out=np.empty((1, 3, 2, 3), np.float32))
    with pytest.raises(NotImplementedError, match=r"x has dtype float16.*supports float32 and float64"):
        ops.softmax(x, 1)


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_packed_weights_and_out(half: Half) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 20, 6, 9)).astype(half.dtype)
    w = rng.standard_normal((18, 20, 3, 3)).astype(half.dtype)
    y = ops.conv2d(x, w, padding=1)
    packed = ops.pack_weight(w, padding=1, input_shape=x.shape)
    assert packed.dtype == str(half)
    np.testing.assert_array_equal(ops.conv2d(x, packed, padding=1), y)
    out = np.empty_like(y)
    assert ops.conv2d(x, w, padding=1, out=out) is out
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_runs_on_the_instruction_set_in_use(half: Half) -> None:
    x, w = np.ones((1, 20, 5, 4), half.dtype), np.ones((3, 20, 3, 3), half.dtype)
    isa = _C.isa() if half is BFLOAT16 else FLOAT_ISA
    y = ops.conv2d(x, w)
    assert testing.last_kernel().startswith(f"cpu/{isa}/conv2d_k")
    ops.conv2d_backward_data(y, w, x.shape)
    assert testing.last_kernel().startswith(f"cpu/{isa}/conv2d_k")
    ops.conv2d_backward_weights(y, x, w.shape)
    assert testing.last_kernel().startswith(f"cpu/{FLOAT_ISA}/conv2d_weights")


# ---- backward-weights of bfloat16 by pairs of images

#: N, C, (H, W), K, (R, S), and what else
PAIRS: dict[str, tuple[tuple, dict]] = {
    "two images, tails": ((2, 17, (9, 11), 21, (3, 2)), {"padding": (1, 0)}),
    "an odd last image": ((5, 33, (6, 13), 16, (2, 3)), {"padding": ((0, 2), (1, 0))}),
    "one image, few channels": ((1, 9, (6, 13), 8, (3, 3)), {"padding": (2, 1)}),
    "strides": ((3, 16, (13, 18), 40, (3, 3)), {"stride": (2, 3), "padding": (1, 2)}),
    "1x1, strides": ((4, 70, (11, 14), 18, (1, 1)), {"stride": (3, 2)}),
    "dilation": ((2, 24, (12, 17), 20, (3, 2)), {"dilation": (2, 5), "padding": (2, 3)}),
    "groups": ((3, 3 * 18, (7, 5), 3 * 16, (3, 3)), {"groups": 3, "padding": 1}),
    "many pixels": ((3, 16, (25, 650), 19, (1, 3)), {"padding": (0, 1)}),
    "many channels": ((3, 300, (7, 6), 150, (3, 3)), {"padding": 1}),
}


def pairs_arrays(case: str, layout: str) -> tuple[Any, Any, tuple, dict]:
    (n, c, image, k, window), params = PAIRS[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, *image)).astype(BFLOAT16.dtype)
    w = (k, c // params.get("groups", 1), *window)
    y = ops.conv2d(np.zeros_like(x), np.zeros(w, BFLOAT16.dtype), **params)
    y = rng.standard_normal(y.shape).astype(BFLOAT16.dtype)
    return LAYOUTS[layout](x), LAYOUTS[layout](y), w, params


by_pairs = pytest.mark.skipif(_C.isa() != "avx512_bf16", reason="pairs need AVX512_BF16")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("case", PAIRS)
def test_backward_weights_by_pairs_of_images(case: str, layout: str) -> None:
    x, y, shape, params = pairs_arrays(case, layout)
    results = []
    for threads in (1, 2, 5):
        _C.set_num_threads(threads)
        results.append(ops.conv2d_backward_weights(y, x, shape, **params))
        own = _C.isa() == "avx512_bf16"
        assert testing.last_kernel().startswith(f"cpu/{_C.isa() if own else FLOAT_ISA}/conv2d_weights")
    assert len({r.tobytes() for r in results}) == 1
    with testing.backend("ref"):
        exact, sizes = (
            ops.conv2d_backward_weights(f(y.astype(np.float64)), f(x.astype(np.float64)), shape, **params)
            for f in (np.asarray, np.abs)
        )
    bound = 4 * np.sqrt(y.size / y.shape[1]) * EPS * sizes
    error = np.abs(results[0].astype(np.float64) - exact)
    assert (error <= bound + BFLOAT16.rounding * (np.abs(exact) + bound)).all()


@by_pairs
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_pairs_leave_nan_and_infinity_where_they_are(layout: str, images: int) -> None:
    """Neither padding nor the other image of a pair, nor the zeros beside an odd last one, meets them."""
    x, y = np.ones((images, 18, 5, 6), np.float32), np.ones((images, 20, 5, 6), np.float32)
    y[-1, 3, 0, 5], x[-1, 7, 4, 0] = np.inf, np.nan  # corners
    args = [LAYOUTS[layout](a.astype(BFLOAT16.dtype)) for a in (y, x)]
    got = ops.conv2d_backward_weights(*args, (20, 18, 3, 3), padding=1).astype(np.float32)
    assert testing.last_kernel().startswith("cpu/avx512_bf16/conv2d_weights")
    # Window (r, s) moves the first corner to row r - 1, column 4 + s, the second to row 5 - r, column 1 - s.
    infinite, nan = np.zeros(got.shape, bool), np.zeros(got.shape, bool)
    infinite[3, :, 1:, :2] = True
    nan[:, 7, 1:, :2] = True
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(np.isinf(got), infinite & ~nan)


@by_pairs
@pytest.mark.parametrize("last", [False, True])
def test_explain_names_the_pairs_kernel(last: bool) -> None:
    x, y, shape, params = pairs_arrays("strides", "nhwc" if last else "nchw")
    ops.conv2d_backward_weights(y, x, shape, **params)
    plan = cx.explain(
        "conv2d_backward_weights", x.shape, shape, **params, dtype="bfloat16", channels_last=last
    )
    assert plan.kernel == testing.last_kernel() == "cpu/avx512_bf16/conv2d_weights_6x64"
    assert plan.scratch_bytes == _C.last_scratch_bytes()


# ---- depthwise

#: C, (H, W), R, and what else
DEPTHWISE: dict[str, tuple[int, tuple[int, int], int, dict]] = {
    "rows": (33, (9, 23), 3, {"padding": (1, 0)}),
    "stride 2": (70, (11, 18), 5, {"stride": 2, "padding": (0, 2)}),
    "rectangles": (20, (14, 11), 3, {"stride": (1, 3), "padding": 2, "dilation": (1, 2)}),
    "pixels whole KB apart": (512, (6, 9), 3, {"padding": 1}),
    "past the caches": (32, (187, 183), 3, {"padding": 1}),
    "past the caches, stride 2": (48, (151, 149), 3, {"stride": 2, "padding": 1}),
    "past the caches, parts of lines": (20, (235, 227), 3, {"padding": 1}),
}


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_is_float32s_result_rounded(case: str, layout: str, half: Half) -> None:
    """Bit for bit: the same kernels, which widen what they load and round what they store."""
    c, image, r, params = DEPTHWISE[case]
    rng = np.random.default_rng(0)
    x = LAYOUTS[layout](rng.standard_normal((2, c, *image)).astype(half.dtype))
    w, b = rng.standard_normal((c, 1, r, r)).astype(half.dtype), np.linspace(-1, 1, c).astype(half.dtype)
    params = {**params, "groups": c}
    wide = [a.astype(np.float32) for a in (x, w, b)]
    y = ops.conv2d(x, w, b, **params)
    np.testing.assert_array_equal(y, ops.conv2d(*wide, **params).astype(half.dtype))
    assert testing.last_kernel().endswith("/depthwise_channels")
    added = ops.conv2d(x, w, b, **params, residual=y, activation="relu")
    wanted = ops.conv2d(*wide, **params, residual=y.astype(np.float32), activation="relu")
    np.testing.assert_array_equal(added, wanted.astype(half.dtype))
    back = ops.conv2d_backward_data(y, w, x.shape, **params)
    wanted = ops.conv2d_backward_data(y.astype(np.float32), wide[1], x.shape, **params)
    np.testing.assert_array_equal(back, wanted.astype(half.dtype))


def test_every_case_is_known() -> None:
    assert {str(c) for c in CASES} <= set(BY_NAME)


# ---- other libraries' arrays


def test_torch_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    x, w, b = torch.randn(2, 6, 7, 9), torch.randn(8, 3, 3, 2), torch.randn(8)
    x, w, b = (t.bfloat16() for t in (x, w, b))
    for image in (x, x.to(memory_format=torch.channels_last)):
        y = ops.conv2d(image, w, b, padding=1, groups=2)
        want = torch.nn.functional.conv2d(x.double(), w.double(), b.double(), padding=1, groups=2)
        assert y.dtype == torch.bfloat16
        assert y.is_contiguous(memory_format=torch.channels_last) == (image is not x)
        torch.testing.assert_close(y.double(), want, rtol=2.0**-7, atol=1e-3)
        out = torch.empty_like(y)
        assert ops.conv2d(image, w, b, padding=1, groups=2, out=out) is out
        assert (out == y).all()
    with pytest.raises(TypeError, match="requires grad"):
        ops.relu(x.clone().requires_grad_())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("last", [False, True])
def test_the_rms_error_beside_torchs(dtype: str, last: bool) -> None:
    """Both round once, so that both are as far from the sum in float64."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    format = torch.channels_last if last else torch.contiguous_format
    x, w, g = torch.randn(2, 64, 14, 15), torch.randn(70, 64, 3, 3) / 24, torch.randn(2, 70, 14, 15)
    x, w, g = (t.to(getattr(torch, dtype)).to(memory_format=format) for t in (x, w, g))

    def by_torch(x: Any, w: Any, g: Any) -> tuple:
        x, w = (t.detach().requires_grad_() for t in (x, w))
        y = torch.nn.functional.conv2d(x, w, padding=1)
        y.backward(g)
        return y.detach(), x.grad, w.grad

    exact = by_torch(x.double(), w.double(), g.double())
    theirs = by_torch(x, w, g)
    ours = (ops.conv2d(x, w, padding=1), *ops.conv2d_backward(g, x, w, padding=1)[:2])
    for mine, other, want in zip(ours, theirs, exact, strict=True):
        rms = [(t.double() - want).square().mean().sqrt().item() for t in (mine, other)]
        assert rms[0] <= 1.05 * rms[1]


class Exporter:
    """An array of another library: __dlpack__ and nothing else."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


def test_bfloat16_through_dlpack() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([-1.5, 2.5]).bfloat16()
    y = ops.relu(Exporter(tensor))
    assert (type(y), y.dtype, y.tolist()) == (np.ndarray, ml_dtypes.bfloat16, [0.0, 2.5])


WITHOUT_ML_DTYPES = """
import sys
sys.modules["ml_dtypes"] = None  # an import of it fails
import torch
from cnnext import ops
from exporter import Exporter
x = torch.tensor([-1.5, 2.5]).bfloat16()
assert ops.relu(x).tolist() == [0.0, 2.5]
try:
    ops.relu(Exporter(x))
except TypeError as error:
    assert "pip install ml_dtypes" in str(error), error
else:
    raise AssertionError("no error")
"""


def test_bfloat16_without_ml_dtypes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "exporter.py").write_text(f"from typing import Any\n\n{inspect.getsource(Exporter)}")
    subprocess.run([sys.executable, "-c", WITHOUT_ML_DTYPES], check=True, cwd=tmp_path)


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_gradients_pass_through_sixteen_bits(half: Any) -> None:
    def grads(dtype: Any) -> list[np.ndarray]:
        cx.manual_seed(0)
        conv, x = cx.nn.Conv2d(3, 4, 3, bias=False), cx.rand(2, 3, 7, 6)
        x.requires_grad_(True)
        y = cx.nn.functional.relu(
            cx.nn.functional.conv2d(x.to(np.dtype(dtype)), conv.weight.to(np.dtype(dtype)))
        )
        (y.to(np.float32) * y.to(np.float32)).sum().backward()
        return [x.grad.numpy(), conv.weight.grad.numpy()]

    for got, want in zip(grads(half), grads(np.float32), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=0.03 * np.abs(want).max())
