"""The command line: one clear line for every wrong input, and whole runs in processes of their own."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cnnext as cx
import numpy as np
import pytest
from cnnext import cli, data, models

pytest.importorskip("safetensors")

RUN = [sys.executable, "-m", "cnnext"]
CLOSING = re.compile(r"test accuracy (\d{1,3}\.\d\d) %")


def cnnext(*arguments, **options):
    """Runs the command in a process of its own."""
    return subprocess.run(
        [*RUN, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, **options
    )


def only_error_line(captured):
    lines = captured.splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("cnnext: error: ")
    return lines[0]


def idx_header(*dims):
    return bytes((0, 0, 8, len(dims))) + b"".join(d.to_bytes(4, "big") for d in dims)


def write_mnist(folder, count=60):
    """Images in which a digit d is a bright bar in row 2 d + 4."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.zeros((count, 28, 28), np.uint8)
    images[np.arange(count), 2 * labels + 4] = 255
    packed = gzip.compress(idx_header(count, 28, 28) + images.tobytes())
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(packed)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_header(count) + labels.tobytes())


def use_few_images(monkeypatch):
    """80 images in all to train with and 80 test images for runs in this process."""
    few = [data.digits(split).subset(np.arange(80), f"few/{split}") for split in ("train", "test")]
    monkeypatch.setattr("cnnext.train.runner.load_data", lambda *_: (*data.holdout(few[0]), few[1]))


# ---- wrong usage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "a command is missing"),
        ("serve", "invalid choice: 'serve'"),
        ("train", "required"),
        ("train cifar", "invalid choice: 'cifar'"),
        ("train digits elsewhere", "digits ships with cnnext; leave out elsewhere"),
        ("train folder", "folder needs the folder of its files: cnnext train folder DIR"),
        ("train mnist a --data-dir b", "the folder is given twice"),
        ("train digits --save-every 0", "save_every is 0; the rule is save_every >= 1"),
        ("train digits --speed 9", "unrecognized arguments: --speed"),
        ("train digits --epoch 9", "unrecognized arguments: --epoch"),
        ("train digits --epochs", "expected one argument"),
        ("train digits --epochs many", "invalid int value: 'many'"),
        ("train digits --epochs 0", "epochs is 0"),
        ("train digits --epochs 99999999999", "epochs is 99999999999"),
        ("train digits --batch-size 0", "batch_size is 0"),
        ("train digits --size 8", "size is 8; the rule is 0 for other data than a folder's"),
        ("train segment-digits --flip", "flip is True; the rule is False for segment-digits"),
        ("train digits --lr nan", "lr is nan"),
        ("train digits --lr -1", "lr is -1.0"),
        ("train digits --lr inf", "lr is inf"),
        ("train digits --seed -3", "seed is -3"),
        ("train digits --seed 99999999999999999999999", "seed is 9999"),
        ("train digits --threads 0", "threads is 0"),
        ("train digits --optimizer adagrad", "invalid choice: 'adagrad'"),
        ("train digits --out a --resume b", "not allowed with"),
        ("train digits --device gpu", "'gpu' must be cpu, cuda or cuda:N"),
        ("train digits --device cuda:x", "'cuda:x' must be cpu, cuda or cuda:N"),
        ("train digits --amp half", "invalid choice: 'half'"),
        ("train digits --resume a --amp float16", "leave out amp"),
        ("train digits --resume a --lr 1", "--resume takes its settings from a; leave out lr"),
        ("train mnist", "mnist needs the folder of its files: cnnext train mnist --data-dir DIR"),
    ],
)
def test_usage_errors(arguments, message, capsys):
    assert cli.main(arguments.split()) == 2
    assert message in only_error_line(capsys.readouterr().err)


# ---- runs that fail ----------------------------------------------------------------------------------


