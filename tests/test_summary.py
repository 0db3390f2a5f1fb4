"""cnnext.summary: shapes, parameters and multiply-adds, with the model left as it was."""

from __future__ import annotations

import cnnext as cx
import numpy as np
import pytest
from cnnext import models, nn


def test_rows():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.ReLU(), nn.Flatten()),
        nn.Linear(48, 5),
    )
    s = cx.summary(model, (2, 3, 9, 7))
    assert [(r.path, r.type, r.output_shape, r.params, r.macs, r.calls) for r in s.rows] == [
        ("", "Sequential", (2, 5), 0, 0, 1),
        ("0", "Conv2d", (2, 4, 4, 3), 4 * 27 + 4, 2 * 4 * 12 * 27, 1),
        ("1", "BatchNorm2d", (2, 4, 4, 3), 8, 0, 1),
        ("2", "Sequential", (2, 48), 0, 0, 1),
        ("2.0", "ReLU", (2, 4, 4, 3), 0, 0, 1),
        ("2.1", "Flatten", (2, 48), 0, 0, 1),
        ("3", "Linear", (2, 5), 48 * 5 + 5, 2 * 48 * 5, 1),
    ]
    assert s.total_params == s.trainable_params == 112 + 8 + 245
    assert s.total_macs == 2592 + 480
    # A dense layer from 3x9x7 to 4x4x3. The convolution keeps its input; flattening copies nothing.
    assert [r.dense_weights for r in s.rows] == [0, 189 * 48, 0, 0, 0, 0, 0]
    assert [r.activation_bytes for r in s.rows] == [0, 384, 384, 0, 384, 0, 40]
    assert s.rows[1].kept_bytes == 2 * 189 * 4
    assert 0 < s.rows[4].kept_bytes <= 384
    assert s.total_kept_bytes == sum(r.kept_bytes for r in s.rows)
    assert "conv2d" in s.rows[1].kernel
    assert "relu" in s.rows[4].kernel
    assert s.rows[0].kernel == s.rows[5].kernel == ""
    lines = str(s).splitlines()
    assert lines[0].split()[:7] == ["layer", "output", "shape", "params", "dense", "would", "MACs"]
    assert lines[3].split()[:9] == ["0:", "Conv2d", "(2,", "4,", "4,", "3)", "112", "9,072", "2,592"]
    assert lines[3].split()[-1] == s.rows[1].kernel
    assert lines[6].startswith("    0: ReLU")
    assert lines[-1].startswith("input (2, 3, 9, 7); 365 parameters, 365 of them trainable; 3,072 MACs; act")


def test_frozen_layers_keep_nothing():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    model.requires_grad_(False)
    s = cx.summary(model, (2, 3, 9, 7))
    assert s.total_kept_bytes == 0
    assert s.total_activation_bytes == 2 * 2 * 4 * 7 * 5 * 4


def test_the_model_is_left_as_it_was():
    model = models.create("digits-cnn")
    model.classifier[3].eval()
    model.features[0].requires_grad_(False)
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    cx.manual_seed(3)
    first = cx.rand(2).numpy()
    cx.manual_seed(3)
    s = cx.summary(model, (1, 1, 8, 8))
    np.testing.assert_array_equal(cx.rand(2).numpy(), first)
    assert s.total_params - s.trainable_params == 32 * 9 + 32
    assert [m.training for m in model.modules()] == modes
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])
    assert not any("forward" in m.__dict__ for m in model.modules())
    with pytest.raises(ValueError, match="channels"):
        cx.summary(model, (1, 2, 8, 8))
    assert [m.training for m in model.modules()] == modes
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_a_layers_own_forward_stays():
    layer = nn.ReLU()
    layer.forward = double = lambda x: x + x
    model = nn.Sequential(nn.Linear(3, 3), layer)
    assert [r.calls for r in cx.summary(model, (2, 3)).rows] == [1, 1, 1]
    assert model[1].forward is double
    np.testing.assert_array_equal(layer(cx.ones(1)).numpy(), [2])


class Twice(nn.Module):
    """Shares one layer, leaves one out, and has one that speaks for another."""

    def __init__(self):
        super().__init__()
        self.shared, self.skipped = nn.Linear(3, 3), nn.ReLU()
        self.same = self.shared
        self.shared._fused = "linear+relu"

    def forward(self, x):
        return self.shared(self.same(x)), x


def test_shared_skipped_and_fused_layers():
    s = cx.summary(Twice().double(), [4, 3])
    rows = {r.path: r for r in s.rows}
    assert set(rows) == {"", "shared", "skipped"}
    assert (rows["shared"].calls, rows["shared"].params, rows["shared"].macs) == (2, 12, 2 * 36)
    assert (rows["skipped"].output_shape, rows[""].output_shape) == (None, (4, 3))
    assert s.total_params == 12
    lines = str(s).splitlines()
    assert lines[0].endswith("fused")
    assert lines[3].endswith("linear+relu")
    assert "(4, 3) x2" in lines[3]


@pytest.mark.parametrize(("name", "size", "macs"), [
    ("resnet18", 224, 1_814_073_344), ("mobilenet_v2", 224, 300_774_272), ("segnet", 32, 631_701_504),
])  # fmt: skip
def test_known_counts(name, size, macs):
    assert cx.summary(models.create(name), (1, 3, size, size)).total_macs == macs


def test_wrong_arguments():
    for shape in ((), (0, 3), (2.0, 3), (True, 3)):
        with pytest.raises(ValueError, match="input_shape"):
            cx.summary(nn.ReLU(), shape)
    with pytest.raises(TypeError, match="model must be a Module"):
        cx.summary(len, (1, 2))


def test_a_summary_leaves_what_is_fused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    cx.fuse(model)
    first, second = (str(cx.summary(model, (1, 3, 9, 9))) for _ in range(2))
    assert first == second
    assert "conv2d+relu+max_pool2d" in first
    assert model[0]._fused == "conv2d+relu+max_pool2d"


def test_joined_layers_show_their_own_shapes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.pool = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)

        def forward(self, x: cx.Tensor) -> cx.Tensor:
            return self.pool(self.relu(self.conv(x)))

    model = cx.fuse(Net(), [["conv", "relu", "pool"]])
    shapes = {row.path: row.output_shape for row in cx.summary(model, (1, 3, 9, 8)).rows}
    assert shapes == {"": (1, 4, 3, 3), "conv": (1, 4, 7, 6), "relu": (1, 4, 7, 6), "pool": (1, 4, 3, 3)}
    assert model.pool._fused == "conv2d+relu+max_pool2d"
