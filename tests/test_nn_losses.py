"""Cross entropy with all its options, of labels a pixel too, beside torch's in both memory formats."""

from __future__ import annotations

import itertools
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import channels_last, check_gradients, check_second_order
from cnnext import nn

SHAPES = [(4, 5), (5,), (2, 5, 3), (2, 5, 3, 4), (2, 5, 2, 3, 2)]


def labels_for(shape: tuple[int, ...], ignored: int | None) -> np.ndarray:
    """Class numbers (N, ...) for logits of that shape, one of them `ignored`."""
    classes, rest = (shape[0], ()) if len(shape) == 1 else (shape[1], shape[:1] + shape[2:])
    labels = np.asarray(np.random.default_rng(1).integers(0, classes, rest))
    if rest and ignored is not None:
        labels.flat[1] = ignored
    return labels


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy(shape: tuple[int, ...], smoothing: float, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    classes = shape[0 if len(shape) == 1 else 1]
    x, soft = rng.standard_normal(shape), rng.random(shape)
    weight = rng.random(classes) + 0.1
    formats = [x, channels_last(x)] if len(shape) == 4 else [x]
    for weighted, target, logits in itertools.product((False, True), ("labels", "ignored", "soft"), formats):
        options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
        if target == "ignored":
            options["ignore_index"] = 2
        t = soft if target == "soft" else labels_for(shape, 2 if target == "ignored" else -100)
        ours = nn.CrossEntropyLoss(weight if weighted else None, **options)
        theirs = torch.nn.CrossEntropyLoss(torch.from_numpy(weight) if weighted else None, **options)
        tensor = cx.Tensor(logits, requires_grad=True)
        reference = torch.from_numpy(x.copy()).requires_grad_()
        y, ty = ours(tensor, t), theirs(reference, torch.from_numpy(t))
        np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=1e-10, atol=1e-14)
        g = rng.standard_normal(y.shape)
        y.backward(g)
        ty.backward(torch.from_numpy(np.asarray(g)))
        np.testing.assert_allclose(tensor.grad.numpy(), reference.grad.numpy(), rtol=1e-8, atol=1e-12)
        if logits is not x:
            assert tensor.grad.is_contiguous("channels_last")


@pytest.mark.parametrize("last", [False, True])
def test_derivatives_of_a_loss_of_pixels(last: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 2, 2))
    loss = nn.CrossEntropyLoss(rng.random(3), label_smoothing=0.1)
    labels = labels_for(x.shape, -100)
    x = channels_last(x) if last else x
    check_gradients(lambda x: loss(x, labels), x)
    check_second_order(lambda x: loss(x, labels), x)


def test_nothing_but_ignored_pixels() -> None:
    x = cx.ones(1, 3, 2, 2).requires_grad_()
    labels = np.full((1, 2, 2), 255, np.uint8)
    assert np.isnan(nn.CrossEntropyLoss(ignore_index=255)(x, labels).item())  # as in torch
    loss = nn.CrossEntropyLoss(ignore_index=255, reduction="sum")(x, labels)
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.numpy().any()


def test_errors_name_shapes_and_classes() -> None:
    x, labels = cx.ones(1, 3, 2, 2), labels_for((1, 3, 2, 2), None)
    for call, error, message in [
        (lambda: nn.CrossEntropyLoss()(x, labels[:, :1]), ValueError, r"target has shape \(1, 1, 2\)"),
        (lambda: nn.CrossEntropyLoss()(x, labels + 3), ValueError, "between 0 and 2, or equal ignore_index"),
        (
            lambda: nn.CrossEntropyLoss(np.ones(2, np.float32))(x, labels),
            ValueError,
            r"weight has shape \(2,\)",
        ),
        (lambda: nn.CrossEntropyLoss()(x, labels * 1.0), TypeError, "target has dtype float64"),
    ]:
        with pytest.raises(error, match=message):
            call()
