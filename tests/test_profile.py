"""cnnext.profile: what it counts, and that nothing of it stays behind. No timings here."""

from __future__ import annotations

import json
import threading
from collections import Counter

import cnnext as cx
import numpy as np
import pytest
from cnnext import _C, costs, nn, tape
from cnnext.nn import functional as F


def by_name(p: cx.profile, phase: str) -> dict:
    return {e.name: e for e in p.events if e.phase == phase}


def test_a_training_step():
    x = cx.rand(2, 3, 8, 6)
    conv, dense = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4 * 3 * 2, 5)
    optimizer = cx.optim.SGD([*conv.parameters(), *dense.parameters()], lr=0.1)
    with cx.profile() as p:
        y = F.max_pool2d(F.relu(conv(x)), 2)
        loss = F.cross_entropy(dense(y.flatten(1)), np.array([0, 4]))
        loss.backward()
        optimizer.step()
    forward, backward, update = (by_name(p, phase) for phase in ("forward", "backward", "update"))
    assert set(forward) == {
        "conv2d", "activation_of_sign", "max_pool2d", "reshape", "linear", "cross_entropy"
    }  # fmt: skip
    assert set(backward) == {
        "cross_entropy_backward", "linear_backward_data", "linear_backward_weights", "bias_grad", "reshape",
        "max_pool2d_backward", "activation_backward", "conv2d_backward_weights",
    }  # fmt: skip
    assert set(update) == {"sgd_step"}
    macs = 2 * 4 * 6 * 4 * 3 * 9  # N, K, P, Q, C, taps
    assert forward["conv2d"].flops == backward["conv2d_backward_weights"].flops == 2 * macs
    assert forward["linear"].flops == backward["linear_backward_data"].flops == 2 * 2 * 24 * 5
    assert backward["linear_backward_weights"].flops == 2 * 2 * 24 * 5
    assert forward["conv2d"].bytes == 4 * (2 * 3 * 8 * 6 + 4 * 3 * 9 + 2 * 4 * 6 * 4)
    assert forward["conv2d"].shapes == ((2, 3, 8, 6), (4, 3, 3, 3))
    assert "conv2d" in forward["conv2d"].kernel
    assert forward["reshape"].bytes == 0  # a view
    assert forward["conv2d"].kept == x.data.nbytes  # the weight is there anyway
    assert forward["activation_of_sign"].kept == 4 * 2 * 4 * 6 * 4  # its output
    assert forward["max_pool2d"].kept == 2 * 4 * 3 * 2  # one byte a window
    assert forward["linear"].kept == 4 * 2 * 24
    assert all(e.duration > 0 and e.start >= 0 for e in p.events)
    assert sum(e.duration for e in p.events) < p.seconds * 1e9
    lines = str(p).splitlines()
    assert lines[0].split()[:3] == ["pass", "op", "calls"]
    counts = Counter((e.phase, e.name) for e in p.events)
    assert {tuple(line.split()[:3]) for line in lines[2:-1]} == {
        (phase, name, str(count)) for (phase, name), count in counts.items()
    }
    assert "(2, 3, 8, 6) (4, 3, 3, 3)" in p.table(group_by_input_shape=True)


def test_memory_is_kept_once():
    x = cx.rand(1, 2, 8, 8)
    a, b = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)
    with cx.profile() as p:
        y = a(x) + b(x)
        F.relu(F.flatten(F.relu(y)))
    kept = [(e.name, e.kept) for e in p.events]
    assert kept == [
        ("conv2d", x.data.nbytes), ("conv2d", 0), ("add", 0), ("activation_of_sign", y.data.nbytes),
        ("reshape", 0), ("activation_of_sign", y.data.nbytes),
    ]  # fmt: skip


def test_operations_without_gradients():
    x = np.ones((1, 2, 5, 4), np.float32)
    w = np.ones((2, 4, 3, 3), np.float32)
    layer = nn.Conv2d(2, 2, 3)
    with cx.profile() as p, cx.no_grad():
        cx.ops.conv_transpose2d(x, w)
        for _ in range(3):  # the third with packed weights
            layer(cx.Tensor(x))
        F.max_pool2d(cx.Tensor(x), 2)
        cx.get_num_threads()
        _ = cx.info().isa
    assert {e.phase for e in p.events} == {"forward"}
    names = [e.name for e in p.events if e.name != "pack_weight"]
    assert names == ["conv_transpose2d", "conv2d", "conv2d", "conv2d", "max_pool2d"]
    flops = [e.flops for e in p.events if e.name != "pack_weight"]
    assert flops == [2 * 40 * 4 * 9, *[2 * 2 * 3 * 2 * 2 * 9] * 3, 0]
    assert not any(e.kept for e in p.events)


