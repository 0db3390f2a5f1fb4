"""Tensor: arithmetic, reductions, shapes, indexing, memory formats, the way in and out."""

import copy
import pickle
import subprocess
import sys

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import apart, channels_last, check_gradients, check_second_order, random_arrays

# name, function of tensors, shapes or arrays
BINARY = [
    ("add", lambda x, y: x + y),
    ("subtract", lambda x, y: x - y),
    ("multiply", lambda x, y: x * y),
    ("divide", lambda x, y: x / (y * y + 1.0)),
    ("maximum", lambda x, y: x.maximum(y)),
    ("minimum", lambda x, y: x.minimum(y)),
    ("where", lambda x, y: cx.where(x > y, x * 2.0, y)),
]
UNARY = [
    ("negative", lambda x: -x),
    ("abs", lambda x: abs(x)),
    ("exp", lambda x: x.exp()),
    ("log", lambda x: (x * x + 1.0).log()),
    ("sqrt", lambda x: (x * x + 1.0).sqrt()),
    ("sin", lambda x: x.sin() * x.cos()),
    ("square", lambda x: x**2),
    ("cube", lambda x: x**3),
    ("inverse", lambda x: (x * x + 1.0) ** -1),
    ("root", lambda x: (x * x + 1.0) ** 0.5),
    ("power 0", lambda x: x**0 * x),
    ("reversed", lambda x: (2.0 - x) * (3.0 * x) + 1.0 / (x * x + 1.0)),
    ("exponential", lambda x: 2.0**x),
    ("clamp", lambda x: x.clamp(-0.3, 0.4)),
    ("clamp low", lambda x: x.clamp(min=0.1)),
    ("masked_fill", lambda x: x.masked_fill(x.detach().numpy() > 0.2, 3.0)),
    ("sum", lambda x: x.sum()),
    ("sum dim", lambda x: x.sum(1)),
    ("sum dims", lambda x: x.sum((0, -1), keepdim=True)),
    ("mean", lambda x: x.mean()),
    ("mean dim", lambda x: x.mean(0)),
    ("var", lambda x: x.var()),
    ("var dim", lambda x: x.var(1, unbiased=False)),
    ("var correction", lambda x: x.var((0, 2), correction=2, keepdim=True)),
    ("std", lambda x: x.std(-1)),
    ("norm", lambda x: x.norm()),
    ("max", lambda x: x.max()),
    ("min", lambda x: x.min()),
    ("max dim", lambda x: x.max(1).values),
    ("min dim", lambda x: x.min(-1, keepdim=True)[0]),
    ("amax", lambda x: x.amax((0, 2))),
    ("amin", lambda x: x.amin(1, keepdim=True)),
    ("reshape", lambda x: x.reshape(4, -1)),
    ("view", lambda x: x.view(-1)),
    ("flatten", lambda x: x.flatten(1)),
    ("flatten middle", lambda x: x.flatten(0, 1)),
    ("transpose", lambda x: x.transpose(0, -1)),
    ("permute", lambda x: x.permute(2, 0, 1)),
    ("T", lambda x: x.T),
    ("unsqueeze", lambda x: x.unsqueeze(1).unsqueeze(-1)),
    ("squeeze", lambda x: x[:1, :, :1].squeeze()),
    ("squeeze dim", lambda x: x[:1, :, :1].squeeze(0)),
    ("expand", lambda x: x[:, :1].expand(5, -1, 3, -1)),
    ("flip", lambda x: x.flip(0, 2)),
    ("split", lambda x: cx.cat(x.split([1, 2], 1)[::-1], 1)),
    ("chunk", lambda x: x.chunk(2, -1)[1]),
    ("cat", lambda x: cx.cat([x, x * 2.0, x[:, :1]], 1)),
    ("stack", lambda x: cx.stack([x, x.sin()], -1)),
    ("index int", lambda x: x[1]),
    ("index slices", lambda x: x[:, ::2, 1:]),
    ("index negative", lambda x: x[..., -1]),
    ("index reversed", lambda x: x[:, ::-1]),
    ("index None", lambda x: x[:, None, 0]),
    ("index array", lambda x: x[np.array([0, 1, 0])]),
    ("index arrays", lambda x: x[[0, 1, 1], :, np.array([2, 0, 0])]),
    ("index mask", lambda x: x[x.detach().numpy() > 0]),
    ("index Tensor", lambda x: x[:, cx.tensor([2, 2, 0])]),
    ("gather", lambda x: x.gather(1, np.array([[[0, 2, 1, 1], [0, 0, 0, 0]]]))),
    ("clone", lambda x: x.clone()),
    ("cast", lambda x: x.to(np.float64) * 2.0),
    ("relu", lambda x: x.relu()),
    ("sigmoid", lambda x: x.sigmoid()),
    ("tanh", lambda x: x.tanh()),
    ("softmax", lambda x: x.softmax(1)),
    ("log_softmax", lambda x: x.log_softmax(-1)),
]


