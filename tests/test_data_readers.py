"""Fashion-MNIST, CIFAR and folders of images: what is read, and what is refused."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import sys
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from cnnext import data
from cnnext.data import archives
from cnnext.data.folder import folder_splits
from data_files import cifar10_files, cifar_file, fashion_files, one_line, rng, tar_of, write

Image = pytest.importorskip("PIL.Image")

# ---- CIFAR ----


@pytest.mark.parametrize("place", ["here", "inside", "tar.gz", "tar"])
def test_cifar10(tmp_path, place):
    files, pixels, labels = cifar10_files()
    if place.startswith("tar"):
        members = {f"cifar-10-batches-bin/{name}": content for name, content in files.items()}
        members["cifar-10-batches-bin/readme.html"] = b"not kept"
        tar_of(tmp_path / f"cifar-10-binary.{place}", members, "w:gz" if place == "tar.gz" else "w")
    else:
        write(tmp_path if place == "here" else tmp_path / "cifar-10-batches-bin", files)
    for _ in range(2):  # the second time from what was unpacked
        train, test = data.cifar10(tmp_path, "train"), data.cifar10(tmp_path, "test")
    np.testing.assert_array_equal(train.images, pixels[:10])
    np.testing.assert_array_equal(train.labels, labels[:10])
    np.testing.assert_array_equal(test.images, pixels[10:])
    np.testing.assert_array_equal(test.labels, labels[10:])
    assert train.class_names == tuple(f"class{i}" for i in range(10))
    assert (train.name, train.classes, len(train.mean)) == ("cifar10/train", 10, 3)
    assert not list(tmp_path.rglob("readme.html"))
    entries = len(files) if place == "here" else 1 + place.startswith("tar")
    assert len(list(tmp_path.iterdir())) == entries


@pytest.mark.parametrize(("kind", "column", "classes"), [("fine", 1, 100), ("coarse", 0, 20)])
def test_cifar100(tmp_path, kind, column, classes):
    pixels = rng.integers(0, 256, (4, 3, 32, 32)).astype(np.uint8)
    labels = [[3, 99], [19, 0], [0, 7], [5, 5]]
    write(
        tmp_path,
        {"train.bin": cifar_file(labels[:3], pixels[:3]), "test.bin": cifar_file(labels[3:], pixels[3:])},
    )
    train = data.cifar100(tmp_path, "train", kind)
    np.testing.assert_array_equal(train.images, pixels[:3])
    np.testing.assert_array_equal(train.labels, [row[column] for row in labels[:3]])
    assert (train.classes, train.class_names) == (classes, None)
    np.testing.assert_array_equal(data.cifar100(tmp_path, "test", labels=kind).images, pixels[3:])
    with pytest.raises(ValueError, match="labels is 'finest'"):
        data.cifar100(tmp_path, "test", "finest")


class Explosive:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize("name", ["data_batch_1", "cifar-10-batches-py", "cifar-10-python.tar.gz"])
def test_the_pickled_version_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Explosive()))
    one_line(
        lambda: data.cifar10(tmp_path), name, "pickled", "nothing is unpickled", "cifar-10-binary.tar.gz"
    )


def test_the_pickled_cifar100_is_refused_by_name(tmp_path):
    (tmp_path / "train").write_bytes(pickle.dumps(Explosive()))
    one_line(lambda: data.cifar100(tmp_path), str(tmp_path / "train"), "cifar-100-binary.tar.gz")


RECORD = cifar_file([[0]], np.zeros((1, 3, 32, 32), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are not a whole number of records of 3073 bytes"),
        (RECORD[:-1], "3072 bytes are not a whole number"),
        (RECORD + b"x", "3074 bytes are not a whole number"),
        (RECORD + b"\x0a" + RECORD[1:], "image 1 has the label 10, outside 0..9"),
        (None, "no such file"),
    ],
)
def test_bad_cifar_files(tmp_path, content, message):
    files, _, _ = cifar10_files()
    write(tmp_path, files)
    bad = tmp_path / "data_batch_3.bin"
    bad.unlink() if content is None else bad.write_bytes(content)
    one_line(lambda: data.cifar10(tmp_path), str(bad), message)
    data.cifar10(tmp_path, "test")


def test_an_oversized_cifar_file_is_not_read(tmp_path):
    files, _, _ = cifar10_files()
    write(tmp_path, files)
    with (tmp_path / "test_batch.bin").open("wb") as file:
        file.truncate(3073 * 1_000_000)  # sparse
    tracemalloc.start()
    one_line(lambda: data.cifar10(tmp_path, "test"), "test_batch.bin", "more than 100000 records")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("reader", [data.cifar10, data.cifar100, data.mnist, data.fashion_mnist])
def test_missing_folders_and_files(tmp_path, reader):
    one_line(lambda: reader(tmp_path / "none"), "none: no such folder")
    one_line(lambda: reader(tmp_path), str(tmp_path))
    with pytest.raises(ValueError, match="split is 'all'"):
        reader(tmp_path, "all")


# ---- archives ----


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def hostile_archives() -> dict:
    device = tarfile.TarInfo("set/device")
    device.type = tarfile.CHRTYPE
    hard = link("set/link", "set/absent")
    hard.type = tarfile.LNKTYPE
    return {
        "leads out": ({"../outside": b"x"}, "outside"),
        "absolute link": ({"link": link("set/link", "/etc")}, "link"),
        "link that leads out": ({"link": link("set/link", "../../x")}, "link"),
        "device": ({"device": device}, "device"),
        "hard link to nothing": ({"link": hard}, "set/absent"),
        "too large": ({"set/large": bytes(3 << 20)}, "set/large has 3145728 bytes, the limit is 1048576"),
        "too much": ({f"set/{i}": bytes(400_000) for i in range(5)}, "holds more than 1048576 bytes"),
    }


@pytest.mark.parametrize("case", hostile_archives())
def test_hostile_archives(tmp_path, case):
    members, message = hostile_archives()[case]
    archive = tar_of(tmp_path / "a.tar.gz", members)
    one_line(lambda: archives.unpack(archive, tmp_path / "new", limit=1 << 20), str(archive), message)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("limit", [1 << 20, 1 << 30])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_in_a_header_is_not_unpacked(tmp_path, kind, limit):
    """A header of 64 MiB, packed to 64 KiB: tarfile would read it as a whole."""
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 64 << 20
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header.tobuf() + bytes(64 << 20), 6))
    tracemalloc.start()
    try:
        one_line(
            lambda: archives.unpack(tmp_path / "a.tar.gz", tmp_path / "new", limit=limit),
            "not a whole and sound archive (a header of 67108864 bytes)",
        )
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("damage", ["cut", "checksum", "no tar", "empty"])
def test_damaged_archives(tmp_path, damage):
    path = tar_of(tmp_path / "a.tar.gz", {"set/file": rng.bytes(5000)})
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "checksum":
        content[-8] ^= 0xFF
    else:
        content = bytearray(gzip.compress(b"hello" * 1000) if damage == "no tar" else b"")
    path.write_bytes(content)
    one_line(
        lambda: archives.unpack(path, tmp_path / "new", limit=1 << 20), str(path), "not a whole and sound"
    )
    assert not (tmp_path / "new").exists()


# ---- Fashion-MNIST ----


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist(tmp_path, packed):
    if packed:
        tar_of(
            tmp_path / "fashion-mnist.tar.gz",
            {f"data/{n}.gz": gzip.compress(c) for n, c in fashion_files().items()},
        )
    else:
        write(tmp_path, fashion_files())
    for _ in range(2):
        train, test = data.fashion_mnist(tmp_path), data.fashion_mnist(tmp_path, "test")
    assert (len(train), len(test)) == (30, 20)
    assert train.class_names[9] == "Ankle boot"
    assert train.mean != data.ImageSet(train.images, train.labels).mean


def test_fashion_mnist_does_not_split_the_test_images(tmp_path):
    write(tmp_path, {name: content for name, content in fashion_files().items() if name.startswith("t10k")})
    one_line(lambda: data.fashion_mnist(tmp_path), "no train-images-idx3-ubyte")


# ---- folders of images ----


def picture(
    path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB", value: int | None = None
) -> np.ndarray:
    """Writes random pixels, (H, W, C) of `size` (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    pixels = (
        rng.integers(0, 256, shape).astype(np.uint8) if value is None else np.full(shape, value, np.uint8)
    )
    Image.fromarray(pixels).save(path)
    return pixels.reshape(*size, -1)


def test_image_folder_takes_subfolders_as_classes(tmp_path):
    written = {
        name: picture(tmp_path / name)
        for name in ("dog/2.png", "dog/10.png", "cat/a.PNG", "cat/more/b.png", "ant/x.bmp")
    }
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    images = data.image_folder(tmp_path)
    assert images.class_names == ("ant", "cat", "dog")
    order = ["ant/x.bmp", "cat/a.PNG", "cat/more/b.png", "dog/10.png", "dog/2.png"]
    np.testing.assert_array_equal(images.labels, [0, 1, 1, 2, 2])
    np.testing.assert_array_equal(images.images, [written[name].transpose(2, 0, 1) for name in order])
    assert images.images.dtype == np.uint8
    batch, _ = next(iter(data.DataLoader(images, 5)))
    mean, std = (np.array(value).reshape(3, 1, 1) for value in (images.mean, images.std))
    np.testing.assert_allclose(batch, (images.images / 255 - mean) / std, atol=1e-5)


def test_image_folder_is_grey_where_all_images_are(tmp_path):
    grey = picture(tmp_path / "a" / "1.png", mode="L")
    images = data.image_folder(tmp_path)
    np.testing.assert_array_equal(images.images, grey.transpose(2, 0, 1)[None])
    picture(tmp_path / "b" / "1.png")
    mixed = data.image_folder(tmp_path)
    np.testing.assert_array_equal(mixed.images[0], np.repeat(images.images[0], 3, axis=0))


def test_image_folder_splits_share_the_numbers_of_classes(tmp_path):
    for name in (
        "train/cat/1.png",
        "train/dog/1.png",
        "train/dog/2.png",
        "valid/dog/1.png",
        "test/cat/1.png",
    ):
        picture(tmp_path / name)
    sets = {split: data.image_folder(tmp_path, split) for split in ("train", "val", "test")}
    assert {split: images.labels.tolist() for split, images in sets.items()} == {
        "train": [0, 1, 1],
        "val": [1],
        "test": [0],
    }
    assert all(images.class_names == ("cat", "dog") for images in sets.values())
    one_line(lambda: data.image_folder(tmp_path), "has train, val, test; split must say")
    one_line(lambda: data.image_folder(tmp_path / "train", "test"), "no subfolder test")
    with pytest.raises(ValueError, match="split is 'all'"):
        data.image_folder(tmp_path, "all")


def test_image_folder_resizes_and_crops_the_centre(tmp_path):
    pixels = picture(tmp_path / "a" / "wide.png", (8, 24), "L")
    narrow = Image.fromarray(pixels[..., 0]).resize((12, 4), Image.Resampling.BILINEAR)
    picture(tmp_path / "a" / "x.png", (40, 20), "L", 77)
    images = data.image_folder(tmp_path, size=(4, 4))
    assert images.images.shape == (2, 1, 4, 4)
    np.testing.assert_array_equal(images.images[0, 0], np.asarray(narrow)[:, 4:8])
    assert (images.images[1] == 77).all()
    with pytest.raises(ValueError, match="size is 0; the rule is size >= 1"):
        data.image_folder(tmp_path, size=(0, 4))


def test_image_folder_names_the_odd_one(tmp_path):
    for i in range(3):
        picture(tmp_path / "a" / f"{i}.png")
    odd = tmp_path / "b" / "odd.png"
    picture(odd, (6, 5))
    one_line(lambda: data.image_folder(tmp_path), str(odd), "6x5 pixels, others have 6x4")
    assert data.image_folder(tmp_path, size=(5, 5)).images.shape == (4, 3, 5, 5)


def test_image_folder_tells_what_is_too_large_before_it_takes_memory(tmp_path):
    for i in range(3):
        picture(tmp_path / "a" / f"{i}.png")
    message = (
        str(tmp_path),
        "3 images of 3x6x4 bytes are 216 bytes, the limit is 215 (max_bytes); size=(height",
    )
    one_line(lambda: data.image_folder(tmp_path, max_bytes=215), *message)
    assert data.image_folder(tmp_path, max_bytes=216).images.shape == (3, 3, 6, 4)
    assert data.image_folder(tmp_path, size=(2, 2), max_bytes=36).images.shape == (3, 3, 2, 2)
    for max_bytes, error in ((0, ValueError), (1e9, TypeError)):
        with pytest.raises(error, match="max_bytes is"):
            data.image_folder(tmp_path, max_bytes=max_bytes)
    (tmp_path / "b").mkdir()
    for i in range(2000):  # headers alone, each within pillow's limit: 160 GB in all
        (tmp_path / "b" / f"{i}.png").write_bytes(png(9000, 9000))
    tracemalloc.start()
    try:
        one_line(
            lambda: data.image_folder(tmp_path, size=(9000, 9000), max_bytes=1 << 36),
            "2003 images of 3x9000x9000 bytes are 486729000000 bytes, the limit is 68719476736",
        )
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [4, (4,), (4.0, 4), (True, 4), "44"])
def test_image_folder_takes_two_sizes(tmp_path, size):
    picture(tmp_path / "a" / "1.png")
    with pytest.raises((TypeError, ValueError), match="size is"):
        data.image_folder(tmp_path, size=size)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus", "test"):
        picture(tmp_path / name / "1.png")
    assert folder_splits(tmp_path) == []
    assert data.image_folder(tmp_path).class_names == ("bus", "test", "train")
    (tmp_path / "more").mkdir()
    (tmp_path / "bus").rename(tmp_path / "more" / "bus")
    (tmp_path / "more").rename(tmp_path / "valid")
    assert folder_splits(tmp_path) == ["train", "val", "test"]
    one_line(lambda: data.image_folder(tmp_path), "has train, val, test; split must say")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int = 8, body: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def whole_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 40)).astype(np.uint8)).save(stream, "png")
    return stream.getvalue()


