// Backward-weights' transforms of winograd.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/winograd-inl.h"

namespace cnnext {
namespace {

// u = A y: the adjoint of winograd_output_1d.
template <class V>
inline void winograd_grad_1d(const V (&y)[4], V (&u)[6]) {
  const V even_a = fma(V::set1(kA2), y[2], y[0]), odd_a = fma(V::set1(kA2), y[3], y[1]);
  const V even_b = fma(V::set1(kB2), y[2], y[0]), odd_b = fma(V::set1(kB2), y[3], y[1]);
  u[0] = y[0];
  u[1] = fma(V::set1(kA), odd_a, even_a);
  u[2] = fma(V::set1(-kA), odd_a, even_a);
  u[3] = fma(V::set1(kB), odd_b, even_b);
  u[4] = fma(V::set1(-kB), odd_b, even_b);
  u[5] = y[3];
}

// g = G^T m: the adjoint of winograd_weights_1d.
template <class V>
inline void winograd_filter_grad_1d(const V (&m)[6], V (&g)[3]) {
  const V sum_a = m[1] + m[2], dif_a = m[1] - m[2], sum_b = m[3] + m[4], dif_b = m[3] - m[4];
  g[0] = fma(V::set1(kFactor0), m[0], fma(V::set1(kFactorA), sum_a, V::set1(kFactorB) * sum_b));
  g[1] = fma(V::set1(kA * kFactorA), dif_a, V::set1(kB * kFactorB) * dif_b);
  g[2] = fma(V::set1(kA2 * kFactorA), sum_a, fma(V::set1(kB2 * kFactorB), sum_b, m[5]));
}

template <class V, bool kInside, bool kFull>
inline void winograd_grad_vector(const WinogradGradArgs& a, int64_t c, int lanes) {
  V t[6][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    V y[4], column[6];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* p = a.src + i * a.row + j * a.col + c;
      if (kInside || (i < a.rows && j < a.cols)) {
        y[i] = kFull ? V::load(p) : V::load_tail(p, lanes);
        __builtin_prefetch(p + 4 * a.col);  // the next tile's
      } else {
        y[i] = V::zero();
      }
    }
    winograd_grad_1d(y, column);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) t[i][j] = column[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    V row[6];
    winograd_grad_1d(t[i], row);
    float* dst = a.dst + 6 * i * a.plane + c;
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) row[j].store(dst + j * a.plane);
  }
}

template <class V, bool kInside>
inline void winograd_grad_tile(const WinogradGradArgs& a) {
  int64_t c = 0;
  for (; c + V::kLanes <= a.channels; c += V::kLanes) winograd_grad_vector<V, kInside, true>(a, c, V::kLanes);
  if (c < a.channels) winograd_grad_vector<V, kInside, false>(a, c, static_cast<int>(a.channels - c));
}

void winograd_grad(const WinogradGradArgs& a) {
  if (a.rows == 4 && a.cols == 4) return winograd_grad_tile<Vec, true>(a);
  winograd_grad_tile<Vec, false>(a);
}

template <class V, bool kFull>
inline void winograd_filter_grad_vector(const WinogradFilterGradArgs& a, int64_t l, int lanes) {
  V t[3][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    V m[6], column[3];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) m[i] = V::load(a.src + (6 * i + j) * a.plane + l);
    winograd_filter_grad_1d(m, column);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) t[i][j] = column[i];
  }
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    V g[3];
    winograd_filter_grad_1d(t[i], g);
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      float* const dst = a.dst + (3 * i + j) * a.tap + l;
      if (kFull)
        g[j].store(dst);
      else
        g[j].store_tail(dst, lanes);
    }
  }
}

void winograd_filter_grad(const WinogradFilterGradArgs& a) {
  int64_t l = 0;
  for (; l + Vec::kLanes <= a.lanes; l += Vec::kLanes)
    winograd_filter_grad_vector<Vec, true>(a, l, Vec::kLanes);
  if (l < a.lanes) winograd_filter_grad_vector<Vec, false>(a, l, static_cast<int>(a.lanes - l));
}

constexpr WinogradUkernels winograd_ukernels(const char* name_3x3, const char* name_5x5,
                                             const char* weights_name) {
  return {Vec::kLanes,
          {4, 9, winograd_output<4>, winograd_weights<3>, name_3x3},
          {2, 25, winograd_output<2>, winograd_weights<5>, name_5x5},
          winograd_input,
          winograd_grad,
          winograd_filter_grad,
          weights_name};
}

}  // namespace
}  // namespace cnnext
