"""Datasets, the IDX reader's refusals, the loader and augmentation."""

import gzip
import hashlib
import os
import tracemalloc

import numpy as np
import pytest
from cnnext import data
from data_files import idx

DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


IMAGES = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
LABELS = (np.arange(50) % 10).astype(np.uint8)


# ---- digits ------------------------------------------------------------------------------------------


def test_shipped_digits_are_the_original_ones():
    whole = data.digits("all")
    assert whole.images.shape == (1797, 1, 8, 8)
    assert whole.images.dtype == np.uint8
    assert whole.labels.dtype == np.int64
    stored = whole.images.tobytes() + whole.labels.astype(np.uint8).tobytes()
    assert hashlib.sha256(stored).hexdigest() == DIGITS_SHA256


def test_digits_split_is_the_documented_rule():
    whole, train, test = data.digits("all"), data.digits("train"), data.digits("test")
    assert (len(train), len(test)) == (1437, 360)
    seen = dict.fromkeys(range(10), 0)
    expected_test = []
    ordered = sorted(range(len(whole)), key=lambda i: (whole.labels[i], i))
    for position, index in enumerate(ordered):
        if position % 5 == 0:
            expected_test.append(index)
            seen[int(whole.labels[index])] += 1
    expected_test.sort()
    np.testing.assert_array_equal(test.images, whole.images[expected_test])
    np.testing.assert_array_equal(test.labels, whole.labels[expected_test])
    np.testing.assert_array_equal(train.images, np.delete(whole.images, expected_test, axis=0))
    assert all(35 <= count <= 37 for count in seen.values())
    assert test.name == "digits-v1/test"


def test_digits_normalisation_is_the_training_images_own():
    train = data.digits("train")
    scaled = train.images / train.max_value
    assert scaled.mean() == pytest.approx(train.mean, abs=1e-4)
    assert scaled.std() == pytest.approx(train.std, abs=1e-4)


