"""torch tensors in, torch tensors out: zero copy, strides kept, refused where a gradient would be lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cnnext import ops

torch = pytest.importorskip("torch")
F = torch.nn.functional

torch.manual_seed(0)
X, W, B = torch.randn(2, 5, 9, 8), torch.randn(7, 5, 3, 2), torch.randn(7)


def test_the_result_is_a_tensor() -> None:
    y = ops.conv2d(X, W, B, stride=(2, 1), padding=1)
    assert type(y) is torch.Tensor
    assert not y.requires_grad
    torch.testing.assert_close(y, F.conv2d(X, W, B, stride=(2, 1), padding=1))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("conv2d", (W, B)),
        ("max_pool2d", (2,)),
        ("avg_pool2d", (2,)),
        ("adaptive_avg_pool2d", ((3, 2),)),
        ("relu", ()),
        ("batch_norm", (torch.zeros(5), torch.ones(5))),
    ],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_is_kept(name: str, args: Any, memory_format: Any) -> None:
    x = X.contiguous(memory_format=memory_format)
    y = getattr(ops, name)(x, *args)
    assert y.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(y, getattr(F, name)(x, *args))


def test_indices_are_tensors() -> None:
    y, indices = ops.max_pool2d(X, 2, return_indices=True)
    wanted, codes = F.max_pool2d(X, 2, return_indices=True)
    assert torch.equal(y, wanted)
    assert torch.equal(indices, codes)
    back = ops.max_unpool2d(y, indices, 2, output_size=X.shape)
    assert torch.equal(back, F.max_unpool2d(y, codes, 2, output_size=X.shape))


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[:, :, ::2, 1:],
        lambda t: t.transpose(2, 3),
        lambda t: t[:1].expand(3, -1, -1, -1),
        lambda t: t.double().float()[..., :3],
        lambda t: t[:0],
    ],
)
def test_views(view: Any) -> None:
    x = view(X)
    torch.testing.assert_close(ops.conv2d(x, W), F.conv2d(x, W))


def test_the_bits_of_a_negated_view() -> None:
    """A lazy negation lives in a flag of the tensor, not in its memory."""
    x = torch.view_as_complex(torch.randn(3, 5, 2)).conj().imag
    assert x.is_neg()
    torch.testing.assert_close(ops.relu(x), F.relu(x))
    with pytest.raises((TypeError, ValueError, RuntimeError), match="out"):
        ops.relu(x.resolve_neg(), out=x)


def test_numpy_beside_torch() -> None:
    y = ops.conv2d(X, W.numpy(), B.numpy())
    assert type(y) is torch.Tensor
    y = ops.conv2d(X.numpy(), W, B)
    assert type(y) is np.ndarray
    np.testing.assert_allclose(y, F.conv2d(X, W, B).numpy(), rtol=1e-5, atol=1e-5)


def test_gradients_are_not_lost_silently() -> None:
    w = torch.nn.Parameter(W)
    with pytest.raises(
        TypeError, match=r"weight requires grad.*cnnext.interop.torch, or pass weight.detach\(\)"
    ):
        ops.conv2d(X, w)
    with pytest.raises(TypeError, match="x requires grad"):
        ops.relu(X.clone().requires_grad_())
    with pytest.raises(TypeError, match="out requires grad"):
        ops.relu(X, out=torch.empty_like(X).requires_grad_())
    assert ops.conv2d(X, w.detach()).shape == (2, 7, 7, 7)
    with torch.no_grad(), pytest.raises(TypeError, match="weight requires grad"):
        ops.conv2d(X, w)


def test_out() -> None:
    out = torch.empty(2, 7, 7, 7)
    assert ops.conv2d(X, W, out=out) is out
    torch.testing.assert_close(out, F.conv2d(X, W))
    last = torch.empty(2, 7, 7, 7).contiguous(memory_format=torch.channels_last)
    ops.conv2d(X, W, out=last)
    torch.testing.assert_close(last, F.conv2d(X, W))
    array = np.empty((2, 7, 7, 7), np.float32)
    assert ops.conv2d(X, W, out=array) is array
    torch.testing.assert_close(torch.from_numpy(array), F.conv2d(X, W))
    with pytest.raises(ValueError, match="shape"):
        ops.conv2d(X, W, out=torch.empty(2, 7, 7, 6))
    with pytest.raises(TypeError, match="float64"):
        ops.conv2d(X, W, out=torch.empty(2, 7, 7, 7, dtype=torch.float64))


def test_batch_norm_updates_tensors_in_place() -> None:
    ours, theirs = ([torch.zeros(5), torch.ones(5)] for _ in range(2))
    y = ops.batch_norm(X, *ours, training=True, momentum=0.3)
    wanted = F.batch_norm(X, *theirs, training=True, momentum=0.3)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(ours, theirs)


def test_optimisers_update_tensors_in_place() -> None:
    ours, theirs = torch.randn(6, 4), torch.nn.Parameter(torch.zeros(6, 4))
    theirs.data.copy_(ours)
    optimiser = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.2)
    mean, square = torch.zeros(6, 4), torch.zeros(6, 4)
    for step in range(1, 4):
        theirs.grad = torch.randn(6, 4)
        how = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.2, "decoupled": True}
        ops.adam_step([ours], [theirs.grad], [mean], [square], step=step, **how)
        optimiser.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_tensors_that_no_pointer_shows() -> None:
    with pytest.raises((TypeError, ValueError), match="x"):
        ops.relu(torch.randn(3, 3).to_sparse())
    with pytest.raises((TypeError, ValueError), match=r"meta|x"):
        ops.relu(torch.empty(3, device="meta"))
    with pytest.raises(NotImplementedError, match="bfloat16"):
        ops.softmax(torch.ones(3, dtype=torch.bfloat16), 0)
    with pytest.raises(TypeError, match=r"complex|x"):
        ops.relu(torch.ones(3, dtype=torch.complex64))
    with pytest.raises(TypeError, match="bool"):
        ops.relu(torch.ones(3, dtype=torch.bool))


class OtherTensor:
    """A JAX array as far as its module's name tells."""

    def __dlpack__(self, **how: Any) -> Any:
        return np.ones(3, np.float32).__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


