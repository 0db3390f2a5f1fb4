"""Plots of training runs and of what happens inside a network, as matplotlib figures.

Every function returns a `matplotlib.figure.Figure` that needs no display and no pyplot state: show it in a
notebook, or save it by ``figure.savefig("x.png")`` or `to_png`. What they are computed from, where it takes a
computation, is there as well: `saliency_map`, `field_by_arithmetic`, `field_by_gradient`.

Needs matplotlib: ``pip install 'cnnext[train]'``.
"""

from .figures import to_png
from .label_maps import segmentation
from .maps import feature_maps, filters, saliency, saliency_map
from .pooling import max_pool_argmax
from .receptive import field_by_arithmetic, field_by_gradient, receptive_field
from .training import confusion_matrix, training_curves

__all__ = [
    "confusion_matrix",
    "feature_maps",
    "field_by_arithmetic",
    "field_by_gradient",
    "filters",
    "max_pool_argmax",
    "receptive_field",
    "saliency",
    "saliency_map",
    "segmentation",
    "to_png",
    "training_curves",
]
