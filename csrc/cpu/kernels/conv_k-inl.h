// The K-kernel. MR x NV accumulators live in registers: 6x4 of AVX-512's 32 (4 weights and a broadcast beside
// them), 6x2 of AVX2's 16. The including file has chosen Vec, HalfVec and kIsaName.
#pragma once

#include "cpu/kernels/conv_k.h"

namespace cnnext {
namespace {

template <class V, int M, int NV>
inline void conv_k_activate(V (&acc)[M][NV], int32_t flags, float alpha) {
  const V zero = V::zero();
  if (flags & (kConvKRelu | kConvKRelu6)) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = max(zero, acc[i][v]);
  }
  if (flags & kConvKRelu6) {
    const V six = V::set1(6.f);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = min(six, acc[i][v]);
  }
  if (flags & kConvKLeakyRelu) {
    const V slope = V::set1(alpha);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = select(lt(acc[i][v], zero), acc[i][v] * slope, acc[i][v]);
  }
}

// Loads and stores of vector v of a tile's row: W of the vector's lanes count, and of the row only `lanes`.
template <class V, int W, bool kFull>
inline V conv_k_load(const float* p, int v, int lanes) {
  if (kFull && W == V::kLanes) return V::load(p + v * W);
  const int left = lanes - v * W;
  if (left <= 0) return V::zero();
  return W == V::kLanes && left >= W ? V::load(p + v * W) : V::load_tail(p + v * W, left < W ? left : W);
}

template <class V, int W, bool kFull>
inline void conv_k_store(float* p, int v, int lanes, V a) {
  if (kFull && W == V::kLanes) return a.store(p + v * W);
  const int left = lanes - v * W;
  if (left <= 0) return;
  if (left >= W) return a.template store_first<W>(p + v * W);
  a.store_tail(p + v * W, left);
}

template <class V, int M, int NV, int W, bool kFull>
inline void conv_k_finish(const ConvKArgs& args, V (&acc)[M][NV]) {
  const int lanes = args.lanes;
  const int64_t offset = args.out_offset;
  const int32_t flags = args.flags;
  if (flags & kConvKAccumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v)
        acc[i][v] = acc[i][v] + conv_k_load<V, W, kFull>(args.out[i] + offset, v, lanes);
  }
  if (flags & kConvKBias) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const V bias = conv_k_load<V, W, kFull>(args.bias, v, lanes);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) acc[i][v] = acc[i][v] + bias;
    }
  }
  if (flags & kConvKResidual) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v)
        acc[i][v] = acc[i][v] + conv_k_load<V, W, kFull>(args.out[i] + offset + args.residual, v, lanes);
  }
  conv_k_activate<V, M, NV>(acc, flags, args.alpha);
  if (kFull && W == V::kLanes && (flags & kConvKStream)) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v].stream(args.out[i] + offset + v * V::kLanes);
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) conv_k_store<V, W, kFull>(args.out[i] + offset, v, lanes, acc[i][v]);
}

template <class V, int M, int NV>
inline void conv_k_add(V (&acc)[M][NV], const float* sums) {
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[i][v] = acc[i][v] + V::load(sums + (i * NV + v) * V::kLanes);
}

// What a term adds to its sum.
template <class V>
struct Product {
  static inline V add(V x, V w, V acc) { return fma(x, w, acc); }
};

// G channels at once: each vector holds kLanes / G output channels times G input channels, whose sums are
// folded at the end. So few output channels still fill the lanes.
template <class V, class Term, int M, int NV, int G>
void conv_k_run(const ConvKArgs& args) {
  constexpr int W = V::kLanes / G;
  V acc[M][NV];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[i][v] = V::zero();

  // Long sums go in runs, whose results are added up in `sums`, so that rounding errors stay small. Where a
  // run ends follows from the terms' places in the filter, whichever taps this tile leaves out.
  alignas(64) float sums[M * NV * V::kLanes];
  bool summed = false;
  const auto run_end = [run = args.run_rows](int64_t row) { return (row / run + 1) * run; };
  int64_t end = args.taps ? run_end(args.tap_row[0]) : 0;

  const float* const* pixels = args.pixels;
  int64_t first = 0;  // channel of the tap
  for (int64_t t = 0; t < args.taps;) {
    const int64_t row = args.tap_row[t] + first;
    if (row >= end) {
      end = run_end(row);
      if (summed) conv_k_add<V, M, NV>(acc, sums);
      summed = true;
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
          acc[i][v].store(sums + (i * NV + v) * V::kLanes);
          acc[i][v] = V::zero();
        }
    }
    const int64_t left = args.channels - first, channels = left < end - row ? left : end - row;
    const int64_t shift = args.tap_input[t] + args.channel + first;
    const float* p[M];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) p[i] = pixels[i] + shift;
    const float* w = args.weight + row * (NV * W);
    // Written out twice: gcc keeps accumulators that a lambda captures in memory.
    const int64_t whole = channels & -G;
    int64_t c = 0;
#pragma GCC unroll 1
    for (; c < whole; c += G, w += NV * V::kLanes) {
      V ws[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        ws[v] = V::load(w + v * V::kLanes);
        pin(ws[v]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        const V x = V::template broadcast_group<G>(p[i] + c);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[i][v] = Term::add(x, ws[v], acc[i][v]);
      }
    }
    if constexpr (G > 1) {
      if (c < channels) {
        const int left = static_cast<int>(channels - c);
        V ws[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) ws[v] = V::load(w + v * V::kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) {
          const V x = V::template broadcast_group_tail<G>(p[i] + c, left);
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) acc[i][v] = Term::add(x, ws[v], acc[i][v]);
        }
      }
    }
    first += channels;
    if (first == args.channels) first = 0, ++t, pixels += args.pixels_step;
  }
  if (summed) conv_k_add<V, M, NV>(acc, sums);
  if constexpr (G > 1) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = fold_groups<G>(acc[i][v]);
  }

  if (G == 1 && args.lanes == NV * W)
    conv_k_finish<V, M, NV, W, true>(args, acc);
  else
    conv_k_finish<V, M, NV, W, false>(args, acc);
}

template <class V, class Term, int NV, int G, int... Ms>
struct ConvKRows {
  static constexpr void (*run[])(const ConvKArgs&) = {conv_k_run<V, Term, Ms, NV, G>...};
};
template <class V, int NV, int G = 1>
using ConvK4 = ConvKRows<V, Product<V>, NV, G, 1, 2, 3, 4>;
template <class V, int NV, int G = 1>
using ConvK6 = ConvKRows<V, Product<V>, NV, G, 1, 2, 3, 4, 5, 6>;
template <class V, int NV, int G = 1>
using ConvK8 = ConvKRows<V, Product<V>, NV, G, 1, 2, 3, 4, 5, 6, 7, 8>;
template <class V, int NV, int G = 1>
using ConvK10 = ConvKRows<V, Product<V>, NV, G, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10>;
template <class V, int NV, int G = 1>
using ConvK12 = ConvKRows<V, Product<V>, NV, G, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>;

}  // namespace
}  // namespace cnnext
