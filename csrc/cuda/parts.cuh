// Operations as parts of another (conv_fused.cu): under its name, and with the scratch of its parts.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {

Ran conv2d_forward(const Op& op, const Conv2dDesc& d);
Ran conv2d_backward_data(const Op& op, const Conv2dDesc& d);
Ran conv2d_backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts);
Ran max_pool2d_forward(const Op& op, const Pool2dDesc& d, bool after_relu);
Ran max_pool2d_backward(const Op& op, const Pool2dDesc& d);
Ran bias_grad(const Op& op, const ChannelDesc& d, const PartSum& parts);
Ran batch_norm_forward(const Op& op, const BatchNormDesc& d);

}  // namespace cnnext::cuda
