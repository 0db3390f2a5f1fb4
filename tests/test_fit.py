"""cnnext.fit: what it learns, accumulates, clips, keeps, stops and writes."""

from __future__ import annotations

import csv
import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import data, nn, optim, train
from cnnext.train import Callback, EarlyStopping, History, KeepBest

pytest.importorskip("safetensors")

IMAGES, HELD_OUT = (
    part.subset(np.arange(size), "part")
    for part, size in zip(data.holdout(data.digits()), (160, 64), strict=True)
)


def net(seed: int = 0) -> nn.Module:
    cx.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1), nn.Flatten(), nn.Linear(72, 10)
    )


def loader(size: int = 16, **options: Any) -> data.DataLoader:
    return data.DataLoader(IMAGES, size, shuffle=True, seed=3, **options)


def weights(model: nn.Module) -> list[bytes]:
    return [value.numpy().tobytes() for value in model.state_dict().values()]


def fit(model: nn.Module, batches: Any = None, epochs: int = 1, **options: Any) -> History:
    options.setdefault("optimizer", optim.AdamW(model.parameters(), lr=0.01))
    return cx.fit(model, loader() if batches is None else batches, epochs, quiet=True, **options)


def test_it_learns_and_tells(tmp_path: Path) -> None:
    model = net()
    history = fit(model, epochs=8, validation=data.DataLoader(HELD_OUT, 40))
    assert history["epoch"] == list(range(1, 9))
    assert history.epochs == 8
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]
    assert history["validation_accuracy"][-1] > 0.7
    found = train.evaluate(model, HELD_OUT)
    assert history["validation_accuracy"][-1] == found.accuracy
    assert history["validation_loss"][-1] == pytest.approx(found.loss, rel=1e-5)
    assert history["images_per_second"][0] > 0
    history.to_csv(tmp_path / "h.csv")
    history.to_json_lines(tmp_path / "h.jsonl", times=True)
    with (tmp_path / "h.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == set(history) - {"seconds", "images_per_second"}
    assert [float(row["train_loss"]) for row in rows] == history["train_loss"]
    lines = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert lines == history.rows


def test_a_list_of_batches_and_another_loss() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float32)
    batches = [
        (x[i : i + 16], (x[i : i + 16] @ np.array([[1], [2], [3]], np.float32))) for i in range(0, 64, 16)
    ]
    cx.manual_seed(0)
    model = nn.Linear(3, 1)
    history = fit(
        model, batches, 60, loss=nn.functional.mse_loss, optimizer=optim.SGD(model.parameters(), lr=0.1)
    )
    assert set(history) == {"epoch", "lr", "train_loss", "seconds", "images_per_second"}
    np.testing.assert_allclose(model.weight.detach().numpy(), [[1, 2, 3]], atol=1e-3)


@pytest.mark.parametrize("amp", ["off", "float16"])
def test_accumulated_halves_have_the_gradients_of_the_whole(amp: str) -> None:
    images, labels = next(iter(data.DataLoader(IMAGES, 40)))
    grads = []
    for batches, accumulate in (
        ([(images, labels)], 1),
        ([(images[:20], labels[:20]), (images[20:], labels[20:])], 2),
        ([(images[:7], labels[:7]), (images[7:], labels[7:])], 2),  # each image counts the same
    ):
        model = net().eval()
        model.train = lambda mode=True, model=model: model  # no dropout
        fit(model, batches, accumulate=accumulate, amp=amp, optimizer=optim.SGD(model.parameters(), lr=0.0))
        grads.append([p.grad.numpy() for p in model.parameters()])
    for other in grads[1:]:
        for mine, theirs in zip(other, grads[0], strict=True):
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(mine, theirs, atol=scale * (2e-6 if amp == "off" else 2e-2))


def test_accumulation_makes_fewer_steps() -> None:
    steps = []

    class Count(Callback):
        def on_batch_end(self, run: train.Loop) -> None:
            steps.append((run.step, run.batch, run.seen))

    fit(net(), accumulate=4, callbacks=[Count()])  # ten batches
    assert steps == [(1, 4, 64), (2, 8, 128), (3, 10, 160)]


