// bfloat16 by the instruction that multiplies pairs: a float of a panel stands for the bits of two values
// that are multiplied and summed together, the first one below. In forward and backward-data they are
// neighbouring input channels, in backward-weights the same pixel of two images.
#pragma once

#include <stdint.h>

#include "cpu/kernels/conv_k.h"
#include "cpu/kernels/conv_weights.h"
#include "cpu/kernels/depthwise.h"

namespace cnnext {

// Two matrices of rows that lie in_step values apart. second may be nullptr: zeros.
struct Bf16Pairs {
  const uint16_t *first, *second;
  int64_t rows, cols, in_step;
};

struct Bf16Ukernels {
  // The K-kernel on pairs: its `channels` and steps count pairs, its output is float32. Subnormals, of the
  // operands and of the sums, count as zeros.
  ConvKUkernels conv_k;
  // Backward-weights on pairs, likewise.
  ConvWeightsUkernels conv_weights;
  // out[i] is the pair (even[i], odd[i]); odd may be nullptr: zeros.
  void (*pair)(int64_t n, const uint16_t* even, const uint16_t* odd, float* out);
  // out[r * out_step + c] is the pair at (r, c). Whole vectors are written, zeros beyond the columns, row by
  // row in order.
  void (*pair_rows)(const Bf16Pairs& in, float* out, int64_t out_step);
  // out[c * out_step + r]: whole vectors again, zeros beyond the rows.
  void (*pair_transposed)(const Bf16Pairs& in, float* out, int64_t out_step);
  // Rounded by an instruction of their own; subnormals become zeros as well.
  DepthwiseHalfKernels<Bfloat16Bits> depthwise;
};

}  // namespace cnnext
