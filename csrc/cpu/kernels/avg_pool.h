// Average pool's kernel: a sum of rows of floats.
#pragma once

#include <stdint.h>

namespace cnnext {

// y[i] = (sum over t < num_terms of terms[t][i] / scales[t]) / divisor, for i < count. Null scales count as
// 1; divisors, where not null, takes divisor's place: one for each i.
struct SumTerms {
  const float* const* terms;
  const float* scales;
  int64_t num_terms, count;
  float divisor;
  const float* divisors;
  float* y;
};

struct AvgPoolUkernels {
  void (*sum_terms)(const SumTerms&);
};

}  // namespace cnnext
