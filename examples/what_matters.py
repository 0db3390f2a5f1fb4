"""What augmentation, max-pooling and convolution are worth: four networks trained alike, in one table.

    python examples/what_matters.py --data-dir DIR    # MNIST's files; without it, the digits that ship

The convolutional network with augmentation, the same without, with average pools in the place of its
max-pools, and a dense network with as many weights, each for the same number of steps from the same seed.
"""

from __future__ import annotations

import argparse
import dataclasses

import cnnext as cx
import numpy as np
from cnnext import data, nn


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What `cnnext train` takes for the same images, but for MNIST's epochs: there it makes 20."""

    model: str
    epochs: int
    batch_size: int
    lr: float
    rotate: float
    shift: float


DIGITS = Recipe("digits-cnn", 40, 32, 3e-3, rotate=8.0, shift=0.5)
MNIST = Recipe("mnist-cnn", 12, 64, 2e-3, rotate=10.0, shift=2.0)


def averaging(model: nn.Module) -> nn.Module:
    """The model with average pools where it has max-pools."""
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    return model


def dense(pixels: int, classes: int, weights: int) -> nn.Module:
    """Three dense layers, the two hidden ones of one width, with at most as many weights."""

    def count(width: int) -> int:
        return (pixels + 1) * width + (width + 1) * width + (width + 1) * classes

    width = max(w for w in range(1, 2000) if count(w) <= weights)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(width, classes),
    )


def weights_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def fit(model: nn.Module, images: data.ImageSet, recipe: Recipe, augment: bool, seed: int) -> None:
    transform = data.RandomAffine(recipe.rotate, recipe.shift, (0.9, 1.1)) if augment else None
    loader = data.DataLoader(images, recipe.batch_size, shuffle=True, seed=seed, transform=transform)
    optimizer = cx.optim.AdamW(model.parameters(), lr=recipe.lr)
    schedule = cx.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.epochs * len(loader))
    model.train()
    for _ in range(recipe.epochs):
        for batch, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(cx.Tensor(batch)), labels).backward()
            optimizer.step()
            schedule.step()


def accuracy(model: nn.Module, images: data.ImageSet, transform: data.RandomTranslate | None = None) -> float:
    """In percent, on the images or on what the transform makes of them."""
    model.eval()
    with cx.no_grad():
        right = [
            model(cx.Tensor(batch)).numpy().argmax(1) == labels
            for batch, labels in data.DataLoader(images, 256, transform=transform)
        ]
    return 100 * float(np.concatenate(right).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="the folder of MNIST's files; without it, the digits that ship")
    parser.add_argument("--epochs", type=int, help="passes over the images (digits 40, MNIST 12)")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs a row is the mean of (1)")
    chosen = parser.parse_args()
    recipe = MNIST if chosen.data_dir else DIGITS
    if chosen.epochs:
        recipe = dataclasses.replace(recipe, epochs=chosen.epochs)
    parts = [data.mnist(chosen.data_dir, s) if chosen.data_dir else data.digits(s) for s in ("train", "test")]
    train, test = parts
    rows = {
        "convolutions, max-pools, augmentation": (lambda: cx.models.create(recipe.model), True),
        "without augmentation": (lambda: cx.models.create(recipe.model), False),
        "with average pools": (lambda: averaging(cx.models.create(recipe.model)), True),
        "dense layers, augmentation": (lambda: dense(pixels, 10, most), True),
        "dense layers, without augmentation": (lambda: dense(pixels, 10, most), False),
    }
    pixels, most = train.images[0].size, weights_of(cx.models.create(recipe.model))
    print(f"{train.name}: {len(train):,} images to train on, {len(test):,} to test, {recipe.epochs} epochs\n")
    moved = data.RandomTranslate(train.images.shape[-1] // 7)  # up to 4 of 28 pixels, or 1 of 8
    print(f"| network | weights | test accuracy | moved by up to {moved.pixels} |\n|---|---|---|---|")
    for name, (make, augment) in rows.items():
        results = []
        for seed in range(chosen.seeds):
            cx.manual_seed(seed)
            model = make()
            fit(model, train, recipe, augment, seed)
            results.append((accuracy(model, test), accuracy(model, test, moved)))
        as_it_is, when_moved = np.mean(results, axis=0)
        print(f"| {name} | {weights_of(model):,} | {as_it_is:.2f} % | {when_moved:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
