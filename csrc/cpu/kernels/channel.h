// Sums over channels and what is done with them. A row is a run of one channel's values; a matrix has the
// channels (or several rounds of them) as columns. Sums are in float: callers pass at most some thousand
// values and add up in double.
#pragma once

#include <stdint.h>

namespace cnnext {

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
};

// y = (x - mean) * scale + bias.
struct AffineColumns {
  const float* x;
  float* y;
  int64_t rows, columns;  // dense
  const float *mean, *scale, *bias;
};

// y = grad * scale + (x - mean) * slope + bias.
struct GradColumns {
  const float *x, *grad;
  float* y;
  int64_t rows, columns;
  const float *mean, *scale, *slope, *bias;
};

struct ChannelUkernels {
  float (*row_sum)(const float* x, int64_t count);
  Moments (*row_moments)(const float* x, int64_t count);
  Dots (*row_dots)(const float* grad, const float* x, int64_t count, float shift);
  void (*row_affine)(const float* x, float* y, int64_t count, float mean, float scale, float bias);
  void (*row_grad)(const float* grad, const float* x, float* y, int64_t count, float mean, float scale,
                   float slope, float bias);
  void (*column_sums)(const ColumnArgs&);
  void (*column_moments)(const ColumnArgs&);
  void (*column_dots)(const ColumnArgs&);
  void (*column_affine)(const AffineColumns&);
  void (*column_grad)(const GradColumns&);
};

}  // namespace cnnext
