"""The extension module: the C ABI for Python arrays, positional arguments only. tools/check_stub.py compares them."""

from collections.abc import Sequence
from typing import Any, final

_Array = Any  # a NumPy, torch, JAX or CuPy array, or an object with __dlpack__ or __cuda_array_interface__
_Pair = int | Sequence[int]
_Padding = int | Sequence[int] | Sequence[Sequence[int]] | str

@final
class PackedWeight:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def nbytes(self) -> int: ...

@final
class DeviceArray:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    def reshape(self, shape: Sequence[int], /) -> DeviceArray: ...
    def numpy(self) -> Any: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

# ---- parameters

def parse_pair(value: _Pair, name: str, /) -> tuple[int, int]: ...
def parse_padding(padding: _Padding, /) -> tuple[tuple[int, int], tuple[int, int]]: ...

# The bytes of the C ABI's structs, for callers that hand them to it themselves.
def conv2d_params(
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    output_padding: _Pair,
    activation: str | None,
    algorithm: str,
    /,
) -> bytes: ...
def max_pool2d_params(
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    dilation: _Pair,
    ceil_mode: bool,
    indices: str,
    indices_name: str,
    /,
) -> bytes: ...
def avg_pool2d_params(
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: _Pair,
    /,
) -> bytes: ...
def conv2d_relu_max_pool2d_params(
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    pool_size: _Pair,
    pool_stride: _Pair | None,
    pool_padding: _Padding,
    /,
) -> tuple[bytes, bytes]: ...
def batch_norm_params(training: bool, momentum: float, eps: float, /) -> bytes: ...

# ---- convolution

def conv2d(
    x: _Array,
    weight: _Array | PackedWeight,
    bias: _Array | None,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    activation: str | None,
    residual: _Array | None,
    algorithm: str,
    out: _Array | None,
    /,
) -> _Array: ...
def conv2d_backward_data(
    grad_y: _Array,
    weight: _Array,
    input_shape: Sequence[int],
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    algorithm: str,
    out: _Array | None,
    /,
) -> _Array: ...
def conv2d_backward_weights(
    grad_y: _Array,
    x: _Array,
    weight_shape: Sequence[int],
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    algorithm: str,
    out: _Array | None,
    /,
) -> _Array: ...
def conv_transpose2d(
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    stride: _Pair,
    padding: _Padding,
    output_padding: _Pair,
    groups: int,
    dilation: _Pair,
    algorithm: str,
    out: _Array | None,
    /,
) -> _Array: ...
def conv_transpose2d_backward_data(
    grad_y: _Array,
    weight: _Array,
    stride: _Pair,
    padding: _Padding,
    output_padding: _Pair,
    groups: int,
    dilation: _Pair,
    /,
) -> _Array: ...
def conv_transpose2d_backward_weights(
    grad_y: _Array,
    x: _Array,
    weight_shape: Sequence[int],
    stride: _Pair,
    padding: _Padding,
    output_padding: _Pair,
    groups: int,
    dilation: _Pair,
    /,
) -> _Array: ...
def pack_weight(
    weight: _Array,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    input_shape: Sequence[int] | None,
    channels_last: bool,
    /,
) -> PackedWeight: ...
def linear(
    x: _Array, weight: _Array, bias: _Array | None, activation: str | None, out: _Array | None, /
) -> _Array: ...
def linear_backward_data(grad_y: _Array, weight: _Array, out: _Array | None, /) -> _Array: ...
def linear_backward_weights(grad_y: _Array, x: _Array, out: _Array | None, /) -> _Array: ...

# ---- pools

def max_pool2d(
    x: _Array,
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    dilation: _Pair,
    ceil_mode: bool,
    return_indices: bool,
    indices: str,
    out: _Array | None,
    /,
) -> _Array | tuple[_Array, _Array]: ...
def conv2d_batch_norm(
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    running_mean: _Array | None,
    running_var: _Array | None,
    norm_weight: _Array | None,
    norm_bias: _Array | None,
    momentum: float,
    eps: float,
    activation: str | None,
    return_saved: bool,
    /,
) -> _Array | tuple[_Array, _Array, _Array, _Array]: ...
def conv2d_relu_max_pool2d(
    x: _Array,
    weight: _Array | PackedWeight,
    bias: _Array | None,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    pool_size: _Pair,
    pool_stride: _Pair | None,
    pool_padding: _Padding,
    with_codes: bool,
    /,
) -> _Array | tuple[_Array, _Array]: ...
def conv2d_relu_max_pool2d_backward(
    grad_y: _Array,
    codes: _Array,
    x: _Array,
    weight: _Array,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    pool_size: _Pair,
    pool_stride: _Pair | None,
    pool_padding: _Padding,
    need_x: bool,
    need_weight: bool,
    need_bias: bool,
    /,
) -> tuple[_Array | None, _Array | None, _Array | None]: ...
def max_pool2d_backward(
    grad_y: _Array,
    indices: _Array,
    input_shape: Sequence[int],
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    dilation: _Pair,
    ceil_mode: bool,
    indices_kind: str,
    out: _Array | None,
    /,
) -> _Array: ...
def max_pool2d_gather(
    x: _Array,
    indices: _Array,
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    dilation: _Pair,
    ceil_mode: bool,
    indices_kind: str,
    out: _Array | None,
    /,
) -> _Array: ...
def max_unpool2d(
    x: _Array,
    indices: _Array,
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    output_shape: Sequence[int],
    indices_kind: str,
    out: _Array | None,
    /,
) -> _Array: ...
def convert_indices(
    indices: _Array,
    input_shape: Sequence[int],
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    dilation: _Pair,
    ceil_mode: bool,
    source: str,
    target: str,
    /,
) -> _Array: ...
def avg_pool2d(
    x: _Array,
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: _Pair,
    out: _Array | None,
    /,
) -> _Array: ...
def avg_pool2d_backward(
    grad_y: _Array,
    input_shape: Sequence[int],
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: _Pair,
    out: _Array | None,
    /,
) -> _Array: ...
def adaptive_avg_pool2d(x: _Array, output_size: _Pair, out: _Array | None, /) -> _Array: ...
def adaptive_avg_pool2d_backward(
    grad_y: _Array, input_shape: Sequence[int], out: _Array | None, /
) -> _Array: ...

