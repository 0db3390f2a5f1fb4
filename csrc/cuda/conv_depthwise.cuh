// Depthwise convolution: every group has one channel, and one result or a few. Each pass is bound by memory.
#pragma once

#include "cuda/launch.cuh"

namespace cnnext::cuda {

// Results a channel from which on a matrix product's tile, 64 of them wide, is no longer mostly empty.
constexpr int64_t kMostMultiplier = 8;
inline bool is_depthwise(const Conv2dDesc& d) {
  return d.groups == d.C && d.K / d.groups >= 1 && d.K / d.groups <= kMostMultiplier;
}
Ran depthwise_forward(const Op& op, const Conv2dDesc& d);
Ran depthwise_backward_data(const Op& op, const Conv2dDesc& d);
Ran depthwise_backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts);

}  // namespace cnnext::cuda
