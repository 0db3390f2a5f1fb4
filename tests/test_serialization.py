"""save and load: what comes back, what a failure leaves, what others' files give."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import cnnext as cx
import numpy as np
import pytest

safetensors_numpy = pytest.importorskip("safetensors.numpy")
from safetensors import SafetensorError  # noqa: E402


def test_round_trip_keeps_structure_types_and_bits(tmp_path):
    state = {
        "weight": cx.randn(2, 3),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3)[:, ::-1],
        "channels last": np.random.default_rng(0).standard_normal((2, 4, 5, 3)).transpose(0, 3, 1, 2),
        "scalar": cx.tensor(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "nested": {"a.b": cx.ones(1), "a": {"b": cx.zeros(1)}, 3: "three", "3": "text"},
        "list": [1, 2.5, None, True, "x", (np.ones(2), [])],
        "numbers": {"nan": float("nan"), "inf": -np.inf, "big": 10**30, "np": np.float32(0.5)},
        "bool": np.array([True, False]),
        "half": np.ones(2, np.float16),
        "big endian": np.arange(3, dtype=">f4"),
    }
    cx.save(state, tmp_path / "x.safetensors")
    back = cx.load(tmp_path / "x.safetensors")
    assert list(back) == list(state)
    assert isinstance(back["weight"], cx.Tensor)
    assert type(back["array"]) is np.ndarray
    assert back["array"].dtype == np.int16
    np.testing.assert_array_equal(back["weight"].numpy(), state["weight"].numpy())
    for name in ("array", "channels last", "empty", "bool", "half", "big endian"):
        np.testing.assert_array_equal(back[name], state[name])
    assert back["scalar"].shape == ()
    assert list(back["nested"]) == ["a.b", "a", 3, "3"]
    assert (back["nested"]["a.b"].item(), back["nested"]["a"]["b"].item()) == (1.0, 0.0)
    assert back["list"][:5] == [1, 2.5, None, True, "x"]
    assert isinstance(back["list"][5], tuple)
    assert np.isnan(back["numbers"]["nan"])
    assert (back["numbers"]["inf"], back["numbers"]["big"], back["numbers"]["np"]) == (-np.inf, 10**30, 0.5)
    back["array"][:] = 0  # writable
    back["weight"].zero_()


def test_a_model_and_its_optimizer(tmp_path):
    model = cx.nn.Sequential(cx.nn.Conv2d(1, 2, 3), cx.nn.BatchNorm2d(2))
    optimizer = cx.optim.AdamW(model.parameters())
    model(cx.randn(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": cx.random.get_state()}
    cx.save(state, tmp_path / "x")
    back = cx.load(tmp_path / "x")
    other = cx.nn.Sequential(cx.nn.Conv2d(1, 2, 3), cx.nn.BatchNorm2d(2))
    other.load_state_dict(back["model"])
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert back["optimizer"]["state"].keys() == {0, 1, 2, 3}
    assert back["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    cx.random.set_state(back["rng"])
    drawn = cx.rand(3).numpy()
    cx.random.set_state(state["rng"])
    np.testing.assert_array_equal(cx.rand(3).numpy(), drawn)


def test_a_flat_state_dict_is_plain_safetensors(tmp_path):
    model = cx.nn.Linear(2, 3)
    cx.save(model.state_dict(), tmp_path / "x.safetensors")
    arrays = safetensors_numpy.load_file(tmp_path / "x.safetensors")
    assert sorted(arrays) == ["bias", "weight"]
    np.testing.assert_array_equal(arrays["weight"], model.weight.detach().numpy())


def test_files_of_others_give_tensors_by_name(tmp_path):
    safetensors_numpy.save_file({"a.b": np.ones(2, np.float32)}, tmp_path / "x", metadata={"format": "pt"})
    back = cx.load(tmp_path / "x")
    assert list(back) == ["a.b"]
    assert isinstance(back["a.b"], cx.Tensor)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    state = {"a": np.ones(3), "b": {"c": cx.zeros(2)}, "n": 1}
    for name in "xy":
        cx.save(state, tmp_path / name)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1], "save takes a dict, got list"),
        ({"a": {"b": object()}}, r"a\.b is object; only Tensors"),
        ({(1, 2): 1}, r"key \(1, 2\) in the dict must be a str or an int"),
        ({"a": {True: 1}}, "key True in a must be"),
        ({"a": np.array(["x"])}, "a has dtype <U1"),
        ({"a": np.ones(1, complex)}, "a has dtype complex128"),
    ],
)
def test_objects_that_cannot_be_saved(tmp_path, state, message):
    path = tmp_path / "x"
    cx.save({"old": 1}, path)
    with pytest.raises(TypeError, match=message):
        cx.save(state, path)
    assert cx.load(path) == {"old": 1}


@pytest.mark.parametrize("where", ["write", "sync", "rename"])
def test_a_failure_keeps_the_older_file_and_leaves_nothing_beside_it(tmp_path, monkeypatch, where):
    path = tmp_path / "x"
    cx.save({"old": cx.ones(2)}, path)
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*args, **kwargs):
        raise full

    if where == "write":

        def half(tensors, name, metadata=None):
            with open(name, "wb") as file:
                file.write(b"half a file")
            raise SafetensorError("Error while serializing: I/O error: No space left on device")

        monkeypatch.setattr(safetensors_numpy, "save_file", half)
    else:
        monkeypatch.setattr(os, "fsync" if where == "sync" else "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        cx.save({"new": cx.zeros(2)}, path)
    monkeypatch.undo()
    assert list(cx.load(path)) == ["old"]
    assert os.listdir(tmp_path) == ["x"]


def test_a_real_full_disk(tmp_path):
    """A file size limit stands for the full disk."""
    script = """
