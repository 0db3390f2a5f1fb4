"""The training engine: repeatability, checkpoints that survive every failure, plots, progress."""

import csv
import errno
import io
import json
import math
import os

import cnnext as cx
import numpy as np
import pytest
from cnnext import data, models, train, viz
from cnnext.train import engine, history, progress

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("safetensors")

FIT, VALIDATION = (
    part.subset(np.arange(size), "part")
    for part, size in zip(data.holdout(data.digits()), (160, 64), strict=True)
)


HISTORY = ["epoch", "lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]


def config(**changes):
    return train.TrainConfig.preset("digits", **{"epochs": 3, "seed": 5, **changes})


def trainer(path, reporter=None, **changes):
    chosen = config(**changes)
    cx.manual_seed(chosen.seed)
    model = models.create(chosen.model)
    return train.Trainer(model, chosen, FIT, VALIDATION, train.RunFolder(path), reporter)


def contents(path, *names):
    return [(path / name).read_bytes() for name in names or (engine.BEST, "history.csv", "config.json")]


class Hook(progress.SilentReporter):
    """Calls `action` at the end of epoch `at`."""

    def __init__(self, at, action):
        self.at, self.action = at, action

    def epoch(self, row):
        if row["epoch"] == self.at:
            self.action()


# ---- configuration and models ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "cifar"}, "dataset is 'cifar'; the rule is one of digits, mnist, fashion-mnist"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": math.nan}, "lr is nan; the rule is a finite number > 0"),
        ({"lr": math.inf}, "lr is inf"),
        ({"lr": 0.0}, r"lr is 0\.0"),
        ({"weight_decay": -1.0}, "weight_decay is"),
        ({"label_smoothing": 1.0}, "label_smoothing is"),
        ({"rotate": math.nan}, "rotate is nan"),
        ({"shift": -1.0}, "shift is"),
        ({"zoom": 1.0}, "zoom is"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is"),
        ({"optimizer": "lbfgs"}, "optimizer is 'lbfgs'"),
        ({"schedule": "none"}, "schedule is 'none'"),
        ({"size": 8}, "size is 8; the rule is 0 for other data than a folder's"),
        ({"dataset": "segment-digits", "flip": True}, "flip is True; the rule is False for segment-digits"),
        ({"dataset": "segment-digits", "crop": 2}, "crop is 2; the rule is 0 for segment-digits"),
        ({"crop": 4097}, "crop is 4097; the rule is 0 <= crop <= 4096"),
        ({"clip_norm": math.inf}, "clip_norm is inf"),
    ],
)
def test_config_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        train.TrainConfig(**{**config().to_dict(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2.5}, r"epochs is 2\.5; the rule is an integer"),
        ({"epochs": True}, "epochs is True; the rule is an integer"),
        ({"batch_size": "32"}, "batch_size is '32'; the rule is an integer"),
        ({"accumulate": np.float32(2)}, "accumulate is .*; the rule is an integer"),
        ({"crop": False}, "crop is False"),
        ({"size": 8.0}, r"size is 8\.0"),
        ({"seed": None}, "seed is None"),
        ({"lr": True}, "lr is True; the rule is a finite number > 0"),
        ({"zoom": "0.1"}, "zoom is '0.1'"),
        ({"weight_decay": None}, "weight_decay is None"),
        ({"flip": 1}, "flip is 1; the rule is True or False"),
        ({"channels_last": "no"}, "channels_last is 'no'"),
        ({"model": 3}, "model is 3; the rule is a name"),
    ],
)
def test_config_refuses_types(change, message):
    with pytest.raises(TypeError, match=message):
        train.TrainConfig(**{**config().to_dict(), **change})


def test_config_keeps_plain_numbers():
    made = config(epochs=np.int64(3), lr=np.float64(0.25), clip_norm=5)
    assert json.loads(json.dumps(made.to_dict())) == config(lr=0.25, clip_norm=5.0).to_dict()


