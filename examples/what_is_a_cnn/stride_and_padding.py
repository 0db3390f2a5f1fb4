"""Stride and padding: where the window stands, and how large the result is."""

import cnnext as cx
import numpy as np
from common import digit, options, panel, save
from matplotlib.patches import Rectangle

chosen = options(__doc__)
image, weight = digit(3), np.ones((1, 1, 3, 3), np.float32)
CASES = [(1, 0), (1, 1), (2, 1), (3, 0)]  # (stride, padding)

figure = panel(10, 2.9)
print("image  window  stride  padding  result")
for axes, (stride, padding) in zip(figure.subplots(1, len(CASES)), CASES, strict=True):
    y = cx.ops.conv2d(image, weight, stride=stride, padding=padding)
    size = (8 + 2 * padding - 3) // stride + 1
    assert y.shape == (1, 1, size, size)
    print(f"8 x 8  3 x 3   {stride}       {padding}        {size} x {size}")
    low, high = -padding - 0.5, 7.5 + padding
    axes.imshow(np.pad(image[0, 0], padding), cmap="gray_r", extent=(low, high, high, low))
    axes.add_patch(Rectangle((-0.5, -0.5), 8, 8, fill=False, edgecolor="#1f6fb4", linewidth=1.5))
    places = np.arange(size) * stride - padding + 1  # the middles of the windows
    axes.scatter(np.tile(places, size), np.repeat(places, size), s=12, color="#d9541e")
    for corner in ((-padding, -padding), (stride - padding, -padding)):
        x, y = corner[0] - 0.5, corner[1] - 0.5
        axes.add_patch(Rectangle((x, y), 3, 3, fill=False, edgecolor="#d9541e", linewidth=1.5))
    axes.set_title(f"stride {stride}, padding {padding}: {size} x {size}", fontsize=10)
    axes.set_axis_off()
save(figure, chosen.out, "stride-and-padding")
