// The transforms of winograd.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/conv_k-inl.h"
#include "cpu/kernels/winograd.h"

namespace cnnext {
namespace {

// t = B^T d.
template <class V>
inline void winograd_input_1d(const V (&d)[6], V (&t)[6]) {
  const V e = d[4] - d[2], f = d[3] - d[1];
  t[0] = fma(V::set1(-1.5f), f, (d[0] - d[2]) + e);
  t[1] = fma(V::set1(-1.5f), d[1] + d[2], fma(V::set1(-0.5f), f, e));
  t[2] = fma(V::set1(1.5f), d[2] - d[3], e - f);
  t[3] = fma(V::set1(0.5f), f, e);
  t[4] = fma(V::set1(-2.f), f, e);
  t[5] = fma(V::set1(-1.5f), e, (d[5] - d[3]) - f);
}

// o = A^T m.
template <class V>
inline void winograd_output_1d(const V (&m)[6], V (&o)[4]) {
  const V s = m[1] + m[2], d = m[1] - m[2];
  o[0] = (m[0] + s) + (m[3] + m[4]);
  o[1] = fma(V::set1(-0.5f), m[4], fma(V::set1(2.f), m[3], d));
  o[2] = fma(V::set1(0.25f), m[4], fma(V::set1(4.f), m[3], s));
  o[3] = fma(V::set1(-0.125f), m[4], fma(V::set1(8.f), m[3], d)) + m[5];
}

// u = G g.
template <class V>
inline void winograd_weights_1d(const V (&g)[3], V (&u)[6]) {
  const V third = V::set1(1.f / 3), fifteenth = V::set1(1.f / 15), other = V::set1(-16.f / 15);
  const V s = g[0] + g[2];
  u[0] = g[0];
  u[1] = V::zero() - (s + g[1]) * third;
  u[2] = (s - g[1]) * third;
  u[3] = fma(V::set1(4.f), g[2], fma(V::set1(2.f), g[1], g[0])) * fifteenth;
  u[4] = fma(V::set1(0.25f), g[2], fma(V::set1(-0.5f), g[1], g[0])) * other;
  u[5] = g[2];
}

template <class V, bool kList, bool kFull>
inline void winograd_input_vector(const WinogradInputArgs& a, int64_t c, int lanes) {
  V t[6][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    V d[6], column[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
      const float* p = kList ? a.pixels[6 * i + j] + a.channel + c : a.src + i * a.row + j * a.col + c;
      d[i] = kFull ? V::load(p) : V::load_tail(p, lanes);
      // The next tile's columns: 36 streams are too many for the processor to foresee.
      if (!kList && j >= 2) __builtin_prefetch(p + 4 * a.col);
    }
    winograd_input_1d(d, column);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) t[i][j] = column[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    V row[6];
    winograd_input_1d(t[i], row);
    float* dst = a.dst + 6 * i * a.plane + c;
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) row[j].store(dst + j * a.plane);
  }
}

template <class V, bool kList>
inline void winograd_input_tile(const WinogradInputArgs& a) {
  int64_t c = 0;
  for (; c + V::kLanes <= a.channels; c += V::kLanes) winograd_input_vector<V, kList, true>(a, c, V::kLanes);
  if (c < a.channels) winograd_input_vector<V, kList, false>(a, c, static_cast<int>(a.channels - c));
}

void winograd_input(const WinogradInputArgs& a) {
  if (a.pixels) return winograd_input_tile<Vec, true>(a);
  winograd_input_tile<Vec, false>(a);
}

template <class V, bool kFull>
inline void winograd_output_vector(const WinogradOutputArgs& a, int64_t l, int lanes) {
  V t[4][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    V m[6], column[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) m[i] = V::load(a.src + (6 * i + j) * a.plane + l);
    winograd_output_1d(m, column);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) t[i][j] = column[i];
  }
  V bias = V::zero();
  if (a.bias) bias = kFull ? V::load(a.bias + l) : V::load_tail(a.bias + l, lanes);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    if (i >= a.rows) return;
    V y[1][4];
    winograd_output_1d(t[i], y[0]);
    float* const dst = a.dst + i * a.row + l;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) y[0][j] = y[0][j] + bias;
    if (a.flags & kConvKResidual) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        if (j >= a.cols) break;
        const float* p = dst + j * a.col + a.residual;
        y[0][j] = y[0][j] + (kFull ? V::load(p) : V::load_tail(p, lanes));
      }
    }
    if (a.flags) conv_k_activate<V, 1, 4>(y, a.flags, a.alpha);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (j >= a.cols) break;
      if (kFull)
        y[0][j].store(dst + j * a.col);
      else
        y[0][j].store_tail(dst + j * a.col, lanes);
    }
  }
}

void winograd_output(const WinogradOutputArgs& a) {
  int64_t l = 0;
  for (; l + Vec::kLanes <= a.lanes; l += Vec::kLanes) winograd_output_vector<Vec, true>(a, l, Vec::kLanes);
  if (l < a.lanes) winograd_output_vector<Vec, false>(a, l, static_cast<int>(a.lanes - l));
}

bool winograd_weights(const WinogradWeightArgs& a) {
  using V = Vec;
  // Infinite (or NaN) once a weight is, or is so large that its elements might be.
  V sum = V::zero();
  const V large = V::set1(0x1p20f);
  const int64_t tap = a.channels * a.lanes;
  for (int64_t c = 0; c < a.channels; ++c) {
    for (int64_t l = 0; l < a.lanes; l += V::kLanes) {
      const float* src = a.src + c * a.lanes + l;
      V t[6][3];
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s) {
        V g[3], column[6];
#pragma GCC unroll 3
        for (int r = 0; r < 3; ++r) {
          g[r] = V::load(src + (3 * r + s) * tap);
          sum = fma(g[r], large, sum);
        }
        winograd_weights_1d(g, column);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) t[i][s] = column[i];
      }
      float* dst = a.dst + c * a.row + l;
#pragma GCC unroll 6
      for (int i = 0; i < 6; ++i) {
        V u[6];
        winograd_weights_1d(t[i], u);
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) u[j].store(dst + (6 * i + j) * a.plane);
      }
    }
  }
  return !any(is_nan(sum * V::zero()));
}

}  // namespace
}  // namespace cnnext
