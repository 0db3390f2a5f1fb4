// Convolution on tensor cores: the Problems of conv.cuh and conv_backward.cuh by mma_gemm.cuh, in float16,
// bfloat16, and, where that is permitted, in float32 by TF32.
#pragma once

#include "cuda/launch.cuh"

namespace cnnext::cuda {

// Each returns the name of what ran, or nullptr where this family does not take the convolution.
const char* mma_forward(const Op& op, const Conv2dDesc& d);
// The same by wgmma: on devices of compute capability 9.0, in NHWC, with channels that are a multiple of 64
// in each group (of 32 in float32).
const char* wgmma_forward(const Op& op, const Conv2dDesc& d);
const char* mma_backward_data(const Op& op, const Conv2dDesc& d);
const char* mma_backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts);

}  // namespace cnnext::cuda
