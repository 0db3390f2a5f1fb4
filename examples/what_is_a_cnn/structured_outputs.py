"""Unstructured and structured outputs: one class for an image, or a class for every pixel."""

import cnnext as cx
import numpy as np
from cnnext import data, viz
from common import options, save

chosen = options(__doc__, trains=True)
EPOCHS = 1 if chosen.quick else 12
SIZE, CLASSES = 16, 11  # class 0 is the background, class 1 the digit 0


def scenes(images, seed):
    """Each digit somewhere on a noisy 16 x 16 canvas: images (N, 1, 16, 16), and a class for every pixel."""
    generator = np.random.default_rng(seed)
    pixels = generator.uniform(0, 0.4, (len(images), 1, SIZE, SIZE)).astype(np.float32)
    classes = np.zeros((len(images), SIZE, SIZE), np.int64)
    for i, (digit, label) in enumerate(zip(images.images[:, 0] / 16, images.labels, strict=True)):
        top, left = generator.integers(0, SIZE - 8, 2, endpoint=True)
        place = (slice(top, top + 8), slice(left, left + 8))
        pixels[i, 0][place] = np.maximum(pixels[i, 0][place], digit)
        classes[i][place][digit > 0.5] = label + 1
    return pixels, classes


def row(channels, maps):
    return cx.nn.Sequential(cx.nn.Conv2d(channels, maps, 3, padding=1), cx.nn.BatchNorm2d(maps), cx.nn.ReLU())


class EncoderDecoder(cx.nn.Module):
    """Max-pools on the way down; on the way up, what they found goes back to where they found it."""

    def __init__(self):
        super().__init__()
        self.down = cx.nn.ModuleList([row(1, 32), row(32, 64)])
        self.middle = cx.nn.Sequential(row(64, 64), row(64, 64))
        self.up = cx.nn.ModuleList([row(64, 32), row(32, 32)])
        self.scores = cx.nn.Conv2d(32, CLASSES, 1)
        self.pool, self.unpool = cx.nn.MaxPool2d(2, return_indices=True), cx.nn.MaxUnpool2d(2)

    def forward(self, x):
        x, first = self.pool(self.down[0](x))
        x, second = self.pool(self.down[1](x))
        x = self.middle(x)
        x = self.up[0](self.unpool(x, second))
        x = self.up[1](self.unpool(x, first))
        return self.scores(x)


def intersection_over_union(predicted, truth):
    """The mean over the classes of |both| / |either|."""
    both = [np.sum((predicted == k) & (truth == k)) for k in range(CLASSES)]
    either = [np.sum((predicted == k) | (truth == k)) for k in range(CLASSES)]
    return np.mean(np.array(both) / either)


cx.manual_seed(0)
classifier, model = cx.models.create("digits-cnn").eval(), EncoderDecoder()
one, many = cx.zeros(5, 1, 8, 8), cx.zeros(5, 1, SIZE, SIZE)
print(f"unstructured: images {one.shape} to {classifier(one).shape}, a score for each class")
print(f"structured: images {many.shape} to {model(many).shape}, a score for each class at each pixel")

images = data.digits("train")
steps = len(images) // 32
optimizer = cx.optim.AdamW(model.parameters(), lr=1e-2)
schedule = cx.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=EPOCHS * steps)
for epoch in range(EPOCHS):
    pixels, classes = scenes(images, epoch)  # other places and noise in each epoch
    for at in np.array_split(np.random.default_rng(epoch).permutation(len(pixels)), steps):
        optimizer.zero_grad()
        cx.nn.functional.cross_entropy(model(cx.Tensor(pixels[at])), classes[at]).backward()
        optimizer.step()
        schedule.step()

model.eval()
pixels, truth = scenes(data.digits("test"), 1000)
with cx.no_grad():
    predicted = model(cx.Tensor(pixels)).numpy().argmax(axis=1)
score = intersection_over_union(predicted, truth)
print(f"on {len(pixels)} test scenes: mean intersection over union {score:.2f}")
names = ["none", *map(str, range(10))]
save(viz.segmentation(pixels, truth, predicted, names, limit=4), chosen.out, "structured-outputs")
