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

  // One class of many positions. copy = x, and most the larger of most and x.
  void (*column_most)(const float* x, int64_t count, float* copy, float* most);
  // sum += e = exp(x - most); e may be x or null.
  void (*column_exponentials)(const float* x, const float* most, int64_t count, float* e, float* sum);
  void (*column_scale)(const float* x, const float* factor, int64_t count, float* y);
  // y = (x - most) - rest.
  void (*column_shift)(const float* x, const float* most, const float* rest, int64_t count, float* y);
  // x = log(x) for x of 1 and more, and NaN.
  void (*column_log)(float* x, int64_t count);
  // sum += grad * y, or for log grad; and grad_x = (grad - sum) * y, or for log grad - exp(y) * sum.
  void (*column_dot)(const float* grad, const float* y, int64_t count, bool log, float* sum);
  void (*column_gradient)(const float* grad, const float* y, const float* sum, int64_t count, bool log,
                          float* grad_x);
};

}  // namespace cnnext
