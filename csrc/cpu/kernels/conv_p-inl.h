// The P-kernel. 8x3 accumulators of AVX-512's 32 registers, 4x3 of 16. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/conv_k-inl.h"
#include "cpu/kernels/conv_p.h"

namespace cnnext {
namespace {

template <class V, int M, int NV, bool kFull>
inline void conv_p_finish(const ConvPArgs& a, V (&acc)[M][NV]) {
  const int lanes = a.lanes;
  if (a.bias) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const V bias = V::broadcast(a.bias + m);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[m][v] = acc[m][v] + bias;
    }
  }
  if (a.flags & kConvKResidual) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        const float* p = a.out[v] + m * a.out_step + a.residual;
        acc[m][v] = acc[m][v] + (kFull ? V::load(p) : V::load_tail(p, lanes));
      }
  }
  conv_k_activate<V, M, NV>(acc, a.flags, a.alpha);
  const bool stream = kFull && (a.flags & kConvKStream);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      float* p = a.out[v] + m * a.out_step;
      if (stream)
        acc[m][v].stream(p);
      else if (kFull)
        acc[m][v].store(p);
      else
        acc[m][v].store_tail(p, lanes);
    }
}

template <class V, int M, int NV>
void conv_p_run(const ConvPArgs& args) {
  V acc[M][NV];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[m][v] = V::zero();

  // Long sums go in runs: see conv_k_run.
  alignas(64) float sums[M * NV * V::kLanes];
  bool summed = false;
  const int64_t* input = args.input;
  const float* w = args.weight;
  const int64_t nr = args.nr;
  const float* in[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) in[v] = args.in[v];

  for (int64_t left = args.terms, room = args.run_end;; room = args.run) {
    const int64_t count = left < room ? left : room;
    left -= count;
#pragma GCC unroll 1
    for (const int64_t* const end = input + count; input != end; ++input, w += nr) {
      const int64_t at = *input;
      V x[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        x[v] = V::load(in[v] + at);
        pin(x[v]);
      }
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const V weight = V::broadcast(w + m);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[m][v] = fma(weight, x[v], acc[m][v]);
      }
    }
    if (left == 0) break;
    if (summed) conv_k_add<V, M, NV>(acc, sums);
    summed = true;
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        acc[m][v].store(sums + (m * NV + v) * V::kLanes);
        acc[m][v] = V::zero();
      }
  }
  if (summed) conv_k_add<V, M, NV>(acc, sums);
  if (args.lanes == V::kLanes)
    conv_p_finish<V, M, NV, true>(args, acc);
  else
    conv_p_finish<V, M, NV, false>(args, acc);
}

// Columns of a row, and after them zeros up to `end`.
template <class V>
inline void conv_p_fill_row(const float* src, int64_t every, int64_t cols, float* dst, int64_t end) {
  constexpr int L = V::kLanes;
  int64_t i = 0;
  if (every == 1) {
    for (; i + L <= cols; i += L) V::load(src + i).store(dst + i);
    if (i < cols) V::load_tail(src + i, static_cast<int>(cols - i)).store(dst + i), i += L;
  } else if (every == 2) {
    for (; i + L < cols; i += L) {  // not the last: its odd neighbour may be another's
      V even = V::load(src + 2 * i), odd = V::load(src + 2 * i + L);
      deinterleave(even, odd);
      even.store(dst + i);
    }
  }
  for (; i < cols; ++i) dst[i] = src[i * every];
  for (; i < end; i += L) V::zero().store(dst + i);
}

template <class V>
void conv_p_fill(const ConvPFillArgs& a) {
  const float* src = a.src;
  float* dst = a.dst;
  for (int64_t row = 0; row < a.rows; ++row, src += a.src_step, dst += a.dst_step) {
    for (int64_t i = 0; i < a.left; i += V::kLanes) V::zero().store(dst + i);
    conv_p_fill_row<V>(src, a.every, a.cols, dst + a.left, a.cols + a.right);
  }
}

template <class V, int M, int T, bool kTail>
inline void conv_p_weights_step(const float* grad, int64_t channel, const float* const (&in)[T], int64_t at,
                                int tail, V (&acc)[M][T]) {
  V x[T];
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) {
    x[t] = kTail ? V::load_tail(in[t] + at, tail) : V::load(in[t] + at);
    pin(x[t]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    const float* p = grad + m * channel;
    V g = kTail ? V::load_tail(p, tail) : V::load(p);
    if (T > 1) pin(g);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) acc[m][t] = fma(g, x[t], acc[m][t]);
  }
}

template <class V, int M, int T>
void conv_p_weights_run(const ConvPWeightsArgs& a) {
  V acc[M][T];
  const float* in[T];
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) in[t] = a.in[t];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) acc[m][t] = V::zero();
  const float* grad = a.grad;
  for (int64_t row = 0; row < a.rows; ++row, grad += a.grad_row) {
    const int64_t in_at = row * a.in_row;
#pragma GCC unroll 1
    for (int64_t i = 0; i < a.whole; ++i)
      conv_p_weights_step<V, M, T, false>(grad + i * V::kLanes, a.grad_channel, in, in_at + i * V::kLanes, 0,
                                          acc);
    if (a.tail)
      conv_p_weights_step<V, M, T, true>(grad + a.whole * V::kLanes, a.grad_channel, in,
                                         in_at + a.whole * V::kLanes, a.tail, acc);
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      float* const sums = a.sums + m * a.sums_channel + t * V::kLanes;
      (a.accumulate ? V::load(sums) + acc[m][t] : acc[m][t]).store(sums);
    }
}

template <class V>
void conv_p_fold(int64_t vectors, const float* src, float* dst) {
  for (int64_t i = 0; i < vectors; ++i) dst[i] = reduce_add(V::load(src + i * V::kLanes));
}

#define CNNEXT_CONV_P_4(KERNEL, V, NV) \
  nullptr, KERNEL<V, 1, NV>, KERNEL<V, 2, NV>, KERNEL<V, 3, NV>, KERNEL<V, 4, NV>
#define CNNEXT_CONV_P_8(KERNEL, V, NV) \
  CNNEXT_CONV_P_4(KERNEL, V, NV), KERNEL<V, 5, NV>, KERNEL<V, 6, NV>, KERNEL<V, 7, NV>, KERNEL<V, 8, NV>
#define CNNEXT_CONV_P_ALL(CHANNELS, KERNEL, V)                                         \
  {                                                                                    \
    {}, {CHANNELS(KERNEL, V, 1)}, {CHANNELS(KERNEL, V, 2)}, { CHANNELS(KERNEL, V, 3) } \
  }
#define CNNEXT_CONV_P(CHANNELS, V)                                                                \
  CNNEXT_CONV_P_ALL(CHANNELS, conv_p_run, V), CNNEXT_CONV_P_ALL(CHANNELS, conv_p_weights_run, V), \
      conv_p_fold<V>, conv_p_fill<V>

template <class V>
constexpr ConvPUkernels conv_p_ukernels_16(const char* name, const char* weights_name) {
  return {V::kLanes, 4, 3, CNNEXT_CONV_P(CNNEXT_CONV_P_4, V), weights_name, name};
}
template <class V>
constexpr ConvPUkernels conv_p_ukernels_32(const char* name, const char* weights_name) {
  return {V::kLanes, 8, 3, CNNEXT_CONV_P(CNNEXT_CONV_P_8, V), weights_name, name};
}

}  // namespace
}  // namespace cnnext
