"""Every differentiable function: gradients of both orders, torch as a second oracle, what is kept, errors."""

from __future__ import annotations

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import apart, channels_last, check_gradients, check_second_order, random_arrays
from cnnext import functional as F

LABELS = np.array([2, 0, 3])
PIXELS = np.random.default_rng(5).integers(0, 4, (2, 3, 2))
CLASS_WEIGHT = np.array([0.5, 1.0, 2.0, 0.25])


def soft(shape):
    p = np.abs(random_arrays(shape, seed=9)[0])
    return p / p.sum(1, keepdims=True)


def bn(training, **options):
    mean, var = np.array([0.3, -0.2, 0.1]), np.array([1.5, 0.7, 2.0])

    def fn(x, *affine):
        return F.batch_norm(x, mean.copy(), var.copy(), *affine, training=training, **options)

    return fn


def _conv(*shapes, **options):
    return lambda x, w, *b: F.conv2d(x, w, *b, **options), random_arrays(*shapes)


def _transposed(*shapes, **options):
    return lambda x, w, *b: F.conv_transpose2d(x, w, *b, **options), random_arrays(*shapes)


def _indices(shape, kernel, **options):
    return cx.ops.max_pool2d(apart(shape), kernel, return_indices=True, **options)


# name -> (function of tensors, arrays)
CASES = {
    "conv2d": _conv((2, 3, 5, 4), (4, 3, 3, 2), (4,)),
    "conv2d stride dilation": _conv(
        (1, 2, 7, 8), (3, 2, 2, 3), (3,), stride=(2, 1), padding=(1, 2), dilation=(2, 1)
    ),
    "conv2d groups": _conv((2, 4, 4, 5), (6, 2, 3, 3), (6,), groups=2, padding=1),
    "conv2d depthwise": _conv((1, 3, 5, 4), (3, 1, 3, 3), groups=3, padding=1),
    "conv2d four sides": _conv((1, 2, 4, 3), (2, 2, 3, 3), (2,), padding=((1, 2), (0, 1)), stride=2),
    "conv2d same": _conv((1, 2, 5, 4), (2, 2, 2, 3), (2,), padding="same"),
    "conv2d same stride": _conv((1, 2, 5, 6), (2, 2, 3, 2), padding="same", stride=(2, 3)),
    "conv2d valid": _conv((1, 2, 4, 3), (2, 2, 2, 3), (2,), padding="valid"),
    "conv2d unbatched": _conv((2, 4, 5), (3, 2, 3, 3), (3,), padding=1),
    "conv2d direct": _conv((1, 2, 4, 4), (2, 2, 3, 3), algorithm="direct"),
    "conv2d relu": _conv((2, 2, 4, 3), (3, 2, 3, 3), (3,), padding=1, activation="relu"),
    "conv2d_relu_max_pool2d": (
        lambda x, w, b: F.conv2d_relu_max_pool2d(
            x, w, b, (1, 2), (1, 0), (2, 1), 2, pool_size=(3, 2), pool_stride=(1, 2), pool_padding=(1, 0)
        ),
        [apart((2, 4, 6, 9)), apart((6, 2, 2, 3), 1), apart((6,), 2)],
    ),
    "conv2d_relu_max_pool2d unbatched": (
        lambda x, w: F.conv2d_relu_max_pool2d(x, w, padding="same", pool_size=2),
        [apart((2, 5, 4)), apart((3, 2, 3, 3), 1)],
    ),
    "conv2d_batch_norm": (
        lambda x, w, b, g, c: F.conv2d_batch_norm(
            x, w, b, (1, 2), (1, 0), (2, 1), 2, norm_weight=g, norm_bias=c, eps=0.1
        ),
        random_arrays((2, 4, 6, 7), (6, 2, 2, 3), (6,), (6,), (6,)),
    ),
    "conv2d_batch_norm relu": (
        lambda x, w, g, c: F.conv2d_batch_norm(
            x, w, padding=1, norm_weight=g, norm_bias=c, activation="relu"
        ),
        random_arrays((2, 2, 5, 4), (3, 2, 3, 3), (3,), (3,)),
    ),
    "conv2d_batch_norm plain": (
        lambda x, w: F.conv2d_batch_norm(x, w, running_mean=np.zeros(2), running_var=np.ones(2), eps=0.1),
        random_arrays((3, 2, 3, 4), (2, 2, 2, 2)),
    ),
    "conv2d silu": _conv((1, 2, 3, 3), (2, 2, 2, 2), (2,), activation="silu"),
    "conv_transpose2d": _transposed((2, 3, 3, 4), (3, 2, 3, 2), (2,)),
    "conv_transpose2d stride": _transposed(
        (1, 2, 3, 2), (2, 3, 3, 2), (3,), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)
    ),
    "conv_transpose2d groups": _transposed(
        (1, 4, 3, 3), (4, 2, 2, 3), (4,), groups=2, stride=2, dilation=(1, 2)
    ),
    "conv_transpose2d unbatched": _transposed((2, 3, 3), (2, 2, 2, 2), (2,), stride=2),
    "conv_transpose2d long output padding": _transposed(
        (1, 2, 3, 3), (2, 2, 2, 2), (2,), stride=(1, 2), dilation=(3, 4), output_padding=(2, 3), padding=1
    ),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), [apart((2, 2, 4, 6))]),
    "max_pool2d overlapping": (lambda x: F.max_pool2d(x, 3, 1, 1), [apart((1, 2, 4, 5))]),
    "max_pool2d dilation ceil": (
        lambda x: F.max_pool2d(x, (2, 3), (2, 3), (1, 0), (2, 1), ceil_mode=True),
        [apart((1, 2, 6, 7))],
    ),
    "max_pool2d indices": (lambda x: F.max_pool2d(x, 2, return_indices=True), [apart((1, 2, 4, 4))]),
    "max_pool2d unbatched": (lambda x: F.max_pool2d(x, 2), [apart((2, 4, 4))]),
    "max_unpool2d": (
        lambda x: F.max_unpool2d(x, _indices((2, 2, 4, 6), 2)[1], 2),
        random_arrays((2, 2, 2, 3)),
    ),
    "max_unpool2d size unbatched": (
        lambda x: F.max_unpool2d(x, _indices((2, 5, 5), 2)[1], 2, output_size=(5, 5)),
        random_arrays((2, 2, 2)),
    ),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), random_arrays((2, 2, 4, 6))),
    "avg_pool2d padded": (
        lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0), ceil_mode=True, count_include_pad=False),
        random_arrays((1, 2, 6, 5)),
    ),
    "avg_pool2d divisor": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), random_arrays((2, 4, 4))),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), random_arrays((2, 2, 5, 4))),
    "adaptive_avg_pool2d unbatched": (lambda x: F.adaptive_avg_pool2d(x, 1), random_arrays((2, 5, 4))),
    "linear": (F.linear, random_arrays((4, 3), (5, 3), (5,))),
    "linear no bias 3-d": (F.linear, random_arrays((2, 4, 3), (5, 3))),
    "linear 1-d": (F.linear, random_arrays((3,), (5, 3), (5,))),
    "linear relu": (
        lambda x, w, b: F.linear(x, w, b, activation="relu"),
        random_arrays((4, 3), (5, 3), (5,)),
    ),
    "linear tanh": (lambda x, w: F.linear(x, w, activation="tanh"), random_arrays((4, 3), (5, 3))),
    "relu": (F.relu, [apart((3, 4))]),
    "relu6": (lambda x: F.relu6(x * 10.0), [apart((3, 6))]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), [apart((3, 4))]),
    "leaky_relu flat": (lambda x: F.leaky_relu(x, 0.0), [apart((3, 4))]),
    "leaky_relu negative": (lambda x: F.leaky_relu(x, -0.5), [apart((3, 4))]),
    "gelu": (F.gelu, random_arrays((3, 4))),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), random_arrays((3, 4))),
    "silu": (F.silu, random_arrays((3, 4))),
    "sigmoid": (F.sigmoid, random_arrays((3, 4))),
    "tanh": (F.tanh, random_arrays((3, 4))),
    "softmax": (lambda x: F.softmax(x, 1), random_arrays((2, 3, 2))),
    "log_softmax": (lambda x: F.log_softmax(x, -1), random_arrays((2, 3, 2))),
    "batch_norm training": (bn(True), random_arrays((3, 3, 2, 2), (3,), (3,))),
    "batch_norm training plain": (bn(True, eps=0.1), random_arrays((4, 3))),
    "batch_norm relu training": (bn(True, activation="relu"), random_arrays((3, 3, 2, 2), (3,), (3,))),
    "batch_norm relu6 training": (
        bn(True, activation="relu6"),
        [10 * a for a in random_arrays((3, 3, 2, 2), (3,), (3,))],
    ),
    "batch_norm relu evaluation": (bn(False, activation="relu"), random_arrays((2, 3, 2, 2), (3,), (3,))),
    "batch_norm evaluation": (bn(False), random_arrays((2, 3, 2, 2), (3,), (3,))),
    "batch_norm evaluation plain": (bn(False, eps=0.1), random_arrays((2, 3, 2))),
    "batch_norm no statistics": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        random_arrays((3, 3, 2), (3,), (3,)),
    ),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, (3,), w, b, 0.1),
        random_arrays((2, 4, 3), (3,), (3,)),
    ),
    "layer_norm plain 2-d": (lambda x: F.layer_norm(x, [2, 3]), random_arrays((3, 2, 3))),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS), random_arrays((3, 4))),
    "cross_entropy 1-d": (lambda x: F.cross_entropy(x, np.array(1)), random_arrays((4,))),
    "cross_entropy everything": (
        lambda x: F.cross_entropy(x, PIXELS, CLASS_WEIGHT, ignore_index=1, label_smoothing=0.2),
        random_arrays((2, 4, 3, 2)),
    ),
    "cross_entropy none": (
        lambda x: F.cross_entropy(
            x, PIXELS, CLASS_WEIGHT, ignore_index=1, label_smoothing=0.1, reduction="none"
        ),
        random_arrays((2, 4, 3, 2)),
    ),
    "cross_entropy sum": (lambda x: F.cross_entropy(x, PIXELS, reduction="sum"), random_arrays((2, 4, 3, 2))),
    "cross_entropy probabilities": (
        lambda x: F.cross_entropy(x, soft((3, 4)), CLASS_WEIGHT, label_smoothing=0.1),
        random_arrays((3, 4)),
    ),
    "cross_entropy target": (
        lambda x, t: F.cross_entropy(x, t, CLASS_WEIGHT, label_smoothing=0.1),
        [*random_arrays((3, 4)), soft((3, 4))],
    ),
    "nll_loss": (lambda x: F.nll_loss(F.log_softmax(x, 1), LABELS, CLASS_WEIGHT), random_arrays((3, 4))),
    "nll_loss pixels": (
        lambda x: F.nll_loss(x, PIXELS, ignore_index=2, reduction="none"),
        random_arrays((2, 4, 3, 2)),
    ),
    "mse_loss": (F.mse_loss, random_arrays((3, 4), (3, 4))),
    "mse_loss none": (lambda x, y: F.mse_loss(x, y, reduction="none"), random_arrays((3,), (3,))),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 3), value=2.5), random_arrays((2, 3, 2))),
    "pad negative": (lambda x: F.pad(x, (-1, 1, 2, -1)), random_arrays((2, 3, 3))),
    "flatten": (lambda x: F.flatten(x, 1), random_arrays((2, 3, 2))),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    fn, arrays = CASES[name]
    check_gradients(fn, *arrays)


