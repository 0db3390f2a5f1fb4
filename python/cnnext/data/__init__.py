"""Datasets, a loader and augmentation: NumPy arrays in, NumPy batches out.

>>> from cnnext import data
>>> train, test = data.digits("train"), data.digits("test")
>>> for images, labels in data.DataLoader(train, batch_size=64, shuffle=True, seed=1):
...     ...  # float32 (N, 1, 8, 8), int64 (N,)
"""

from .augment import ColorJitter, Compose, RandomAffine, RandomCrop, RandomHorizontalFlip, RandomTranslate
from .datasets import DIGITS_SPLIT, ImageSet, digits, holdout, mnist, stratified_every
from .idx import DataError, read_idx
from .loader import DataLoader

__all__ = [
    "DIGITS_SPLIT",
    "ColorJitter",
    "Compose",
    "DataError",
    "DataLoader",
    "ImageSet",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomTranslate",
    "digits",
    "holdout",
    "mnist",
    "read_idx",
    "stratified_every",
]
