"""cnnext's kernels in PyTorch (2.4 or later): functions, modules, and a model's layers replaced in place.

    import cnnext.interop.torch as cxt
    y = cxt.conv2d(x, weight, bias, padding=1)    # the names of cnnext.ops, differentiable
    print(cxt.replace(model))                     # torch.nn's layers swapped; what was left, and why

Each function is an operation of `torch.ops.cnnext`, with fake implementations (torch.compile, torch.export),
gradients of gradients and autocast's rule. No tensor is copied.
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "torch":
        raise
    raise ImportError("cnnext.interop.torch needs torch: pip install 'cnnext[torch]'") from None

from ._conv import conv2d
from ._conv_transpose import conv_transpose2d
from ._fused import conv2d_relu_max_pool2d
from ._linear import linear
from ._norm import batch_norm
from ._pool import max_pool2d, max_unpool2d
from ._replace import Report, replace
from .modules import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Linear,
    MaxPool2d,
    MaxUnpool2d,
    Sequential,
)

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Linear",
    "MaxPool2d",
    "MaxUnpool2d",
    "Report",
    "Sequential",
    "batch_norm",
    "conv2d",
    "conv2d_relu_max_pool2d",
    "conv_transpose2d",
    "linear",
    "max_pool2d",
    "max_unpool2d",
    "replace",
]
