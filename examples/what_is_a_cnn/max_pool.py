"""Max-pool keeps the largest value of each window, and remembers where it was."""

import cnnext as cx
import numpy as np
from cnnext import viz
from common import digit, moved, options, save

chosen = options(__doc__)
edges = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)[None, None]
found = cx.ops.conv2d(digit(3), edges, padding=1, activation="relu")

pooled, plane = cx.ops.max_pool2d(found, 2, return_indices=True)
_, window = cx.ops.max_pool2d(found, 2, return_indices=True, indices="window")
print(f"{found.shape[2:]} to {pooled.shape[2:]}: {found.size} values to {pooled.size}")
print(
    f"the argmax as a place in its window: {window.dtype}, {window.itemsize} byte instead of {plane.itemsize}"
)
assert np.array_equal(found.reshape(-1)[plane], pooled)

# Backwards, each value's gradient goes to where the maximum was, and nowhere else.
gradient = cx.ops.max_pool2d_backward(np.ones_like(pooled), plane, found.shape, 2)
print(f"of {gradient.size} inputs, {np.count_nonzero(gradient)} get a gradient")
assert np.array_equal(np.flatnonzero(gradient), np.sort(plane.reshape(-1)))

# Why the maximum: one strong answer in a window of silence.
one_answer = np.zeros((1, 1, 4, 4), np.float32)
one_answer[0, 0, 1, 2] = 8
largest, mean = cx.ops.max_pool2d(one_answer, 4).item(), cx.ops.avg_pool2d(one_answer, 4).item()
print(f"a window of 4 x 4 with one answer of 8: its maximum is {largest:g}, its mean {mean:g}")
shifts = [(i, j) for i in (-1, 0, 1, 2) for j in (-2, -1, 0, 1)]
assert {cx.ops.max_pool2d(moved(one_answer, *shift), 4).item() for shift in shifts} == {8.0}
print(
    f"the answer moved to each of the {len(shifts)} places of the window: the maximum is always {largest:g}"
)

save(viz.max_pool_argmax(found, 2), chosen.out, "max-pool-argmax")