@pytest.mark.parametrize("name", CASES)
def test_second_order(name):
    fn, arrays = CASES[name]
    check_second_order(fn, *arrays)


@pytest.mark.parametrize("name", [n for n, (_, arrays) in CASES.items() if arrays[0].ndim == 4])
def test_gradients_channels_last(name):
    fn, arrays = CASES[name]
    check_gradients(fn, channels_last(arrays[0]), *arrays[1:])


@pytest.mark.parametrize("name", [n for n, (_, arrays) in CASES.items() if len(arrays) > 1])
def test_each_gradient_alone_equals_the_joint_one(name):
    """Only what is needed is computed, and it is the same."""
    fn, arrays = CASES[name]

    def gradients(which):
        tensors = [cx.Tensor(a, requires_grad=i in which) for i, a in enumerate(arrays)]
        out = fn(*tensors)
        out = out[0] if isinstance(out, tuple) else out
        out.backward(np.random.default_rng(3).standard_normal(out.shape))
        return [None if t.grad is None else t.grad.numpy() for t in tensors]

    joint = gradients(range(len(arrays)))
    for i in range(len(arrays)):
        alone = gradients([i])
        np.testing.assert_allclose(alone[i], joint[i], rtol=1e-12, atol=1e-14)
        assert all(g is None for j, g in enumerate(alone) if j != i)


