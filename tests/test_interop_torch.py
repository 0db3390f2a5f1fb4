"""cnnext's operations in torch: its results, gradients of gradients, and its own checks of operations."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.4")

import cnnext as cx  # noqa: E402
import cnnext.interop.torch as cxt  # noqa: E402
from cnnext import _C  # noqa: E402
from cnnext.interop.torch import _fused  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torch_op_cases import CASES, POOL, STATISTICS, Case, distinct, normal  # noqa: E402

F = torch.nn.functional
BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def overload(case: Case) -> Any:
    return getattr(torch.ops.cnnext, case.op).default


def batch_statistics(x: Any, training: bool, eps: float) -> Any:
    return torch.ops.cnnext.batch_norm(x, None, None, *STATISTICS, training, 0.0, eps, None)[1:3]


def differentiable(case: Case) -> tuple[Any, tuple[Any, ...]]:
    """The op as a function of its tensors that require grad, of the results that have gradients."""
    arguments = case.arguments()
    places = [i for i, a in enumerate(arguments) if isinstance(a, torch.Tensor) and a.requires_grad]

    def function(*tensors: Any) -> Any:
        full = list(arguments)
        for place, tensor in zip(places, tensors, strict=True):
            full[place] = tensor
        if case.op == "batch_norm_backward":  # whose mean and deviation are those of its x
            full[3:5] = batch_statistics(full[1].detach(), *full[6:8])
        results = overload(case)(*full)
        results = results if isinstance(results, tuple) else (results,)
        return tuple(r for r in results if r.requires_grad and r.numel())

    return function, tuple(arguments[i].detach().requires_grad_() for i in places)


def test_every_op_has_a_case() -> None:
    names = {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("cnnext::")
    }
    assert names == {case.op for case in CASES}


@BY_NAME
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_opcheck(case: Case) -> None:
    """The schema, the registration of autograd, fake tensors, and AOT dispatch with dynamic shapes."""
    outcome = torch.library.opcheck(overload(case), case.arguments())
    assert set(outcome.values()) == {"SUCCESS"}
    assert set(outcome) == {
        "test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic",
    }  # fmt: skip


@BY_NAME
def test_gradcheck(case: Case) -> None:
    function, tensors = differentiable(case)
    assert torch.autograd.gradcheck(function, tensors)


@BY_NAME
def test_gradgradcheck(case: Case) -> None:
    function, tensors = differentiable(case)
    assert torch.autograd.gradgradcheck(function, tensors)


def with_weights(x: Any, *shapes: tuple[int, ...]) -> list[Any]:
    return [x, *(normal(*shape) for shape in shapes)]


TAKEN = F.max_pool2d(distinct(3, 7, 8, grad=False), 2, return_indices=True)[1]

# What the functions compute, beside torch's. Each is called through its bare autograd.Function.
FUNCTIONS = {
    "conv2d": (
        lambda x, w, b: cxt.conv2d(x, w, b, (2, 1), padding=1, groups=2),
        lambda x, w, b: F.conv2d(x, w, b, (2, 1), padding=1, groups=2),
        lambda: with_weights(normal(2, 4, 6, 7), (6, 2, 3, 2), (6,)),
    ),
    "conv2d same": (
        lambda x, w: cxt.conv2d(x, w, padding="same", dilation=2),
        lambda x, w: F.conv2d(x, w, padding="same", dilation=2),
        lambda: with_weights(normal(3, 6, 7), (4, 3, 3, 3)),
    ),
    "conv2d gelu, residual": (
        lambda x, w, r: cxt.conv2d(x, w, residual=r, activation="gelu"),
        lambda x, w, r: F.gelu(F.conv2d(x, w) + r),
        lambda: [normal(2, 4, 6, 7), normal(6, 4, 3, 2), normal(2, 6, 4, 6)],
    ),
    "conv_transpose2d": (
        lambda x, w, b: cxt.conv_transpose2d(x, w, b, 2, 1, (1, 0), dilation=(1, 2)),
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, (1, 0), dilation=(1, 2)),
        lambda: with_weights(normal(2, 4, 4, 5), (4, 3, 3, 2), (3,)),
    ),
    "linear": (cxt.linear, F.linear, lambda: with_weights(normal(2, 3, 5), (4, 5), (4,))),
    "linear silu": (
        lambda x, w: cxt.linear(x, w, activation="silu"),
        lambda x, w: F.silu(F.linear(x, w)),
        lambda: with_weights(normal(3, 5), (4, 5)),
    ),
    "max_pool2d": (
        lambda x: cxt.max_pool2d(x, 3, 2, 1),
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda: [distinct(2, 3, 6, 7)],
    ),
    "max_pool2d indices": (
        lambda x: cxt.max_pool2d(x, (2, 3), ceil_mode=True, return_indices=True)[0],
        lambda x: F.max_pool2d(x, (2, 3), ceil_mode=True, return_indices=True)[0],
        lambda: [distinct(2, 3, 7, 7)],
    ),
    "max_unpool2d": (
        lambda x: cxt.max_unpool2d(x, TAKEN, 2, output_size=(7, 8)),
        lambda x: F.max_unpool2d(x, TAKEN, 2, output_size=(7, 8)),
        lambda: [normal(3, 3, 4)],
    ),
    "max_unpool2d smaller": (
        lambda x: cxt.max_unpool2d(x, torch.arange(6).reshape(1, 2, 3), (3, 2), output_size=(4, 6)),
        lambda x: F.max_unpool2d(x, torch.arange(6).reshape(1, 2, 3), (3, 2), output_size=(4, 6)),
        lambda: [normal(1, 2, 3)],
    ),
    "conv2d_relu_max_pool2d": (
        lambda x, w, b: cxt.conv2d_relu_max_pool2d(x, w, b, 1, 1, pool_size=3, pool_stride=2, pool_padding=1),
        lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b, 1, 1).relu(), 3, 2, 1),
        lambda: with_weights(normal(2, 4, 8, 7), (6, 4, 3, 3), (6,)),
    ),
    "batch_norm": (
        lambda x, w, b: cxt.batch_norm(x, None, None, w, b, training=True),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        lambda: with_weights(normal(2, 3, 4, 5), (3,), (3,)),
    ),
    "batch_norm relu of rows": (
        lambda x, w, b: cxt.batch_norm(x, None, None, w, b, training=True, activation="relu"),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True).relu(),
        lambda: with_weights(normal(6, 3), (3,), (3,)),
    ),
    "batch_norm evaluation": (
        lambda x, w: cxt.batch_norm(x, torch.ones(3).double(), torch.full((3,), 2.0).double(), w),
        lambda x, w: F.batch_norm(x, torch.ones(3).double(), torch.full((3,), 2.0).double(), w),
        lambda: with_weights(normal(2, 3, 4, 5), (3,)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_beside_torchs(name: str) -> None:
    """Results and gradients, from the bare functions and through the dispatcher, and without gradients."""
    ours, theirs, arguments = FUNCTIONS[name]
    tensors = arguments()
    wanted = theirs(*tensors)
    g = normal(*wanted.shape, grad=False)
    grads = torch.autograd.grad(wanted, tensors, g)
    y = ours(*tensors)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(torch.autograd.grad(y, tensors, g), grads)
    with FlopCounterMode(display=False):  # a dispatch mode
        y = ours(*tensors)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(torch.autograd.grad(y, tensors, g), grads)
    with torch.no_grad():
        torch.testing.assert_close(ours(*tensors), wanted)
    assert torch.autograd.gradgradcheck(ours, tensors)


def test_the_short_way_is_taken_and_left() -> None:
    x, w = normal(1, 2, 5, 5), normal(3, 2, 3, 3)
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    y = cxt.conv2d(x, w)
    assert type(y.grad_fn).__name__ == "cnnext_conv2dBackward"
    with Watch():
        cxt.conv2d(x, w)
    assert "cnnext.conv2d.default" in seen
    meta = cxt.conv2d(torch.empty(1, 2, 5, 5, device="meta"), torch.empty(3, 2, 3, 3, device="meta"))
    assert meta.device.type == "meta"
    assert meta.shape == y.shape


@pytest.mark.parametrize(
    "name", ["conv2d", "conv_transpose2d", "max_pool2d", "conv2d_relu_max_pool2d", "batch_norm"]
)
def test_memory_format_is_kept(name: str) -> None:
    ours, theirs, arguments = FUNCTIONS[name]
    x, *rest = arguments()
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    y = ours(x, *rest)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, theirs(x, *rest))
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert grad.is_contiguous(memory_format=torch.channels_last)


LAYOUTS = {
    "contiguous": lambda t: t,
    "channels-last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "one channel": lambda t: t[:, :1],
    "one column": lambda t: t[..., :1].contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.transpose(2, 3),
    "every other": lambda t: t[:, :, ::2, ::2],
    "channels-last, every other": lambda t: t.contiguous(memory_format=torch.channels_last)[:, :, ::2, ::2],
    "expanded": lambda t: t[:1].expand(3, -1, -1, -1),
    "empty": lambda t: t[:0],
    "unbatched channels-last": lambda t: t.contiguous(memory_format=torch.channels_last)[0],
    "1x1": lambda t: t[:, :, :1, :1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fake_results_have_the_strides_of_real_ones(layout: str) -> None:
    x = LAYOUTS[layout](torch.randn(2, 4, 6, 5))
    channels, pads = x.shape[-3], [1, 1]
    w, v = torch.randn(3, channels, 2, 2), torch.rand(channels)
    calls = [
        ("conv2d", (x, w, None, [1, 1], pads)),
        ("conv_transpose2d", (x, w.transpose(0, 1), None, [2, 2])),
        ("max_pool2d_with_indices", (x, [2, 2], [1, 1], pads)),
        ("conv2d_relu_max_pool2d", (x, w, None, [1, 1], pads, [1, 1], 1, [2, 2], [1, 1], [0, 0])),
        ("linear", (x, torch.randn(3, x.shape[-1]))),
    ]
    if x.ndim == 4:
        calls.append(("batch_norm", (x, None, None, v, v + 1, False, 0.1, 1e-5, None)))
        calls.append(("batch_norm", (x[:, :, 0], None, None, v, v + 1, False, 0.1, 1e-5, None)))
    for name, arguments in calls:
        torch.library.opcheck(
            getattr(torch.ops.cnnext, name).default, arguments, test_utils=("test_schema", "test_faketensor")
        )


@pytest.mark.parametrize("grad_last", [False, True])
def test_fake_gradients_of_two_formats(grad_last: bool) -> None:
    """A gradient in one memory format of an input in the other."""
    formats = [torch.contiguous_format, torch.channels_last]
    x = torch.randn(2, 4, 6, 5).contiguous(memory_format=formats[not grad_last])
    w, v = torch.randn(3, 4, 2, 2).contiguous(memory_format=formats[grad_last]), torch.rand(4)
    geometry = ([1, 1], [1, 1], [1, 1], 1)

    def grad(*shape: int) -> Any:
        return torch.randn(shape).contiguous(memory_format=formats[grad_last])

    codes = torch.ops.cnnext.conv2d_relu_max_pool2d(x, w, None, *geometry, *POOL)[1]
    taps = torch.ops.cnnext.max_pool2d_with_indices(x, [2, 2], indices="window")[1]
    window = ([2, 2], [2, 2], [0, 0], [1, 1], False, "window")
    for name, arguments in [
        ("conv2d_backward_data", (grad(2, 3, 7, 6), w, x.shape, *geometry, "auto")),
        ("conv2d_backward_weights", (grad(2, 3, 7, 6), x, w.shape, *geometry, "auto")),
        ("max_pool2d_backward", (grad(2, 4, 3, 2), taps, x.shape, *window)),
        ("max_pool2d_gather", (grad(2, 4, 6, 5), taps, *window)),
        ("conv2d_relu_max_pool2d_backward", (grad(2, 3, 3, 3), codes, x, w, *geometry, *POOL, [True] * 3)),
        ("batch_norm_backward", (grad(2, 4, 6, 5), x, v, v, v + 1, None, True, 1e-5, None, [True] * 3)),
    ]:
        torch.library.opcheck(
            getattr(torch.ops.cnnext, name).default, arguments, test_utils=("test_schema", "test_faketensor")
        )


def test_batch_norm_updates_the_statistics() -> None:
    ours, theirs = ([torch.zeros(3), torch.ones(3)] for _ in range(2))
    x = torch.randn(4, 3, 5, 5)
    before = ours[0]._version
    cxt.batch_norm(x, *ours, training=True, momentum=0.3)
    F.batch_norm(x, *theirs, training=True, momentum=0.3)
    torch.testing.assert_close(ours, theirs)
    assert ours[0]._version > before
    with FlopCounterMode(display=False):
        cxt.batch_norm(x, *ours, training=True, momentum=0.3)
    F.batch_norm(x, *theirs, training=True, momentum=0.3)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: Any) -> None:
    """The same dtypes as torch's functions under it; the gradients are float32 where the tensors are."""
    x, w, b = (
        torch.randn(2, 4, 8, 8),
        torch.randn(4, 4, 3, 3, requires_grad=True),
        torch.randn(4, requires_grad=True),
    )
    statistics = [torch.zeros(4), torch.ones(4)]

    def net(f: Any, norm: Any) -> Any:
        y = f.conv2d(x, w, b, padding=1)
        assert y.dtype == dtype
        y = norm(y, *statistics, w[:, 0, 0, 0], b, training=True)
        assert y.dtype == dtype
        y = f.conv_transpose2d(f.max_pool2d(y, 2), w, b, stride=2)
        assert y.dtype == dtype
        return f.linear(y, w[:, 0].reshape(4, 9)).float().square().mean()

    results = []
    for f in (F, cxt):
        for t in (w, b):
            t.grad = None
        with torch.autocast("cpu", dtype=dtype):
            loss = net(f, f.batch_norm)
        loss.backward()
        assert w.grad.dtype == torch.float32
        results.append([loss.detach(), w.grad, b.grad])
    for ours, theirs in zip(results[1], results[0], strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * scale)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.ops.cnnext.conv2d(x, w).dtype == dtype
        assert cxt.conv2d_relu_max_pool2d(x, w, b, pool_size=2).dtype == dtype
        assert cxt.conv2d(x.double(), w.double()).dtype == torch.float64
        with torch.autocast("cpu", enabled=False):
            assert cxt.conv2d(x, w).dtype == torch.float32