@pytest.mark.parametrize(("name", "fn"), BINARY, ids=[n for n, _ in BINARY])
@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (4, 1, 3)), ((), (2,))], ids=str
)
def test_binary_gradients(name, fn, shapes):
    x, y = random_arrays(*shapes)
    check_gradients(fn, x, y)
    check_second_order(fn, x, y)


@pytest.mark.parametrize(("name", "fn"), UNARY, ids=[n for n, _ in UNARY])
def test_unary_gradients(name, fn):
    x = apart((2, 3, 4))
    check_gradients(fn, x)
    check_second_order(fn, x)


def test_power_with_a_tensor_exponent():
    x, y = np.array([0.5, 2.0, 3.0]), np.array([2.0, -1.5, 0.0])
    check_gradients(lambda x, y: x**y, x, y)
    check_second_order(lambda x, y: x**y, x, y)
    zero = cx.Tensor(np.zeros(2), requires_grad=True)
    exponent = cx.Tensor(np.array([0.0, 2.0]), requires_grad=True)
    (zero**exponent).sum().backward()
    np.testing.assert_array_equal(zero.grad.numpy(), [0, 0])
    np.testing.assert_array_equal(exponent.grad.numpy(), [0, 0])


@pytest.mark.parametrize(
    "shapes",
    [((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)),
     ((3,), (5, 3, 2)), ((2, 1, 2, 3), (4, 3, 2))],
    ids=str,
)  # fmt: skip
def test_matmul_gradients(shapes):
    x, y = random_arrays(*shapes)
    np.testing.assert_allclose((cx.Tensor(x) @ cx.Tensor(y)).numpy(), x @ y)
    np.testing.assert_allclose((x @ cx.Tensor(y)).numpy(), x @ y)
    np.testing.assert_allclose((cx.Tensor(x) @ y).numpy(), x @ y)
    check_gradients(lambda x, y: x @ y, x, y)
    check_second_order(lambda x, y: x @ y, x, y)


def test_ties_share_the_gradient_as_in_torch():
    torch = pytest.importorskip("torch")
    a, b = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0], [2.0, 1.0, 2.0]])
    cases = [
        (lambda x, y: x.maximum(y).sum(), lambda x, y: torch.maximum(x, y).sum()),
        (lambda x, y: x.minimum(y).sum(), lambda x, y: torch.minimum(x, y).sum()),
        (lambda x, y: x.amax(1).sum() + y.amin(0).sum(), lambda x, y: x.amax(1).sum() + y.amin(0).sum()),
        (lambda x, y: x.max(1).values.sum() + y.max(), lambda x, y: x.max(1).values.sum() + y.max()),
        (
            lambda x, y: x.clamp(1.0, 2.0).sum() + y.abs().sum(),
            lambda x, y: x.clamp(1.0, 2.0).sum() + y.abs().sum(),
        ),
    ]
    for ours, theirs in cases:
        x, y = cx.Tensor(a, requires_grad=True), cx.Tensor(b, requires_grad=True)
        ours(x, y).backward()
        tx, ty = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
        theirs(tx, ty).backward()
        np.testing.assert_array_equal(x.grad.numpy(), tx.grad.numpy())
        np.testing.assert_array_equal(y.grad.numpy(), ty.grad.numpy())


# ---- values ----