# ---- element-wise and per channel

def activation(x: _Array, kind: str, negative_slope: float, out: _Array | None, /) -> _Array: ...
def activation_backward(
    grad_y: _Array, x: _Array, kind: str, negative_slope: float, out: _Array | None, /
) -> _Array: ...
def add(x: _Array, y: _Array, out: _Array | None, /) -> _Array: ...
def bias_add(x: _Array, bias: _Array, out: _Array | None, /) -> _Array: ...
def bias_grad(grad_y: _Array, out: _Array | None, /) -> _Array: ...
def dropout(x: _Array, p: float, seed: int, offset: int, out: _Array | None, /) -> _Array: ...
def contiguous(x: _Array, channels_last: bool, out: _Array | None, /) -> _Array: ...

# ---- normalisation, softmax, loss

def batch_norm(
    x: _Array,
    running_mean: _Array | None,
    running_var: _Array | None,
    weight: _Array | None,
    bias: _Array | None,
    training: bool,
    momentum: float,
    eps: float,
    save_stats: bool,
    out: _Array | None,
    activation: str | None,
    /,
) -> Any: ...
def batch_norm_backward(
    grad_y: _Array,
    x: _Array,
    weight: _Array | None,
    save_mean: _Array,
    save_invstd: _Array,
    training: bool,
    need_x: bool,
    need_weight: bool,
    need_bias: bool,
    y: _Array | None,
    activation: str | None,
    /,
) -> tuple[_Array | None, _Array | None, _Array | None]: ...
def softmax(x: _Array, dim: int, log: bool, out: _Array | None, /) -> _Array: ...
def softmax_backward(grad_y: _Array, y: _Array, dim: int, log: bool, out: _Array | None, /) -> _Array: ...
def cross_entropy(
    x: _Array,
    target: _Array,
    weight: _Array | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    /,
) -> _Array: ...
def cross_entropy_backward(
    grad_loss: _Array,
    x: _Array,
    target: _Array,
    weight: _Array | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    /,
) -> _Array: ...

# ---- preparing images

def augment(
    x: _Array,
    affine: _Array | None,
    color: _Array | None,
    erase: _Array | None,
    erase_value: _Array | None,
    height: int,
    width: int,
    bilinear: bool,
    clamp: bool,
    scale: float,
    /,
) -> _Array: ...
def mix_images(x: _Array, partner: _Array, weight: _Array, /) -> _Array: ...

# ---- optimisers

def sgd_step(
    params: Sequence[_Array],
    grads: Sequence[_Array],
    momentum_buffers: Sequence[_Array] | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first_step: bool,
    /,
) -> None: ...
def adam_step(
    params: Sequence[_Array],
    grads: Sequence[_Array],
    exp_avgs: Sequence[_Array],
    exp_avg_sqs: Sequence[_Array],
    max_exp_avg_sqs: Sequence[_Array] | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
    /,
) -> None: ...

# ---- state

def version() -> str: ...
def build_info() -> str: ...
def isa() -> str: ...
def isa_available() -> list[str]: ...
def cuda_available() -> bool: ...
def cuda_reason() -> str: ...
def cuda_devices() -> list[str]: ...
def get_cuda_stream() -> int | None: ...
def set_cuda_stream(stream: int | None, /) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int, /) -> None: ...
def get_flush_denormal() -> bool: ...
def set_flush_denormal(mode: bool, /) -> None: ...
def get_float32_matmul_precision() -> str: ...
def set_float32_matmul_precision(precision: str, /) -> None: ...
def empty_cache() -> None: ...
def memory_stats() -> dict[str, int]: ...
def last_kernel() -> str: ...
def last_scratch_bytes() -> int: ...
def op_names() -> list[str]: ...
def op_supported(backend: str, op: str, dtype: str, /) -> bool: ...
def get_backend() -> str: ...
def set_backend(backend: str, /) -> None: ...

# ---- plans and autotune

def get_autotune() -> str: ...
def set_autotune(mode: str, /) -> None: ...
def plan_conv(
    op: str,
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    output_padding: _Pair,
    bias: bool,
    activation: str | None,
    algorithm: str,
    channels_last: bool,
    dtype: str,
    device: int | None,
    /,
) -> dict[str, Any]: ...
def plan_conv_pool(
    backward: bool,
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    pool_size: _Pair,
    pool_stride: _Pair | None,
    pool_padding: _Padding,
    bias: bool,
    channels_last: bool,
    dtype: str,
    device: int | None,
    /,
) -> dict[str, Any]: ...
def plan_max_pool(
    backward: bool,
    x_shape: Sequence[int],
    kernel_size: _Pair,
    stride: _Pair | None,
    padding: _Padding,
    dilation: _Pair,
    ceil_mode: bool,
    return_indices: bool,
    indices: str,
    channels_last: bool,
    dtype: str,
    device: int | None,
    /,
) -> dict[str, Any]: ...