def test_fused_in_sixteen_bits() -> None:
    """One after the other there: the same values, codes and gradients."""
    x, w, b = (normal(*s, grad=False).bfloat16() for s in ((2, 4, 8, 8), (5, 4, 3, 3), (5,)))
    tensors = [t.requires_grad_() for t in (x, w, b)]
    y = cxt.conv2d_relu_max_pool2d(x, w, b, pool_size=2)
    wanted = F.max_pool2d(cxt.conv2d(x, w, b).relu(), 2)
    assert torch.equal(y, wanted)
    g = normal(*y.shape, grad=False).bfloat16()
    ours, theirs = (torch.autograd.grad(result, tensors, g) for result in (y, wanted))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * float(b.abs().max()))


def test_fused_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no fused kernel: the same results, codes and gradients as with it."""
    x, w, b = normal(2, 4, 8, 9), normal(5, 4, 3, 3), normal(5)
    arguments = (x, w, b, [1, 1], [1, 1], [1, 1], 1, [3, 2], [2, 2], [1, 0])
    fused = torch.ops.cnnext.conv2d_relu_max_pool2d(*arguments)
    grads = torch.autograd.grad(fused[0].square().sum(), (x, w, b))
    monkeypatch.setattr("cnnext.interop.torch._fused._runs_apart", lambda x: True)
    y, codes = torch.ops.cnnext.conv2d_relu_max_pool2d(*arguments)
    torch.testing.assert_close(y, fused[0])
    assert torch.equal(codes, fused[1])
    assert (codes == 255).any()
    torch.testing.assert_close(torch.autograd.grad(y.square().sum(), (x, w, b)), grads)


def test_where_it_runs_apart() -> None:
    """A tensor on CUDA asks whether that library has the operation; without the library it has not."""
    on_cuda = SimpleNamespace(dtype=torch.float32, is_cuda=True)
    assert _fused._runs_apart(on_cuda) != _C.op_supported("cuda", "conv2d_relu_max_pool2d_forward", "float32")
    assert not _fused._runs_apart(torch.ones(1))
    assert _fused._runs_apart(torch.ones(1).half())


def test_no_tensor_is_copied() -> None:
    """The kernels read and write where torch's memory lies: a change of one is seen by the other."""
    x = torch.randn(1, 2, 4, 4)
    w = torch.ones(1, 2, 1, 1, requires_grad=True)
    first = cxt.conv2d(x, w).detach().clone()
    x.mul_(2)
    torch.testing.assert_close(cxt.conv2d(x, w), 2 * first)
    statistics = np.zeros(2, np.float32), np.ones(2, np.float32)
    cxt.batch_norm(x, *map(torch.from_numpy, statistics), training=True, momentum=1.0)
    np.testing.assert_allclose(statistics[0], x.mean((0, 2, 3)).numpy(), rtol=1e-5, atol=1e-6)