@pytest.mark.parametrize("name", CASES)
def test_values_do_not_depend_on_recording(name):
    fn, arrays = CASES[name]
    with cx.no_grad():
        quiet = fn(*map(cx.Tensor, arrays))
    loud = fn(*(cx.Tensor(a, requires_grad=True) for a in arrays))
    quiet, loud = (t[0] if isinstance(t, tuple) else t for t in (quiet, loud))
    assert loud.requires_grad
    assert not quiet.requires_grad
    np.testing.assert_allclose(loud.detach().numpy(), quiet.numpy(), rtol=1e-12, atol=1e-12)


# ---- torch as a second oracle ----


def _torch_cases():
    def f(name, *args, **kwargs):
        return lambda lib, *xs: getattr(lib, name)(*xs, *args, **kwargs)

    labels, pixels, weight = LABELS, PIXELS, CLASS_WEIGHT.astype(np.float32)
    return {
        "conv2d": (f("conv2d", 2, 1, 1, 2), [(2, 4, 7, 6), (6, 2, 3, 3), (6,)]),
        "conv2d same": (f("conv2d", padding="same", dilation=2), [(2, 4, 7, 6), (6, 4, 3, 2), (6,)]),
        "conv_transpose2d": (f("conv_transpose2d", 2, 1, 1, 2, 1), [(2, 4, 5, 6), (4, 3, 3, 3), (6,)]),
        "conv_transpose2d dilation": (
            f("conv_transpose2d", 1, 0, 2, 1, 3),
            [(2, 4, 5, 6), (4, 3, 3, 3), (3,)],
        ),
        "max_pool2d": (f("max_pool2d", 3, 2, 1), [(2, 3, 7, 6)]),
        "avg_pool2d": (f("avg_pool2d", 3, 2, 1, True, False), [(2, 3, 8, 6)]),
        "adaptive_avg_pool2d": (f("adaptive_avg_pool2d", (3, None)), [(2, 3, 7, 6)]),
        "linear": (f("linear"), [(2, 3, 4), (5, 4), (5,)]),
        "relu": (f("relu"), [(3, 4)]),
        "relu6": (f("relu6"), [(3, 4)]),
        "leaky_relu": (f("leaky_relu", 0.2), [(3, 4)]),
        "gelu": (f("gelu"), [(3, 4)]),
        "gelu tanh": (f("gelu", approximate="tanh"), [(3, 4)]),
        "silu": (f("silu"), [(3, 4)]),
        "sigmoid": (f("sigmoid"), [(3, 4)]),
        "tanh": (f("tanh"), [(3, 4)]),
        "softmax": (f("softmax", 1), [(3, 4)]),
        "log_softmax": (f("log_softmax", -1), [(3, 4)]),
        "cross_entropy": (f("cross_entropy", labels), [(3, 4)]),
        "cross_entropy smooth": (
            f("cross_entropy", pixels, weight, ignore_index=1, label_smoothing=0.2),
            [(2, 4, 3, 2)],
        ),
        "cross_entropy sum": (f("cross_entropy", pixels, weight, reduction="sum"), [(2, 4, 3, 2)]),
        "cross_entropy old flags": (f("cross_entropy", labels, None, False), [(3, 4)]),
        "cross_entropy soft": (f("cross_entropy", soft((3, 4)).astype(np.float32), weight), [(3, 4)]),
        "nll_loss": (f("nll_loss", pixels, weight, ignore_index=1), [(2, 4, 3, 2)]),
        "nll_loss none": (f("nll_loss", labels, weight, reduction="none"), [(3, 4)]),
        "mse_loss": (f("mse_loss"), [(3, 4), (3, 4)]),
        "pad": (f("pad", (1, -1, 2, 0), value=1.5), [(2, 3, 4)]),
    }


