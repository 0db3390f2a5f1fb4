// Depthwise convolution: as many groups as channels, and as many results. Each pass is bound by memory.
#pragma once

#include "cuda/launch.cuh"

namespace cnnext::cuda {

inline bool is_depthwise(const Conv2dDesc& d) { return d.groups == d.C && d.C == d.K; }
Ran depthwise_forward(const Op& op, const Conv2dDesc& d);
Ran depthwise_backward_data(const Op& op, const Conv2dDesc& d);
Ran depthwise_backward_weights(const Op& op, const Conv2dDesc& d);

}  // namespace cnnext::cuda
