"""One filter gives one matrix; the matrices of several filters, stacked, are a tensor."""

import cnnext as cx
import numpy as np
from cnnext import viz
from common import digit, options, save

chosen = options(__doc__)
FILTERS = {
    "vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "horizontal edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "spots": [[0, -1, 0], [-1, 4, -1], [0, -1, 0]],
    "sums": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
}
image = digit(3, enlarged=3, border=2)
weight = np.array(list(FILTERS.values()), np.float32)[:, None]

one = cx.ops.conv2d(image, weight[:1])
all_four = cx.ops.conv2d(image, weight)
print(f"image {image.shape}, one filter {weight[:1].shape}: one matrix {one.shape}")
print(f"image {image.shape}, four filters {weight.shape}: a tensor {all_four.shape}")

# The first number of the matrix, by hand: the window's pixels times the filter's numbers, summed.
window = image[0, 0, 7:10, 10:13]
by_hand = sum(window[r, s] * weight[0, 0, r, s] for r in range(3) for s in range(3))
print(f"at row 7, column 10 the filter for vertical edges gives {by_hand:g}")
assert one[0, 0, 7, 10] == by_hand
for k in range(4):  # a filter's matrix does not depend on the others: whole numbers, so exactly
    assert np.array_equal(all_four[:, k : k + 1], cx.ops.conv2d(image, weight[k : k + 1]))

# A second layer's filter has a matrix of weights for each of the four matrices below it.
second = np.ones((2, 4, 3, 3), np.float32)
two = cx.ops.conv2d(all_four, second)
print(f"the next layer: tensor {all_four.shape}, two filters {second.shape}: {two.shape}")

model = cx.nn.Sequential({"four filters": cx.nn.Conv2d(1, 4, 3, bias=False), "ReLU": cx.nn.ReLU()})
model[0].weight.data[...] = weight
save(viz.filters(weight), chosen.out, "filters-by-hand")
save(viz.feature_maps(model, image[0], limit=4), chosen.out, "filters-and-maps")