def test_reductions_against_numpy():
    a = apart((2, 3, 4)).astype(np.float32)
    x = cx.Tensor(a)
    np.testing.assert_array_equal(x.argmax().numpy(), a.argmax())
    np.testing.assert_array_equal(x.argmax(1, keepdim=True).numpy(), a.argmax(1, keepdims=True))
    np.testing.assert_array_equal(x.argmin(-1).numpy(), a.argmin(-1))
    values, indices = x.max(dim=2)
    np.testing.assert_array_equal(values.numpy(), a.max(2))
    np.testing.assert_array_equal(indices.numpy(), a.argmax(2))
    assert indices.dtype == np.int64
    np.testing.assert_allclose(x.var().numpy(), a.var(ddof=1), rtol=1e-6)
    np.testing.assert_allclose(x.var(False).numpy(), a.var(), rtol=1e-6)
    np.testing.assert_allclose(x.std((0, 1)).numpy(), a.std((0, 1), ddof=1), rtol=1e-6)
    assert cx.tensor([True, False, True]).sum().item() == 2
    assert cx.tensor([1, 2]).sum().dtype == np.int64
    assert x.sum().dtype == x.mean().dtype == x.var().dtype == np.float32
    assert (x > 0).any().item()
    assert not (x > 0).all().item()


def test_nan_and_infinity():
    x = cx.tensor([1.0, float("nan"), float("inf")])
    assert np.isnan(x.max().item())
    assert x.max(0).indices.item() == 1
    np.testing.assert_array_equal(x.isnan().numpy(), [False, True, False])
    np.testing.assert_array_equal(x.isfinite().numpy(), [True, False, False])
    zero = cx.tensor([0.0], requires_grad=True)
    (1.0 / zero).sum().backward()  # no warning either
    assert zero.grad.item() == -np.inf
    assert cx.tensor([0.0]).log().item() == -np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_numbers_take_the_dtype_of_the_tensor(dtype, shape):
    x = cx.Tensor(np.ones(shape, dtype), requires_grad=True)
    for y in (x + 1.5, 2.5 - x, x * 3, x / 3, 1 / x, x**2, x**0.5, 2.0**x, x.clamp(0.1), x + np.float64(1.5)):
        assert y.dtype == dtype
        (g,) = cx.grad(y.sum(), x)
        assert g.dtype == dtype
    assert (x.mean() * 2.0).dtype == dtype
    assert cx.where(x > 0, x, 0.0).dtype == dtype


def test_promotion_between_tensors_follows_torch():
    torch = pytest.importorskip("torch")
    dtypes = ["float32", "float64", "int64", "int32", "uint8", "bool"]
    for a in dtypes:
        for b in dtypes:
            x, y = cx.ones(2, dtype=a), cx.ones(2, dtype=b)
            tx, ty = torch.ones(2, dtype=getattr(torch, a)), torch.ones(2, dtype=getattr(torch, b))
            assert str((x * y).dtype) == str((tx * ty).dtype)[6:], (a, b)
            assert str((x / y).dtype) == str((tx / ty).dtype)[6:], (a, b)
    for value in (2, 2.5):
        for a in dtypes:
            expected = str((torch.ones(2, dtype=getattr(torch, a)) * value).dtype)[6:]
            assert str((cx.ones(2, dtype=a) * value).dtype) == expected, (a, value)


def test_comparisons_and_logic():
    x, y = cx.tensor([1.0, 2.0, 3.0], requires_grad=True), cx.tensor([3.0, 2.0, 1.0])
    for ours, expected in [
        (x == y, [0, 1, 0]),
        (x != y, [1, 0, 1]),
        (x < y, [1, 0, 0]),
        (x <= 2.0, [1, 1, 0]),
        (x > y, [0, 0, 1]),
        (x >= y, [0, 1, 1]),
        ((x > 1) & (y > 1), [0, 1, 0]),
        ((x > 2) | (y > 2), [1, 0, 1]),
        (~(x > 1), [1, 0, 0]),
    ]:
        assert ours.dtype == np.bool_
        assert not ours.requires_grad
        np.testing.assert_array_equal(ours.numpy(), np.array(expected, bool))
    assert 2.0 in x
    assert {x: 1}[x] == 1


def test_ndarray_on_the_left_gives_a_tensor():
    x = cx.tensor([1.0, 2.0], requires_grad=True)
    y = np.array([3.0, 4.0], np.float32) * x + np.float32(1.0)
    assert isinstance(y, cx.Tensor)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 4])


# ---- memory formats ----


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x + 1.0,
        lambda x: x * x,
        lambda x: x.exp(),
        lambda x: x.clamp(0.0),
        lambda x: x.clone(),
        lambda x: x.double(),
        lambda x: x + cx.ones(3, 1, 1),
        lambda x: cx.where(x > 0, x, 0.0),
        lambda x: abs(-x),
        lambda x: cx.zeros_like(x),
        lambda x: x.relu(),
    ],
)
def test_elementwise_operations_keep_channels_last(fn):
    x = cx.Tensor(channels_last(random_arrays((2, 3, 4, 5))[0].astype(np.float32)))
    assert fn(x).is_contiguous("channels_last")
    assert not fn(x).is_contiguous()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "mixed", "strided"])
