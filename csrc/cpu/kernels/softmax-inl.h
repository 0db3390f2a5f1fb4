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

// ---- columns ----

void column_most(const float* x, int64_t count, float* copy, float* most) {
  for_vectors(count, [&](int64_t i, auto load, auto store) {
    const Vec v = load(x + i);
    store(v, copy + i);
    store(max(v, load(most + i)), most + i);
  });
}

void column_exponentials(const float* x, const float* most, int64_t count, float* e, float* sum) {
  for_vectors(count, [&](int64_t i, auto load, auto store) {
    const Vec v = exponential(load(x + i) - load(most + i));
    if (e) store(v, e + i);
    store(load(sum + i) + v, sum + i);
  });
}

void column_scale(const float* x, const float* factor, int64_t count, float* y) {
  run_flat(y, count, false, [&](int64_t i, auto load) { return load(x + i) * load(factor + i); });
}

void column_shift(const float* x, const float* most, const float* rest, int64_t count, float* y) {
  run_flat(y, count, false,
           [&](int64_t i, auto load) { return (load(x + i) - load(most + i)) - load(rest + i); });
}

// x = m * 2^e with m between the roots of 1/2 and 2, and log(m) by Cephes' polynomial; a plain loop, which
// compilers vectorise.
void column_log(float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    int32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof bits);
    const int32_t exponent = (bits - 0x3f3504f3) >> 23, mantissa = bits - (exponent << 23);
    float m;
    __builtin_memcpy(&m, &mantissa, sizeof m);
    const float f = m - 1.f, f2 = f * f, e = static_cast<float>(exponent);
    float p = 7.0376836292e-2f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    const float tail = p * f * f2 + e * -2.12194440e-4f - 0.5f * f2;
    const float log = f + tail + e * 0.693359375f;
    x[i] = x[i] != x[i] ? x[i] : log;
  }
}

void column_dot(const float* grad, const float* y, int64_t count, bool log, float* sum) {
  run_flat(sum, count, false, [&](int64_t i, auto load) {
    const Vec g = load(grad + i);
    return load(sum + i) + (log ? g : g * load(y + i));
  });
}

void column_gradient(const float* grad, const float* y, const float* sum, int64_t count, bool log,
                     float* grad_x) {
  run_flat(grad_x, count, false, [&](int64_t i, auto load) {
    const Vec g = load(grad + i), v = load(y + i), s = load(sum + i);
    return log ? g - exponential(v) * s : (g - s) * v;
  });
}

constexpr SoftmaxUkernels kSoftmaxUkernels = {softmax_rows,        softmax_rows_grad, softmax_norms,
                                              softmax_weighted,    softmax_gradient,  column_most,
                                              column_exponentials, column_scale,      column_shift,
                                              column_log,          column_dot,        column_gradient};

}  // namespace
}  // namespace cnnext