def test_a_folder_for_data_that_ship_is_refused(tmp_path):
    with pytest.raises(data.DataError, match="digits ships with cnnext; leave out"):
        train.run(config(epochs=1), data_dir=tmp_path, out=tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_unknown_names():
    with pytest.raises(ValueError, match="dataset is 'x'"):
        train.TrainConfig.preset("x")
    with pytest.raises(ValueError, match=r"name is 'x'; the rule is one of .*digits-cnn, lenet5, mnist-cnn"):
        models.create("x")


@pytest.mark.parametrize(("name", "size"), [("digits-cnn", 8), ("lenet5", 28), ("mnist-cnn", 28)])
def test_models_map_images_to_logits(name, size):
    assert name in models.names()
    model = models.create(name, classes=7)
    model.eval()
    images = np.random.default_rng(0).random((3, 1, size, size), dtype=np.float32)
    assert tuple(model(cx.Tensor(images)).shape) == (3, 7)


# ---- the loop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "lr": 0.1},
        {"schedule": "cosine", "channels_last": True},
        {"amp": "float16"},
        {"amp": "bfloat16"},
    ],
    ids=str,
)
def test_training_learns(tmp_path, changes):
    if changes.get("amp") == "bfloat16":
        pytest.importorskip("ml_dtypes")
    run = trainer(tmp_path, epochs=8, **changes)
    run.run()
    first, last = run.history[0], run.history[-1]
    assert last["train_loss"] < 0.7 * first["train_loss"]
    assert last["validation_accuracy"] > 0.6
    assert last["lr"] < 0.01 * run.config.lr
    tail = len(FIT) % run.config.batch_size == 0
    assert tail, "160 images are five whole batches; the repeatability test has the tail"


def test_history_file_holds_the_history(tmp_path):
    run = trainer(tmp_path)
    run.run()
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    for row, kept in zip(rows, run.history, strict=True):
        assert list(row) == HISTORY
        assert all(float(row[name]) == kept[name] for name in HISTORY)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{n: kept[n] for n in HISTORY} for kept in run.history]
    with (tmp_path / "timing.csv").open() as file:
        assert all(float(row["images_per_second"]) > 0 for row in csv.DictReader(file))