def test_sums_of_large_tensors(layout):
    a, b = random_arrays((4, 32, 64, 64), (4, 32, 64, 64))
    if layout in ("channels_last", "mixed"):
        a, b = channels_last(a), b if layout == "mixed" else channels_last(b)
    if layout == "strided":
        a, b = a.transpose(1, 3, 0, 2), b.transpose(1, 3, 0, 2)
    total = cx.Tensor(a) + cx.Tensor(b)
    np.testing.assert_array_equal(total.numpy(), a + b)
    assert total.is_contiguous("channels_last") == (layout in ("channels_last", "mixed"))


def test_contiguous():
    a = random_arrays((2, 3, 4, 5))[0]
    x = cx.Tensor(a, requires_grad=True)
    y = x.contiguous("channels_last")
    assert y.is_contiguous("channels_last")
    assert y.contiguous(memory_format=cx.channels_last) is y
    np.testing.assert_array_equal(y.detach().numpy(), a)
    z = x.to(memory_format="channels_last").contiguous()
    assert z.is_contiguous()
    check_gradients(lambda x: x.contiguous("channels_last") * 2.0, a)
    assert x.contiguous() is x
    ints = cx.arange(24).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(ints.contiguous("channels_last").numpy(), ints.numpy())
    assert ints.contiguous("channels_last").is_contiguous("channels_last")
    with pytest.raises(ValueError, match="needs 4 dimensions; this tensor has 1"):
        cx.ones(3).contiguous("channels_last")
    with pytest.raises(ValueError, match="memory_format must be one of"):
        cx.ones(3).contiguous("nhwc")


def test_gradients_of_channels_last_tensors():
    a = channels_last(random_arrays((2, 3, 4, 5))[0])
    check_gradients(lambda x: (x * x).sum((2, 3)), a)
    check_gradients(lambda x: x.flatten(1) * 2.0, a)


# ---- in and out ----


def test_wraps_without_a_copy_and_copies_with_tensor():
    a = np.ones((2, 3), np.float32)
    assert cx.Tensor(a).data is a
    assert cx.Tensor(cx.Tensor(a)).data is a
    assert cx.from_numpy(a).numpy() is a
    assert not np.shares_memory(cx.tensor(a).data, a)
    assert cx.Tensor([1.5, 2]).dtype == np.float32
    assert cx.tensor([1, 2]).dtype == np.int64
    assert cx.tensor(np.ones(2)).dtype == np.float64
    assert cx.tensor([1, 2], dtype="float64").dtype == np.float64
    assert cx.tensor(3.0, requires_grad=True).requires_grad
    with pytest.raises(TypeError, match="only numbers and bools"):
        cx.Tensor(["a"])
    with pytest.raises(TypeError, match=r"expected a numpy\.ndarray, got list"):
        cx.from_numpy([1])


def test_numpy_refuses_tensors_that_require_grad():
    x = cx.ones(2, requires_grad=True)
    with pytest.raises(
        RuntimeError, match=r"Can't call numpy\(\) on a Tensor that requires grad. Use tensor.detach"
    ):
        x.numpy()
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(x)
    with pytest.raises(RuntimeError, match="requires grad"):
        x.__dlpack__()
    np.testing.assert_array_equal(np.asarray(x.detach()), [1, 1])
    assert np.asarray(cx.ones(2), np.float64).dtype == np.float64
    assert np.from_dlpack(cx.ones(2)).shape == (2,)
    assert cx.ones(2).__dlpack_device__() == (1, 0)


def test_torch_tensors_come_and_go_without_copies():
    torch = pytest.importorskip("torch")
    t = torch.arange(6.0).reshape(2, 3)
    x = cx.Tensor(t)
    assert x.data.ctypes.data == t.data_ptr()
    back = torch.from_dlpack(x)
    assert back.data_ptr() == t.data_ptr()