TORCH_CASES = _torch_cases()


@pytest.mark.filterwarnings("ignore:size_average and reduce args will be deprecated")
@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, "contiguous") for name in TORCH_CASES]
    # torch's nll_loss has no gradient for channels-last images
    + [
        (n, "channels_last")
        for n, (_, shapes) in TORCH_CASES.items()
        if len(shapes[0]) == 4 and n != "nll_loss"
    ],
)
def test_values_and_gradients_against_torch(name, layout):
    torch = pytest.importorskip("torch")
    fn, shapes = TORCH_CASES[name]
    arrays = [a.astype(np.float32) for a in random_arrays(*shapes)]
    if layout == "channels_last":
        arrays[0] = channels_last(arrays[0])
    ours = [cx.Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.from_numpy(a.copy(order="K")).requires_grad_() for a in arrays]

    class Torch:
        def __getattr__(self, name):
            function = getattr(torch.nn.functional, name)
            return lambda *args, **kwargs: function(
                *(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args), **kwargs
            )

    y, ty = fn(F, *ours), fn(Torch(), *theirs)
    np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=1e-4, atol=1e-5)
    if layout == "channels_last" and y.ndim == 4:
        assert y.is_contiguous("channels_last")
    g = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    y.backward(g)
    ty.backward(torch.from_numpy(g) if g.shape else torch.tensor(g))
    for x, tx in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("momentum", [0.1, 0.5])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 2, 3)])
