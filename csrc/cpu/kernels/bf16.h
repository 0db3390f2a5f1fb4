// bfloat16 by the instruction that multiplies pairs: a float of images and weights stands for the bits of two
// neighbouring input channels, the one of even number below.
#pragma once

#include <stdint.h>

#include "cpu/kernels/conv_k.h"

namespace cnnext {

struct Bf16Ukernels {
  // The K-kernel on pairs: its `channels` and steps count pairs, its output is float32. Subnormals, of the
  // operands and of the sums, count as zeros.
  ConvKUkernels conv_k;
  // out[i] is the pair (even[i], odd[i]); odd may be nullptr: zeros.
  void (*pair)(int64_t n, const uint16_t* even, const uint16_t* odd, float* out);
};

}  // namespace cnnext
