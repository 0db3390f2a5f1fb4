"""Convolution is equivariant to translation: moving the image moves the result, to the last bit."""

import cnnext as cx
import numpy as np
from common import digit, moved, options, panel, save

chosen = options(__doc__)
DOWN, RIGHT = 2, 3
generator = np.random.default_rng(0)
weight = generator.normal(size=(8, 1, 5, 5)).astype(np.float32)


def conv(images):
    """algorithm="direct" sums each value's products in one order, wherever the window stands."""
    return cx.ops.conv2d(images, weight, padding=2, algorithm="direct")


def inside(maps, margin):
    return maps[:, :, margin:-margin, margin:-margin]


image = digit(3, enlarged=3, border=2)
noise = generator.normal(size=(4, 1, 28, 28)).astype(np.float32)
for name, images in (("the digit", image), ("noise", noise)):
    first_moved, then_moved = conv(moved(images, DOWN, RIGHT)), moved(conv(images), DOWN, RIGHT)
    # The window reaches 2 pixels: what it sees of the border is not moved, but cut off or zero.
    same = inside(first_moved, RIGHT + 2), inside(then_moved, RIGHT + 2)
    assert np.array_equal(*same)
    outside = first_moved.size - np.count_nonzero(first_moved == then_moved)
    print(f"{name}: {same[0].size:,} values inside are equal bit for bit; {outside:,} at the border differ")

figure = panel(8, 2.3)
shown = {
    "image": image,
    "moved": moved(image, DOWN, RIGHT),
    "convolved": conv(image),
    "moved, then convolved": conv(moved(image, DOWN, RIGHT)),
    "convolved, then moved": moved(conv(image), DOWN, RIGHT),
}
for axes, (name, images) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
    axes.imshow(images[0, 0], cmap="gray" if images.shape[1] == 1 else "viridis")
    axes.set_title(name, fontsize=8)
    axes.set_axis_off()
save(figure, chosen.out, "equivariance")