def test_batch_norm_against_torch(shape, momentum):
    torch = pytest.importorskip("torch")
    arrays = [a.astype(np.float32) for a in random_arrays(shape, (3,), (3,))]
    ours = [cx.Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    mean, var = cx.zeros(3), cx.ones(3)
    tmean, tvar = torch.zeros(3), torch.ones(3)
    for training in (True, True, False):
        y = F.batch_norm(ours[0], mean, var, *ours[1:], training, momentum, 1e-3)
        ty = torch.nn.functional.batch_norm(theirs[0], tmean, tvar, *theirs[1:], training, momentum, 1e-3)
        np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mean.numpy(), tmean.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(var.numpy(), tvar.numpy(), rtol=1e-5)
        g = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
        y.backward(g)
        ty.backward(torch.from_numpy(g))
    for x, tx in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-4, atol=1e-4)


# ---- what is saved, in place, dropout ----


def saved(tensor):
    return {name: value for name, value, *_ in tensor.grad_fn.saved}


def test_max_pool_keeps_one_byte_a_window_and_not_its_input():
    x = cx.randn(2, 3, 8, 8).requires_grad_()
    y = F.max_pool2d(x, 2)
    ((name, indices),) = saved(y).items()
    assert name == "out1"
    assert indices.dtype == np.uint8
    assert indices.shape == (2, 3, 4, 4)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    assert indices.dtype == np.int64
    assert not indices.requires_grad


@pytest.mark.parametrize("fn", [F.relu, F.relu6, F.leaky_relu])
def test_piecewise_linear_activations_keep_only_their_output(fn):
    x = cx.randn(3, 4).requires_grad_() * 1.0
    assert list(saved(fn(x))) == ["out"]


def test_frozen_weights_do_not_keep_the_input_alive():
    x = cx.randn(1, 2, 4, 4).requires_grad_()
    w = cx.randn(3, 2, 3, 3)
    assert list(saved(F.conv2d(x, w))) == ["weight"]
    assert list(saved(F.conv2d(x.detach(), w.requires_grad_()))) == ["x"]