def test_questions():
    x = cx.zeros(2, 3, requires_grad=True)
    assert (x.shape, x.ndim, x.dim(), x.numel(), len(x), x.size(), x.size(1)) == (
        (2, 3),
        2,
        2,
        6,
        2,
        (2, 3),
        3,
    )
    assert (x.device, x.dtype, x.is_leaf, x.grad_fn) == ("cpu", np.float32, True, None)
    y = x * 2
    assert not y.is_leaf
    assert "multiply" in repr(y.grad_fn)
    assert [row.shape for row in x] == [(3,), (3,)]
    assert cx.tensor(2.5).item() == 2.5
    assert (float(cx.tensor(2.5)), int(cx.tensor(2)), bool(cx.tensor(0.0))) == (2.5, 2, False)
    assert [10, 20, 30][cx.tensor(1)] == 20
    assert f"{cx.tensor(0.12345):.2f}" == "0.12"
    assert cx.tensor([1, 2]).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cx.ones(2).item(), ValueError, r"one element; this one has shape \[2\]"),
        (lambda: bool(cx.ones(2)), ValueError, "one element"),
        (lambda: len(cx.tensor(1.0)), TypeError, "0-d"),
        (lambda: iter(cx.tensor(1.0)), TypeError, "0-d"),
        (lambda: cx.ones(2) + "a", TypeError, "unsupported operand"),
        (lambda: cx.ones(2) - [1], TypeError, "unsupported operand"),
        (lambda: cx.ones(2).sum(1), ValueError, "dim=1 is out of range: .*takes -1 to 0"),
        (lambda: cx.ones(2, 2).sum((0, 0)), ValueError, "names a dimension twice"),
        (lambda: cx.ones(2).sum("a"), TypeError, "dim must be an int"),
        (lambda: cx.arange(3).mean(), TypeError, r"mean\(\) needs a floating dtype, this tensor is int64"),
        (lambda: cx.ones(2).clamp(), ValueError, "min and max are both None"),
        (lambda: cx.ones(2, 3).T.view(6), ValueError, "use reshape"),
        (lambda: cx.ones(2, 3).reshape(5), ValueError, "reshape"),
        (lambda: cx.ones(2, 3).reshape("a"), TypeError, "sizes must be ints"),
        (lambda: cx.ones(2, 3).permute(0, 0), ValueError, "must name each of the 2 dimensions once"),
        (lambda: cx.ones(2, 3).flatten(1, 0), ValueError, "start_dim=1 comes after end_dim=0"),
        (lambda: cx.ones(2, 3).expand(3), ValueError, "1 sizes for a tensor of 2 dimensions"),
        (lambda: cx.ones(2, 3, 4).t(), ValueError, "at most 2 dimensions"),
        (lambda: cx.ones(4).split([1, 2]), ValueError, "do not sum to 4"),
        (lambda: cx.ones(2).to("cuda"), NotImplementedError, "device 'cuda' is not supported"),
        (lambda: cx.ones(2).to(device="cuda:0"), NotImplementedError, "device 'cuda:0' is not supported"),
        (lambda: cx.ones(2).to("float33"), TypeError, "dtype must name a NumPy dtype"),
        (lambda: cx.ones(2)[2], IndexError, "out of bounds"),
        (lambda: cx.ones(-1), ValueError, "non-negative ints"),
        (lambda: cx.cat([]), ValueError, "empty"),
        (lambda: cx.ones(2).copy_(cx.ones(3)), ValueError, "broadcast"),
        (lambda: cx.arange(3).add_(0.5), ValueError, "does not fit the tensor, int64"),
        (lambda: cx.ones(2).add_(cx.ones(3, 2)), ValueError, "does not fit the tensor, float32"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_to():
    x = cx.ones(2, requires_grad=True)
    assert x.to("cpu") is x
    assert x.to(np.float32) is x
    assert x.cpu() is x
    assert x.to("float64").dtype == np.float64
    assert x.to(cx.zeros(1, dtype=cx.int32)).dtype == np.int32
    assert (x.double().dtype, x.half().dtype, x.long().dtype, x.int().dtype, x.bool().dtype) == (
        np.float64, np.float16, np.int64, np.int32, np.bool_,
    )  # fmt: skip
    x.double().sum().backward()
    assert x.grad.dtype == np.float32
    assert not x.long().requires_grad


def test_in_place_methods():
    x = cx.ones(3)
    array = x.data
    x.add_(2.0).mul_(cx.tensor([1.0, 2.0, 3.0])).sub_(1).div_(2).clamp_(max=3.0)
    np.testing.assert_array_equal(array, [1, 2.5, 3])
    x.copy_([7.0, 8.0, 9.0])
    x[1:] = 0
    np.testing.assert_array_equal(array, [7, 0, 0])
    x[x > 5] = cx.tensor(2.0)
    np.testing.assert_array_equal(array, [2, 0, 0])
    x.fill_(4).zero_()
    assert x.data is array
    i = cx.arange(3)
    i += 1
    assert i.dtype == np.int64


def test_repr():
    assert repr(cx.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(cx.tensor([1.0], requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert repr(cx.tensor([1.0], dtype="float64")) == "tensor([1.], dtype=float64)"
    assert repr(cx.tensor([[1, 2], [3, 4]])) == "tensor([[1, 2],\n        [3, 4]])"
    assert repr(cx.tensor([1.0], requires_grad=True) + 1.0) == "tensor([2.], grad_fn=<add node>)"
    assert repr(cx.nn.Parameter(np.ones(1))).startswith("Parameter containing:\ntensor([1.]")


def test_copies_and_pickles_of_leaves():
    x = cx.ones(2, requires_grad=True)
    x.sum().backward()
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(y) is cx.Tensor
        assert y.requires_grad
        assert not np.shares_memory(x.data, y.data)
        np.testing.assert_array_equal(y.grad.numpy(), [1, 1])
    shared = copy.deepcopy([x, x])
    assert shared[0] is shared[1]
    with pytest.raises(RuntimeError, match="only leaves can be copied"):
        copy.deepcopy(x * 2)


def test_constructors():
    assert cx.zeros(2, 3).shape == cx.zeros((2, 3)).shape == cx.ones([2, 3]).shape == (2, 3)
    assert cx.zeros(()).shape == cx.full((), 1.0).shape == ()
    assert (cx.full((2,), 3).dtype, cx.full((2,), 3.0).dtype, cx.full(2, True).dtype) == (
        np.int64, np.float32, np.bool_,
    )  # fmt: skip
    np.testing.assert_array_equal(cx.arange(2, 8, 2).numpy(), [2, 4, 6])
    assert (cx.arange(3).dtype, cx.arange(3.0).dtype) == (np.int64, np.float32)
    assert cx.ones_like(cx.arange(3)).dtype == np.int64
    np.testing.assert_array_equal(cx.stack([cx.arange(2), cx.arange(2)], 1).numpy(), [[0, 0], [1, 1]])
    np.testing.assert_array_equal(cx.cat([np.ones(1), cx.zeros(1)]).numpy(), [1, 0])


def test_random_constructors_repeat_from_the_seed():
    def draw():
        cx.manual_seed(3)
        return [t.numpy() for t in (cx.rand(4), cx.randn(2, 3), cx.randint(0, 9, (5,)), cx.randperm(7))]

    first, second = draw(), draw()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[0].dtype == first[1].dtype == np.float32
    assert sorted(first[3]) == list(range(7))
    assert not np.array_equal(cx.rand(4).numpy(), first[0])
    state = cx.random.get_state()
    a = cx.rand(3).numpy()
    cx.random.set_state(state)
    np.testing.assert_array_equal(cx.rand(3).numpy(), a)
    for bad, error in ((-1, ValueError), ("a", TypeError), (True, TypeError)):
        with pytest.raises(error, match="seed"):
            cx.manual_seed(bad)


def test_empty_tensors():
    x = cx.zeros(0, 3, requires_grad=True)
    assert x.sum().item() == 0
    ((x * 2.0).reshape(3, 0).T + 1.0).sum().backward()
    assert x.grad.shape == (0, 3)
    assert cx.cat([x, cx.ones(2, 3)]).shape == (2, 3)


# ---- the package ----


HEAVY = [
    *("torch", "matplotlib", "rich", "safetensors", "PIL"),
    *(f"cnnext.{name}" for name in ("nn", "optim", "data", "models", "viz", "functional", "serialization")),
]


def test_importing_the_package_imports_nothing_heavy():
    code = f"""
import sys, cnnext
print([name for name in {HEAVY} if name in sys.modules])
cnnext.nn.Linear, cnnext.optim.SGD, cnnext.data, cnnext.models, cnnext.functional.relu, cnnext.save
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_names_of_the_package():
    for name in cx.__all__:
        assert getattr(cx, name) is not None
    assert set(dir(cx)) >= {"nn", "optim", "data", "models", "viz", "save", "load", "info"}
    assert cx.__version__ == cx.info().version
    with pytest.raises(AttributeError, match="module 'cnnext' has no attribute 'nonsense'"):
        _ = cx.nonsense
