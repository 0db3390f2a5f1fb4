// The transforms of winograd.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/conv_k-inl.h"
#include "cpu/kernels/winograd.h"

namespace cnnext {
namespace {

// The points 0, a, -a, b, -b and infinity. See winograd.h.
constexpr float kA = 0.625f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;

// t = B^T d.
template <class V>
inline void winograd_input_1d(const V (&d)[6], V (&t)[6]) {
  const V a2 = V::set1(-kA2), b2 = V::set1(-kB2), sum = V::set1(-(kA2 + kB2)), product = V::set1(kA2 * kB2);
  const V even_a = fma(b2, d[2], d[4]), odd_a = fma(b2, d[1], d[3]);
  const V even_b = fma(a2, d[2], d[4]), odd_b = fma(a2, d[1], d[3]);
  t[0] = fma(product, d[0], fma(sum, d[2], d[4]));
  t[1] = fma(V::set1(kA), odd_a, even_a);
  t[2] = fma(V::set1(-kA), odd_a, even_a);
  t[3] = fma(V::set1(kB), odd_b, even_b);
  t[4] = fma(V::set1(-kB), odd_b, even_b);
  t[5] = fma(product, d[1], fma(sum, d[3], d[5]));
}

// o = A^T m, for tiles of 4 or 2.
template <class V, int O>
inline void winograd_output_1d(const V (&m)[6], V (&o)[O]) {
  const V sum_a = m[1] + m[2], dif_a = m[1] - m[2], sum_b = m[3] + m[4], dif_b = m[3] - m[4];
  o[0] = (m[0] + sum_a) + sum_b;
  o[1] = fma(V::set1(kA), dif_a, V::set1(kB) * dif_b);
  if constexpr (O == 4) {
    o[2] = fma(V::set1(kA2), sum_a, V::set1(kB2) * sum_b);
    o[3] = fma(V::set1(kA * kA2), dif_a, fma(V::set1(kB * kB2), dif_b, m[5]));
  } else {
    o[1] = o[1] + m[5];
  }
}

// A filter's factor of each point: 1 / the product of its differences from the others.
constexpr float kFactor0 = 1 / (kA2 * kB2), kFactorA = 1 / (2 * kA2 * (kA2 - kB2)),
                kFactorB = 1 / (2 * kB2 * (kB2 - kA2));

// u = G g, for filters of 3 or 5: polynomials at the points.
template <class V, int R>
inline void winograd_weights_1d(const V (&g)[R], V (&u)[6]) {
  const V a2 = V::set1(kA2), b2 = V::set1(kB2);
  V g2_a = g[2], g2_b = g[2], odd_a = g[1], odd_b = g[1];
  if constexpr (R == 5) {
    g2_a = fma(a2, g[4], g2_a), g2_b = fma(b2, g[4], g2_b);
    odd_a = fma(a2, g[3], odd_a), odd_b = fma(b2, g[3], odd_b);
  }
  const V even_a = fma(a2, g2_a, g[0]), even_b = fma(b2, g2_b, g[0]);
  const V a = V::set1(kFactorA), b = V::set1(kFactorB);
  u[0] = g[0] * V::set1(kFactor0);
  u[1] = fma(V::set1(kA), odd_a, even_a) * a;
  u[2] = fma(V::set1(-kA), odd_a, even_a) * a;
  u[3] = fma(V::set1(kB), odd_b, even_b) * b;
  u[4] = fma(V::set1(-kB), odd_b, even_b) * b;
  u[5] = g[R - 1];
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

template <class V, int O, bool kFull>
inline void winograd_output_vector(const WinogradOutputArgs& a, int64_t l, int lanes) {
  V t[O][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    V m[6], column[O];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) m[i] = V::load(a.src + (6 * i + j) * a.plane + l);
    winograd_output_1d(m, column);
#pragma GCC unroll 4
    for (int i = 0; i < O; ++i) t[i][j] = column[i];
  }
  V bias = V::zero();
  if (a.bias) bias = kFull ? V::load(a.bias + l) : V::load_tail(a.bias + l, lanes);
#pragma GCC unroll 4
  for (int i = 0; i < O; ++i) {
    if (i >= a.rows) return;
    V y[1][O];
    winograd_output_1d(t[i], y[0]);
    float* const dst = a.dst + i * a.row + l;
#pragma GCC unroll 4
    for (int j = 0; j < O; ++j) y[0][j] = y[0][j] + bias;
    if (a.flags & kConvKResidual) {
#pragma GCC unroll 4
      for (int j = 0; j < O; ++j) {
        if (j >= a.cols) break;
        const float* p = dst + j * a.col + a.residual;
        y[0][j] = y[0][j] + (kFull ? V::load(p) : V::load_tail(p, lanes));
      }
    }
    if (a.flags) conv_k_activate<V, 1, O>(y, a.flags, a.alpha);
#pragma GCC unroll 4
    for (int j = 0; j < O; ++j) {
      if (j >= a.cols) break;
      if (kFull)
        y[0][j].store(dst + j * a.col);
      else
        y[0][j].store_tail(dst + j * a.col, lanes);
    }
  }
}

template <int O>
void winograd_output(const WinogradOutputArgs& a) {
  int64_t l = 0;
  for (; l + Vec::kLanes <= a.lanes; l += Vec::kLanes)
    winograd_output_vector<Vec, O, true>(a, l, Vec::kLanes);
  if (l < a.lanes) winograd_output_vector<Vec, O, false>(a, l, static_cast<int>(a.lanes - l));
}

template <int R>
bool winograd_weights(const WinogradWeightArgs& a) {
  using V = Vec;
  // Infinite (or NaN) once a weight is, or is so large that its elements might be.
  V sum = V::zero();
  const V large = V::set1(0x1p20f);
  const int64_t tap = a.channels * a.lanes;
  for (int64_t c = 0; c < a.channels; ++c) {
    for (int64_t l = 0; l < a.lanes; l += V::kLanes) {
      const float* src = a.src + c * a.lanes + l;
      V t[6][R];
#pragma GCC unroll 5
      for (int s = 0; s < R; ++s) {
        V g[R], column[6];
#pragma GCC unroll 5
        for (int r = 0; r < R; ++r) {
          g[r] = V::load(src + (R * r + s) * tap);
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