def test_same_seed_same_bits(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        # 160 images in batches of 48: the last batch is smaller.
        trainer(tmp_path / name, seed=seed, epochs=2, batch_size=48).run()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for one, other in zip(contents(tmp_path / "a"), contents(tmp_path / "c"), strict=True):
        assert one != other


@pytest.mark.parametrize("how", [{"optimizer": "adamw"}, {"optimizer": "sgd"}, {"amp": "float16"}], ids=str)
def test_resumed_run_ends_with_the_bits_of_an_unbroken_one(tmp_path, how):
    def interrupt():
        raise KeyboardInterrupt

    trainer(tmp_path / "unbroken", epochs=4, **how).run()
    with pytest.raises(KeyboardInterrupt, match=r"keeps epoch [12]"):
        trainer(tmp_path / "broken", Hook(2, interrupt), epochs=4, **how).run()
    assert len((tmp_path / "broken" / "history.csv").read_text().splitlines()) == 3
    resumed = trainer(tmp_path / "broken", epochs=4, **how)
    resumed.resume()
    assert len(resumed.history) == 2
    resumed.run()
    assert contents(tmp_path / "unbroken") == contents(tmp_path / "broken")


def test_resume_refuses_another_configuration(tmp_path):
    trainer(tmp_path, epochs=1).run()
    with pytest.raises(train.RunError, match="another configuration"):
        trainer(tmp_path, epochs=2).resume()
    with pytest.raises(train.RunError, match="no such file"):
        trainer(tmp_path / "new").resume()


def test_runs_of_before_there_was_mixed_precision_go_on(tmp_path):
    trainer(tmp_path, epochs=1).run()
    state = cx.load(tmp_path / engine.LAST)
    del state["extra"]["config"]["amp"]
    cx.save(state, tmp_path / engine.LAST)
    assert train.saved_config(tmp_path).amp == "off"
    run = trainer(tmp_path, epochs=1)
    run.resume()
    assert len(run.history) == 1
    with pytest.raises(train.RunError, match="another configuration"):
        trainer(tmp_path, epochs=1, amp="float16").resume()


def test_mixed_precision_keeps_float32_parameters_and_its_scale(tmp_path):
    run = trainer(tmp_path, epochs=1, amp="float16")
    run.scaler.update(new_scale=2.0**40)  # overflows until it has come down
    run.run()
    assert all(p.dtype == np.float32 for p in run.model.parameters())
    scale = run.scaler.get_scale()
    assert 1 <= scale < 2.0**40
    again = trainer(tmp_path, epochs=1, amp="float16")
    again.resume()
    assert again.scaler.get_scale() == scale


def test_best_epoch_is_the_latest_of_the_most_accurate(tmp_path):
    run = trainer(tmp_path)
    bias = dict(run.model.named_parameters())["classifier.1.bias"]
    kept = []
    for epoch, accuracy, loss in ((1, 0.5, 1.0), (2, 0.9, 0.7), (3, 0.9, 0.7), (4, 0.9, 0.8), (5, 0.8, 0.1)):
        row = dict.fromkeys((*HISTORY, *history.TIMES), 0.0)
        run.loop.history.append(
            row | {"epoch": epoch, "validation_accuracy": accuracy, "validation_loss": loss}
        )
        run.loop.epoch = epoch
        bias.detach().numpy()[...] = epoch
        run.on_epoch_end(run.loop)
        kept.append(int(cx.load(tmp_path / engine.BEST)["classifier.1.bias"].numpy()[0]))
    assert kept == [1, 2, 3, 4, 4]
    assert run.best_epoch == 4


def test_checkpoint_loads_into_a_model(tmp_path):
    run = trainer(tmp_path, epochs=1)
    run.run()
    fresh = models.create("digits-cnn")
    fresh.load_state_dict(cx.load(tmp_path / engine.BEST))
    trained, loaded = (train.evaluate(model, VALIDATION) for model in (run.model, fresh))
    np.testing.assert_array_equal(trained.predictions, loaded.predictions)
    assert trained.loss == loaded.loss


def test_evaluate_against_numpy():
    model = models.create("digits-cnn")
    result = train.evaluate(model, VALIDATION)
    images, labels = next(iter(data.DataLoader(VALIDATION, len(VALIDATION))))
    logits = model(cx.Tensor(images)).detach().numpy().astype(np.float64)
    log_sum = np.log(np.exp(logits).sum(axis=1))
    assert result.loss == pytest.approx((log_sum - logits[np.arange(len(labels)), labels]).mean(), rel=1e-5)
    assert result.accuracy == (logits.argmax(axis=1) == labels).mean()
    channels_last = train.evaluate(model, VALIDATION, channels_last=True)
    assert channels_last.loss == pytest.approx(result.loss, rel=1e-5)


# ---- failures ----------------------------------------------------------------------------------------


def poison(run):
    def action():
        for parameter in run.model.parameters():
            values = parameter.detach().numpy()
            values[...] = np.nan

    return action


def test_nan_loss_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    run = trainer(tmp_path)
    before = []
    ruin = poison(run)
    run.progress.reporter = Hook(1, lambda: (before.extend(contents(tmp_path)), ruin()))
    with pytest.raises(
        train.RunError, match=r"the loss became nan in epoch 2; .*keeps epoch 1; a smaller --lr"
    ):
        run.run()
    assert contents(tmp_path) == before


def test_weights_ruined_by_the_last_step_are_not_saved(tmp_path):
    run = trainer(tmp_path, epochs=1)
    step = run.scheduler.step
    steps = []

    def ruin_after_the_last(*args):
        step(*args)
        steps.append(1)
        if len(steps) == len(run.loader):
            poison(run)()

    run.scheduler.step = ruin_after_the_last
    with pytest.raises(train.RunError, match="the loss became nan in epoch 1; no checkpoint was written"):
        run.run()
    assert os.listdir(tmp_path) == []


def test_diverging_run(tmp_path):
    with pytest.raises(train.RunError, match=r"the loss became (nan|inf) in epoch 1"):
        trainer(tmp_path, lr=1e30).run()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_full_keeps_the_older_checkpoint(tmp_path, monkeypatch, call):
    run = trainer(tmp_path)
    before = []

    def fill_the_disk():
        before.extend(contents(tmp_path))

        def fail(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, call, fail)

    run.progress.reporter = Hook(1, fill_the_disk)
    with pytest.raises(train.RunError, match=r"cannot write .*: No space left on device") as caught:
        run.run()
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_interrupted_write_leaves_the_older_file(tmp_path, monkeypatch):
    folder = train.RunFolder(tmp_path)
    folder.write("file", b"older")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write("file", b"newer")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"older"


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(train.RunError, match="cannot make the folder"):
            train.RunFolder(path)
    with pytest.raises(train.RunError, match="cannot make the folder"):
        train.RunFolder.numbered(tmp_path / "file", "digits")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(train.RunError, match=r"cannot write .*: Permission denied"):
        train.RunFolder(tmp_path)


def test_a_folder_keeps_the_files_that_are_there(tmp_path):
    (tmp_path / "probe").write_bytes(b"mine")
    train.RunFolder(tmp_path).remove_if_empty()
    assert os.listdir(tmp_path) == ["probe"]
    assert (tmp_path / "probe").read_bytes() == b"mine"


def test_numbered_folders(tmp_path):
    first, second = (train.RunFolder.numbered(tmp_path / "runs", "digits") for _ in range(2))
    assert (first.path.name, second.path.name) == ("digits-001", "digits-002")
    second.write("file", b"")
    for folder in (first, second):
        folder.remove_if_empty()
    assert os.listdir(tmp_path / "runs") == ["digits-002"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\xff" * 64])
def test_damaged_state(tmp_path, content):
    (tmp_path / engine.LAST).write_bytes(content)
    with pytest.raises(train.RunError, match="is not a whole safetensors file"):
        train.saved_config(tmp_path)


def test_checkpoint_is_not_a_state_to_resume(tmp_path):
    run = trainer(tmp_path, epochs=1)
    run.run()
    (tmp_path / engine.BEST).rename(tmp_path / engine.LAST)
    with pytest.raises(train.RunError, match="not the state of a run"):
        train.saved_config(tmp_path)


# ---- plots and progress ------------------------------------------------------------------------------


def test_plots_are_pictures():
    pytest.importorskip("matplotlib")
    rows = [
        {
            "epoch": e,
            "train_loss": 1 / e,
            "validation_loss": 2 / e,
            "train_accuracy": 0.8,
            "validation_accuracy": 0.7,
        }
        for e in (1, 2, 3)
    ]
    figures = (
        viz.training_curves(rows),
        viz.training_curves(rows[:1]),
        viz.confusion_matrix(np.arange(9).reshape(3, 3), ["cat", "dog", "owl"]),
        viz.filters(np.random.default_rng(0).normal(size=(20, 3, 5, 5))),
        viz.filters(np.zeros((1, 1, 3, 3))),
    )
    for figure in figures:
        with Image.open(io.BytesIO(viz.to_png(figure))) as picture:
            assert picture.format == "PNG"
            low, high = picture.convert("L").getextrema()
            assert low < high
    with pytest.raises(ValueError, match=r"counts has shape \(2, 3\)"):
        viz.confusion_matrix(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"weight has shape \(3, 3\)"):
        viz.filters(np.zeros((3, 3)))


def test_plain_progress(tmp_path, capsys):
    trainer(tmp_path, progress.PlainReporter(), epochs=2).run()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for word in ("epoch 2/2", "loss ", "accuracy ", "validation ", " images/s", "0:00 left"):
        assert word in lines[1]


def test_rich_progress(tmp_path):
    console = pytest.importorskip("rich.console")
    reporter = progress.RichReporter()
    reporter._console = console.Console(file=io.StringIO(), force_terminal=True, width=100)
    trainer(tmp_path, reporter, epochs=2).run()
    text = reporter._console.file.getvalue()
    assert "nan" not in text
    for word in ("epoch 2/2", "loss ", "accuracy ", " images/s", "00:00"):
        assert word in text


def test_choice_of_progress(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.delenv("CI", raising=False)
    assert isinstance(progress.choose_reporter(), progress.PlainReporter)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert isinstance(progress.choose_reporter(), progress.RichReporter)
    assert type(progress.choose_reporter(quiet=True)) is progress.SilentReporter
    monkeypatch.setenv("CI", "true")
    assert isinstance(progress.choose_reporter(), progress.PlainReporter)
    monkeypatch.delenv("CI")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(progress.choose_reporter(), progress.PlainReporter)


def test_missing_extras_are_named_in_one_line(tmp_path, monkeypatch):
    said = []
    reporter = progress.SilentReporter()
    reporter.say = said.append
    find = progress.importlib.util.find_spec
    hidden = {"matplotlib"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in hidden else find(name))
    monkeypatch.setattr("cnnext.train.runner.load_data", lambda *_: (FIT, VALIDATION, VALIDATION))
    result = train.run(config(epochs=1), out=tmp_path, reporter=reporter)
    assert "matplotlib is not installed, so no plots: pip install 'cnnext[train]'" in said
    assert result.confusion.sum() == len(VALIDATION)
    assert np.trace(result.confusion) == round(result.test_accuracy * len(VALIDATION))
    assert not list(tmp_path.glob("*.png"))
    hidden.add("safetensors")
    with pytest.raises(train.RunError, match="checkpoints need safetensors: pip install 'cnnext"):
        train.run(config(epochs=1), out=tmp_path)
