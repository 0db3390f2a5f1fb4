"""Datasets, a loader and augmentation: NumPy arrays in, NumPy batches out.

>>> from cnnext import data
>>> train, test = data.digits("train"), data.digits("test")
>>> for images, labels in data.DataLoader(train, batch_size=64, shuffle=True, seed=1):
...     ...  # float32 (N, 1, 8, 8), int64 (N,)
"""

from .augment import (
    Compose,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomTranslate,
)
from .augment_color import ColorJitter, Cutout, Normalize, RandomErasing, RandomGrayscale
from .cifar import cifar10, cifar100
from .datasets import DIGITS_SPLIT, ImageSet, digits, holdout, stratified_every
from .folder import image_folder
from .idx import DataError, read_idx
from .loader import DataLoader
from .mix import MixUp
from .mnist_idx import fashion_mnist, mnist

__all__ = [
    "DIGITS_SPLIT",
    "ColorJitter",
    "Compose",
    "Cutout",
    "DataError",
    "DataLoader",
    "ImageSet",
    "MixUp",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomTranslate",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "holdout",
    "image_folder",
    "mnist",
    "read_idx",
    "stratified_every",
]
