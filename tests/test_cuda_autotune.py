"""Autotune of the products on tensor cores. Each case is a process with a cache folder of its own, because
the setting and the cache live as long as a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gpu
import pytest
from test_process import python

gpu.need_device()

pytestmark = pytest.mark.cuda

SETUP = """
import json
import cnnext as cx
import numpy as np
from cnnext import _C, ops, testing
from gpu import driver
from gpu.arrays import INTERFACE
rng = np.random.default_rng(0)
LAYERS = [
    ((1, 16, 6, 7), (72, 16, 3, 3), {"padding": 1}),
    ((1, 8, 7, 9), (24, 8, 1, 1), {"stride": (2, 1)}),
    ((12, 128, 6, 7), (128, 128, 1, 1), {}),
]

def nhwc(array):
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

def layer(number, dtype="float16", order=nhwc):
    x, w, params = LAYERS[number]
    x, w = (rng.integers(-8, 8, shape).astype(dtype) / 8 for shape in (x, w))
    return INTERFACE.put(order(x.astype(dtype))), INTERFACE.put(w.astype(dtype)), params

def passes(x, w, params):
    y = ops.conv2d(x, w, **params)
    yield y, testing.last_kernel()
    yield ops.conv2d_backward_data(y, w, x.array.shape, **params), testing.last_kernel()
    yield ops.conv2d_backward_weights(y, x, w.array.shape, **params), testing.last_kernel()

def all_passes(numbers=range(2), **how):
    return [(INTERFACE.take(y), kernel) for n in numbers for y, kernel in passes(*layer(n, **how))]
"""
BITS = "print(json.dumps([[y.tobytes().hex(), kernel] for y, kernel in all_passes()]))"


def run(code: str, folder: Path, mode: str = "same_bits", **environment: str) -> str:
    result = python(SETUP + code, CNNEXT_CACHE_DIR=str(folder), CNNEXT_AUTOTUNE=mode, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def kept(folder: Path) -> list[list[int]]:
    """The cache file's entries: a key, and the variant behind it."""
    (path,) = folder.glob("autotune-*.txt")
    return [[int(word) for word in line.split()] for line in path.read_text().splitlines()[1:]]


def rewrite(folder: Path, variant: int) -> None:
    (path,) = folder.glob("autotune-*.txt")
    head, *lines = path.read_text().splitlines()
    lines = [" ".join([*line.split()[:-1], str(variant)]) for line in lines]
    path.write_text("\n".join([head, *lines]) + "\n")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("plain")
    found = json.loads(run(BITS, folder, "off"))
    assert not list(folder.iterdir())
    return found


@pytest.mark.parametrize("mode", ["same_bits", "any"])
def test_the_bits_stay_and_what_was_found_is_kept(plain: Any, mode: str, tmp_path: Path) -> None:
    found = json.loads(run(BITS, tmp_path, mode))
    assert [bits for bits, _ in found] == [bits for bits, _ in plain]
    entries = kept(tmp_path)
    assert len(entries) == len(plain) == 6
    assert all(0 <= entry[-1] <= 3 for entry in entries)
    if gpu.ON_BED:  # whose clock counts threads, of which large tiles take fewest
        assert any("128x128" in kernel for _, kernel in found)
        assert [kernel for _, kernel in found] != [kernel for _, kernel in plain]


@pytest.mark.parametrize(("variant", "tile"), [(1, "128x128"), (2, "128x64"), (3, "64x64")])
def test_what_is_kept_is_taken_and_not_timed_again(
    plain: Any, variant: int, tile: str, tmp_path: Path
) -> None:
    run(BITS, tmp_path)
    rewrite(tmp_path, variant)
    found = json.loads(run(BITS, tmp_path))
    assert [bits for bits, _ in found] == [bits for bits, _ in plain]
    assert all(f"mma_{tile}_nhwc" in kernel for _, kernel in found)
    assert {entry[-1] for entry in kept(tmp_path)} == {variant}


def test_a_variant_that_there_is_not_is_timed_anew(tmp_path: Path) -> None:
    run(BITS, tmp_path)
    rewrite(tmp_path, 99)
    run(BITS, tmp_path)
    assert all(entry[-1] <= 3 for entry in kept(tmp_path))


def test_explain_says_where_the_choice_comes_from(tmp_path: Path) -> None:
    ask = (
        'says = lambda: cx.explain("conv2d", *LAYERS[0][:2], **LAYERS[0][2], channels_last=True,'
        ' dtype="float16", device="cuda"); '
    )
    run(BITS, tmp_path)
    rewrite(tmp_path, 3)
    choice, kernel = run(ask + "s = says(); print(s.choice, s.kernel, sep='|')", tmp_path).strip().split("|")
    assert choice == "autotune: 64x64"
    assert kernel == "cuda/conv2d_mma_64x64_nhwc"
    empty = tmp_path / "empty"
    assert run(ask + "print(says().choice)", empty).strip() == "table"
    assert not empty.exists()


def test_tf32_and_nchw(tmp_path: Path) -> None:
    """Neither has a tile of 128 x 128; where rows are gathered there is but one, so nothing is timed."""
    code = (
        'cx.set_float32_matmul_precision("high"); r = all_passes(dtype="float32"); print([k for _, k in r])'
    )
    assert "128x128" not in run(code, tmp_path)
    assert {entry[-1] for entry in kept(tmp_path)} <= {0, 2, 3}
    nchw = tmp_path / "nchw"
    assert "128x128" not in run("print([k for _, k in all_passes(order=np.ascontiguousarray)])", nchw)
    assert {entry[-1] for entry in kept(nchw)} <= {0, 2, 3}
    gathered = tmp_path / "gathered"
    run("LAYERS[0] = (1, 5, 7, 9), (21, 5, 3, 3), {}; all_passes([0], order=np.ascontiguousarray)", gathered)
    assert not gathered.exists()


def test_on_hopper_the_tiles_of_wgmma_are_timed(tmp_path: Path) -> None:
    if not gpu.ON_BED:
        pytest.skip("what is kept depends on the device")
    code = BITS.replace("all_passes()", "all_passes([2])")
    hopper = {"CNNEXT_BED_CAPABILITY": "90"}
    plain = json.loads(run(code, tmp_path, "off", **hopper))
    run(code, tmp_path, **hopper)
    assert all(0 <= entry[-1] <= 5 for entry in kept(tmp_path))
    for variant, tile in ((4, "128x128"), (5, "128x256")):
        rewrite(tmp_path, variant)
        found = json.loads(run(code, tmp_path, **hopper))
        assert [bits for bits, _ in found] == [bits for bits, _ in plain]
        forward, data, weights = (kernel for _, kernel in found)
        assert (forward, data) == (
            f"cuda/conv2d_wgmma_{tile}_nhwc",
            f"cuda/conv2d_data_wgmma_{tile}_nhwc",
        )
        assert "_mma_" in weights  # which has no such tile: timed anew


CAPTURE = """
stream = driver.Stream()
x, w, params = layer(0)
with cx.cuda_stream(stream):
    ops.relu(x)
    stream.synchronize()
    graph = driver.Graph()
    with graph.capture(stream):
        ops.conv2d(x, w, **params)
    graph.launch(stream)
    stream.synchronize()
graph.close()
"""


def test_nothing_is_timed_in_a_graph_that_is_being_captured(tmp_path: Path) -> None:
    run(CAPTURE, tmp_path)
    assert not list(tmp_path.iterdir())