def test_holdout_is_stratified_and_disjoint():
    train = data.digits("train")
    fit, held = data.holdout(train, 10)
    assert (len(fit), len(held)) == (1293, 144)
    assert np.bincount(held.labels).min() >= 13
    mask = data.stratified_every(train.labels, 10)
    np.testing.assert_array_equal(fit.images, train.images[~mask])
    np.testing.assert_array_equal(held.images, train.images[mask])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.digits("validation"), ValueError, "split is 'validation'; the rule is"),
        (lambda: data.mnist(".", "all"), ValueError, "split is 'all'"),
        (lambda: data.stratified_every(LABELS, 1), ValueError, "every is 1"),
        (lambda: data.stratified_every(LABELS, 5, 5), ValueError, "offset is 5"),
        (lambda: data.ImageSet(IMAGES, LABELS), ValueError, r"images has shape \(50, 28, 28\)"),
        (lambda: data.ImageSet(IMAGES[:, None], LABELS[:9]), ValueError, r"labels has shape \(9,\)"),
        (lambda: data.ImageSet(IMAGES[:, None], LABELS / 2), TypeError, "labels has dtype float"),
        (lambda: data.ImageSet(IMAGES[:, None], LABELS, classes=9), ValueError, r"labels span 0\.\.9"),
        (lambda: data.DataLoader(data.digits(), 0), ValueError, "batch_size is 0"),
        (lambda: data.DataLoader(data.digits(), 8, seed=-1), ValueError, "seed is -1"),
        (lambda: data.RandomCrop(0), ValueError, "size is"),
        (lambda: data.RandomCrop(3, -1), ValueError, "padding is -1"),
        (lambda: data.RandomTranslate(-1), ValueError, "pixels is -1"),
        (lambda: data.RandomAffine(degrees=-1), ValueError, "degrees is -1"),
        (lambda: data.RandomAffine(scale=(1.2, 0.8)), ValueError, "scale is"),
        (lambda: data.RandomHorizontalFlip(1.5), ValueError, "p is 1.5"),
        (lambda: data.ColorJitter(contrast=2), ValueError, "contrast is 2"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- IDX files ---------------------------------------------------------------------------------------


def damaged_gzip() -> bytes:
    packed = bytearray(gzip.compress(idx(IMAGES)))
    packed[-8] ^= 0xFF  # the checksum
    return bytes(packed)


BAD_FILES = {
    "empty": (b"", "wrong magic number"),
    "text": (b"<html>not found</html>", "wrong magic number 0x3c68746d, expected 0x00000803"),
    "labels' magic": (idx(LABELS), "wrong magic number 0x00000801, expected 0x00000803"),
    "float pixels": (idx(IMAGES, kind=0x0D), "wrong magic number 0x00000d03"),
    "truncated header": (idx(IMAGES)[:9], "truncated header, 9 of 16 bytes"),
    "truncated body": (idx(IMAGES)[:-1], r"truncated, 39199 of 39200 bytes"),
    "trailing byte": (idx(IMAGES) + b"x", "more data than the 39200 bytes"),
    "header bigger than the file": (idx(IMAGES, dims=(60000, 28, 28)), "47040000 bytes and the file cannot"),
    "overflowing header": (idx(IMAGES, dims=(2**32 - 1, 28, 28)), "more than the limit"),
    "other size": (idx(IMAGES, dims=(50, 14, 56)), "dimension 1 is 14, expected 28"),
    "truncated gzip": (gzip.compress(idx(IMAGES))[:-20], "truncated gzip data"),
    "gzip without a body": (gzip.compress(idx(IMAGES))[:5], "truncated gzip data|damaged gzip data"),
    "damaged gzip": (damaged_gzip(), "damaged gzip data"),
    "gzip of too little": (gzip.compress(idx(IMAGES)[:-1]), r"truncated, 39199 of 39200 bytes"),
    "gzip of too much": (gzip.compress(idx(IMAGES) + b"x"), "more data than the 39200 bytes"),
    "gzip promising too much": (gzip.compress(idx(IMAGES, dims=(900000, 28, 28))), "cannot hold"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_idx_file(tmp_path, name):
    content, message = BAD_FILES[name]
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=message) as caught:
        data.read_idx(path, shape=(None, 28, 28))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_special_files(tmp_path):
    with pytest.raises(data.DataError, match="no such file"):
        data.read_idx(tmp_path / "absent", shape=(None,))
    with pytest.raises(data.DataError, match="not a regular file"):
        data.read_idx(tmp_path, shape=(None,))
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer for ever
    with pytest.raises(data.DataError, match="not a regular file"):
        data.read_idx(tmp_path / "pipe", shape=(None,))


def test_gzip_bomb_is_not_unpacked(tmp_path):
    bomb = tmp_path / "bomb.gz"
    with gzip.open(bomb, "wb") as file:
        file.write(idx(IMAGES[:1]))
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(data.DataError, match="more data than the 784 bytes"):
            data.read_idx(bomb, shape=(None, 28, 28))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


# ---- MNIST -------------------------------------------------------------------------------------------


def write_pair(folder, stem, images=IMAGES, labels=LABELS, dot=False, packed=False):
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        name = f"{stem}-{kind}-ubyte".replace("-idx", ".idx" if dot else "-idx")
        content = idx(array)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_found_under_its_usual_names(tmp_path, dot, packed):
    write_pair(tmp_path, "train", dot=dot, packed=packed)
    write_pair(tmp_path, "t10k", IMAGES[:20], LABELS[:20], dot=dot, packed=packed)
    train, test = data.mnist(tmp_path, "train"), data.mnist(tmp_path, "test")
    np.testing.assert_array_equal(train.images, IMAGES[:, None])
    np.testing.assert_array_equal(train.labels, LABELS)
    assert len(test) == 20
    assert train.note is None


def test_mnist_file_named_gz_that_was_unpacked_already(tmp_path):
    write_pair(tmp_path, "t10k")
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name + ".gz"))
    assert len(data.mnist(tmp_path, "test")) == 10


def test_mnist_without_training_files_splits_t10k_and_says_so(tmp_path):
    write_pair(tmp_path, "t10k", packed=True)
    train, test = data.mnist(tmp_path, "train"), data.mnist(tmp_path, "test")
    np.testing.assert_array_equal(train.images, IMAGES[:40, None])
    np.testing.assert_array_equal(test.images, IMAGES[40:, None])
    assert "first 40 images of t10k" in train.note
    assert "last 10" in train.note


