"""cnnext predict, summary and bench; and what a run says of bad pictures, networks and loaders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import cli, data, train
from cnnext.commands import bench
from cnnext.serialization import load_metadata
from cnnext.train.tasks import load_data
from cnnext.train.trained import load_trained
from data_files import cifar10_files, fashion_files, tar_of, write
from test_cli import only_error_line, use_few_images

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "digits"
    assert cli.main(["train", "digits", "--epochs", "3", "--no-plots", "--quiet", "--out", str(folder)]) == 0
    return folder


def write_digit(path: Path, number: int, side: int = 8) -> int:
    """A test image of the digits as a picture; its label."""
    test = data.digits("test")
    pixels = np.rint(test.images[number, 0] * (255 / 16)).astype(np.uint8)
    Image.fromarray(pixels).resize((side, side)).save(path)
    return int(test.labels[number])


# ---- predict -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "checkpoint.safetensors", "last.safetensors"])
def test_predict(digits_run: Path, tmp_path: Path, capsys: Any, name: str) -> None:
    labels = [write_digit(tmp_path / f"{i}.png", i * 30) for i in range(8)]
    files = [str(tmp_path / f"{i}.png") for i in range(8)]
    assert cli.main(["predict", str(digits_run / name), *files, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r"(.*): (\d) \((\d+\.\d) %\), (\d) \((\d+\.\d) %\)", line) for line in lines]
    assert [match[1] for match in found] == files
    assert sum(int(match[2]) == label for match, label in zip(found, labels, strict=True)) >= 7
    for match in found:
        assert 100.1 >= float(match[3]) + float(match[5]) >= float(match[5]) * 2


def test_predict_computes_what_the_loader_gives(digits_run: Path, tmp_path: Path) -> None:
    write_digit(tmp_path / "0.png", 0)
    trained = load_trained(digits_run)
    image, _ = next(iter(data.DataLoader(data.digits("test"), 1)))
    read = trained.read(tmp_path / "0.png")
    np.testing.assert_allclose(read, image[0], atol=0.01)  # 16 levels among 255
    logits = trained.model(cx.Tensor(read[None]))
    expected = cx.nn.functional.softmax(logits, 1).detach().numpy()[0]
    np.testing.assert_allclose(trained.probabilities(read), expected, rtol=1e-6)
    inverted = trained.read(tmp_path / "0.png", invert=True)
    np.testing.assert_allclose(inverted * 0.3762 + 0.3058, 1 - (read * 0.3762 + 0.3058), atol=1e-6)


def test_saliency_is_the_gradient(digits_run: Path, tmp_path: Path) -> None:
    label = write_digit(tmp_path / "0.png", 0)
    trained = load_trained(digits_run)
    image = trained.read(tmp_path / "0.png")
    found = trained.saliency(image, label)
    assert found.shape == (8, 8)
    for y, x in ((2, 3), (5, 4)):
        step = np.zeros_like(image)
        step[0, y, x] = 1e-2
        with cx.no_grad():
            up, down = (
                trained.model(cx.Tensor(image[None] + s * step[None])).numpy()[0, label] for s in (1, -1)
            )
        assert found[y, x] == pytest.approx(abs(up - down) / 2e-2, rel=0.1, abs=0.02)
    out = tmp_path / "saliency.png"
    arguments = [str(digits_run), str(tmp_path / "0.png"), "--saliency", str(out)]
    assert cli.main(["predict", *arguments]) == 0
    with Image.open(out) as picture:
        assert picture.size == (512, 256)
        left, right = (np.asarray(picture)[16::32, 16::32][:, part] for part in (slice(8), slice(8, 16)))
    assert left.argmax() == image[0].argmax()
    assert right.argmax() == found.argmax()


def test_predict_scales_on_demand(digits_run: Path, tmp_path: Path, capsys: Any) -> None:
    label = write_digit(tmp_path / "large.png", 30, 64)
    arguments = ["predict", str(digits_run), str(tmp_path / "large.png"), "--top", "1"]
    assert cli.main(arguments) == 1
    assert "large.png is 64x64, the network takes 8x8; --resize scales it" in only_error_line(
        capsys.readouterr().err
    )
    assert cli.main([*arguments, "--resize"]) == 0
    assert f"large.png: {label} (" in capsys.readouterr().out


def test_pictures_that_cannot_be_read(digits_run: Path, tmp_path: Path, capsys: Any) -> None:
    write_digit(tmp_path / "whole.png", 0)
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) - 30])
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (
        ("absent.png", "absent.png: cannot be read as an image"),
        ("cut.png", "cut.png: cannot be read as an image"),
        ("text.png", "text.png: no image in one of the formats"),
        ("", "cannot be read as an image"),
    ):
        assert cli.main(["predict", str(digits_run), str(tmp_path / name)]) == 1
        assert message in only_error_line(capsys.readouterr().err)


def test_checkpoints_that_do_not_say_what_they_are(digits_run: Path, tmp_path: Path, capsys: Any) -> None:
    write_digit(tmp_path / "0.png", 0)
    weights = cx.load(digits_run / "checkpoint.safetensors")
    card = load_metadata(digits_run / "checkpoint.safetensors")
    for name, metadata, message in (
        ("bare", None, "does not tell its model"),
        ("unknown", {**card, "model": "net"}, "name is 'net'"),
        ("other", {**card, "model": "lenet5"}, "is of another network than LeNet5: features.0.weight is"),
        ("input", {**card, "input": [2, 8, 8]}, "input (2, 8, 8)"),
        ("std", {**card, "std": [0.0]}, "std [0.0]"),
        (
            "classes",
            {**card, "classes": 10**12},
            "classes is 1000000000000; the rule is the number of class_n",
        ),
        (
            "names",
            {**card, "class_names": "0123456789"},
            "classes is 10; the rule is the number of class_names",
        ),
        (
            "large",
            {**card, "input": [1, 10**9, 10**9]},
            "input is [1, 1000000000, 1000000000]; the rule is three",
        ),
        ("none", {**card, "input": []}, "input is []; the rule is three sizes"),
        ("text", {**card, "input": "188"}, "input is '188'; the rule is three sizes"),
        ("mean", {**card, "mean": [float("nan")]}, "mean is [nan]; the rule is a finite number"),
        ("means", {**card, "mean": [0.5] * 7}, "the rule is a finite number, or one a channel"),
        ("stds", {**card, "std": [float("inf")]}, "std is [inf]; the rule is a finite number"),
        ("list", {**card, "class_names": None}, "classes is 10"),
    ):
        cx.save(weights, tmp_path / name, metadata)
        assert cli.main(["predict", str(tmp_path / name), str(tmp_path / "0.png")]) == 1
        assert message in only_error_line(capsys.readouterr().err)
    (tmp_path / "damaged").write_bytes(b"\x80\x04K\x01.")
    for name, message in (("damaged", "is not a whole safetensors file"), ("absent", "no such file")):
        assert cli.main(["predict", str(tmp_path / name), str(tmp_path / "0.png")]) == 1
        assert message in only_error_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict a b --top 0", "top is 0"),
        ("predict a b c --saliency d.png", "--saliency draws one picture; 2 are given"),
        ("predict a", "the following arguments are required: IMAGE"),
        ("summary net", "name is 'net'"),
        ("summary lenet5 --input 1,28", "'1,28' must be C,H,W"),
        ("summary lenet5 --input 1,0,28", "must be C,H,W"),
        ("summary lenet5 --input 3,28,28", "channels"),
        ("summary lenet5 --batch 0", "batch is 0"),
        ("bench --batch 0", "batch is 0"),
        ("bench --seconds nan", "seconds is nan"),
        ("bench --threads 0", "threads is 0"),
    ],
)
def test_usage_errors(arguments: str, message: str, capsys: Any) -> None:
    assert cli.main(arguments.split()) == 2
    assert message in only_error_line(capsys.readouterr().err)


# ---- summary and bench -------------------------------------------------------------------------------


def test_summary(capsys: Any) -> None:
    arguments = ["summary", "lenet5", "--input", "1,28,28", "--batch", "2", "--classes", "7"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed == f"{cx.summary(cx.models.create('lenet5', classes=7), (2, 1, 28, 28))}\n"
    assert "dense would" in printed


@pytest.mark.parametrize("torch", [True, False])
def test_bench(capsys: Any, monkeypatch: Any, torch: bool) -> None:
    monkeypatch.setattr("cnnext.commands.bench._LAYERS", bench._LAYERS[-2:])
    if torch:
        pytest.importorskip("torch")
    arguments = ["bench", "--batch", "1", "--seconds", "0.001"]
    assert cli.main([*arguments, *([] if torch else ["--no-torch"])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ("; torch 2" in lines[0]) == torch
    assert len(lines) == 3 + 2
    for line in lines[3:]:
        assert len(re.findall(r"(?<= )\d+\.\d(?= |$)", line)) == (6 if torch else 3)


def test_bench_computes_what_torch_does() -> None:
    torch = pytest.importorskip("torch")
    for name, *layer in bench._LAYERS:
        ours, theirs = bench._ours(1, *layer), bench._theirs(torch, 1, *layer)
        for mine, other in zip(ours, theirs, strict=True):
            expected = other().numpy()
            np.testing.assert_allclose(mine(), expected, atol=1e-4 * np.abs(expected).max(), err_msg=name)


# ---- runs that fail ----------------------------------------------------------------------------------


class Failing:
    """An augmentation that fails in its tenth call."""

    calls = 0

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        self.calls += 1
        if self.calls == 10:
            raise ValueError("this image is broken")
        return images


def test_a_worker_that_raises_leaves_a_checkpoint(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    use_few_images(monkeypatch)
    arguments = ["train", "digits", "--epochs", "4", "--batch-size", "16", "--no-plots"]
    with monkeypatch.context() as patch:
        patch.setattr("cnnext.train.engine.augmentation", lambda config: Failing())
        assert cli.main([*arguments, "--out", str(tmp_path)]) == 1
    line = only_error_line(capsys.readouterr().err)
    assert "this image is broken" in line
    assert f"{tmp_path / 'last.safetensors'} goes on from step 9" in line
    assert "checkpoint.safetensors keeps epoch 1" in line
    assert cx.load(tmp_path / "last.safetensors")["extra"]["loop"]["batch"] == 4
    assert cli.main(["train", "digits", "--resume", str(tmp_path), "--no-plots", "--quiet"]) == 0
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 5


def test_a_network_that_does_not_take_the_images(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    for model, message in (
        ("resnet18_cifar", "resnet18_cifar does not take images of shape (1, 8, 8): "),
        ("lenet5", "lenet5 does not take images of shape (1, 8, 8): "),
        ("segnet_small", "segnet_small makes (1, 10, 8, 8) of an image of shape (1, 8, 8), expected (1, 10)"),
        ("net", "name is 'net'; the rule is one of"),
    ):
        assert cli.main(["train", "digits", "--model", model, "--out", str(out)]) == 1
        assert message in only_error_line(capsys.readouterr().err)
        assert not out.exists()


@pytest.mark.parametrize(
    ("dataset", "files", "model"),
    [
        ("cifar10", lambda: cifar10_files()[0], "mobilenet_v2_cifar"),
        ("fashion-mnist", fashion_files, "lenet5"),
    ],
)
def test_the_published_sets(tmp_path: Path, capsys: Any, dataset: str, files: Any, model: str) -> None:
    out = tmp_path / "run"
    write(tmp_path / "files", files())
    arguments = [
        "train",
        dataset,
        str(tmp_path / "files"),
        "--model",
        model,
        "--epochs",
        "1",
        "--out",
        str(out),
    ]
    assert cli.main([*arguments, "--batch-size", "8", "--no-plots", "--quiet", "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("test accuracy ")
    card = load_metadata(out / "checkpoint.safetensors")
    assert (card["dataset"], card["classes"]) == (dataset, 10)
    assert len(card["mean"]) == len(card["std"]) == card["input"][0] == (3 if dataset == "cifar10" else 1)
    trained = load_trained(out)
    assert trained.class_names == card["class_names"]
    assert trained.class_names[1] != "1"
    probabilities = trained.probabilities(np.zeros(trained.input, np.float32))
    assert probabilities.sum() == pytest.approx(1, rel=1e-5)


def write_folder(folder: Path) -> None:
    """Bars that stand (class "standing") or lie, 12x12, RGB, twelve of each."""
    rng = np.random.default_rng(0)
    for name in ("lying", "standing"):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 60, (12, 12, 3)).astype(np.uint8)
            place = slice(3 + i % 6, 5 + i % 6)
            pixels[(slice(None), place) if name == "standing" else place] = 250
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def test_a_folder_of_images(tmp_path: Path, capsys: Any) -> None:
    images, out = tmp_path / "images", tmp_path / "run"
    write_folder(images)
    arguments = ["train", "folder", str(images), "--out", str(out), "--epochs", "2", "--batch-size", "4"]
    assert (
        cli.main([*arguments, "--model", "mobilenet_v2_cifar", "--size", "8", "--no-plots", "--quiet"]) == 0
    )
    assert capsys.readouterr().out.startswith("test accuracy ")
    card = load_metadata(out / "checkpoint.safetensors")
    assert (card["class_names"], card["input"]) == (["lying", "standing"], [3, 8, 8])
    assert cli.main(["predict", str(out), str(images / "lying" / "0.png"), "--resize"]) == 0
    assert re.search(r"0\.png: (lying|standing) \(\d+\.\d %\), ", capsys.readouterr().out)


@pytest.mark.parametrize("held", ["valid", "test"])
def test_a_divided_folder_in_an_archive(tmp_path: Path, capsys: Any, held: str) -> None:
    """train and valid are what `image_folder` takes them for: all pictures of each are used as such."""
    write_folder(tmp_path / "train")
    write_folder(tmp_path / held)
    for i in range(10):
        (tmp_path / held / "lying" / f"{i}.png").unlink()
    names = [f"{p.relative_to(tmp_path)}" for p in tmp_path.rglob("*.png")]
    archive = tar_of(tmp_path / "set.tar.gz", {name: (tmp_path / name).read_bytes() for name in names})
    parts = load_data(train.TrainConfig.preset("folder", size=8), archive)
    assert [len(part) for part in parts] == [21, 3, 14]
    assert parts[2].name == ("set/val" if held == "valid" else "set/test")


def test_a_folder_with_all_three_parts(tmp_path: Path) -> None:
    for name, fewer in (("train", 0), ("validation", 4), ("test", 7)):
        write_folder(tmp_path / name)
        for i in range(fewer):
            (tmp_path / name / "standing" / f"{i}.png").unlink()
    parts = load_data(train.TrainConfig.preset("folder", size=8), tmp_path)
    assert [len(part) for part in parts] == [24, 20, 17]


def test_folders_that_cannot_be_learnt_from(tmp_path: Path, capsys: Any) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    write_folder(whole)
    (tmp_path / "empty").mkdir()
    for name, spoil, options, message in (
        ("empty", None, [], "no images in it"),
        ("absent", None, [], "no such folder"),
        ("whole", lambda: None, ["--size", "0"], "vgg_cifar does not take images of shape (3, 12, 12)"),
        (
            "whole",
            lambda: Image.new("RGB", (9, 12)).save(whole / "lying" / "3.png"),
            ["--size", "0"],
            "12x9 pixels",
        ),
        ("whole", lambda: (whole / "lying" / "5.png").write_bytes(b"\x89PNG"), [], "5.png: "),
    ):
        if spoil is not None:
            spoil()
        arguments = ["train", "folder", str(tmp_path / name), "--out", str(out), *options]
        assert cli.main(arguments) == 1, name
        assert message in only_error_line(capsys.readouterr().err)
        assert not out.exists()


def test_labels_out_of_range(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    few = data.digits("train").subset(np.arange(40), "few")
    labels = few.labels.copy()

    def broken(*_: Any) -> tuple:
        wrong = few.subset(np.arange(40), "few")  # a copy
        wrong.labels[7] = 10
        return wrong, few, few

    monkeypatch.setattr("cnnext.train.runner.load_data", broken)
    arguments = ["train", "digits", "--epochs", "2", "--out", str(tmp_path / "out"), "--no-plots"]
    assert cli.main(arguments) == 1
    assert "target holds 10" in only_error_line(capsys.readouterr().err)
    np.testing.assert_array_equal(few.labels, labels)
    with pytest.raises(ValueError, match=r"labels span 0\.\.12; the rule is 0\.\.9"):
        data.ImageSet(few.images, np.where(labels == 9, 12, labels))


def test_a_damaged_state_is_not_resumed(digits_run: Path, tmp_path: Path, capsys: Any) -> None:
    state = (digits_run / "last.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(state[:-100])
    assert cli.main(["train", "digits", "--resume", str(tmp_path)]) == 1
    assert "last.safetensors is not a whole safetensors file" in only_error_line(capsys.readouterr().err)


def test_a_state_of_another_network_is_not_resumed(digits_run: Path, tmp_path: Path, capsys: Any) -> None:
    state = cx.load(digits_run / "last.safetensors")
    state["model"]["features.0.weight"] = cx.zeros(16, 1, 3, 3)
    cx.save(state, tmp_path / "last.safetensors")
    assert cli.main(["train", "digits", "--resume", str(tmp_path)]) == 1
    line = only_error_line(capsys.readouterr().err)
    assert "of another network than DigitsCNN: features.0.weight is [16, 1, 3, 3] there and [32, 1" in line


def test_help_names_every_option(capsys: Any) -> None:
    for command in ("train", "predict", "summary", "bench", "info"):
        assert cli.main([command, "--help"]) == 0
        printed = capsys.readouterr().out
        assert "SUPPRESS" not in printed
        assert "default: None" not in printed
    assert cli.main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    for text in ("digits", "segment-digits", "--save-every STEPS", "augmentation", "files"):
        assert text in printed
    for dataset in ("digits", "mnist", "segment-digits"):
        preset = train.TrainConfig.preset(dataset)
        numbers = rf"{preset.epochs} +{preset.batch_size} +{preset.lr} +{preset.rotate} +{preset.shift} "
        assert re.search(rf"\n  {dataset} +{preset.model} +{numbers}", printed)