def test_clipping() -> None:
    for options, size in (
        ({"clip_norm": 0.01}, lambda grads: np.sqrt(sum((g**2).sum() for g in grads))),
        ({"clip_value": 0.01}, lambda grads: max(np.abs(g).max() for g in grads)),
        ({"clip_norm": 0.01, "amp": "float16"}, lambda grads: np.sqrt(sum((g**2).sum() for g in grads))),
    ):
        model = net()
        fit(model, optimizer=optim.SGD(model.parameters(), lr=0.0), **options)
        assert size([p.grad.numpy() for p in model.parameters()]) == pytest.approx(0.01, rel=1e-3)


def test_schedules() -> None:
    for how, rates in (("epoch", [0.1, 0.01, 0.001]), ("step", [0.1 * 0.1**9, 0.1 * 0.1**19, 0.1 * 0.1**29])):
        model = net()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
        seen = fit(model, epochs=3, optimizer=optimizer, scheduler=schedule, scheduler_step=how)["lr"]
        if how == "step":  # the rate after the epoch's last step
            rates = [rate * 0.1 for rate in rates]
        assert seen == pytest.approx(rates)
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.0)  # nothing gets better
    optimizer.param_groups[0]["lr"] = 1e-9
    plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5, eps=0)
    held_out = data.DataLoader(HELD_OUT, 64)
    history = fit(model, epochs=3, optimizer=optimizer, scheduler=plateau, validation=held_out)
    assert history["lr"] == pytest.approx([1e-9, 1e-9, 1e-10])


