"""The loader's position, its threads, and what goes wrong in them."""

from __future__ import annotations

import gc
import signal
import threading
import time
from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import data


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    def ours() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("cnnext.data")]

    yield
    gc.collect()
    assert ours() == []


def noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return images + rng.random(images.shape, dtype=np.float32)


def image_set(count: int = 22) -> data.ImageSet:
    pixels = np.random.default_rng(0).integers(0, 255, (count, 2, 3, 4)).astype(np.uint8)
    return data.ImageSet(pixels, np.arange(count) % 10, name="some")


def loader(workers: int = 0, **how: Any) -> data.DataLoader:
    how = {"shuffle": True, "seed": 5, "transform": noise, **how}
    return data.DataLoader(image_set(), 4, num_workers=workers, **how)


def same(found: Any, expected: Any) -> None:
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_no_bit(workers):
    alone, together = loader(), loader(workers, prefetch_factor=1)
    for _ in range(2):
        same(together, alone)


def test_batches_differ_in_what_they_draw():
    """Not the same numbers in each batch, nor those of the order, nor of the next epoch's batches."""
    drawn = []

    def record(images, rng):
        drawn.append(rng.random())
        return images

    many = loader(transform=record)
    for _ in range(3):
        list(many)
    drawn.append(np.random.default_rng((5, 0)).random())
    assert len(set(drawn)) == len(drawn) == 19


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 4, 6])
def test_a_restored_loader_goes_on_bit_for_bit(tmp_path, workers, taken):
    going = loader(workers)
    list(going)  # one whole epoch
    batches = iter(going)
    for _ in range(taken):
        next(batches)
    cx.save({"loader": going.state_dict()}, tmp_path / "state.safetensors")
    state = cx.load(tmp_path / "state.safetensors")["loader"]
    assert (state["seed"], state["epoch"], state["batch"]) == (5, 1, taken)
    restored = loader(2 - workers, seed=99)
    restored.load_state_dict(state)
    assert restored.state_dict() == state
    same(restored, batches)
    assert restored.state_dict() == going.state_dict()
    assert restored.state_dict()["epoch"] == 2
    same(restored, going)


def test_position_between_epochs_and_after_leaving_early():
    going = loader()
    assert going.state_dict()["batch"] == 0
    for i, _ in enumerate(going):
        assert going.state_dict()["batch"] == i + 1
        if i == 2:
            break
    state = going.state_dict()
    assert (state["epoch"], state["batch"]) == (0, 3)
    later = loader()
    later.set_epoch(1)
    assert later.state_dict()["epoch"] == 1
    same(going, later)  # the next loop is the next epoch, unless the state is loaded
    going.load_state_dict(state)
    assert len(list(going)) == 3


def test_an_older_iterator_does_not_move_the_position():
    going = loader()
    old = iter(going)
    next(old)
    new = iter(going)
    next(new)
    next(old)
    assert (going.state_dict()["epoch"], going.state_dict()["batch"]) == (1, 1)
    list(old)
    assert (going.state_dict()["epoch"], going.state_dict()["batch"]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "batch_size=8; here it is 4"),
        ({"images": 21}, "images=21; here it is 22"),
        ({"shuffle": False}, "shuffle=False; here it is True"),
        ({"batch": 7}, "batch 7; the rule is 0 <= batch <= 6"),
        ({"epoch": -1}, "epoch -1"),
        ({"seed": None}, "lacks seed"),
    ],
)
def test_states_that_do_not_fit(change, message):
    state = {**loader().state_dict(), **change}
    state = {name: value for name, value in state.items() if value is not None}
    fresh = loader()
    with pytest.raises(ValueError, match=message):
        fresh.load_state_dict(state)
    same(fresh, loader())


# ---- what a transform raises ----


def fails_on(pixel: int, error: Exception) -> Any:
    """Raises for the image whose first pixel is that."""

    def transform(images, rng):
        if (np.rint(images[:, 0, 0, 0] * 255) == pixel).any():
            raise error
        return images

    return transform


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_the_image(workers):
    images = image_set()
    images.images[:, 0, 0, 0] = np.arange(22)
    broken = data.DataLoader(images, 4, transform=fails_on(13, ValueError("cannot be")), num_workers=workers)
    taken = []
    with pytest.raises(
        ValueError, match=r"^cannot be \(in the transform of image 13 of some, batch 3 of epoch 0\)$"
    ):
        taken.extend(broken)
    assert len(taken) == 3
    assert broken.state_dict()["batch"] == 3


def test_an_error_keeps_its_type_and_arguments():
    images = image_set()
    images.images[:, 0, 0, 0] = np.arange(22)
    with pytest.raises(OSError, match="no such") as caught:
        list(data.DataLoader(images, 4, transform=fails_on(2, OSError(2, "no such"))))
    assert caught.value.errno == 2


def test_an_error_of_the_batch_as_a_whole():
    def transform(images, rng):
        if len(images) > 1:
            raise RuntimeError("too many")
        return images

    with pytest.raises(
        RuntimeError, match=r"too many \(in the transform of one of images 0, 1, 2, 3 of some"
    ):
        list(data.DataLoader(image_set(), 4, transform=transform))


# ---- leaving early ----


@pytest.mark.parametrize("where", ["step", "transform"])
def test_ctrl_c_leaves_no_thread(where):
    """In the step it interrupts the caller, in a wait for the threads the wait."""

    def slow(images, rng):
        if where == "transform":
            time.sleep(0.02)
        return images

    def loop():
        main = threading.main_thread().ident
        threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGINT]).start()
        while True:
            for _ in loader(2, transform=slow):
                if where == "step":
                    time.sleep(5)

    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        loop()
    assert time.perf_counter() - started < 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cnnext.data")]


def test_no_more_is_made_than_asked_for():
    made = []

    def count(images, rng):
        made.append(1)
        return images

    batches = iter(data.DataLoader(image_set(), 1, transform=count, num_workers=2, prefetch_factor=3))
    next(batches)
    time.sleep(0.05)
    assert len(made) <= 1 + 2 * 3
    batches.close()


@pytest.mark.parametrize(
    ("how", "message"),
    [({"num_workers": -1}, "num_workers is -1"), ({"prefetch_factor": 0}, "prefetch_factor is 0")],
)
def test_bad_arguments(how, message):
    with pytest.raises(ValueError, match=message):
        data.DataLoader(image_set(), 4, **how)
