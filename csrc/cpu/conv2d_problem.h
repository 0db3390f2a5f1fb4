// Forward and backward-data as one problem: each output pixel gathers, over a list of taps, runs of input
// channels times packed weight rows.
//
// Outputs are split in phases, within which a tap always reads at the same distance: forward has one;
// backward-data with stride s has s_h * s_w, each with its own part of the filter (Conv2dDesc's y is the
// input there, x the output, and the weights are read transposed).
#pragma once

#include <algorithm>

#include "core/desc.h"
#include "core/exec.h"
#include "cpu/kernels/bf16.h"
#include "cpu/kernels/half.h"

namespace cnnext {

struct ConvTap {
  int64_t dh, dw;  // output (i, j) of the phase reads input (i * step_h + dh, j * step_w + dw)
  int64_t row;     // the tap's first packed weight row, in units of rows: its place in tap order * channels
  int64_t place;   // in tap order: phase by phase, row by row
};

struct ConvPhase {
  int64_t h0, w0;      // the first output pixel; the next ones are problem.out_step_h, _w further
  int64_t rows, cols;  // how many
  const ConvTap* taps;
  int64_t num_taps;
  // Taps of one filter row with neighbouring input columns, taken as one run of columns * channels floats
  // where the input has its pixels densely in a row. num_wide is 0 where columns are not neighbours.
  const ConvTap* wide_taps;
  int64_t num_wide, wide_cols;
  int64_t min_dh, max_dh, min_dw, max_dw;
};

struct ConvProblem {
  int64_t N, groups;
  int64_t in_channels, out_channels;  // per group
  int64_t in_h, in_w, out_h, out_w;
  int64_t step_h, step_w, out_step_h, out_step_w;
  Format format;
  const float* in;
  float* out;
  const float* bias;      // groups * out_channels, or nullptr
  const float* residual;  // as out, or nullptr
  // Images of 16 bits: these in place of in, out and residual. Weights and bias were widened.
  const HalfConverter* half;  // nullptr: float32
  const uint16_t *half_in, *half_residual;
  uint16_t* half_out;
  int64_t half_channels;  // in_channels, which counts pairs where there are `pairs`
  // bfloat16 by kernels that take pairs of channels: a float of `in` (where the image has them as they lie;
  // else nullptr), of strips and of weights is a pair's bits. finite_pairs: of the weights.
  const Bf16Ukernels* pairs;
  bool finite_pairs;
  int32_t activation;
  ConvVariant variant;
  bool one_thread;
  float alpha;

  // Weight (output channel l, input channel c, tap t) of group g: weight[g * group_stride + l * lane_stride +
  // c * channel_stride + t * tap_stride].
  const float* weight;
  int64_t group_stride, lane_stride, channel_stride, tap_stride, num_taps;
  bool transposed;           // backward-data: input channels are axis 0 of the weights
  const int64_t* tap_place;  // where tap t of the filter stands in tap order

  const ConvPhase* phases;
  int64_t num_phases;
  int64_t min_dw, end_dw;  // the input columns that any tap of any phase reads: [min_dw, end_dw)
  double flops;
};

// How many tasks to aim at, of `most` where there are threads to share them.
inline int64_t conv_wanted_tasks(const ConvProblem& problem, double task_flops, int64_t most) {
  if (problem.one_thread) return 1;
  return static_cast<int64_t>(std::clamp(problem.flops / task_flops, 1.0, static_cast<double>(most)));
}

// What a variant makes of a size that its driver would choose.
inline int64_t conv_region_size(ConvVariant variant, int64_t size) {
  return variant == ConvVariant::kSmallRegions   ? size / 2
         : variant == ConvVariant::kLargeRegions ? size * 2
                                                 : size;
}

// Arrays come from exec's scratch.
ConvProblem forward_problem(const Conv2dDesc& desc, Exec& exec);
ConvProblem backward_data_problem(const Conv2dDesc& desc, Exec& exec);

// Brings 16-bit weights into floats (or pairs) in scratch, for packing; nothing for others.
void load_half_weight(const Conv2dDesc& desc, ConvProblem* problem, Exec& exec);

}  // namespace cnnext
