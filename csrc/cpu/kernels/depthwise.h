// Depthwise convolution: every lane is a convolution of its own. In channels-last images lanes are channels,
// each with its own weight; in planes they are neighbouring columns of one channel, which share a weight.
// Images are of E: float, or 16 bits, widened as they are loaded. Weights, bias and sums are floats.
#pragma once

#include <stdint.h>

#include "cpu/kernels/conv_k.h"
#include "cpu/kernels/half.h"

namespace cnnext {

// y[o][p][lane] = activation(bias + sum over taps of x[o][p][tap][lane] * w[tap][lane] + residual), for a
// block of positions under which the same taps count. Offsets and steps count values.
template <class E>
struct DepthwiseArgs {
  const E* x;
  E* y;
  int64_t outer, x_outer, y_outer;       // o: such as rows
  int64_t positions, x_step, y_step;     // p: such as the pixels of a row
  int64_t lanes;                         // neighbours in memory
  int64_t tap_rows, tap_cols, tap_step;  // taps i * tap_step + j for i < tap_rows, j < tap_cols:
  const int64_t* tap_x;                  // tap t reads x + tap_x[t]
  const int64_t* tap_w;                  // and w + tap_w[t]
  const float* w;
  const float* bias;  // of the first lane; nullptr for none
  int64_t residual;   // values from a y to its residual, 0 for none
  int32_t flags;      // of ConvKFlags the activations
  float alpha;        // leaky ReLU's slope
};

// The same by whole rows of channels-last images, for taps that are neighbours: an input pixel is loaded once
// for all the outputs of a block that read it, and left out where it lies outside the image.
template <class E>
struct DepthwiseRowsArgs {
  const E* x;  // the first row's pixel 0
  E* y;
  int64_t rows, x_row, y_row;
  int64_t ahead, x_line;  // so many rows of the image, x_line values apart, to prefetch for the next row
  int64_t cols, y_col;    // outputs of a row
  int64_t first, width, x_col;  // output 0 reads pixels from `first` (which may be negative) on, of `width`
  int64_t lanes;
  int64_t tap_rows;              // tap row i reads x + tap_x[i * tap_step], its taps' weights
  int64_t tap_step;              // are at w + tap_w[i * tap_step + j]
  const int64_t *tap_x, *tap_w;  // tap_x without the column
  const float* w;
  const float* bias;
  int64_t residual;
  int32_t flags;
  float alpha;
};

constexpr int kDepthwiseMaxCols = 7;  // taps of a row
constexpr int kDepthwiseMaxPrefetches = 4;
constexpr int kDepthwiseMaxTaps = 9;  // of one call that sums weights' gradients

// sums[tap_sums[t] + lane] += sum over pixels of dy[pixel][lane] * x[pixel + tap_x[t]][lane]. By columns a
// tap's sums are one vector of partial sums.
template <class E>
struct DepthwiseWeightsArgs {
  const E *x, *dy;
  int64_t rows, x_row, dy_row;
  int64_t cols, x_col, dy_col;  // by columns: unused
  int64_t lanes;
  int prefetches;  // at every pixel, for the next row: so many lines this far from the last tap's, and dy's;
                   // or 0
  int64_t prefetch[kDepthwiseMaxPrefetches];
  float* sums;
  int64_t tap_x[kDepthwiseMaxTaps], tap_sums[kDepthwiseMaxTaps];
};

// Lanes are channels.
template <class E>
struct DepthwiseChannelsUkernels {
  void (*run)(const DepthwiseArgs<E>& args);
  // rows[stride][taps of a row]; nullptr where there is none
  void (*rows[3][kDepthwiseMaxCols + 1])(const DepthwiseRowsArgs<E>& args);
  // One row of outputs: input pixel q and the tap of column s add to output 2 q + s + first. By taps of a
  // row; nullptr where there is none.
  void (*up[kDepthwiseMaxCols + 1])(const DepthwiseRowsArgs<E>& args);
  // by number of taps, 1 .. kDepthwiseMaxTaps
  void (*weights[kDepthwiseMaxTaps + 1])(const DepthwiseWeightsArgs<E>& args);
};

struct DepthwiseUkernels {
  int32_t lanes;
  DepthwiseChannelsUkernels<float> channels;
  void (*columns)(const DepthwiseArgs<float>& args);  // lanes are columns
  void (*weights_columns[kDepthwiseMaxTaps + 1])(const DepthwiseWeightsArgs<float>& args);
  float (*reduce)(const float* p);            // the sum of the vector at p
  bool (*finite)(const float* p, int64_t n);  // no infinity, no NaN
  // even[i] = in[2 * i], odd[i] = in[2 * i + 1] for i < n, and back.
  void (*deinterleave)(int64_t n, const float* in, float* even, float* odd);
  void (*interleave)(int64_t n, const float* even, const float* odd, float* out);
  void (*fence)();  // what was stored with kConvKStream can be seen by other threads
  const char *name_channels, *name_columns;
};

// Images of 16 bits.
template <class E>
struct DepthwiseHalfKernels {
  DepthwiseChannelsUkernels<E> channels;
  // Planes to pixels of a strip, which has whole vectors of channels (zeros beyond the last), and back.
  void (*to_strip)(int64_t channels, int64_t pixels, const E* in, int64_t plane, float* out,
                   int64_t out_step);
  void (*from_strip)(int64_t channels, int64_t pixels, const float* in, int64_t in_step, E* out,
                     int64_t plane);
  void (*stream)(int64_t n, const E* in, E* out);  // whole cache lines; needs the fence
};

struct DepthwiseHalfUkernels {
  DepthwiseHalfKernels<Float16Bits> float16;
  DepthwiseHalfKernels<Bfloat16Bits> bfloat16;
};

}  // namespace cnnext