@pytest.mark.parametrize(
    "fn",
    [F.relu, F.relu6, F.silu, lambda x, inplace: F.leaky_relu(x, 0.2, inplace)],
    ids=["relu", "6", "silu", "l"],
)
def test_in_place_activations(fn):
    a = apart((3, 4))
    x = cx.Tensor(a, requires_grad=True)
    h = x * 2.0
    y = fn(h, True)
    assert y is h
    expected = fn(cx.Tensor(a * 2), False).numpy()
    np.testing.assert_allclose(h.detach().numpy(), expected)
    y.sum().backward()
    other = cx.Tensor(a, requires_grad=True)
    fn(other * 2.0, False).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), other.grad.numpy())
    with cx.no_grad():
        z = cx.Tensor(a * 2)
        assert fn(z, True) is z
        np.testing.assert_allclose(z.numpy(), expected)
    with pytest.raises(RuntimeError, match="leaf that requires grad"):
        fn(x, True)


def test_dropout():
    cx.manual_seed(0)
    x = cx.ones(100, 100, requires_grad=True)
    y = F.dropout(x, 0.25)
    kept = y.detach().numpy() != 0
    assert 0.73 < kept.mean() < 0.77
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / 0.75, rtol=1e-6)
    y.backward(np.full((100, 100), 3.0, np.float32))
    np.testing.assert_allclose(x.grad.numpy(), 3 * y.detach().numpy(), rtol=1e-6)
    assert not np.array_equal(F.dropout(x, 0.25).detach().numpy(), y.detach().numpy())
    cx.manual_seed(0)
    np.testing.assert_array_equal(F.dropout(x, 0.25).detach().numpy(), y.detach().numpy())
    assert F.dropout(x, 0.25, training=False) is x
    assert F.dropout(x, 1.0).detach().numpy().max() == 0
    h = x * 1.0
    assert F.dropout(h, 0.5, inplace=True) is h


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_the_gradient_of_dropout_meets_the_same_mask_in_any_layout(layout):
    a = np.ones((2, 3, 4, 5))
    x = cx.Tensor(
        {"contiguous": a, "channels_last": channels_last(a), "strided": a.transpose(3, 1, 0, 2)}[layout]
    )
    x.requires_grad_()
    for gradient in (np.ones(x.shape), channels_last(np.ones(x.shape))):
        x.grad = None
        y = F.dropout(x, 0.5)
        y.backward(gradient)
        np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_functions_take_arrays_and_labels_of_any_integer_dtype():
    x = random_arrays((3, 4))[0].astype(np.float32)
    losses = {
        F.cross_entropy(x, t).item()
        for t in (
            LABELS,
            LABELS.astype(np.uint8),
            LABELS.astype(np.int32),
            cx.Tensor(LABELS),
            LABELS.astype(np.uint64),
        )
    }
    assert len(losses) == 1
    assert isinstance(F.relu(x), cx.Tensor)
    assert cx.nn.functional.relu is F.relu
    import cnnext.nn.functional as again

    assert again.conv2d is F.conv2d


