// Moving floats between orders: weights into the K-kernel's rows, images between NCHW and NHWC.
#pragma once

#include <stdint.h>

namespace cnnext {

// One block of nr output channels: row (tap, channel) of dst gets, in lane l, the weight
// src[l * lane_stride + channel * channel_stride + tap * tap_stride]; lanes from `lanes` on get 0.
// Rows are at dst + tap_dst[tap] + channel * nr.
struct ConvPackArgs {
  const float* src;
  int64_t lane_stride, channel_stride, tap_stride;
  int64_t lanes, nr, channels, taps;
  float* dst;
  const int64_t* tap_dst;
};

// dst[col * dst_stride + row] = src[row * src_stride + col].
struct TransposeArgs {
  const float* src;
  int64_t src_stride, rows, cols;
  float* dst;
  int64_t dst_stride;
};

// The same on the way out of a convolution: pixels (rows) by channels into planes, with what is left of the
// epilogue. residual, if any, is laid out as dst.
struct TransposeOutArgs {
  TransposeArgs matrix;
  const float* residual;
  int32_t flags;  // ConvKFlags: kConvKRelu, kConvKRelu6, kConvKLeakyRelu, kConvKStream
  float alpha;
};

// dst[row * dst_stride + col] = src[row * src_stride + col], for short rows.
using CopyRowsArgs = TransposeArgs;

struct ConvPackUkernels {
  // True where every weight was finite.
  bool (*pack)(const ConvPackArgs& args);
  void (*transpose)(const TransposeArgs& args);
  void (*copy_rows)(const CopyRowsArgs& args);
  void (*transpose_out)(const TransposeOutArgs& args);
};

}  // namespace cnnext