@pytest.mark.parametrize("groups", [1, 2])
def test_all_passes_of_a_convolution_count_alike(groups):
    x, w = cx.rand(2, 4, 7, 6), cx.rand(6, 4 // groups, 3, 2)
    v = cx.rand(4, 6 // groups, 3, 2)
    for t in (x, w, v):
        t.requires_grad_()
    for function, weight, pixels in ((F.conv2d, w, 5 * 5), (F.conv_transpose2d, v, 7 * 6)):
        with cx.profile() as p:
            function(x, weight, groups=groups).sum().backward()
        flops = [e.flops for e in p.events if "conv" in e.name]
        assert flops == [2 * 2 * 4 * 6 // groups * 6 * pixels] * 3


@pytest.mark.parametrize("padding", [0, 1, (2, 0), ((1, 2), (0, 3)), "same", "valid"])
@pytest.mark.parametrize("stride", [1, (2, 3)])
def test_a_convolution_inside_another_operation_counts_as_it_does_alone(stride, padding):
    x, w = np.ones((2, 4, 9, 11), np.float32), np.ones((6, 2, 3, 2), np.float32)
    geometry = (stride, padding, (2, 1), 2)
    alone = costs.macs("conv2d", (x, w), cx.ops.conv2d(x, w, None, *geometry))
    norm = (None, None, None, None, 0.1, 1e-5, None)
    for saved in (True, False):
        args = (x, w, None, *geometry, *norm, saved)
        assert costs.macs("conv2d_batch_norm", args, _C.conv2d_batch_norm(*args)) == alone
    pooled = (2, None, 0)
    assert costs.macs("conv2d_relu_max_pool2d", (x, w, None, *geometry, *pooled, True), None) == alone
    for needs in [(True, True, True), (False, True, True), (False, False, True)]:
        args = (x, x, x, w, *geometry, *pooled, *needs)
        assert costs.macs("conv2d_relu_max_pool2d_backward", args, None) == sum(needs[:2]) * alone


def test_chrome_trace(tmp_path):
    with cx.profile() as p:
        F.relu(cx.rand(3, 4))
        thread = threading.Thread(target=lambda: F.gelu(cx.rand(2)))
        thread.start()
        thread.join()
    p.export_chrome_trace(tmp_path / "trace.json")
    found = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [(e["name"], e["cat"], e["ph"]) for e in found] == [
        ("activation_of_sign", "forward", "X"),
        ("activation", "forward", "X"),
    ]
    assert found[0]["args"]["input shapes"] == [[3, 4]]
    assert found[0]["tid"] != found[1]["tid"]
    assert found[0]["ts"] + found[0]["dur"] <= found[1]["ts"]


def test_nothing_stays_behind():
    before = (tape.Primitive.__call__, tape.Node.vjp, _C.conv2d)
    x = cx.rand(1, 1, 3, 3).requires_grad_()
    p = cx.profile()
    with pytest.raises(ValueError, match="kernel_size"), p:
        F.max_pool2d(F.relu(x), 0)
    assert [e.name for e in p.events] == ["activation_of_sign"]
    assert (tape.Primitive.__call__, tape.Node.vjp, _C.conv2d) == before
    with p:  # it starts anew
        F.relu(x)
        with pytest.raises(RuntimeError, match="active already"), cx.profile():
            pass
        F.relu(x)
    assert len(p.events) == 2
    assert (tape.Primitive.__call__, tape.Node.vjp, _C.conv2d) == before
    assert str(cx.profile()).splitlines()[-1].startswith("operations 0.000 ms of 0.000 ms")


def test_an_array_that_tells_no_shape() -> None:
    class Bare:
        def __init__(self, array: np.ndarray) -> None:
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__

    x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    with cx.profile() as p:
        y = cx.ops.conv2d(x, Bare(w))
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), 9))
    assert [e.name for e in p.events] == ["conv2d"]


def test_parameters_are_not_kept_for_backward_frozen_or_not() -> None:
    conv, x = nn.Conv2d(3, 4, 3), cx.rand(2, 3, 8, 6)
    conv.weight.requires_grad_(False)
    x.requires_grad_(True)
    with cx.profile() as p:
        conv(x)
    assert by_name(p, "forward")["conv2d"].kept == 0


def test_a_primitive_of_any_name_is_no_update() -> None:
    @tape.primitive
    def heaviside_step(x):
        return (x > 0).astype(x.dtype)

    with cx.profile() as p:
        heaviside_step(cx.rand(3))
    assert set(by_name(p, "forward")) == {"heaviside_step"}
