"""Local receptive fields: which pixels a unit of each layer of LeNet-5 can see, counted in two ways."""

import cnnext as cx
import numpy as np
from cnnext import viz
from common import digit, options, save

chosen = options(__doc__)
cx.manual_seed(0)
model = cx.models.create("lenet5")
image = digit(3, enlarged=3, border=2)[0]

print("layer       what it is   a unit sees")
for i, layer in enumerate(model.features):
    name = f"features.{i}"
    by_gradient = viz.field_by_gradient(model, name, image.shape)
    by_arithmetic = viz.field_by_arithmetic(model.features[: i + 1], image.shape[1:])
    assert np.array_equal(by_gradient, by_arithmetic)
    height, width = (by_arithmetic.any(axis=axis).sum() for axis in (1, 0))
    seen = f"{height:2} x {width:2} = {by_arithmetic.sum():3} of {image.size} pixels"
    print(f"{name}  {type(layer).__name__:9}   {seen}")

for name in ("features.0", "features.5"):
    save(viz.receptive_field(model, image, name), chosen.out, f"receptive-field-{name[-1]}")