import resource, signal, sys
import numpy as np, cnnext as cx
cx.save({"old": np.ones(4)}, sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    cx.save({"new": np.ones(10**6)}, sys.argv[1])
except OSError as error:
    print("OSError:", error)
print(list(cx.load(sys.argv[1])))
"""
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x")], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("OSError: cannot write")
    assert result.stdout.strip().endswith("['old']")
    assert os.listdir(tmp_path) == ["x"]


def test_permissions_follow_the_umask_or_the_replaced_file(tmp_path):
    path = tmp_path / "x"
    old = os.umask(0o027)
    try:
        cx.save({"a": 1}, path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    cx.save({"a": 2}, path)
    assert path.stat().st_mode & 0o777 == 0o604


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        cx.save({"a": 1}, tmp_path / "no" / "x")
    with pytest.raises(OSError, match="directory"):
        cx.save({"a": 1}, tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        cx.save({"a": 1}, tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("damage", ["truncated", "header", "text", "empty", "structure"])
def test_damaged_files(tmp_path, damage):
    path = tmp_path / "x"
    cx.save({"a": cx.ones(100)}, path)
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncated": data[:-40],
            "header": b"\xff" * 8 + data[8:],
            "text": b"hello, this is no tensor file",
            "empty": b"",
            "structure": data.replace(b'\\"t\\"', b'\\"q\\"'),
        }[damage]
    )
    with pytest.raises(ValueError, match="x is not a whole safetensors file"):
        cx.load(path)


@pytest.mark.parametrize(
    "structure",
    [
        '{"l": []}',
        '{"v": 3}',
        "{}",
        '{"d": [], "l": []}',
        "[]",
        '{"d": [["a", 3]]}',
        '{"d": 3}',
        '{"d": [[[], {"v": 1}]]}',
        "null",
    ],
)
def test_files_whose_structure_is_no_dict(tmp_path, structure):
    safetensors_numpy.save_file({}, tmp_path / "x", metadata={"cnnext.structure": structure})
    with pytest.raises(ValueError, match="x is not a whole safetensors file"):
        cx.load(tmp_path / "x")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing"):
        cx.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no such file"):
        cx.load(tmp_path)


def test_without_safetensors_one_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: cx.save({"a": 1}, tmp_path / "x"), lambda: cx.load(tmp_path / "x")):
        with pytest.raises(ImportError, match=r"pip install 'cnnext\[train\]'"):
            call()
