"""A folder of images, a subfolder for each class; read with pillow."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import _C
from .archives import TAR_SUFFIXES, unpack
from .checks import check_integer
from .datasets import ImageSet, data_folder
from .idx import DataError
from .workers import made_ahead

__all__ = ["folder_splits", "image_folder"]

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_GREY_MODES = ("1", "L", "LA", "La")
_COLOR_MODES = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB")
_ARCHIVE_LIMIT = 1 << 36
_USUAL_MEMORY = 1 << 33  # where the system does not tell


def image_folder(
    directory: str | os.PathLike[str],
    split: Literal["train", "val", "test"] | None = None,
    size: tuple[int, int] | None = None,
    *,
    max_bytes: int | None = None,
) -> ImageSet:
    """The images of a folder, where each class is a subfolder, in the order of the classes' names.

    ``directory/cat/1.png`` is of class "cat"; deeper folders are searched, too. Where `directory` has
    subfolders ``train``, ``val`` (or ``valid``, ``validation``) and ``test``, or some of them, they hold the
    classes, and `split` says which is meant; a class has the same number in each. Where `directory` is a file
    ``NAME.tar`` or ``NAME.tar.gz`` it is unpacked into the folder ``NAME`` beside it, if that is not there.

    Args:
        directory: the folder, or its archive.
        split: "train", "val" or "test"; None where there are no such subfolders.
        size: (height, width), to which every image is resized and centre-cropped, keeping its proportions;
            without it all images must have one size.
        max_bytes: what the images may take, N * C * H * W bytes; None: half of the machine's memory.

    Returns:
        An `ImageSet` of uint8 images: (N, 1, H, W) where all are grey, else (N, 3, H, W), RGB (transparency
        is dropped). mean and std are ImageNet's, or 0.5 and 0.25 for grey images.

    Raises:
        DataError: no images, one that is damaged, too large (pillow's limit against decompression bombs),
            of another size, or of more than 8 bits a channel; the message names it. All together are larger
            than `max_bytes`, which is found out before any is decoded.
        ImportError: pillow is missing.
    """
    Image = _pillow()
    if split is not None and split not in _SPLITS:
        raise ValueError(f"split is {split!r}; the rule is 'train', 'val', 'test' or None")
    if size is not None:
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise ValueError(f"size is {size}; the rule is (height, width), both >= 1")
        size = tuple(check_integer("size", side, 1) for side in size)
    limit = _half_of_memory() if max_bytes is None else check_integer("max_bytes", max_bytes, 1)
    root = _unpacked(Path(directory))
    chosen, names = _classes(root, split)
    paths, labels = _files(chosen, names)
    with _bombs_are_errors(Image):
        headers = [_opened(Image, path, lambda image: (image.size[::-1], image.mode)) for path in paths]
        mode = _common_mode(paths, [mode for _, mode in headers])
        if size is None:
            _check_sizes(paths, [size for size, _ in headers])
        shape = (len(paths), len(mode), *(size or headers[0][0]))
        if math.prod(shape) > limit:
            raise DataError(
                f"{chosen}: {shape[0]} images of {'x'.join(map(str, shape[1:]))} bytes are "
                f"{math.prod(shape)} bytes, the limit is {limit} (max_bytes); size=(height, width) scales"
            )
        images = np.empty(shape, np.uint8)

        def read(i: int) -> None:
            images[i] = _opened(Image, paths[i], lambda image: _pixels(image, mode, size)).transpose(2, 0, 1)

        threads = _C.get_num_threads()
        for _ in made_ahead(read, range(len(paths)), threads, 4 * threads):
            pass
    rgb = mode == "RGB"
    return ImageSet(
        images,
        labels,
        f"{root.name}/{split}" if split else root.name,
        classes=len(names),
        mean=(0.485, 0.456, 0.406) if rgb else 0.5,
        std=(0.229, 0.224, 0.225) if rgb else 0.25,
        class_names=tuple(names),
    )


def folder_splits(directory: str | os.PathLike[str]) -> list[str]:
    """Which of "train", "val" and "test" `image_folder` finds in the folder, or its archive."""
    return list(_splits(_unpacked(Path(directory))))


def _half_of_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return _USUAL_MEMORY


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("image_folder needs pillow: pip install 'cnnext[train]'") from None
    return Image


def _unpacked(path: Path) -> Path:
    suffix = next((s for s in TAR_SUFFIXES if path.name.endswith(s)), None)
    if suffix is None or not path.is_file():
        return data_folder(path)
    folder = path.with_name(path.name.removesuffix(suffix))
    if not folder.exists():
        unpack(path, folder, limit=_ARCHIVE_LIMIT)
    # Many archives have one folder at the top, and the classes in there.
    inside = _subfolders(folder)
    return inside[0] if len(inside) == 1 and _subfolders(inside[0]) else folder


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _splits(root: Path) -> dict[str, list[Path]]:
    """The subfolders that hold the parts of a set.

    One that has such a name and no subfolder is a class, "train" among "bus" and "car", unless all have.
    """
    inside = {folder.name: folder for folder in _subfolders(root)}
    splits = {name: [inside[f] for f in folders if f in inside] for name, folders in _SPLITS.items()}
    if sum(map(len, splits.values())) < len(inside):
        splits = {name: [f for f in folders if _subfolders(f)] for name, folders in splits.items()}
    return {name: folders for name, folders in splits.items() if folders}


def _classes(root: Path, split: str | None) -> tuple[Path, list[str]]:
    """The folder whose subfolders are the classes, and their names, of all splits together."""
    splits = _splits(root)
    places = [folder for folders in splits.values() for folder in folders]
    if split is None:
        inside = [folder.name for folder in _subfolders(root)]
        if places and len(places) == len(inside):
            raise DataError(f"{root}: has {', '.join(splits)}; split must say which is meant")
        return root, inside
    if split not in splits:
        raise DataError(f"{root}: no subfolder {' or '.join(_SPLITS[split])}")
    return splits[split][0], sorted({folder.name for place in places for folder in _subfolders(place)})


def _files(folder: Path, names: list[str]) -> tuple[list[Path], np.ndarray]:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(f"{folder}: no images in it: {', '.join(_SUFFIXES)} in a subfolder for each class")
    return paths, np.array(labels, np.int64)


@contextmanager
def _bombs_are_errors(Image: Any) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, say
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _opened(Image: Any, path: Path, use: Any) -> Any:
    """use(image); whatever pillow raises becomes a DataError."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return use(image)
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: no image in one of the formats {', '.join(_FORMATS)}") from None
    except (MemoryError, DataError):
        raise
    except Exception as error:  # its decoders raise all kinds
        raise DataError(f"{path}: cannot be read as an image ({' '.join(str(error).split())})") from None


def _common_mode(paths: list[Path], modes: list[str]) -> str:
    for path, mode in zip(paths, modes, strict=True):
        if mode not in _GREY_MODES + _COLOR_MODES:
            raise DataError(f"{path}: pixels of mode {mode}; the rule is 8 bits a channel")
    return "L" if all(mode in _GREY_MODES for mode in modes) else "RGB"


def _check_sizes(paths: list[Path], sizes: list[tuple[int, int]]) -> None:
    """The odd one is the first that differs from what most have."""
    usual = max(dict.fromkeys(sizes), key=sizes.count)
    for path, size in zip(paths, sizes, strict=True):
        if size != usual:
            raise DataError(
                f"{path}: {size[0]}x{size[1]} pixels, others have {usual[0]}x{usual[1]}; "
                "size=(height, width) resizes them"
            )


def _pixels(image: Any, mode: str, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W, C) uint8."""
    from PIL import Image, ImageOps

    image = image.convert(mode)
    if size is not None:
        image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(*image.size[::-1], len(mode))
