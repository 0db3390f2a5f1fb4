"""The whole network is nearly invariant: accuracy against shift, with and without augmentation."""

import cnnext as cx
import numpy as np
from cnnext import data
from common import moved, options, panel, save

chosen = options(__doc__, trains=True)
SHIFTS, EPOCHS = range(5), 1 if chosen.quick else 12


def on_canvas(images):
    """The 8 x 8 digits in the middle of 16 x 16, so that 4 pixels of shift cut nothing off."""
    margins = ((0, 0), (0, 0), (4, 4), (4, 4))
    return data.ImageSet(np.pad(images.images, margins), images.labels, images.name, max_value=16.0)


def network():
    return cx.nn.Sequential(
        cx.nn.Conv2d(1, 16, 3, padding=1),
        cx.nn.ReLU(),
        cx.nn.MaxPool2d(2),
        cx.nn.Conv2d(16, 32, 3, padding=1),
        cx.nn.ReLU(),
        cx.nn.MaxPool2d(2),
        cx.nn.Flatten(),
        cx.nn.Linear(32 * 4 * 4, 10),
    )


def trained(images, transform):
    cx.manual_seed(0)
    model = network()
    optimizer = cx.optim.AdamW(model.parameters(), lr=3e-3)
    loader = data.DataLoader(images, 32, shuffle=True, seed=0, transform=transform)
    schedule = cx.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=EPOCHS * len(loader))
    for _ in range(EPOCHS):
        for batch, labels in loader:
            optimizer.zero_grad()
            cx.nn.functional.cross_entropy(model(cx.Tensor(batch)), labels).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracy(model, images, shift):
    """In percent, over shifts in the four directions."""
    batch, labels = next(iter(data.DataLoader(images, len(images))))
    right = []
    for down, along in ((shift, 0), (-shift, 0), (0, shift), (0, -shift)):
        with cx.no_grad():
            logits = model(cx.Tensor(moved(batch, down, along))).numpy()
        right.append(logits.argmax(1) == labels)
    return 100 * np.mean(right)


train, test = on_canvas(data.digits("train")), on_canvas(data.digits("test"))
figure = panel(5, 3.2)
axes = figure.subplots()
print("pixels of shift              " + "".join(f"{shift:7}" for shift in SHIFTS))
TRANSFORMS = {"without augmentation": None, "moved by up to 4 in training": data.RandomTranslate(4)}
for name, transform in TRANSFORMS.items():
    model = trained(train, transform)
    curve = [accuracy(model, test, shift) for shift in SHIFTS]
    print(f"{name:29}" + "".join(f"{value:5.0f} %" for value in curve))
    axes.plot(SHIFTS, curve, marker="o", label=name)
axes.set_xlabel("shift of the test images, pixels")
axes.set_ylabel("accuracy, %")
axes.set_xticks(SHIFTS)
axes.grid(alpha=0.3)
axes.legend(fontsize=8)
save(figure, chosen.out, "accuracy-against-shift")
