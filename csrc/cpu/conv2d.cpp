// Convolution on the CPU: the list of algorithms, best first, for forward and backward-data.
#include <cassert>
#include <cmath>

#include "cpu/conv2d_inner.h"
#include "cpu/conv2d_k_driver.h"
#include "cpu/cpu.h"
#include "cpu/depthwise.h"
#include "cpu/ref/activation.h"

namespace cnnext {

int32_t conv_activation_flags(int32_t activation) {
  switch (activation) {
    case CNNEXT_ACT_RELU:
      return kConvKRelu;
    case CNNEXT_ACT_RELU6:
      return kConvKRelu6;
    case CNNEXT_ACT_LEAKY_RELU:
      return kConvKLeakyRelu;
    default:
      return 0;
  }
}

bool conv_activation_is_slow(int32_t activation) {
  return activation != CNNEXT_ACT_NONE && !conv_activation_flags(activation);
}

void conv_activate(int32_t activation, float alpha, float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(ref_activate(activation, alpha, values[i]));
  }
}

namespace {

void run_packed_per_call(const ConvProblem& problem, Exec& exec) {
  const ConvKUkernels& kernels = ukernels().conv_k;
  const ChannelBlocks blocks(problem.out_channels, kernels);
  float* const packed = exec.scratch_array<float>(packed_floats(problem, blocks));
  exec.ran(blocks.tile(0).name);
  run_conv_k(problem, blocks, pack_conv_weight(problem, blocks, packed, exec), exec);
}

bool conv_k_supports(const Conv2dDesc& desc) { return desc.dtype == CNNEXT_FLOAT32; }
void conv_k_forward(const Conv2dDesc& desc, Exec& exec) {
  run_packed_per_call(forward_problem(desc, exec), exec);
}
void conv_k_backward_data(const Conv2dDesc& desc, Exec& exec) {
  run_packed_per_call(backward_data_problem(desc, exec), exec);
}

struct Algorithm {
  const char* name;
  bool (*supports)(const Conv2dDesc& desc);
  void (*run)(const Conv2dDesc& desc, Exec& exec);
};

constexpr Algorithm kForward[] = {
    {"depthwise", depthwise_supports, depthwise_forward},
    {"inner_product", inner_product_supports_forward, inner_product_forward},
    {"conv2d_k", conv_k_supports, conv_k_forward},
};
constexpr Algorithm kBackwardData[] = {
    {"depthwise", depthwise_supports, depthwise_backward_data},
    {"inner_product", inner_product_supports_backward_data, inner_product_backward_data},
    {"conv2d_k", conv_k_supports, conv_k_backward_data},
};

template <size_t kCount>
Ran run_first(const Algorithm (&list)[kCount], const Conv2dDesc& desc, Exec& exec) {
  for (const Algorithm& algorithm : list) {
    if (!algorithm.supports(desc)) continue;
    algorithm.run(desc, exec);
    return Ran::kDone;
  }
  return Ran::kUnsupported;
}

// Sizes that the ABI settles before a descriptor is made: only N, C and K may be 0.
void check_sizes([[maybe_unused]] const Conv2dDesc& d) {
  assert(d.C > 0 && d.H > 0 && d.W > 0 && d.R > 0 && d.S > 0 && d.P > 0 && d.Q > 0);
  assert(d.groups > 0 && d.C % d.groups == 0 && d.K % d.groups == 0);
}

}  // namespace

Ran cpu_conv2d_forward(const Conv2dDesc& desc, Exec& exec) {
  // Without input channels the sum is empty: ref writes bias, residual and activation.
  if (desc.N == 0 || desc.C == 0 || desc.K == 0) return Ran::kUnsupported;
  check_sizes(desc);
  return run_first(kForward, desc, exec);
}

Ran cpu_conv2d_backward_data(const Conv2dDesc& desc, Exec& exec) {
  // Without output channels nothing reaches x: ref fills it.
  if (desc.N == 0 || desc.C == 0 || desc.K == 0) return Ran::kUnsupported;
  check_sizes(desc);
  return run_first(kBackwardData, desc, exec);
}

}  // namespace cnnext
