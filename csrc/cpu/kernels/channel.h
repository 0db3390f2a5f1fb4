// Sums over channels and what is done with them. A run of one channel's values is some rows of `count`
// values, `step` floats apart (its planes in successive images); a matrix has the channels (or several rounds
// of them) as columns. Sums are in float: callers pass at most some thousand values and add up in double.
#pragma once

#include <stdint.h>

namespace cnnext {

// Where a gradient counts as 0, by the result y of the activation that it comes through: where y is 0 or less
// (ReLU), or 6 or more besides (ReLU6).
struct Gate {
  const float* y = nullptr;  // none: all of it passes
  bool six = false;

  Gate from(int64_t at) const { return {y ? y + at : nullptr, six}; }
};

// What a result is cut to.
struct Range {
  float least = -__builtin_inff(), most = __builtin_inff();
};

struct RunArgs {
  const float *x, *grad;
  float* y;
  int64_t rows, step, count;
  bool stream;  // y goes past the caches
  Gate gate = {};
  Range range = {};  // of run_affine
};

// Sums of x - shift and of its square; shift is about the mean, so that nothing cancels.
struct Moments {
  float shift, sum, squares;
};

// Sums of grad and of grad * (x - shift).
struct Dots {
  float sum, dot;
};

// rows x columns, `step` floats from row to row.
struct ColumnArgs {
  const float *x, *grad;
  int64_t rows, columns, step;
  float* shift;         // of moments: written; of dots: read
  float *sums, *other;  // other: squares or dots
  Gate gate = {};
};

// y = (x - mean) * scale + bias.
struct AffineColumns {
  const float* x;
  float* y;
  int64_t rows, columns;  // dense
  const float *mean, *scale, *bias;
  bool stream;
  Range range = {};
};

// y = grad * scale + (x - mean) * slope + bias.
struct GradColumns {
  const float *x, *grad;
  float* y;
  int64_t rows, columns;
  const float *mean, *scale, *slope, *bias;
  bool stream;
  Gate gate = {};
};

struct ChannelUkernels {
  float (*run_sum)(const RunArgs&);
  Moments (*run_moments)(const RunArgs&);
  Dots (*run_dots)(const RunArgs&, float shift);
  void (*run_affine)(const RunArgs&, float mean, float scale, float bias);
  void (*run_grad)(const RunArgs&, float mean, float scale, float slope, float bias);
  void (*column_sums)(const ColumnArgs&);
  void (*column_moments)(const ColumnArgs&);
  void (*column_dots)(const ColumnArgs&);
  void (*column_affine)(const AffineColumns&);
  void (*column_grad)(const GradColumns&);
};

}  // namespace cnnext