BAD_IMAGES = {
    "empty": (b"", "no image in one of the formats PNG"),
    "text": (b"<html>", "no image in one of the formats PNG"),
    "cut off": (whole_png()[:200], "cannot be read as an image"),
    "damaged": (png(40, 40, body=b"no zlib data"), "cannot be read as an image"),
    "bomb": (png(30_000, 30_000), "could be decompression bomb"),
    "half a bomb": (png(10_000, 10_000), "could be decompression bomb"),
    "16 bits": (png(1, 1, 16, zlib.compress(b"\0\0\0")), "mode I;16; the rule is 8 bits a channel"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
@pytest.mark.parametrize("size", [None, (4, 4)])
def test_bad_images(tmp_path, name, size):
    picture(tmp_path / "a" / "1.png")
    content, message = BAD_IMAGES[name]
    bad = tmp_path / "a" / "2.png"
    bad.write_bytes(content)
    if name in ("cut off", "damaged"):
        picture(tmp_path / "a" / "1.png", (40, 40))
    one_line(lambda: data.image_folder(tmp_path, size=size), str(bad), message)


@pytest.mark.parametrize("files", [[], ["1.png"], ["a/readme.txt"]])
def test_folders_without_images(tmp_path, files):
    for name in files:
        picture(tmp_path / name) if name.endswith(".png") else write(tmp_path / "a", {"readme.txt": b""})
    one_line(lambda: data.image_folder(tmp_path), str(tmp_path), "no images in it")
    one_line(lambda: data.image_folder(tmp_path / "none"), "no such folder")


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'cnnext\[train\]'"):
        data.image_folder(tmp_path)


@pytest.mark.parametrize("top", ["", "flowers/"])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_an_archive_of_a_folder(tmp_path, top, suffix):
    members = {}
    for name in ("rose/1.png", "tulip/1.png"):
        picture(tmp_path / "made" / name)
        members[top + name] = (tmp_path / "made" / name).read_bytes()
    archive = tar_of(tmp_path / f"set{suffix}", members, "w:gz" if suffix.endswith("gz") else "w")
    for _ in range(2):
        images = data.image_folder(archive)
    np.testing.assert_array_equal(images.images, data.image_folder(tmp_path / "made").images)
    assert images.class_names == ("rose", "tulip")
