"""Accuracy, mean IoU and counts of classes: right, or refused by name."""

import cnnext as cx
import numpy as np
import pytest
from cnnext import train
from cnnext.train import metrics

LOGITS = np.array([[1, 3, 2], [5, 4, 0], [0, 0, 9], [2, 8, 1]], np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, "bfloat16"])
def test_accuracy(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    logits = cx.Tensor(LOGITS.astype(dtype))
    assert train.accuracy(logits, np.array([1, 0, 0, 1])) == (3, 4)
    assert train.accuracy(logits, np.array([1, -7, -7, 2]), ignore_index=-7) == (1, 2)
    ruined = LOGITS.copy()
    ruined[0, 2] = ruined[1, 0] = np.nan  # the NaN is where argmax would be
    assert train.accuracy(cx.Tensor(ruined.astype(dtype)), np.array([2, 0, 2, 1])) == (2, 4)


def test_accuracy_of_pixels_of_probabilities_and_of_nothing():
    pixels = cx.Tensor(np.moveaxis(LOGITS.reshape(2, 2, 1, 3), 3, 1).copy())
    assert train.accuracy(pixels, np.array([[[1], [0]], [[2], [2]]])) == (3, 4)
    soft = np.eye(3, dtype=np.float32)[[1, 2, 2, 1]] * 0.4 + 0.2
    assert train.accuracy(cx.Tensor(LOGITS), cx.Tensor(soft)) == (3, 4)
    assert train.accuracy(cx.Tensor(LOGITS[:0]), np.zeros(0, int)) == (0, 0)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (LOGITS, np.zeros((4, 1), int), r"target has shape \(4, 1\); the rule is \(4,\)"),
        (LOGITS, np.zeros(1, int), r"target has shape \(1,\)"),
        (LOGITS, np.zeros(4, np.float32), r"target has shape \(4,\); the rule is \(4, 3\)"),
        (LOGITS, np.array([0, 1, 2, 3]), r"target holds 3; the rule is 0\.\.2"),
        (LOGITS, np.array([0, -1, 2, 0]), "target holds -1"),
        (LOGITS[:, 0], np.zeros(4, int), r"output has shape \(4,\)"),
        (LOGITS[:, :0], np.zeros(4, int), r"output has shape \(4, 0\)"),
    ],
)
def test_accuracy_refuses(logits, target, message):
    with pytest.raises(ValueError, match=message):
        train.accuracy(cx.Tensor(logits), target)


@pytest.mark.parametrize(
    ("predictions", "labels", "classes", "error", "message"),
    [
        ([0, 1], [0, 1, 1], 2, ValueError, r"predictions has shape \(2,\)"),
        ([0, 1], [[0, 1]], 2, ValueError, "predictions has shape"),
        ([0, 2], [0, 1], 2, ValueError, r"predictions holds 2; the rule is 0\.\.1"),
        ([0, 1], [0, -1], 2, ValueError, "labels holds -1"),
        ([0.0, np.nan], [0, 1], 2, TypeError, "predictions has dtype float64"),
        ([0, 1], [0, 1], 0, ValueError, "classes is 0"),
        ([0, 1], [0, 1], 2.0, TypeError, "classes is 2.0"),
    ],
)
def test_counts_of_classes_refuse(predictions, labels, classes, error, message):
    for count in (train.mean_iou, metrics.confusion):
        with pytest.raises(error, match=message):
            count(np.array(predictions), np.array(labels), classes)


def test_confusion_counts():
    found = metrics.confusion(np.array([[0, 1], [1, 2]], np.uint8), np.array([[0, 2], [1, 2]]), 4)
    np.testing.assert_array_equal(found, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert train.mean_iou(np.zeros((2, 2), np.int64), np.zeros((2, 2), np.uint8), 10**6) == 1