def test_layer_norm_rules():
    x = np.array([[3.0], [np.inf]], np.float32)
    np.testing.assert_array_equal(F.layer_norm(x, 1).numpy(), [[0], [np.nan]])  # as torch
    assert F.layer_norm(cx.zeros(0, 4), 4).shape == (0, 4)
    for call, message in [
        (lambda: F.layer_norm(cx.ones(2, 3), 2), r"normalized_shape=\(2,\) must be the last sizes of x"),
        (lambda: F.layer_norm(cx.ones(3), (2, 3)), r"normalized_shape=\(2, 3\) must be"),
        (lambda: F.layer_norm(cx.ones(2, 3), 3, cx.ones(1)), r"weight has shape \[1\], not"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_batch_norm_counts_as_a_change_of_its_running_statistics():
    mean, var = cx.zeros(3), cx.ones(3)
    x = cx.randn(4, 3).requires_grad_()
    y = x * mean
    F.batch_norm(x, mean, var, training=True)
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("needs", [(True, True, True), (False, True, False), (False, False, True)])
def test_conv2d_batch_norm_has_the_gradients_of_the_two(activation, needs):
    shapes = (9, 5, 60, 64), (33, 5, 3, 3), (33,), (33,)
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    def gradients(fused):
        x, w, g, c = (cx.Tensor(a) for a in arrays)
        for t, wanted in zip((x, w, g), needs, strict=True):
            t.requires_grad_(wanted)
        mean, var = cx.zeros(33), cx.ones(33)
        if fused:
            y = F.conv2d_batch_norm(
                x,
                w,
                padding=1,
                running_mean=mean,
                running_var=var,
                norm_weight=g,
                norm_bias=c,
                activation=activation,
            )
        else:
            y = F.batch_norm(F.conv2d(x, w, padding=1), mean, var, g, c, training=True, activation=activation)
        (y * y * y).sum().backward()
        return [t.grad.numpy() for t in (x, w, g) if t.requires_grad] + [mean.numpy(), var.numpy()]

    for got, want in zip(gradients(True), gradients(False), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_conv2d_batch_norm_counts_as_a_change_of_its_running_statistics():
    mean, var = cx.zeros(3), cx.ones(3)
    x = cx.randn(4, 3, 2, 2).requires_grad_()
    y = x * mean.reshape(1, 3, 1, 1)
    F.conv2d_batch_norm(x, cx.randn(3, 3, 1, 1), running_mean=mean, running_var=var)
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()


def test_empty_batches():
    x = cx.zeros(0, 3, 8, 8, requires_grad=True)
    w = cx.randn(4, 3, 3, 3).requires_grad_()
    y = F.max_pool2d(F.relu(F.conv2d(x, w)), 2)
    assert y.shape == (0, 4, 3, 3)
    F.linear(y.flatten(1), cx.randn(2, 36)).sum().backward()
    assert x.grad.shape == x.shape
    np.testing.assert_array_equal(w.grad.numpy(), np.zeros(w.shape))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.conv2d(cx.ones(1, 1, 3, 3), cx.ones(1, 1, 3, 3), activation="selu"), ValueError, "'selu'"),
        (lambda: F.conv2d(cx.ones(1, 2, 3, 3), cx.ones(1, 1, 3, 3)), ValueError, "weight"),
        (lambda: F.gelu(cx.ones(1), "fast"), ValueError, "approximate='fast' must be 'none' or 'tanh'"),
        (lambda: F.dropout(cx.ones(1), 1.5), ValueError, "p=1.5 must be a probability"),
        (lambda: F.pad(cx.ones(2), (1, 1), "reflect"), NotImplementedError, "mode='reflect'"),
        (lambda: F.pad(cx.ones(2), (1,)), ValueError, "two sizes a dimension"),
        (lambda: F.pad(cx.ones(2), (1, 1, 1, 1)), ValueError, "at most the 1 dimensions"),
        (lambda: F.pad(cx.ones(2), (1.5, 1)), TypeError, "must hold ints"),
        (lambda: F.pad(cx.ones(2), (-2, -1)), ValueError, "crops more than there is"),
        (lambda: F.nll_loss(cx.ones(3, 4), cx.arange(4)), ValueError, r"target has shape \[4\]"),
        (
            lambda: F.nll_loss(cx.ones(3, 4), cx.arange(3) + 2),
            ValueError,
            "target holds class 4, valid are 0 to 3",
        ),
        (lambda: F.nll_loss(cx.ones(3, 4), cx.ones(3)), TypeError, "integer class indices"),
        (lambda: F.nll_loss(cx.ones(3, 4), cx.arange(3), cx.ones(3)), ValueError, r"expected \[4\]"),
        (
            lambda: F.nll_loss(cx.ones(3, 4), cx.arange(3), reduction="max"),
            ValueError,
            "reduction='max' must be",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_mse_loss_warns_of_broadcasting():
    with pytest.warns(UserWarning, match=r"input \[2, 1\] and target \[2\]"):
        F.mse_loss(cx.ones(2, 1), cx.ones(2))