def test_callbacks_are_told_in_order() -> None:
    told = []

    class Told(Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                return lambda run: told.append((name, run.epoch, run.batch))
            return super().__getattribute__(name)

    fit(net(), loader(80), 2, callbacks=[Told()])
    assert told == [
        ("on_train_begin", 0, 0),
        ("on_epoch_begin", 1, 0), ("on_batch_end", 1, 1), ("on_batch_end", 1, 2), ("on_epoch_end", 1, 2),
        ("on_epoch_begin", 2, 0), ("on_batch_end", 2, 1), ("on_batch_end", 2, 2), ("on_epoch_end", 2, 2),
        ("on_train_end", 2, 2),
    ]  # fmt: skip


def test_the_best_is_kept_and_a_run_stops_early(tmp_path: Path) -> None:
    class Values(Callback):
        """Losses of a script, behind the real ones."""

        losses = (5.0, 3.0, 4.0, 3.0, 3.5, 6.0, 1.0)

        def on_epoch_end(self, run: train.Loop) -> None:
            run.history["train_loss"][-1] = self.losses[run.epoch - 1]
            kept.append(weights(run.model))

    kept: list[list[bytes]] = []
    model = net()
    best = KeepBest(tmp_path / "best.safetensors", "train_loss", restore=True)
    early = EarlyStopping("train_loss", patience=4)
    history = fit(model, epochs=7, callbacks=[Values(), best, early])
    assert history["train_loss"] == [5, 3, 4, 3, 3.5, 6]  # 3 again is no better
    assert history.best("train_loss") == 4
    assert weights(model) == kept[3] != kept[5]
    fresh = net(1)
    fresh.load_state_dict(cx.load(tmp_path / "best.safetensors"))
    assert weights(fresh) == kept[3]


class Breaking(data.RandomAffine):
    """Turns digits, but fails in one call."""

    def __init__(self, fails: int | None) -> None:
        super().__init__(10)
        self.left = fails

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise OSError("a worker failed")
        return super().__call__(images, rng)


class Plain:
    """A loader without state, whose passes are all the same."""

    def __init__(self, batches: data.DataLoader) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        self.batches.set_epoch(0)
        return iter(self.batches)


KINDS = {
    "stateful": (lambda batches: batches, 0),
    "in threads": (lambda batches: batches, 2),
    "plain": (Plain, 0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fails", [1, 14, 20])
def test_an_error_in_the_loader_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, fails: int, kind: str
) -> None:
    wrapped, workers = KINDS[kind]

    def run(fails: int | None, name: str, resume: bool = False) -> tuple[list[bytes], History]:
        model = net()
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        batches = wrapped(loader(transform=Breaking(fails), num_workers=workers))
        history = fit(
            model, batches, 3, optimizer=optimizer, accumulate=2,
            scheduler=optim.lr_scheduler.StepLR(optimizer, 2), checkpoint=tmp_path / name, resume=resume,
        )  # fmt: skip
        return weights(model), history

    expected, history = run(None, "unbroken")
    with pytest.raises(OSError, match="a worker failed"):
        run(fails, "broken")
    found, resumed = run(None, "broken", resume=True)
    assert found == expected
    for name in history.columns():
        assert resumed[name] == history[name]


class Stops(Callback):
    """Ends the run, as Ctrl-C does, right after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, run: train.Loop) -> None:
        if run.step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [2, 3, 4, 6])
def test_a_run_goes_on_behind_each_accumulated_step(tmp_path: Path, step: int, kind: str) -> None:
    """Ten batches, four to a step: the third step is of two, and the loader is at its end then."""
    wrapped, workers = KINDS[kind]

    def run(**options: Any) -> tuple[list[bytes], History]:
        model = net()
        batches = wrapped(loader(transform=data.RandomAffine(10), num_workers=workers))
        history = fit(model, batches, 3, accumulate=4, **options)
        return weights(model), history

    expected, history = run()
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, callbacks=[Stops(step)])
    assert cx.load(path)["extra"]["loop"]["step"] == step
    found, resumed = run(checkpoint=path, resume=True)
    assert found == expected
    for name in history.columns():
        assert resumed[name] == history[name]


def test_what_a_validation_draws_follows_from_the_epoch(tmp_path: Path) -> None:
    def run(**options: Any) -> History:
        held_out = data.DataLoader(HELD_OUT, 16, seed=5, transform=data.RandomAffine(40, 2))
        return fit(net(), epochs=3, validation=held_out, **options)

    expected, path = run(), tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, callbacks=[Stops(14)])  # ten steps an epoch
    resumed = run(checkpoint=path, resume=True)
    assert resumed["validation_loss"] == expected["validation_loss"]
    assert len(set(expected["validation_loss"])) == 3


@pytest.mark.parametrize("where", ["step", "validation"])
def test_an_interrupt_ends_the_run_between_two_steps(tmp_path: Path, where: str) -> None:
    path = tmp_path / "state.safetensors"
    calls = {"step": 0, "validation": 0}

    def run(interrupted: bool, **options: Any) -> tuple[list[bytes], History]:
        def loss(output: cx.Tensor, target: cx.Tensor) -> cx.Tensor:
            kind = "step" if cx.is_grad_enabled() else "validation"
            calls[kind] += 1
            if interrupted and kind == where and calls[kind] == 6:
                signal.raise_signal(signal.SIGINT)
            return nn.functional.cross_entropy(output, target)

        model = net()
        held_out = data.DataLoader(HELD_OUT, 16)  # four batches
        history = fit(model, epochs=3, loss=loss, validation=held_out, accumulate=4, **options)
        return weights(model), history

    expected, history = run(False)
    calls.update(step=0, validation=0)
    with pytest.raises(KeyboardInterrupt):
        run(True, checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    state = cx.load(path)["extra"]["loop"]
    # The sixth batch is of the second step, after eight; validation is of the second epoch, after all ten.
    assert (state["step"], state["batch"]) == ((2, 8) if where == "step" else (6, 10))
    found, resumed = run(False, checkpoint=path, resume=True)
    assert found == expected
    for name in history.columns():
        assert resumed[name] == history[name]


def test_a_loss_that_is_no_number() -> None:
    model = net()
    with pytest.raises(train.RunError, match=r"the loss became (nan|inf) in epoch 1$"):
        fit(model, optimizer=optim.SGD(model.parameters(), lr=1e30), epochs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 2.5}, r"epochs is 2\.5; the rule is an integer"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"accumulate": 1.5}, r"accumulate is 1\.5; the rule is an integer"),
        ({"clip_norm": "1"}, "clip_norm is '1'; the rule is clip_norm > 0"),
        ({"checkpoint": "x", "save_every": 2.5}, r"every is 2\.5; the rule is an integer"),
        ({"clip_norm": 0.0}, r"clip_norm is 0\.0; the rule is clip_norm > 0"),
        ({"clip_value": float("nan")}, "clip_value is nan"),
        ({"scheduler_step": "batch"}, "scheduler_step is 'batch'; the rule is one of epoch, step"),
        ({"amp": "half"}, "half"),
        ({"resume": True}, "need the path of a checkpoint"),
        ({"checkpoint": "x", "save_every": 0}, "every is 0"),
        ({"batches": []}, "the loader gave no batch"),
        ({"validation": []}, "the validation loader gave no batch"),
        (
            {"callbacks": [EarlyStopping("loss")]},
            "monitor is 'loss'; the rule is one of epoch, lr, train_loss",
        ),
    ],
)
def test_wrong_arguments(options: dict, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(net(), **options)


def test_mixed_images_have_mixed_labels() -> None:
    model = net()
    history = fit(model, loader(batch_transform=data.MixUp(0.2, num_classes=10)), epochs=10)
    assert history["train_accuracy"][-1] > 0.5
    assert train.evaluate(model, HELD_OUT).accuracy > 0.6


def test_wrong_callbacks_and_histories() -> None:
    for make, message in (
        (lambda: EarlyStopping(patience=0), "patience is 0"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta is -1"),
        (lambda: EarlyStopping(min_delta=np.nan), "min_delta is nan"),
        (lambda: EarlyStopping(mode="least"), "mode is 'least'"),
        (lambda: KeepBest("x", mode="least"), "mode is 'least'"),
        (lambda: History([{"a": 1}]).best("a", "least"), "mode is 'least'"),
        (lambda: History([{"a": 1}, {"b": 1}]), "the row holds b; the history holds a"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_the_best_of_a_history_with_gaps() -> None:
    nan = float("nan")
    for values, least, most in (
        ([nan, 1, 2, nan], 2, 3),
        ([2, nan, 1], 3, 1),
        ([-np.inf, nan], 1, 2),
        ([nan] * 2, 2, 2),
    ):
        history = History({"value": value} for value in values)
        assert (history.best("value", "min"), history.best("value", "max")) == (least, most)


def test_tensorboard_forgets_what_came_behind_the_checkpoint_alone(tmp_path: Path, monkeypatch: Any) -> None:
    """purge_step is the first step that is dropped: the checkpoint's own values stay."""
    purged: list[int] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            purged.append(purge_step)

        add_scalar = close = lambda *_: None

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    for epochs in (1, 2):
        path, board = tmp_path / "state", train.TensorBoard(tmp_path)
        fit(net(), epochs=epochs, checkpoint=path, resume=True, callbacks=[board])
    assert purged == [1, 11]


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    history = fit(net(), epochs=2, callbacks=[train.TensorBoard(tmp_path, every=5)])
    (file,) = tmp_path.glob("events.out.tfevents.*")
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    payload = file.read_bytes()
    while payload:  # a record: length, its checksum, the event, its checksum
        size = int.from_bytes(payload[:8], "little")
        event = Event.FromString(payload[12 : 12 + size])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        payload = payload[16 + size :]
    assert [step for step, _ in found["train/loss"]] == [10, 20]
    assert [value for _, value in found["train/loss"]] == pytest.approx(history["train_loss"])
    assert [step for step, _ in found["batch/accuracy"]] == [5, 10, 15, 20]


def test_tensorboard_that_is_missing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'cnnext\[tensorboard\]'"):
        train.TensorBoard(tmp_path)