def test_a_storage_stays_resizable() -> None:
    """Tensor.numpy() would end that for good, and FSDP frees parameters by resizing."""
    x, w = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 1, 1)
    cx.ops.conv2d(x, w)
    cxt.conv2d(x.bfloat16(), w.bfloat16().requires_grad_())
    assert x.untyped_storage().resizable()
    assert w.untyped_storage().resizable()


def test_errors_name_the_argument() -> None:
    x, w = torch.randn(1, 3, 5, 5), torch.randn(2, 3, 3, 3, requires_grad=True)
    with pytest.raises(ValueError, match="stride"):
        cxt.conv2d(x, w, stride=0)
    with pytest.raises(ValueError, match="weight"):
        cxt.conv2d(x[:, :2], w)
    with pytest.raises(TypeError, match="weight"):
        cxt.conv2d(x, w.double())
    with pytest.raises(ValueError, match="output_size"):
        cxt.max_unpool2d(x, torch.zeros(1, 3, 5, 5, dtype=torch.int64), 2, output_size=(40, 40))
    with pytest.raises(ValueError, match="must be between 0 and 99"):
        cxt.max_unpool2d(x, torch.full((1, 3, 5, 5), 100), 2)
    with pytest.raises(RuntimeError, match="channels"):
        torch.ops.cnnext.conv2d(x[:, :2].to("meta"), w.to("meta"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_transforms_lose_no_derivative_silently() -> None:
    x, w = normal(2, 2, 5, 5, grad=False), normal(3, 2, 3, 3, grad=False)

    def loss(x: Any) -> Any:
        return cxt.conv2d(x, w).square().sum()

    with pytest.raises(NotImplementedError, match=r"torch\.func"):
        torch.func.grad(loss)(x)
    with pytest.raises(NotImplementedError, match=r"torch\.func"):
        torch.func.jvp(loss, (x,), (x,))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        loss(torch.autograd.forward_ad.make_dual(x, x))


def test_ops_points_here() -> None:
    with pytest.raises(TypeError, match=r"cnnext\.interop\.torch"):
        cx.ops.conv2d(torch.randn(1, 1, 3, 3), torch.randn(1, 1, 1, 1, requires_grad=True))


def test_importing_cnnext_imports_no_torch() -> None:
    code = (
        "import sys, cnnext, cnnext.nn, cnnext.interop; assert 'torch' not in sys.modules\n"
        "sys.modules['torch'] = None\n"  # as if it were not installed
        "try:\n    cnnext.interop.torch\n"
        "except ImportError as error:\n    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout == "cnnext.interop.torch needs torch: pip install 'cnnext[torch]'\n"
