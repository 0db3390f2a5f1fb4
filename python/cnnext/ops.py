"""Operations on arrays (NumPy, torch, JAX, anything with `__dlpack__`) in CPU memory, without gradients.

The result is of x's library (NumPy's for a plain `__dlpack__` object) and has x's memory format. Images are
(N, C, H, W) in contiguous or channels-last memory; other strides are copied once. One call takes arrays of
one library, and NumPy beside it. `out=` takes a NumPy array or a torch tensor. Names, argument order and
defaults are those of torch.nn.functional; what cnnext adds is keyword-only.

Errors: ValueError names the argument, its value and the rule; TypeError is for kinds and dtypes;
NotImplementedError for what is valid but not supported.
"""

from ._C import PackedWeight
from ._ops_conv import (
    conv2d,
    conv2d_backward,
    conv2d_backward_data,
    conv2d_backward_weights,
    conv_transpose2d,
    conv_transpose2d_backward,
    linear,
    linear_backward,
    pack_weight,
)
from ._ops_elementwise import (
    activation,
    activation_backward,
    add,
    bias_add,
    bias_grad,
    contiguous,
    dropout,
    gelu,
    leaky_relu,
    relu,
    relu6,
    sigmoid,
    silu,
    tanh,
)
from ._ops_fused import conv2d_batch_norm, conv2d_relu_max_pool2d, conv2d_relu_max_pool2d_backward
from ._ops_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_forward,
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)
from ._ops_optim import adam_step, sgd_step
from ._ops_pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    convert_indices,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_gather,
    max_unpool2d,
    max_unpool2d_backward,
)

__all__ = [
    "PackedWeight",
    "activation",
    "activation_backward",
    "adam_step",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "add",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_forward",
    "bias_add",
    "bias_grad",
    "contiguous",
    "conv2d",
    "conv2d_backward",
    "conv2d_backward_data",
    "conv2d_backward_weights",
    "conv2d_batch_norm",
    "conv2d_relu_max_pool2d",
    "conv2d_relu_max_pool2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "convert_indices",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "gelu",
    "leaky_relu",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_gather",
    "max_unpool2d",
    "max_unpool2d_backward",
    "pack_weight",
    "relu",
    "relu6",
    "sgd_step",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_backward",
    "tanh",
]
