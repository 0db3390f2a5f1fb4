// Backward-weights' transforms of winograd.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/winograd-inl.h"

namespace cnnext {
namespace {

// u = A y: the adjoint of winograd_output_1d. Without the filter's factors, which the result gets instead.
template <class V>
inline void winograd_grad_1d(const V (&y)[4], V (&u)[6]) {
  const V even = y[0] + y[2], odd = y[1] + y[3];
  u[0] = y[0];
  u[1] = even + odd;
  u[2] = even - odd;
  u[3] = fma(V::set1(2.f), fma(V::set1(4.f), y[3], y[1]), fma(V::set1(4.f), y[2], y[0]));
  u[4] = fma(V::set1(-0.5f), fma(V::set1(0.25f), y[3], y[1]), fma(V::set1(0.25f), y[2], y[0]));
  u[5] = y[3];
}

// g = G^T m: the adjoint of winograd_weights_1d.
template <class V>
inline void winograd_filter_grad_1d(const V (&m)[6], V (&g)[3]) {
  const V third = V::set1(1.f / 3), fifteenth = V::set1(1.f / 15);
  const V d = (m[2] - m[1]) * third;
  g[0] = m[0] + fma(fma(V::set1(-16.f), m[4], m[3]), fifteenth, d);
  g[1] = fma(fma(V::set1(2.f), m[3], V::set1(8.f) * m[4]), fifteenth, V::zero() - (m[1] + m[2]) * third);
  g[2] = fma((m[3] - m[4]) * V::set1(4.f), fifteenth, d) + m[5];
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

constexpr WinogradUkernels winograd_ukernels(const char* name, const char* weights_name) {
  return {Vec::kLanes,          winograd_input, winograd_output, winograd_weights, winograd_grad,
          winograd_filter_grad, name,           weights_name};
}

}  // namespace
}  // namespace cnnext