def bad_mnist(case):
    def write(folder):
        write_pair(folder, "t10k")
        labels, images = folder / "t10k-labels-idx1-ubyte", folder / "t10k-images-idx3-ubyte"
        if case == "no labels":
            labels.unlink()
        elif case == "no images":
            images.unlink()
        elif case == "half a training pair":
            (folder / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
        elif case == "label 10":
            labels.write_bytes(idx(LABELS + 1))
        elif case == "fewer labels":
            labels.write_bytes(idx(LABELS[:40]))
        elif case == "swapped files":
            images.write_bytes(idx(LABELS))
        elif case == "too few":
            write_pair(folder, "t10k", IMAGES[:3], LABELS[:3])

    return write


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no labels", "no t10k-labels-idx1-ubyte"),
        ("no images", "no t10k-images-idx3-ubyte"),
        ("half a training pair", "no train-labels-idx1-ubyte"),
        ("label 10", r"label 10 is outside 0\.\.9"),
        ("fewer labels", "50 images, but t10k-labels-idx1-ubyte has 40 labels"),
        ("swapped files", "wrong magic number"),
        ("too few", "3 labels are too few"),
    ],
)
def test_bad_mnist_folder(tmp_path, case, message):
    bad_mnist(case)(tmp_path)
    with pytest.raises(data.DataError, match=message):
        data.mnist(tmp_path, "train")


