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

// y[i] = the sum of plane i / divisor; planes of `size` floats, at most kPlaneSumFloats, behind one another.
constexpr int64_t kPlaneSumFloats = 4096;
struct PlaneMeans {
  const float* x;
  int64_t planes, size;
  float divisor;
  float* y;
};
// All of plane i = y[i] / divisor.
struct PlaneSpread {
  const float* y;
  int64_t planes, size;
  float divisor;
  float* x;
};

struct AvgPoolUkernels {
  void (*sum_terms)(const SumTerms&);
  void (*plane_means)(const PlaneMeans&);
  void (*plane_spread)(const PlaneSpread&);
};

}  // namespace cnnext
