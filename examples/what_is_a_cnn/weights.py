"""How many weights a convolution has, and a dense layer with as many inputs and outputs would have."""

import math

import cnnext as cx
from common import options, panel, save

chosen = options(__doc__)
model = cx.models.create("lenet5")
summary = cx.summary(model, (1, 1, 28, 28))
inputs, bars = 28 * 28, {}
print("layer         weights  as a dense layer   multiply-adds  as a dense layer")
for row in summary.rows:
    if row.output_shape is None or row.type in ("LeNet5", "Sequential"):
        continue
    outputs = math.prod(row.output_shape[1:])
    if row.type == "Conv2d":
        dense = inputs * outputs + outputs
        bars[row.path] = (row.params, dense)
        print(f"{row.path}  {row.params:9,}  {dense:16,}  {row.macs:14,}  {inputs * outputs:16,}")
        assert dense == sum(p.numel() for p in cx.nn.Linear(inputs, outputs).parameters())
    inputs = outputs
print(f"all of LeNet-5: {summary.total_params:,} weights")

figure = panel(6, 2.4)
axes = figure.subplots()
for i, counts in enumerate(bars.values()):
    for j, count in enumerate(counts):
        kind, colour = (("convolution", "#1f6fb4"), ("dense", "#d9541e"))[j]
        axes.barh(3 * i + j, count, color=colour, label=None if i else kind)
        axes.text(count * 1.2, 3 * i + j, f"{count:,}", va="center", fontsize=9)
axes.set_xscale("log")
axes.set_xlim(10, 3e9)
axes.set_yticks([3 * i + 0.5 for i in range(len(bars))], list(bars))
axes.invert_yaxis()
axes.set_xlabel("weights (logarithmic)")
axes.legend(fontsize=8, loc="lower right")
save(figure, chosen.out, "weights")
