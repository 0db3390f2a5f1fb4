"""The benchmark runs end to end, refuses what it cannot mean, and catches wrong results. No timings here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import libraries, measure, report, run_steps, shapes, steps  # noqa: E402
from bench.run import main  # noqa: E402

TINY = """
conv  c  N=2 C=4 H=6 W=5 K=6 R=3 S=2 stride=2,1 padding=1,0 groups=2   # a comment
max_pool  m  C=3 H=6 W=7 R=3 S=2 padding=1
avg_pool  a  C=3 H=6 W=7 R=2 S=2 stride=1
"""
MORE = """
conv_relu_pool f C=3 H=8 W=9 K=5 R=3 S=2 padding=1,0 pool=3,2 pool_stride=2 pool_padding=1
conv_norm_relu g C=3 H=8 W=9 K=5 R=3 S=2 padding=1,0 stride=2,1
relu           r C=3 H=6 W=7
add            s C=3 H=6 W=7
batch_norm     n C=3 H=6 W=7
softmax        t C=3 H=6 W=7
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.txt"
    path.write_text(TINY)
    return path


def quick(*arguments: str | Path) -> list[str]:
    return ["--blocks", "1", "--repeats", "2", "--rest-ms", "0", "--threads", "1", *map(str, arguments)]


def test_end_to_end(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(quick("--shapes", tiny, "--out", out, "--peers", "none", "--algorithms", "auto,packed")) == 0
    found = json.loads((out / "bench.json").read_text())
    assert found["schema"] == report.SCHEMA
    assert {"processor", "cpus", "usable_cpus", "system", "python", "load_average"} <= found["machine"].keys()
    assert found["settings"]["threads"] == 1
    assert found["settings"]["checked_against"] == "ref"
    assert [about["label"] for about in found["contestants"]] == ["cnnext", "cnnext packed"]
    isa = found["contestants"][0]["isa"]
    assert found["limits"]["best"][f"gflops_{isa}"] > 0
    assert found["limits"]["best"]["read_gbs"] > 0
    rows = found["results"]
    conv = [row for row in rows if row["kind"] == "conv"]
    # conv: 3 passes and the packed forward; pools: 2 passes each; two layouts of everything
    assert len(conv) == 2 * 4
    assert len(rows) == 2 * (4 + 2 + 2)
    for row in rows:
        assert row["times_ms"], row
        assert len(row["times_ms"]) == 2
        assert row["median_ms"] > 0
        assert row["gbytes_per_s"] > 0
        assert row["layout"] in ("nchw", "nhwc")
        assert 0 <= row["error"] < measure.TOLERANCE
        assert row["kernel"]
        assert (row["percent_of_peak"] is not None) == (row["kind"] == "conv")
    assert conv[0]["P"] == 3
    assert conv[0]["Q"] == 4
    assert conv[0]["flops"] == 2 * 2 * 6 * 3 * 4 * 2 * 3 * 2
    assert found["ratios"] == found["best"] == found["geomeans"] == found["failures"] == []
    table = capsys.readouterr().out
    assert (out / "bench.txt").read_text() in table
    assert "GFLOP/s" in table
    assert "limits measured in this run" in table
    if importlib.util.find_spec("matplotlib"):
        assert (out / "roofline.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_beside_torch(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = quick("--shapes", tiny, "--out", out, "--malloc", "kept,default", "--no-peak", "--batch", "3")
    assert main(arguments) == 0
    found = json.loads((out / "bench.json").read_text())
    assert found["settings"]["checked_against"] == "torch kept"
    assert found["limits"] is None
    assert {row["contestant"] for row in found["results"]} == {"cnnext", "torch", "torch kept"}
    assert {row["N"] for row in found["results"]} == {3}
    assert len(found["ratios"]) == 2 * 2 * (3 + 2 + 2)
    assert all(entry["ratio"] > 0 for entry in found["ratios"])
    assert len(found["best"]) == 2 * (3 + 2 + 2)  # of the two mallocs
    assert {entry["peer"] for entry in found["geomeans"]} == {"torch", "torch kept", report.BEST}
    if importlib.util.find_spec("matplotlib"):
        assert (out / "ratios.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("peer", [name for name in libraries.PEERS if name != "torch"])
def test_beside_other_peers(
    peer: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = libraries.LIBRARIES[peer]
    if missing := libraries.missing(entry.packages):
        pytest.skip(f"{', '.join(missing)} is not installed")
    with tiny.open("a") as file:  # dilated, with other sizes along each axis; a padded average
        file.write(MORE if "add" in entry.kinds else "")
        file.write("conv d C=3 H=9 W=8 K=5 R=3 S=2 stride=1,2 dilation=2,1 padding=2,1\n")
        file.write("avg_pool b C=3 H=6 W=7 R=3 S=2 stride=2,1 padding=1\n")
    assert main(quick("--shapes", tiny, "--out", tmp_path, "--peers", peer, "--no-peak", "--no-plots")) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    rows = [row for row in found["results"] if row["contestant"] == peer]
    cases = {(row["kind"], row["name"], row["pass"], row["layout"]) for row in rows}
    assert cases == {
        (layer.kind, layer.name, which, layout)
        for layer in shapes.read_file(tiny)
        for which in layer.passes
        if which in entry.passes and layer.kind in entry.kinds
        for layout in entry.layouts
    }
    assert all(0 <= row["error"] < measure.TOLERANCE and row["gbytes_per_s"] > 0 for row in rows)
    packed = {row["name"] for row in found["results"] if row["contestant"] == "cnnext packed"}
    assert packed == ({"c", "d"} if peer in libraries.PREPACKING else set())
    assert {(e["kind"], e["name"], e["pass"], e["layout"]) for e in found["best"]} == cases
    table = capsys.readouterr().out
    assert "geometric mean over the layers" in table
    assert "cnnext" in table


def test_a_peer_that_is_not_installed_is_left_out(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, package in (("openvino", "no_such_package"), ("jax", "nor_this")):
        monkeypatch.setitem(libraries.LIBRARIES, name, libraries.Entry("x:X", (package,)))
    assert main(quick("--shapes", tiny, "--out", tmp_path, "--peers", "openvino,jax", "--no-peak")) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert said == [
        "openvino is left out: no_such_package is not installed (pip install no_such_package)",
        "jax is left out: nor_this is not installed (pip install nor_this)",
    ]
    found = json.loads((tmp_path / "bench.json").read_text())
    assert {row["contestant"] for row in found["results"]} == {"cnnext"}


@pytest.mark.parametrize("peers", ["none", "torch"])
def test_whole_steps(peers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if peers == "torch" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    arguments = ["--steps", "lenet5-train-8", "--out", tmp_path, "--peers", peers]
    assert main(quick(*arguments)) == 0
    found = json.loads((tmp_path / "steps.json").read_text())
    rows = found["results"]
    who = ["cnnext"] if peers == "none" else ["cnnext", "torch kept"]
    assert [(r["contestant"], r["layout"]) for r in rows] == [(w, o) for w in who for o in ("nchw", "nhwc")]
    for row in rows:
        assert (row["step"], row["batch"], row["training"]) == ("lenet5-train-8", 8, True)
        assert row["error"] <= run_steps.TOLERANCE
        assert len(row["times_ms"]) >= 2  # of a block: two, or as many as fill a tenth of a second
        assert row["peak_mb"] > row["before_mb"] > 1
    assert [(e["contestant"], e["peer"]) for e in found["ratios"]] == [("cnnext", w) for w in who[1:]]
    assert all(e["time"] > 0 and e["memory"] > 0 for e in found["ratios"])
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "steps.png").exists() == (peers == "torch")
    table = (tmp_path / "steps.txt").read_text()
    assert table in capsys.readouterr().out
    assert ("geometric mean of 1" in table) == (peers == "torch")


def test_networks_of_other_runtimes(tmp_path: Path) -> None:
    names = ["onnxruntime", "openvino"]
    for package in ("torch", "onnx", *names):
        pytest.importorskip(package)
    arguments = ["--steps", "mobilenet_v2-infer-1", "--out", tmp_path, "--peers", f"torch,{','.join(names)}"]
    assert main(quick(*arguments)) == 0
    found = json.loads((tmp_path / "steps.json").read_text())
    assert [r["layout"] for r in found["results"] if r["library"] in names] == ["nchw", "nchw"]
    assert [e["memory"] for e in found["ratios"] if e["peer"] in names] == [None, None]
    assert all(row["error"] <= run_steps.TOLERANCE for row in found["results"])


def test_ratios_of_steps_take_each_ones_fastest_layout() -> None:
    def row(contestant: str, layout: str, ms: float, mb: float) -> dict[str, object]:
        name = {"step": "s", "training": False, "contestant": contestant, "library": contestant.split()[0]}
        return name | {"layout": layout, "median_ms": ms, "least_ms": ms, "peak_mb": mb, "before_mb": 1}

    rows = [row("cnnext", "nchw", 3, 50), row("cnnext", "nhwc", 2, 60), row("torch kept", "nchw", 8, 90)]
    (entry,) = run_steps.ratios([*rows, row("torch kept", "nhwc", 5, 120)])
    assert (entry["layout"], entry["peer_layout"]) == ("nhwc", "nhwc")
    assert (entry["time"], entry["memory"]) == (2.5, 2.0)


def test_torch_runs_the_same_networks() -> None:
    pytest.importorskip("torch")
    from cnnext import models

    from bench.step_worker import torch_models

    theirs = torch_models()
    assert theirs.names() == models.names()
    assert {step.model for step in steps.STEPS.values()} <= set(models.names())
    for name in ("lenet5", "resnet18_cifar", "mobilenet_v2", "convnext_tiny", "segnet"):
        ours = models.create(name).state_dict()
        state = theirs.create(name).state_dict()
        assert [(k, tuple(v.shape)) for k, v in state.items()] == [(k, v.shape) for k, v in ours.items()]


def test_the_best_peer_and_the_means() -> None:
    def ratio(name: str, contestant: str, peer: str, value: float) -> dict[str, object]:
        case = {"kind": "conv", "name": name, "pass": "fwd", "layout": "nchw", "dtype": "float32"}
        return {**case, "contestant": contestant, "peer": peer, "ratio": value}

    found = [
        ratio("a", "cnnext", "one", 4.0),
        ratio("a", "cnnext", "two", 2.0),
        ratio("b", "cnnext", "one", 0.5),
        ratio("b", "cnnext", "two", 8.0),
        ratio("b", "cnnext packed", "one", 1.0),
    ]
    assert report.best(found) == [found[1], found[2], found[4]]
    means = {(e["contestant"], e["peer"]): e for e in report.geomeans(found)}
    assert means["cnnext", "one"]["geomean"] == pytest.approx(2**0.5)
    assert means["cnnext", "two"]["geomean"] == pytest.approx(4)
    assert means["cnnext", report.BEST]["geomean"] == pytest.approx(1)
    assert (means["cnnext", report.BEST]["least"], means["cnnext", report.BEST]["least_at"]) == (0.5, "b")
    assert (means["cnnext", "one"]["layers"], means["cnnext packed", "one"]["layers"]) == (2, 1)
    lines = [line.split() for line in report.summary(list(means.values())).splitlines()]
    assert ["conv", "cnnext", "best", "peer", "2", "1.00", "(0.50)"] in lines


def test_as_a_script(tmp_path: Path) -> None:
    for command in (["-m", "bench"], [str(ROOT / "bench" / "run.py")]):
        result = subprocess.run(
            [sys.executable, *command, "--shapes", "nowhere"], cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 2
        assert result.stderr.startswith(
            "bench: 'nowhere' is neither a file nor one of the stored shapes: alexnet, cifar,"
        )
        assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--passes", "fwd,sideways"], "--passes has 'sideways'; it must be of fwd, bwd_data, bwd_weights"),
        (["--layouts", "nchw,hwcn"], "--layouts has 'hwcn'"),
        (["--layouts", ""], "must not be empty"),
        (["--algorithms", "fast"], "--algorithms has 'fast'; it must be of auto, direct, packed"),
        (
            ["--peers", "mxnet"],
            "--peers has 'mxnet'; it must be of torch, jax, onnxruntime, openvino, or all",
        ),
        (["--peers", ","], "--peers is empty"),
        (["--malloc", "mine"], "--malloc has 'mine'"),
        (["--filter", "no_such_layer"], "no layer is left"),
        (["--rest-ms", "-1"], "--rest-ms is -1"),
        (["--steps", "nothing"], "--steps 'nothing' is part of no name; they are lenet5-train-64,"),
        (
            ["--steps", "--peers", "jax"],
            "--peers has 'jax'; it must be of torch, torch_compile, onnxruntime, openvino, or all or none",
        ),
        (["--steps", "--algorithms", "direct"], "--algorithms is 'direct'; with --steps it must be auto"),
        (["--isa", "avx9000"], 'CNNEXT_CPU_ISA is "avx9000"; it must be one of scalar'),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--shapes", "lenet", "--no-peak", "--out", str(tmp_path), *arguments]) != 0
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--batch", "--threads", "--blocks", "--repeats"])
@pytest.mark.parametrize("value", ["0", "-3", "two"])
def test_wrong_counts(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([flag, value])
    assert ended.value.code == 2
    assert f"{value!r} is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pool p C=1 H=2 W=2 R=1 S=1", "'pool' is not a kind of layer"),
        ("conv C=1 H=2 W=2 K=1 R=1 S=1", "a name must follow"),
        ("conv c C=1 H=2 W=2 R=1 S=1", "K must be given"),
        ("conv c C=1 H=2 W=2 K=1 R=1 S=1 C=2", "C is given twice"),
        ("conv c C=one H=2 W=2 K=1 R=1 S=1", "C is 'one'; it must be a whole number"),
        ("conv c C=0 H=2 W=2 K=1 R=1 S=1", "C is 0; it must be at least 1"),
        ("conv c C=1 H=2 W=2 K=1 R=1 S=1 stride=1,2,3", "one number or two"),
        ("conv c C=1 H=2 W=2 K=1 R=1 S=1 stride=0", "stride is 0"),
        ("conv c C=1 H=2 W=2 K=1 R=1 S=1 colour=3", "is not KEY=VALUE"),
        ("conv c C=3 H=2 W=2 K=4 R=1 S=1 groups=2", "must divide"),
        ("conv c C=1 H=2 W=2 K=1 R=3 S=1", "does not fit"),
        ("conv_relu_pool c C=1 H=2 W=2 K=1 R=1 S=1", "pool must be given"),
        ("conv_relu_pool c C=1 H=2 W=2 K=1 R=1 S=1 pool=3", "0 x 0; the filter does not fit"),
        ("relu r C=1 H=2 W=2 stride=2", "is not KEY=VALUE"),
        ("max_pool p C=1 H=4 W=4 R=2 S=2 groups=1", "is not KEY=VALUE"),
        ("max_pool p C=1 H=4 W=4 R=2 S=2 padding=2", "at most half its window"),
    ],
)
def test_wrong_shape_lines(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(f"# first line\n{line}\n")
    with pytest.raises(shapes.ShapeError) as raised:
        shapes.read_file(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{path}:2: ")


def test_wrong_shape_files(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("# nothing\n")
    with pytest.raises(shapes.ShapeError, match="no layers"):
        shapes.read_file(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(shapes.ShapeError, match="not a text file"):
        shapes.read_file(path)
    path.write_text(2 * "conv c C=1 H=2 W=2 K=1 R=1 S=1\n")
    with pytest.raises(shapes.ShapeError, match="already"):
        shapes.read_file(path)


def test_stored_shapes_are_sound() -> None:
    assert {"kernels_md", "resnet50", "vgg16", "mobilenetv2", "lenet", "cifar", "pools"} <= set(
        shapes.stored()
    )
    for name in shapes.stored():
        layers = shapes.load(name)
        assert all(layer.bytes_of(which) > 0 for layer in layers for which in layer.passes)
        assert all(layer.P > 0 and layer.Q > 0 for layer in layers)
    resnet = {layer.name: layer for layer in shapes.load("resnet50")}
    assert resnet["conv1"].y_shape == (1, 64, 112, 112)
    assert resnet["pool1"].y_shape == (1, 64, 56, 56)
    assert resnet["layer4.0.conv2"].y_shape == (1, 512, 7, 7)
    assert resnet["conv1"].flops == 2 * 64 * 112 * 112 * 3 * 49


def test_a_wrong_result_is_caught() -> None:
    want = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    assert measure.difference({"result": want}, {"result": want}, "x") == 0
    wrong = want.copy()
    wrong[1, 2, 3] += 0.5
    for other in (wrong, np.where(want == want[0, 0, 0], np.nan, want), want[1:]):
        with pytest.raises(measure.WrongResult):
            measure.difference({"result": want}, {"result": other}, "x")
    places = np.arange(24).reshape(want.shape)
    with pytest.raises(measure.WrongResult, match="24 of 24 indices"):
        measure.difference({"result": want, "indices": places}, {"result": want, "indices": places + 1}, "x")
