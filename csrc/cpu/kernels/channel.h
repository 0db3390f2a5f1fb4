// Sums over channels and what is done with them. A run of one channel's values is some rows of `count`
// values, `step` floats apart (its planes in successive images); a matrix has the channels (or several rounds
// of them) as columns. Sums are in float: callers pass at most some thousand values and add up in double.
#pragma once

#include <stdint.h>

namespace cnnext {

struct RunArgs {
  const float *x, *grad;
  float* y;
  int64_t rows, step, count;
  bool stream;                  // y goes past the caches
  const float* gate = nullptr;  // where it is 0 or less, grad counts as 0 (as a ReLU whose result it is)
  bool relu = false;            // of run_affine: max(y, 0)
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
  const float* gate = nullptr;
};

// y = (x - mean) * scale + bias.
struct AffineColumns {
  const float* x;
  float* y;
  int64_t rows, columns;  // dense
  const float *mean, *scale, *bias;
  bool stream;
  bool relu = false;
};

// y = grad * scale + (x - mean) * slope + bias.
struct GradColumns {
  const float *x, *grad;
  float* y;
  int64_t rows, columns;
  const float *mean, *scale, *slope, *bias;
  bool stream;
  const float* gate = nullptr;
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
