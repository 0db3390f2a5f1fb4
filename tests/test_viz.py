"""cnnext.viz: what is drawn, read off the figures' artists; receptive fields two ways; errors."""

import io
import subprocess
import sys

import cnnext as cx
import numpy as np
import pytest
from cnnext import models, nn, viz

pytest.importorskip("matplotlib")

ROWS = [
    {
        "epoch": e,
        "train_loss": 1 / e,
        "validation_loss": 2 / e,
        "train_accuracy": 0.8,
        "validation_accuracy": 0.7,
    }
    for e in (1, 2, 3)
]


@pytest.fixture(scope="module")
def digits_cnn():
    cx.manual_seed(0)
    return models.create("digits-cnn")


def picture(size=8, channels=1, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, size, size)).astype(np.float32)


def drawn(axes):
    """The array that an axes' image shows."""
    return np.asarray(axes.images[0].get_array())


# ---- training ----------------------------------------------------------------------------------------


def test_training_curves_draw_the_history():
    loss, accuracy = viz.training_curves(ROWS).axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    for axes, factor, kind in ((loss, 1, "loss"), (accuracy, 100, "accuracy")):
        for line, part in zip(axes.lines, ("train", "validation"), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_allclose(line.get_ydata(), [factor * row[f"{part}_{kind}"] for row in ROWS])
    assert loss.get_yscale() == "log"


def test_training_curves_of_columns():
    columns = {key: [row[key] for row in ROWS] for key in ROWS[0]}
    rows, same = viz.training_curves(ROWS), viz.training_curves(columns)
    assert viz.to_png(rows) == viz.to_png(same)


def test_training_curves_without_validation():
    rows = [{key: value for key, value in row.items() if "validation" not in key} for row in ROWS]
    assert [len(axes.lines) for axes in viz.training_curves(rows).axes] == [1, 1]


def test_training_curves_leave_out_what_cannot_be_drawn():
    """In a process of its own, which can be ended if matplotlib looks for ticks for ever."""
    code = """
import numpy as np
from cnnext import viz

KEYS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
for bad in (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e308, 1e-308):
    rows = [{"epoch": e, **dict.fromkeys(KEYS, 0.5 / e)} for e in (1, 2, 3)]
    rows[1].update(dict.fromkeys(KEYS[:3], bad))
    figure = viz.training_curves(rows)
    viz.to_png(figure)
    loss, accuracy = figure.axes
    assert loss.get_yscale() == "log"
    for axes, factor, key in ((loss, 1, "train_loss"), (accuracy, 100, "train_accuracy")):
        found = axes.lines[0].get_ydata()
        assert [found[i] for i in (0, 2)] == [factor * rows[i][key] for i in (0, 2)], (bad, found)
        assert np.isfinite(axes.get_ylim()).all(), bad
    viz.to_png(viz.training_curves([{**row, **dict.fromkeys(KEYS, bad)} for row in rows]))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=300)


def test_training_curves_of_a_csv_file():
    rows = [{key: str(value) for key, value in row.items()} for row in ROWS]
    assert viz.to_png(viz.training_curves(rows)) == viz.to_png(viz.training_curves(ROWS))


def test_pictures_with_gaps_show_the_rest():
    image = picture(4, 3)
    image[0, 0, 0], image[1, 1, 1], image[2, 2, 2] = np.nan, np.inf, -np.inf
    labels = np.zeros((1, 4, 4), int)
    shown = drawn(viz.segmentation(image[None], labels, labels, ["none"]).axes[0])
    assert 0 == shown.min() < shown.max() == 1
    weight = np.ones((2, 1, 3, 3))
    weight[0, 0, 0, 0] = np.nan
    assert viz.filters(weight).axes[0].images[0].norm.vmax == 1
    viz.to_png(viz.filters(weight * np.inf))


def test_confusion_matrix_draws_counts_and_shares():
    counts = np.array([[8, 2], [0, 0]])
    axes = viz.confusion_matrix(counts, ["cat", "dog"]).axes[0]
    np.testing.assert_allclose(drawn(axes), [[0.8, 0.2], [0, 0]])
    assert {text.get_text(): text.get_position() for text in axes.texts} == {"8": (0, 0), "2": (1, 0)}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    assert axes.get_title() == "8 of 10 right"


# ---- filters, maps, saliency -------------------------------------------------------------------------


def test_filters_are_the_means_over_channels():
    weight = np.random.default_rng(0).normal(size=(10, 3, 5, 4))
    figure = viz.filters(cx.Tensor(weight), limit=9)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 9
    for axes, tile in zip(shown, weight.mean(axis=1), strict=False):
        np.testing.assert_array_equal(drawn(axes), tile)
        assert axes.images[0].norm.vmin == -axes.images[0].norm.vmax


def test_feature_maps_are_the_layers_outputs(digits_cnn):
    digits_cnn.train()
    figure = viz.feature_maps(digits_cnn, picture(), limit=3)
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    leaves = [name for name, layer in digits_cnn.named_modules() if name and not any(layer.children())]
    assert [label.split("\n")[0] for label in labels] == leaves
    with cx.no_grad():
        first = digits_cnn.features[0](cx.Tensor(picture()[None])).numpy()[0]
    for axes, expected in zip(figure.axes[:3], first, strict=False):
        np.testing.assert_array_equal(drawn(axes), expected)
    assert labels[4].endswith("64 x 4 x 4")
    assert drawn(figure.axes[-1]).shape == (1, 10)
    assert digits_cnn.training
    assert digits_cnn.classifier[3].training
    assert all(not layer._hooks for layer in digits_cnn.modules())


def test_feature_maps_of_chosen_layers_and_of_one_that_is_overwritten():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace=True))
    model[0].weight.data[...] = np.array([1, -1]).reshape(2, 1, 1, 1)
    image = picture()
    before, after = (viz.feature_maps(model, image, [name]).axes for name in ("0", "1"))
    np.testing.assert_array_equal(drawn(before[0]), image[0])
    np.testing.assert_array_equal(drawn(after[0]), np.maximum(image[0], 0))


def test_saliency_is_the_gradient(digits_cnn):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(18, 4))
    weight = linear[1].weight.detach().numpy()
    values, target = viz.saliency_map(linear, picture(3, 2), target=2)
    np.testing.assert_allclose(values, np.abs(weight[2].reshape(2, 3, 3)).max(axis=0), rtol=1e-6)
    assert target == 2
    assert linear[1].weight.grad is None
    figure = viz.saliency(digits_cnn, picture(), names=list("abcdefghij"))
    values, predicted = viz.saliency_map(digits_cnn, picture())
    np.testing.assert_array_equal(drawn(figure.axes[1]), values)
    assert figure.axes[1].get_title().endswith(f"logit of {'abcdefghij'[predicted]}")


# ---- receptive fields --------------------------------------------------------------------------------

CHAINS = {
    "3x3": (lambda: [nn.Conv2d(1, 2, 3)], 12),
    "asymmetric": (
        lambda: [nn.Conv2d(1, 2, (5, 2), stride=(1, 2), padding=((3, 1), (0, 2))), nn.ReLU()],
        13,
    ),
    "lenet": (
        lambda: [
            nn.Conv2d(1, 2, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2, 3, 5),
            nn.MaxPool2d(2),
        ],
        28,
    ),
    "rows left over": (lambda: [nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 2, 3, padding=2, stride=3)], 18),
    "pools": (lambda: [nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 3)], 25),
    "same": (lambda: [nn.Conv2d(1, 2, 4, padding="same", dilation=3), nn.Conv2d(2, 1, 2)], 20),
    "groups": (lambda: [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4, padding="valid"), nn.GELU()], 11),
}


@pytest.mark.parametrize("name", CHAINS)
def test_receptive_field_by_gradient_is_that_by_arithmetic(name):
    layers, size = CHAINS[name]
    model = nn.Sequential(*layers())
    with cx.no_grad():
        *_, height, width = model(cx.Tensor(np.zeros((1, 1, size, size + 3), np.float32))).shape
    for unit in {(0, 0), (height // 2, width // 3), (height - 1, width - 1)}:
        mask = viz.field_by_gradient(model, str(len(model) - 1), (1, size, size + 3), unit)
        np.testing.assert_array_equal(mask, viz.field_by_arithmetic(model, (size, size + 3), unit))


def test_receptive_field_of_known_networks():
    lenet = models.create("lenet5")
    sides = {"features.0": 5, "features.2": 6, "features.3": 14, "features.5": 16}
    for layer, side in sides.items():
        assert viz.field_by_gradient(lenet, layer, (1, 28, 28)).sum() == side**2
    # torchvision's ResNet-18: 7x7/2, 3x3/2, then two 3x3 a block: 7, 11, 19, 27, 35, 43.
    resnet = models.create("resnet18")
    for layer, side in {"conv1": 7, "maxpool": 11, "layer1.0": 27, "layer1.1": 43}.items():
        assert viz.field_by_gradient(resnet, layer, (3, 64, 64), (8, 8)).sum() == side**2
    assert resnet.training


def test_receptive_field_with_holes_and_of_padding():
    dilated = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2))
    mask = viz.field_by_gradient(dilated, "0", (1, 5, 5))
    expected = np.zeros((5, 5), bool)
    expected[::2, ::2] = True
    np.testing.assert_array_equal(mask, expected)
    ceil = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True))
    assert viz.field_by_gradient(ceil, "0", (1, 3, 3), (1, 1)).sum() == 1
    outside = nn.Sequential(nn.Conv2d(1, 1, 1, padding=1))
    assert not viz.field_by_gradient(outside, "0", (1, 3, 3), (0, 0)).any()
    assert "sees no pixel" in viz.receptive_field(outside, picture(3), "0", (0, 0)).axes[0].get_title()


def test_gradients_are_taken_under_no_grad(digits_cnn):
    field = viz.field_by_gradient(digits_cnn, "features.2", (1, 8, 8))
    values, _ = viz.saliency_map(digits_cnn, picture())
    with cx.no_grad():
        np.testing.assert_array_equal(viz.field_by_gradient(digits_cnn, "features.2", (1, 8, 8)), field)
        np.testing.assert_array_equal(viz.saliency_map(digits_cnn, picture())[0], values)
        assert not cx.is_grad_enabled()


def test_receptive_field_is_drawn_on_the_image(digits_cnn):
    axes = viz.receptive_field(digits_cnn, picture(), "features.2", (3, 4)).axes[0]
    tint = np.asarray(axes.images[1].get_array())[..., 3] > 0
    np.testing.assert_array_equal(tint, viz.field_by_gradient(digits_cnn, "features.2", (1, 8, 8), (3, 4)))
    (frame,) = axes.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((1.5, 0.5), 5, 5)


# ---- max-pool, segmentation --------------------------------------------------------------------------


def test_max_pool_argmax_rings_the_maxima():
    plane = np.array([[1, 5, 2, 0], [3, 4, 7, 6], [9, 8, 1, 1], [0, 2, 1, 3]], np.float32)
    left, right = viz.max_pool_argmax(plane, 2).axes
    np.testing.assert_array_equal(drawn(left), plane)
    np.testing.assert_array_equal(drawn(right), [[5, 7], [9, 3]])
    np.testing.assert_array_equal(left.collections[0].get_offsets(), [(1, 0), (2, 1), (0, 2), (3, 3)])
    corners = [window.get_xy() for window in left.patches]
    assert corners == [(-0.5, -0.5), (1.5, -0.5), (-0.5, 1.5), (1.5, 1.5)]
    padded = viz.max_pool_argmax(cx.Tensor(plane[None, None]), 3, 2, 1).axes[0]
    assert padded.patches[0].get_xy() == (-1.5, -1.5)
    assert padded.patches[0].get_width() == 3


def test_segmentation_draws_input_truth_and_prediction():
    images, truth = picture(4)[None].repeat(3, axis=0), np.arange(48).reshape(3, 4, 4) % 3
    figure = viz.segmentation(images, truth, truth[::-1], names=["none", "one", "two", "three"], limit=2)
    panels = [axes for axes in figure.axes if axes.get_title() or not axes.get_label()]
    for row in range(2):
        np.testing.assert_array_equal(drawn(panels[3 * row + 1]), truth[row])
        np.testing.assert_array_equal(drawn(panels[3 * row + 2]), truth[2 - row])
    assert [axes.get_title() for axes in panels[:3]] == ["input", "truth", "prediction"]
    assert panels[1].images[0].norm.vmax == panels[2].images[0].norm.vmax == 3.5


# ---- all of them -------------------------------------------------------------------------------------


def test_pictures_are_the_same_bytes_and_need_no_pyplot():
    code = """
import sys, numpy as np
from cnnext import viz
figures = [viz.max_pool_argmax(np.eye(4), 2) for _ in range(2)]
a, b = (viz.to_png(figure) for figure in figures)
assert a == b and a[:4] == b"\\x89PNG" and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    Image = pytest.importorskip("PIL.Image")
    with Image.open(io.BytesIO(viz.to_png(viz.filters(np.zeros((1, 1, 3, 3)))))) as picture:
        assert picture.format == "PNG"


FLAT = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
CONV = nn.Sequential(nn.Conv2d(1, 2, 3))
IMAGE = picture()
LABELS = np.zeros((1, 8, 8), int)


class OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x):
        return x * self.scale


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: viz.training_curves([]), ValueError, "history has no rows"),
        (lambda: viz.training_curves([{"epoch": 1}]), ValueError, r"history\[0\] has no train_loss"),
        (lambda: viz.training_curves([ROWS[0], {}]), ValueError, r"history\[1\] has no epoch"),
        (lambda: viz.confusion_matrix(np.zeros((2, 3))), ValueError, r"counts has shape \(2, 3\)"),
        (lambda: viz.confusion_matrix(-np.eye(2)), ValueError, "least value -1"),
        (
            lambda: viz.training_curves([{**ROWS[0], "train_loss": "low"}]),
            ValueError,
            r"history\[0\] has train_loss 'low'; the rule is a number",
        ),
        (lambda: viz.confusion_matrix(np.eye(2) / 2), ValueError, "whole numbers"),
        (lambda: viz.confusion_matrix(np.full((2, 2), np.nan)), ValueError, "whole numbers"),
        (lambda: viz.confusion_matrix(np.eye(2), ["a"]), ValueError, "names has 1 names"),
        (lambda: viz.filters(np.zeros((3, 3))), ValueError, r"weight has shape \(3, 3\)"),
        (lambda: viz.filters(np.zeros((0, 1, 3, 3))), ValueError, "not empty"),
        (lambda: viz.filters(np.full((1, 1, 3, 3), "a")), TypeError, "array of numbers"),
        (lambda: viz.filters(np.zeros((1, 1, 3, 3)), 0), ValueError, "limit is 0"),
        (lambda: viz.filters(np.zeros((1, 1, 3, 3)), 2.5), TypeError, "limit is 2.5"),
        (lambda: viz.segmentation(IMAGE[None], LABELS, LABELS, limit=True), TypeError, "limit is True"),
        (lambda: viz.feature_maps(CONV, np.zeros((2, 1, 8, 8))), ValueError, "one image"),
        (lambda: viz.feature_maps(CONV, IMAGE, ["1"]), ValueError, "layer is '1'; the rule is .*: 0"),
        (lambda: viz.feature_maps(CONV, IMAGE, []), ValueError, "layers that are called"),
        (lambda: viz.feature_maps("model", IMAGE), TypeError, "model is str"),
        (lambda: viz.saliency_map(CONV, IMAGE), ValueError, "logits"),
        (lambda: viz.saliency_map(FLAT, IMAGE, 4), ValueError, "target is 4; the rule is 0 <= target < 4"),
        (lambda: viz.saliency(FLAT, IMAGE, 3, names=["a"]), ValueError, "names has 1 names"),
        (lambda: viz.field_by_gradient(CONV, "0", (8, 8)), ValueError, "input_shape"),
        (lambda: viz.field_by_gradient(CONV, "0", (1, 8, 8), (6, 0)), ValueError, "within the maps of 6 x 6"),
        (lambda: viz.field_by_gradient(FLAT, "1", (1, 8, 8)), ValueError, "the rule is maps"),
        (
            lambda: viz.field_by_gradient(nn.Sequential(nn.GroupNorm(1, 1)), "0", (1, 8, 8)),
            NotImplementedError,
            "through GroupNorm",
        ),
        (
            lambda: viz.field_by_gradient(nn.Sequential(OwnParameter()), "0", (1, 8, 8)),
            NotImplementedError,
            "through OwnParameter",
        ),
        (lambda: viz.field_by_arithmetic(FLAT, (8, 8)), NotImplementedError, "field_by_gradient"),
        (lambda: viz.field_by_arithmetic(CONV, (2, 8)), ValueError, r"size is \(2, 8\)"),
        (lambda: viz.field_by_arithmetic(CONV, (8, 8), (0, 6)), ValueError, r"unit is \(0, 6\)"),
        (lambda: viz.max_pool_argmax(np.zeros((2, 1, 4, 4)), 2), ValueError, "one plane"),
        (lambda: viz.max_pool_argmax(np.zeros((4, 4)), 5), ValueError, "kernel"),
        (lambda: viz.segmentation(IMAGE[None], LABELS[:, 1:], LABELS), ValueError, "truth has shape"),
        (lambda: viz.segmentation(IMAGE[None], LABELS, LABELS + 0.5), TypeError, "predicted has dtype"),
        (lambda: viz.segmentation(IMAGE[None], LABELS, LABELS - 1), ValueError, "predicted has class -1"),
        (lambda: viz.segmentation(IMAGE[None], LABELS, LABELS + 1, ["a"]), ValueError, "names has 1 names"),
        (
            lambda: viz.segmentation(IMAGE[None], LABELS, LABELS + 10**9),
            ValueError,
            "there is a class 1000000000; the rule is at most 1000 classes",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
