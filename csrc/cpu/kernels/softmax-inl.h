// See softmax.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/elementwise-inl.h"
#include "cpu/kernels/softmax.h"

namespace cnnext {
namespace {

constexpr int64_t kSumChunk = 4096;  // added up in float; chunks in double

inline float reduce_max(Vec a) {
  float lanes[Vec::kLanes];
  a.store(lanes);
  float most = lanes[0];
  for (int i = 1; i < Vec::kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

// NaN is passed over; the sum of exponentials will hold it.
inline float row_max(const float* x, int64_t dim) {
  constexpr int L = Vec::kLanes;
  const Vec lowest = Vec::set1(-__builtin_inff());
  Vec a = lowest, b = lowest;
  int64_t i = 0;
  for (; i + 2 * L <= dim; i += 2 * L) {
    a = max(Vec::load(x + i), a);
    b = max(Vec::load(x + i + L), b);
  }
  for (; i + L <= dim; i += L) a = max(Vec::load(x + i), a);
  float most = dim >= L ? reduce_max(max(a, b)) : -__builtin_inff();
  for (; i < dim; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

// The sum of term(i, load) over a row; a tail's missing lanes are masked to 0.
template <class Term>
inline double sum_terms_of_row(int64_t dim, const Term& term) {
  constexpr int L = Vec::kLanes;
  double total = 0;
  for (int64_t begin = 0; begin < dim; begin += kSumChunk) {
    const int64_t end = begin + kSumChunk < dim ? begin + kSumChunk : dim;
    Vec a = Vec::zero(), b = Vec::zero();
    int64_t i = begin;
    for (; i + 2 * L <= end; i += 2 * L) {
      a = a + term(i, LoadVector{}, StoreVector{});
      b = b + term(i + L, LoadVector{}, StoreVector{});
    }
    for (; i + L <= end; i += L) a = a + term(i, LoadVector{}, StoreVector{});
    if (i < end) {
      const int left = static_cast<int>(end - i);
      float lanes[L];
      Vec::zero().store(lanes);
      term(i, LoadTail{left}, StoreTail{left}).store_tail(lanes, left);
      b = b + Vec::load(lanes);
    }
    total += reduce_add(a + b);
  }
  return total;
}

void softmax_rows(const float* x, float* y, int64_t rows, int64_t dim, bool log) {
  for (int64_t r = 0; r < rows; ++r, x += dim, y += dim) {
    const float most = row_max(x, dim);
    const Vec shift = Vec::set1(most);
    if (log) {
      const double sum =
          sum_terms_of_row(dim, [&](int64_t i, auto load, auto) { return exponential(load(x + i) - shift); });
      const Vec log_sum = Vec::set1(static_cast<float>(__builtin_log(sum)));
      run_flat(y, dim, false, [&](int64_t i, auto load) { return (load(x + i) - shift) - log_sum; });
      continue;
    }
    const double sum = sum_terms_of_row(dim, [&](int64_t i, auto load, auto store) {
      const Vec e = exponential(load(x + i) - shift);
      store(e, y + i);
      return e;
    });
    const Vec share = Vec::set1(static_cast<float>(1 / sum));
    run_flat(y, dim, false, [&](int64_t i, auto load) { return load(y + i) * share; });
  }
}

void softmax_rows_grad(const float* grad, const float* y, float* grad_x, int64_t rows, int64_t dim,
                       bool log) {
  for (int64_t r = 0; r < rows; ++r, grad += dim, y += dim, grad_x += dim) {
    const double sum = sum_terms_of_row(
        dim, [&](int64_t i, auto load, auto) { return log ? load(grad + i) : load(grad + i) * load(y + i); });
    const Vec s = Vec::set1(static_cast<float>(sum));
    if (log) {
      run_flat(grad_x, dim, false,
               [&](int64_t i, auto load) { return load(grad + i) - exponential(load(y + i)) * s; });
    } else {
      run_flat(grad_x, dim, false, [&](int64_t i, auto load) { return (load(grad + i) - s) * load(y + i); });
    }
  }
}

void softmax_norms(const float* x, int64_t rows, int64_t dim, float* max, float* sum) {
  for (int64_t r = 0; r < rows; ++r, x += dim) {
    max[r] = row_max(x, dim);
    const Vec shift = Vec::set1(max[r]);
    sum[r] = static_cast<float>(
        sum_terms_of_row(dim, [&](int64_t i, auto load, auto) { return exponential(load(x + i) - shift); }));
  }
}

float softmax_weighted(const float* x, const float* f, int64_t dim, float max, float log_sum) {
  const Vec shift = Vec::set1(max), rest = Vec::set1(log_sum);
  return static_cast<float>(sum_terms_of_row(dim, [&](int64_t i, auto load, auto) {
    const Vec log_probability = (load(x + i) - shift) - rest;
    return f ? load(f + i) * log_probability : log_probability;
  }));
}

void softmax_gradient(const float* x, const float* f, float* y, int64_t dim, float max, float k,
                      float scale) {
  const Vec shift = Vec::set1(max), share = Vec::set1(k), step = Vec::set1(scale);
  run_flat(y, dim, false, [&](int64_t i, auto load) {
    const Vec p = exponential(load(x + i) - shift) * share;
    return p - (f ? load(f + i) * step : step);
  });
}

constexpr SoftmaxUkernels kSoftmaxUkernels = {softmax_rows, softmax_rows_grad, softmax_norms,
                                              softmax_weighted, softmax_gradient};

}  // namespace
}  // namespace cnnext
