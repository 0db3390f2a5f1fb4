"""cnnext's kernels in JAX (0.6 or later): functions with gradients, under jit, vmap, on several devices.

    import cnnext.interop.jax as cxj
    y = cxj.conv2d(x, weight, bias, padding=1)    # the names of cnnext.ops, differentiable

XLA calls the kernels by a handler that is compiled once, on the first use, by the system's C++ compiler;
without one Python is called back. Arrays are NCHW, which is how JAX's lie in memory; none is copied.
"""

try:
    import jax as _jax
    import jax.ffi as _ffi  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name not in ("jax", "jaxlib", "jax.ffi"):
        raise
    raise ImportError("cnnext.interop.jax needs jax 0.6 or later: pip install 'cnnext[jax]'") from None
if _jax.__version_info__ < (0, 6):
    raise ImportError(
        f"cnnext.interop.jax needs jax 0.6 or later, not {_jax.__version__}: pip install 'cnnext[jax]'"
    )

from ._conv import conv2d, conv_transpose2d
from ._fused import conv2d_relu_max_pool2d
from ._linear import linear
from ._norm import batch_norm
from ._pool import avg_pool2d, max_pool2d, max_unpool2d

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "conv2d_relu_max_pool2d",
    "conv_transpose2d",
    "linear",
    "max_pool2d",
    "max_unpool2d",
]
