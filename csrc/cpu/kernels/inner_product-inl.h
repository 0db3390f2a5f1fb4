// Dot products in tiles of 4 rows by kOutputs outputs, vectors along the sum; and its transpose, vectors
// along the outputs. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/inner_product.h"

namespace cnnext {
namespace {

// Accumulators: 4 x 4 of AVX-512's 32 registers, 4 x 2 of the others' 16.
constexpr int kDotOutputs = Vec::kLanes == 16 ? 4 : 2;

template <int M, int K>
void dot_tile(const DotArgs& a, int64_t row, int64_t k0) {
  constexpr int L = Vec::kLanes;
  Vec acc[M][K];
  const float *x[M], *w[K];
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i) x[i] = a.x + (row + i) * a.x_stride;
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) w[k] = a.w + (k0 + k) * a.w_stride;
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) acc[i][k] = Vec::zero();
  const auto step = [&](auto load) {
    Vec ws[K];
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      ws[k] = load(w[k]);
      pin(ws[k]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) {
      const Vec v = load(x[i]);
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) acc[i][k] = fma(v, ws[k], acc[i][k]);
    }
  };
  int64_t c = 0;
  for (; c + L <= a.length; c += L) step([c](const float* p) { return Vec::load(p + c); });
  if (c < a.length) {
    const int left = static_cast<int>(a.length - c);
    step([c, left](const float* p) { return Vec::load_tail(p + c, left); });
  }
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      float* const y = a.y + (row + i) * a.y_stride + k0 + k;
      const float sum = reduce_add(acc[i][k]);
      *y = a.accumulate ? *y + sum : sum;
    }
  }
}

template <int K>
void dot_outputs(const DotArgs& a, int64_t k0) {
  int64_t row = 0;
  for (; row + 4 <= a.rows; row += 4) dot_tile<4, K>(a, row, k0);
  if (a.rows - row == 3) dot_tile<3, K>(a, row, k0);
  if (a.rows - row == 2) dot_tile<2, K>(a, row, k0);
  if (a.rows - row == 1) dot_tile<1, K>(a, row, k0);
}

void dot_product(const DotArgs& a) {
  int64_t k = 0;
  for (; k + kDotOutputs <= a.outputs; k += kDotOutputs) dot_outputs<kDotOutputs>(a, k);
  for (; k < a.outputs; ++k) dot_outputs<1>(a, k);
}

// One column of vectors: K rows of w stay in registers while the rows of x pass.
template <int K, bool kTail>
inline void axpy_column(const AxpyArgs& a, int64_t k0, int64_t j, int left) {
  Vec w[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const float* p = a.w + (k0 + k) * a.w_stride + j;
    w[k] = kTail ? Vec::load_tail(p, left) : Vec::load(p);
  }
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.x_stride + k0;
    float* y = a.y + r * a.y_stride + j;
    Vec acc = Vec::broadcast(x) * w[0];
#pragma GCC unroll 8
    for (int k = 1; k < K; ++k) acc = fma(Vec::broadcast(x + k), w[k], acc);
    // Added to the rest when the K products are summed: the rounding errors of long sums stay small.
    if (k0) acc = acc + (kTail ? Vec::load_tail(y, left) : Vec::load(y));
    if (kTail)
      acc.store_tail(y, left);
    else
      acc.store(y);
  }
}

template <int K>
void axpy_rows(const AxpyArgs& a, int64_t k0) {
  constexpr int L = Vec::kLanes;
  int64_t j = 0;
  for (; j + L <= a.outputs; j += L) axpy_column<K, false>(a, k0, j, L);
  if (j < a.outputs) axpy_column<K, true>(a, k0, j, static_cast<int>(a.outputs - j));
}

void axpy_product(const AxpyArgs& a) {
  int64_t k = 0;
  for (; k + 8 <= a.terms; k += 8) axpy_rows<8>(a, k);
  for (; k < a.terms; ++k) axpy_rows<1>(a, k);
}

}  // namespace
}  // namespace cnnext