def test_mnist_folder_missing(tmp_path):
    with pytest.raises(data.DataError, match="no such folder"):
        data.mnist(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(data.DataError, match="not a folder"):
        data.mnist(tmp_path / "file")


# ---- loader ------------------------------------------------------------------------------------------


def small_set(count=10):
    images = np.arange(count * 2 * 3 * 4, dtype=np.uint8).reshape(count, 2, 3, 4)
    return data.ImageSet(images, np.arange(count) % 10, max_value=240.0, mean=0.25, std=0.5)


def test_loader_keeps_or_drops_the_tail():
    sizes = [len(labels) for _, labels in data.DataLoader(small_set(), 4)]
    assert sizes == [4, 4, 2]
    dropping = data.DataLoader(small_set(), 4, drop_last=True)
    assert [len(labels) for _, labels in dropping] == [4, 4]
    assert len(dropping) == 2
    assert list(data.DataLoader(small_set(0), 4)) == []
    assert [len(labels) for _, labels in data.DataLoader(small_set(), 100)] == [10]


def test_loader_scales_and_normalises():
    images, labels = next(iter(data.DataLoader(small_set(), 4)))
    expected = (small_set().images[:4] / 240.0 - 0.25) / 0.5
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    np.testing.assert_allclose(images, expected, atol=1e-6)


def test_loader_channels_last_has_the_same_values():
    (first, _), (last, _) = (
        next(iter(data.DataLoader(small_set(), 4, channels_last=flag))) for flag in (False, True)
    )
    np.testing.assert_array_equal(first, last)
    assert first.flags.c_contiguous
    assert last.transpose(0, 2, 3, 1).flags.c_contiguous


def test_loader_shuffles_by_seed_and_epoch_alone():
    def order(loader):
        return np.concatenate([labels for _, labels in loader])

    loader = data.DataLoader(small_set(), 4, shuffle=True, seed=7)
    first, second = order(loader), order(loader)
    assert sorted(first) == list(range(10))
    assert (first != second).any()
    again = data.DataLoader(small_set(), 3, shuffle=True, seed=7)
    again.set_epoch(1)
    np.testing.assert_array_equal(order(again), second)
    assert (order(data.DataLoader(small_set(), 4, shuffle=True, seed=8)) != first).any()


def test_loader_repeats_augmentation_bit_for_bit():
    def images(seed):
        loader = data.DataLoader(
            data.digits("test"), 50, True, seed=seed, transform=data.RandomAffine(10, 1, (0.9, 1.1))
        )
        return np.concatenate([batch for batch, _ in loader])

    np.testing.assert_array_equal(images(3), images(3))
    assert (images(3) != images(4)).any()


# ---- augmentation ------------------------------------------------------------------------------------


class Extreme:
    """Stands in for a generator: every draw is the largest value of its range."""

    def uniform(self, low, high, size):
        return np.full(size, float(high))

    def integers(self, low, high, size):
        return np.full(size, high - 1)

    def random(self, size):
        return np.full(size, 0.999)


def random_images(shape=(3, 2, 5, 7), seed=1):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


TRANSFORMS = [
    data.RandomTranslate(2),
    data.RandomCrop((4, 6), padding=1),
    data.RandomAffine(20, 1.5, (0.8, 1.2)),
    data.RandomHorizontalFlip(),
    data.ColorJitter(0.4, 0.4),
    data.Compose([data.RandomTranslate(1), data.ColorJitter(0.1)]),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_transforms_leave_their_input_and_the_range_alone(transform):
    images = random_images((40, 2, 5, 7))
    before = images.copy()
    result = transform(images, np.random.default_rng(2))
    np.testing.assert_array_equal(images, before)
    assert result.dtype == np.float32
    assert result.shape[:2] == images.shape[:2]
    assert 0 <= result.min() <= result.max() <= 1 + 1e-6
    assert not np.array_equal(result, images)
    np.testing.assert_array_equal(result, transform(images, np.random.default_rng(2)))
    assert len(transform(images[:0], np.random.default_rng(2))) == 0


def test_translate_moves_whole_pixels_and_fills_with_zeros():
    images = random_images()
    moved = data.RandomTranslate(2)(images, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    tops, lefts = rng.integers(0, 5, 3), rng.integers(0, 5, 3)
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        np.testing.assert_array_equal(moved[i], padded[i, :, top : top + 5, left : left + 7])


def test_crop_refuses_a_window_that_does_not_fit():
    with pytest.raises(ValueError, match="size is"):
        data.RandomCrop(6)(random_images(), np.random.default_rng(0))


def test_affine_without_ranges_changes_nothing():
    images = random_images()
    np.testing.assert_array_equal(data.RandomAffine()(images, np.random.default_rng(0)), images)


def test_affine_quarter_turn_and_whole_shift():
    square = random_images((2, 1, 6, 6))
    turned = data.RandomAffine(degrees=90)(square, Extreme())
    np.testing.assert_allclose(turned, np.rot90(square, -1, axes=(2, 3)), atol=1e-5)
    shifted = data.RandomAffine(translate=1)(square, Extreme())
    np.testing.assert_array_equal(shifted[..., 1:, 1:], square[..., :-1, :-1])
    assert not shifted[..., 0, :].any()
    assert not shifted[..., 0].any()


def test_affine_zoom_samples_bilinearly():
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32) / 10, (1, 1, 9, 9))
    zoomed = data.RandomAffine(scale=(2, 2))(ramp, Extreme())
    np.testing.assert_allclose(zoomed[0, 0, 4], (np.arange(9) - 4) / 20 + 0.4, atol=1e-6)


def test_flip_probability():
    images = random_images()
    always, never = data.RandomHorizontalFlip(1.0), data.RandomHorizontalFlip(0.0)
    np.testing.assert_array_equal(always(images, np.random.default_rng(0)), images[..., ::-1])
    np.testing.assert_array_equal(never(images, np.random.default_rng(0)), images)


def test_jitter_scales_brightness_then_contrast():
    images = random_images() * 0.5
    bright = data.ColorJitter(brightness=0.2)(images, Extreme())
    np.testing.assert_allclose(bright, images * 1.2, atol=1e-6)
    contrast = data.ColorJitter(contrast=0.5)(images, Extreme())
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(contrast, np.clip((images - mean) * 1.5 + mean, 0, 1), atol=1e-6)


def test_compose_applies_in_order():
    images = random_images()
    flip, move = data.RandomHorizontalFlip(1.0), data.RandomAffine(translate=1)
    both = data.Compose([flip, move])(images, Extreme())
    # Extreme.random never flips at p < 1, and always does at p = 1.
    np.testing.assert_array_equal(both, move(images[..., ::-1], Extreme()))