OtherTensor.__module__ = "jaxlib.fake"


def test_two_libraries_are_refused() -> None:
    with pytest.raises(TypeError, match="x and y are arrays of two libraries"):
        ops.add(torch.ones(3), OtherTensor())
    with pytest.raises(TypeError, match="out is a JAX array, which cannot be written"):
        ops.relu(np.ones(3, np.float32), out=OtherTensor())


def rms(values: torch.Tensor, exact: torch.Tensor) -> float:
    return float((values.double() - exact).square().mean().sqrt())


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[1]))


@pytest.mark.parametrize(
    ("x_shape", "w_shape"),
    [
        ((2, 64, 14, 15), (64, 64, 3, 3)),
        ((2, 192, 9, 8), (48, 192, 3, 3)),
        ((1, 256, 9, 8), (128, 256, 1, 1)),
        ((1, 2048, 7, 6), (40, 2048, 1, 1)),
        ((1, 3, 40, 41), (32, 3, 7, 7)),
    ],
)
def test_the_rms_error_is_at_most_one_and_a_half_of_torchs(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...]
) -> None:
    """Against float64, the same data: forward and backward-weights."""
    x, w = normal(*x_shape), normal(*w_shape)
    exact = F.conv2d(x.double(), w.double())
    ours = ops.conv2d(x, w, algorithm="direct")
    assert rms(ours, exact) <= 1.5 * rms(F.conv2d(x, w), exact)

    def weights_gradient(grad: torch.Tensor, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.nn.grad.conv2d_weight(x, w.shape, grad)

    grad = normal(*exact.shape)
    exact = weights_gradient(grad.double(), x.double(), w.double())
    ours = ops.conv2d_backward(grad, x, w, needs=(False, True, False))[1]
    assert rms(ours, exact) <= 1.5 * rms(weights_gradient(grad, x, w), exact)


@pytest.mark.parametrize("rows", [1, 8, 70])
def test_the_rms_error_of_linear_is_at_most_one_and_a_half_of_torchs(rows: int) -> None:
    x, w, grad = normal(rows, 1500), normal(900, 1500), normal(rows, 900)
    exact = x.double() @ w.double().T
    assert rms(ops.linear(x, w), exact) <= 1.5 * rms(F.linear(x, w), exact)
    exact = grad.double() @ w.double()
    ours = ops.linear_backward(grad, x, w)[0]
    assert rms(ours, exact) <= 1.5 * rms(grad @ w, exact)
