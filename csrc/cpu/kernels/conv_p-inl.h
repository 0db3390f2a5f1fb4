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

#define CNNEXT_CONV_P_4(V, NV) \
  nullptr, conv_p_run<V, 1, NV>, conv_p_run<V, 2, NV>, conv_p_run<V, 3, NV>, conv_p_run<V, 4, NV>
#define CNNEXT_CONV_P_8(V, NV)                                                              \
  CNNEXT_CONV_P_4(V, NV), conv_p_run<V, 5, NV>, conv_p_run<V, 6, NV>, conv_p_run<V, 7, NV>, \
      conv_p_run<V, 8, NV>

template <class V>
constexpr ConvPUkernels conv_p_ukernels_16(const char* name) {
  return {
      V::kLanes,      4,   3, {{}, {CNNEXT_CONV_P_4(V, 1)}, {CNNEXT_CONV_P_4(V, 2)}, {CNNEXT_CONV_P_4(V, 3)}},
      conv_p_fill<V>, name};
}
template <class V>
constexpr ConvPUkernels conv_p_ukernels_32(const char* name) {
  return {
      V::kLanes,      8,   3, {{}, {CNNEXT_CONV_P_8(V, 1)}, {CNNEXT_CONV_P_8(V, 2)}, {CNNEXT_CONV_P_8(V, 3)}},
      conv_p_fill<V>, name};
}

}  // namespace
}  // namespace cnnext
