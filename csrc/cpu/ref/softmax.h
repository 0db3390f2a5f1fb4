// The normaliser of a row of logits, shared by softmax and cross-entropy.
#pragma once

#include <cmath>

#include "cpu/ref/loops.h"

namespace cnnext {

struct LogSumExp {
  double max, sum;  // of exp(x - max)
  double log_probability(double x) const { return x - max - std::log(sum); }
  double probability(double x) const { return std::exp(x - max) / sum; }
};

// NaN and an infinite maximum spread by the arithmetic: inf - inf.
template <class T>
LogSumExp log_sum_exp(const T* x, int64_t count, int64_t stride) {
  LogSumExp r{-INFINITY, 0};
  for (int64_t k = 0; k < count; ++k) {
    if (!(x[k * stride] <= r.max)) r.max = x[k * stride];
    if (std::isnan(r.max)) break;
  }
  for (int64_t k = 0; k < count; ++k) r.sum += std::exp(x[k * stride] - r.max);
  return r;
}

}  // namespace cnnext
