// Softmax and cross-entropy over rows of logits.
#pragma once

#include <stdint.h>

namespace cnnext {

struct SoftmaxUkernels {
  // rows x dim, dense; y may be x.
  void (*forward)(const float* x, float* y, int64_t rows, int64_t dim, bool log);
  void (*backward)(const float* grad_y, const float* y, float* grad_x, int64_t rows, int64_t dim, bool log);
  // Each row's largest value and the sum of exp(x - max). NaN and an infinite maximum make the sum NaN.
  void (*norms)(const float* x, int64_t rows, int64_t dim, float* max, float* sum);
  // Of one row, with factors f (nullptr: all 1): the sum of f * ((x - max) - log_sum), and
  // y = exp(x - max) * k - scale * f.
  float (*weighted)(const float* x, const float* f, int64_t dim, float max, float log_sum);
  void (*gradient)(const float* x, const float* f, float* y, int64_t dim, float max, float k, float scale);
};

}  // namespace cnnext