def bad_folder(case, folder):
    write_mnist(folder)
    images = folder / "t10k-images-idx3-ubyte.gz"
    if case == "missing file":
        images.unlink()
    elif case == "truncated file":
        images.write_bytes(images.read_bytes()[:-30])
    elif case == "wrong magic":
        images.write_bytes(b"PK\3\4 not an image file")
    elif case == "header bigger than the file":
        images.write_bytes(gzip.compress(idx_header(60000, 28, 28) + bytes(784)))
    elif case == "gzip bomb":
        images.write_bytes(gzip.compress(idx_header(60, 28, 28) + bytes(32 << 20)))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing file", "no t10k-images-idx3-ubyte"),
        ("truncated file", "truncated gzip data"),
        ("wrong magic", "wrong magic number 0x504b0304"),
        ("header bigger than the file", "the header asks for 47040000 bytes"),
        ("gzip bomb", "more data than the 47040 bytes"),
    ],
)
def test_bad_data(tmp_path, capsys, case, message):
    bad_folder(case, tmp_path)
    out = tmp_path / "out"
    assert cli.main(["train", "mnist", "--data-dir", str(tmp_path), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert message in only_error_line(captured.err)
    assert captured.out == ""
    assert not out.exists()


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_that_is_off(tmp_path, device):
    """In one line, with the reason that cnnext.info() gives, and nothing is written."""
    missing = tmp_path / "no_cuda.so"
    environment = {**os.environ, "CNNEXT_CUDA_LIBRARY": str(missing)}
    done = cnnext("train", "digits", "--device", device, "--out", tmp_path / "out", env=environment)
    reason = cnnext("info", env=environment).stdout.split("\ncuda", 1)[1].split("\n")[0].strip()
    assert done.returncode == 1
    assert only_error_line(done.stderr) == (
        f"cnnext: error: device '{device}' is not supported here: {' '.join(reason.split())}"
    )
    assert str(missing) in reason
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_bfloat16_that_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    out = tmp_path / "out"
    assert cli.main(["train", "digits", "--amp", "bfloat16", "--out", str(out)]) == 1
    assert "pip install ml_dtypes" in only_error_line(capsys.readouterr().err)
    assert not out.exists()


@pytest.mark.parametrize("amp", ["off", "float16"])
def test_mixed_precision(tmp_path, monkeypatch, capsys, amp):
    use_few_images(monkeypatch)
    arguments = ["train", "digits", "--epochs", "2", "--amp", amp, "--device", "cpu", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--no-plots", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("test accuracy ")
    assert json.loads((tmp_path / "config.json").read_text())["amp"] == amp
    resume = ["train", "digits", "--resume", str(tmp_path), "--device", "cpu", "--no-plots", "--quiet"]
    assert cli.main(resume) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train mnist --data-dir {tmp}/absent", "no such folder"),
        ("train digits --out {tmp}/file", "cannot make the folder"),
        ("train digits --out /dev/null/below", "cannot make the folder"),
        ("train digits --resume {tmp}/absent", "no such file"),
        ("train digits --lr 1e30 --epochs 1 --out {tmp}/new", "the loss became"),
    ],
)
def test_failures(arguments, message, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main(arguments.format(tmp=tmp_path).split()) == 1
    assert message in only_error_line(capsys.readouterr().err)
    assert os.listdir(tmp_path) == ["file"]  # nothing half-made is left


def test_unexpected_errors_take_one_line_too(monkeypatch, capsys):
    def fail():
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(cx, "info", fail)
    assert cli.main(["info"]) == 1
    assert "RuntimeError: first second" in only_error_line(capsys.readouterr().err)
    monkeypatch.setenv("CNNEXT_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        cli.main(["info"])


# ---- runs that work ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """One epoch of digits, as a user starts it; (finished process, folder)."""
    folder = tmp_path_factory.mktemp("short") / "run"
    done = cnnext("train", "digits", "--epochs", 1, "--seed", 3, "--out", folder)
    assert done.returncode == 0, done.stderr
    return done, folder


def test_whole_run(short_run):
    done, folder = short_run
    lines = done.stdout.splitlines()
    closing = CLOSING.fullmatch(lines[-1])
    assert closing
    assert done.stderr == ""
    assert any(line.startswith("epoch 1/1  loss ") for line in lines)
    assert {path.name for path in folder.iterdir()} >= {
        "checkpoint.safetensors",
        "history.csv",
        "timing.csv",
        "config.json",
        "result.json",
    }
    model = models.create("digits-cnn")
    model.load_state_dict(cx.load(folder / "checkpoint.safetensors"))
    model.eval()
    test = data.digits("test")
    right = 0
    for images, labels in data.DataLoader(test, 100):
        with cx.no_grad():
            right += int((model(cx.Tensor(images)).numpy().argmax(axis=1) == labels).sum())
    assert closing[1] == f"{100 * right / len(test):.2f}"


def test_plots_of_a_run_open(short_run):
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    for name in ("training-curves", "confusion-matrix", "first-layer-filters"):
        with Image.open(short_run[1] / f"{name}.png") as picture:
            picture.load()
            assert min(picture.size) > 200


def test_run_repeats_bit_for_bit_with_other_threads(short_run, tmp_path):
    arguments = ("train", "digits", "--epochs", 1, "--seed", 3, "--threads", 3, "--no-plots", "--quiet")
    done = cnnext(*arguments, "--out", tmp_path)
    first, folder = short_run
    assert done.stdout == first.stdout.splitlines()[-1] + "\n"
    for name in ("checkpoint.safetensors", "history.csv", "result.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert not list(tmp_path.glob("*.png"))


def test_default_folder_is_numbered(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    use_few_images(monkeypatch)
    for _ in range(2):
        assert cli.main(["train", "digits", "--epochs", "1", "--no-plots"]) == 0
    assert sorted(os.listdir(tmp_path / "runs")) == ["digits-001", "digits-002"]
    assert CLOSING.fullmatch(capsys.readouterr().out.splitlines()[-1])


def test_mnist_run_from_t10k_alone(tmp_path, capsys):
    write_mnist(tmp_path, 200)
    out = tmp_path / "out"
    arguments = ["train", "mnist", "--data-dir", str(tmp_path), "--epochs", "2", "--batch-size", "32"]
    assert cli.main([*arguments, "--out", str(out), "--no-plots"]) == 0
    printed = capsys.readouterr().out
    assert "training on the first 160 images of t10k, testing on the last 40" in printed
    assert CLOSING.fullmatch(printed.splitlines()[-1])
    assert (out / "checkpoint.safetensors").is_file()


def test_nan_loss_leaves_the_older_checkpoint(short_run, tmp_path, capsys):
    older = (short_run[1] / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(older)
    arguments = ["train", "digits", "--epochs", "1", "--lr", "1e30", "--out", str(tmp_path)]
    assert cli.main(arguments) == 1
    assert "the loss became" in only_error_line(capsys.readouterr().err)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == older


def test_full_disk_leaves_the_older_checkpoint(short_run, tmp_path):
    older = (short_run[1] / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(older)
    limited = (
        "import resource, signal, sys; from cnnext.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "train", "digits", "--epochs", "1", "--no-plots", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(
        r"cannot write .*checkpoint\.safetensors: .*File too large", only_error_line(done.stderr)
    )
    assert os.listdir(tmp_path) == ["checkpoint.safetensors"]
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == older


def test_interrupt_keeps_the_checkpoint(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*RUN, "train", "digits", "--epochs", "400", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"cnnext: interrupted; .*checkpoint\.safetensors keeps epoch \d+\n", errors)
    models.create("digits-cnn").load_state_dict(cx.load(out / "checkpoint.safetensors"))


def test_resume(tmp_path, monkeypatch, capsys):
    use_few_images(monkeypatch)
    out = str(tmp_path)
    assert (
        cli.main(["train", "digits", "--epochs", "2", "--batch-size", "16", "--no-plots", "--out", out]) == 0
    )
    closing = capsys.readouterr().out.splitlines()[-1]
    saved = (tmp_path / "checkpoint.safetensors").read_bytes()
    # Nothing is left to train: the settings come from the folder, and the result is the same.
    assert cli.main(["train", "digits", "--no-plots", "--resume", out]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == closing
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == saved
    assert cli.main(["train", "mnist", "--data-dir", ".", "--resume", out]) == 2
    assert "holds a run of digits, not of mnist" in only_error_line(capsys.readouterr().err)


# ---- the rest ----------------------------------------------------------------------------------------


def test_info_and_version(capsys):
    assert cli.main(["info"]) == 0
    assert cx.__version__ in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"cnnext {cx.__version__}\n"
    assert cli.main(["--help"]) == 0
    assert "train" in capsys.readouterr().out


def test_folders_for_an_outsiders_build(capsys):
    assert cli.main(["--include-dir"]) == 0
    include = Path(capsys.readouterr().out.strip())
    assert include.name == "include"
    assert cli.main(["--lib-dir", "--cmake-dir"]) == 0
    cmake, library = capsys.readouterr().out.split()
    assert (Path(cmake).parent, include.parent) == (Path(library), Path(library))


def test_reader_that_goes_away():
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([*RUN, "info"], stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert done.returncode == 1
    assert done.stderr == ""
