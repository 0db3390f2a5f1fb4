"""Autotune: its modes, what it may change, and what it keeps. Each case is a process with a folder of its
own, because the setting and the cache live as long as a process."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cnnext as cx
import pytest
from cnnext import _C
from test_process import python

# Shapes that offer each kind of choice; small, because every variant runs a few times.
SETUP = """
import json
import numpy as np
import cnnext as cx
from cnnext import _C, ops
_C.set_num_threads(2)

def nhwc(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

def layers():
    rng = np.random.default_rng(0)
    for x, w, params in (
        ((2, 40, 24, 26), (72, 40, 3, 3), {"padding": 1}),
        ((2, 130, 15, 9), (150, 130, 3, 3), {"padding": 1}),
        ((1, 16, 37, 41), (24, 16, 5, 3), {"stride": (1, 2)}),
        ((2, 3, 50, 44), (32, 3, 7, 7), {"stride": 2, "padding": 3}),
        ((3, 48, 20, 28), (40, 48, 1, 1), {}),
        ((2, 32, 17, 19), (32, 4, 3, 3), {"padding": 1, "groups": 8}),
        ((4, 96, 6, 6), (128, 96, 6, 6), {}),
        ((2, 24, 30, 31), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
        ((3, 8, 160, 160), (32, 8, 1, 1), {}),
    ):
        for layout in (np.ascontiguousarray, nhwc):
            a, b = (rng.standard_normal(s).astype(np.float32) for s in (x, w))
            yield layout(a), b, params
    # Sums that underflow to -0, where a tile may or may not add the padding's zeros.
    x, w = np.full((1, 64, 40, 103), 1e-30, "f"), np.full((64, 64, 3, 3), -1e-30, "f")
    w[:, :, 2] = 1e-30
    for layout in (np.ascontiguousarray, nhwc):
        yield layout(x), w, {"padding": 1, "algorithm": "direct"}

def passes(x, w, params):
    y = ops.conv2d(x, w, **params)
    yield y
    yield ops.conv2d_backward_data(y, w, x.shape, **params)
    yield ops.conv2d_backward_weights(y, x, w.shape, **params)

def explain(op, x, w, params):
    last = x.strides[1] == 4 and x.shape[1] > 1
    return cx.explain(op, x.shape, w.shape, **params, channels_last=last)
"""
BITS = "from zlib import crc32; print([crc32(y.tobytes()) for l in layers() for y in passes(*l)])"
ALL = "list(y for l in layers() for y in passes(*l))"
ONE = "l = next(layers()); ops.conv2d(l[0], l[1], **l[2]); "


def run(code: str, folder: Path, mode: str = "off") -> str:
    result = python(SETUP + code, CNNEXT_CACHE_DIR=str(folder), CNNEXT_AUTOTUNE=mode)
    assert result.returncode == 0, result.stderr
    return result.stdout


def cache_file(folder: Path) -> Path:
    (file,) = folder.glob("autotune-*.txt")
    return file


@cache
def expected_bits() -> str:
    with TemporaryDirectory() as folder:
        bits = run(BITS, Path(folder))
        assert not any(Path(folder).iterdir())  # off keeps nothing
    return bits


@cache
def tuned(mode: str, code: str = ALL) -> tuple[str, str]:
    """Name and text of the cache that tuning leaves."""
    with TemporaryDirectory() as folder:
        run(code, Path(folder), mode)
        file = cache_file(Path(folder))
        return file.name, file.read_text()


def write_tuned(folder: Path, mode: str, variant: int, code: str = ALL) -> Path:
    """The cache as if this variant had been the fastest everywhere."""
    name, text = tuned(mode, code)
    header, *entries = text.splitlines()
    file = folder / name
    file.write_text("\n".join([header, *(f"{e.rsplit(' ', 1)[0]} {variant}" for e in entries), ""]))
    return file


def test_same_bits_are_the_same_bits(tmp_path: Path) -> None:
    assert run(BITS, tmp_path, "same_bits") == expected_bits()
    assert len(cache_file(tmp_path).read_text().splitlines()) > 20


@pytest.mark.parametrize("variant", [1, 2, 3])
def test_every_variant_of_same_bits_has_them(variant: int, tmp_path: Path) -> None:
    """Whatever is the fastest on this machine."""
    write_tuned(tmp_path, "same_bits", variant)
    name = {1: "small regions", 2: "large regions", 3: "plain stores"}[variant]
    code = BITS + f"\nassert {{explain('conv2d', *l).choice for l in layers()}} == {{'autotune: {name}'}}"
    assert run(code, tmp_path, "same_bits") == expected_bits()


@pytest.mark.parametrize("variant", [4, 5, 6, 7, 8])
def test_the_other_variants_are_right_within_rounding(variant: int, tmp_path: Path) -> None:
    code = """
results = [y for l in layers() for y in passes(*l)]
cx.set_autotune("off")
for y, e in zip(results, [y for l in layers() for y in passes(*l)], strict=True):
    np.testing.assert_allclose(y, e, rtol=0, atol=3e-5 * abs(e).max())
"""
    write_tuned(tmp_path, "any", variant)
    run(code, tmp_path, "any")


@pytest.mark.skipif(_C.isa() == "scalar", reason="has no Winograd")
def test_any_takes_the_other_algorithm_where_the_cache_says_so(tmp_path: Path) -> None:
    kernels = "print(json.dumps([explain('conv2d', *l).kernel for l in layers()][:2]))"
    assert all("winograd" in k for k in json.loads(run(kernels, tmp_path)))
    write_tuned(tmp_path, "any", 4)
    assert all("conv2d_k" in k for k in json.loads(run(kernels, tmp_path, "any")))
    assert "conv2d_k" in run(ONE + "print(_C.last_kernel())", tmp_path, "any")


def test_decisions_outlive_the_process_and_are_not_made_twice(tmp_path: Path) -> None:
    file = write_tuned(tmp_path, "any", 2)  # a decision that a new timing would hardly repeat everywhere
    before = file.read_text()
    run(ALL, tmp_path, "any")
    assert cache_file(tmp_path) == file
    assert file.read_text() == before


def test_a_plan_decides_nothing(tmp_path: Path) -> None:
    assert run("print({explain('conv2d', *l).choice for l in layers()})", tmp_path, "any") == "{'table'}\n"
    assert not any(tmp_path.iterdir())


HEADER = "cnnext 9.9 autotune, avx9, somebody's processor\n"


def not_ours() -> dict[str, str]:
    _, text = tuned("same_bits", ONE)
    header, entry = text.splitlines()
    key = entry.rsplit(" ", 1)[0]
    broken = (entry[:20], entry + " 7", key + " -1", entry + "x", "9" * 30 + " 1")
    return {
        "empty": "",
        "foreign": HEADER + entry,
        "binary": "\x00\xff" * 5000,
        "one line": "9" * 100_000,
        **{f"broken entry {i}": f"{header}\n{line}\n{entry}\n" for i, line in enumerate(broken)},
    }


def test_a_file_that_is_not_ours_counts_as_empty_and_is_replaced(tmp_path: Path) -> None:
    header = tuned("same_bits", ONE)[1].splitlines()[0]
    for name, content in not_ours().items():
        file = write_tuned(tmp_path, "same_bits", 0, ONE)
        file.write_text(content)
        assert run(ONE + "print(explain('conv2d', *l).choice[:9])", tmp_path, "same_bits") == "autotune:\n"
        assert file.read_text().splitlines()[0] == header, name
        assert len(file.read_text().splitlines()) == 2, name


@pytest.mark.parametrize("variant", [4, 99, 2**31 - 1])
def test_a_variant_that_is_unknown_or_not_allowed_is_timed_anew(variant: int, tmp_path: Path) -> None:
    write_tuned(tmp_path, "same_bits", variant, ONE)
    choice = run(ONE + "print(explain('conv2d', *l).choice)", tmp_path, "same_bits")
    assert choice.startswith("autotune: ")
    assert "direct" not in choice


def test_memory_and_file_are_bounded(tmp_path: Path) -> None:
    file = write_tuned(tmp_path, "same_bits", 0, ONE)
    header, entry = file.read_text().splitlines()
    mode, ops_pass, threads, _, rest = entry.split(" ", 4)
    many = [f"{mode} {ops_pass} {threads} {n} {rest}" for n in range(100, 5000)]
    file.write_text("\n".join([header, *many, ""]))
    run(ONE, tmp_path, "same_bits")
    lines = file.read_text().splitlines()
    assert len(lines) == 1 + 2048
    assert lines[-1].rsplit(" ", 1)[0] == entry.rsplit(" ", 1)[0]  # the oldest went


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(ONE + "print('ran')", tmp_path / "file" / "x", "any") == "ran\n"


def test_the_folder_by_default(tmp_path: Path) -> None:
    code = SETUP + "ops.conv2d(np.ones((1, 1, 5, 5), 'f'), np.ones((1, 1, 2, 2), 'f'))"
    home = str(tmp_path / "h")
    environment: dict[str, Any] = {"CNNEXT_AUTOTUNE": "any", "CNNEXT_CACHE_DIR": "", "HOME": home}
    assert python(code, **environment, XDG_CACHE_HOME=str(tmp_path / "x")).returncode == 0
    assert cache_file(tmp_path / "x" / "cnnext")
    assert python(code, **environment, XDG_CACHE_HOME="").returncode == 0
    assert cache_file(tmp_path / "h" / ".cache" / "cnnext")


def test_modes() -> None:
    assert cx.get_autotune() == "off"
    try:
        for mode in ("same_bits", "any", "off"):
            cx.set_autotune(mode)
            assert cx.get_autotune() == mode
        with pytest.raises(ValueError, match="mode is 'on'; it must be one of 'off', 'same_bits', 'any'"):
            cx.set_autotune("on")
        with pytest.raises(TypeError, match="mode must be a string"):
            cx.set_autotune(True)
    finally:
        cx.set_autotune("off")
    result = python("import cnnext", CNNEXT_AUTOTUNE="on")
    assert result.returncode != 0
    assert "CNNEXT_AUTOTUNE" in result.stderr.splitlines()[-1]


MANY = """
import os, sys
import numpy as np
import cnnext as cx
from cnnext import ops
w = np.ones((1, 1, 1, 1), np.float32)
def tune(height, count):
    for n in range(count):
        ops.conv2d(np.ones((1, 1, height, 1 + n), np.float32), w)
"""


def test_processes_that_share_a_folder_lose_nothing(tmp_path: Path) -> None:
    code = """
children = []
for height in range(2, 6):
    child = os.fork()
    if not child:
        tune(height, 40)
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""
    run(MANY + code, tmp_path, "same_bits")
    assert len(cache_file(tmp_path).read_text().splitlines()) == 1 + 4 * 40


def test_a_child_of_fork_may_tune(tmp_path: Path) -> None:
    """Whatever the parent's other threads are doing when it forks."""
    code = """
import signal, threading, time
cx.set_num_threads(1)
stop = threading.Event()
def work():
    n = 0
    while not stop.is_set():
        n += 1
        ops.conv2d(np.ones((1, 1, 1 + n % 3000, 1 + n // 3000), np.float32), w)
thread = threading.Thread(target=work)
thread.start()
time.sleep(0.2)
for i in range(5):
    child = os.fork()
    if not child:
        signal.alarm(30)  # ends a child that waits for ever
        ops.conv2d(np.ones((1, 1, 7, 5000 + i), np.float32), w)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
"""
    run(MANY + code, tmp_path, "same_bits")


def test_what_another_variant_would_need_does_not_fail_the_call(tmp_path: Path) -> None:
    code = """
s = 1 << 28
y = ops.conv2d(
    np.ones((1, 4, 2, 1), np.float32), np.ones((20, 4, 1, 1), np.float32),
    stride=(1, s), padding=((0, 0), (2 * s, 2 * s)),
)
assert y.shape == (1, 20, 2, 5) and y.sum() == 160
"""
    run(MANY + code, tmp_path, "any")
