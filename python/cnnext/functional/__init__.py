"""Differentiable functions on tensors, with torch.nn.functional's names and argument order.

Each is built of primitives: an array function of `cnnext.ops` with its gradient rule beside it, made of
primitives, too. Arrays are taken where tensors are.
"""

from .activation import gelu, leaky_relu, log_softmax, relu, relu6, sigmoid, silu, softmax, tanh
from .conv import conv2d, conv_transpose2d, linear
from .fused import conv2d_batch_norm, conv2d_relu_max_pool2d
from .group_norm import group_norm
from .interpolate import interpolate
from .loss import cross_entropy, mse_loss, nll_loss
from .norm import batch_norm, dropout, layer_norm
from .padding import flatten, pad
from .pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d, max_unpool2d

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "conv2d_batch_norm",
    "conv2d_relu_max_pool2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "flatten",
    "gelu",
    "group_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "max_unpool2d",
    "mse_loss",
    "nll_loss",
    "pad",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]
