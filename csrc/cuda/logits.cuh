// Rows of logits, shared by softmax and cross-entropy. A row is read by one thread where rows lie side by
// side (neighbouring threads then read neighbouring elements), by a warp where each lies in one run.
#pragma once

#include "cuda/reduce.cuh"

namespace cnnext::cuda {

// Row i begins at i / inner * outer_step + i % inner * inner_step, and steps by `step`.
struct Rows {
  int64_t count, length, step, outer_step, inner_step;
  FastDivisor by_inner;

  CNNEXT_DEVICE int64_t start(int64_t row) const {
    const int64_t outer = by_inner.split(&row);
    return outer * outer_step + row * inner_step;
  }
};

// Element (o, d, i) at (o * dim + d) * inner + i.
inline Rows rows_along(int64_t outer, int64_t dim, int64_t inner) {
  return {outer * inner, dim, inner, dim * inner, 1, FastDivisor(greatest(inner, 1))};
}
// Logit (n, c, i) of a channels-last tensor.
inline Rows rows_of_pixels(int64_t N, int64_t C, int64_t inner) {
  return {N * inner, C, 1, inner * C, C, FastDivisor(greatest(inner, 1))};
}

// body(kLanes): how many threads read a row.
template <class Body>
void dispatch_lanes(const Rows& rows, const Body& body) {
  if (rows.step == 1 && rows.length > 8) {
    body(std::integral_constant<int, 32>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}
inline int64_t blocks_of_rows(const Rows& rows, int lanes) { return blocks_for(rows.count * lanes, kBlock); }

template <int kLanes>
CNNEXT_DEVICE int64_t lane_of_row() {
  return threadIdx.x % kLanes;
}

// log(sum(exp(x))) in two parts. NaN and an infinite maximum spread by the arithmetic: inf - inf.
struct LogSumExp {
  float max, sum;  // of exp(x - max)
  CNNEXT_DEVICE float log_probability(float x) const { return x - max - logf(sum); }
  CNNEXT_DEVICE float probability(float x) const { return expf(x - max) / sum; }
};
template <int kLanes, class T>
CNNEXT_DEVICE LogSumExp log_sum_exp(const T* x, int64_t length, int64_t step) {
  LogSumExp r{-INFINITY, 0};
  for (int64_t k = lane_of_row<kLanes>(); k < length; k += kLanes)
    r.max = larger(r.max, to_float(x[k * step]));
  r.max = group_max<kLanes>(r.max);
  for (int64_t k = lane_of_row<kLanes>(); k < length; k += kLanes)
    r.sum += expf(to_float(x[k * step]) - r.max);
  r.sum = group_sum<kLanes>(r.sum);
  return r;
}

}  // namespace cnnext::cuda
