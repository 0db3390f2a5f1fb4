// Depthwise convolution: see depthwise.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/depthwise.h"

namespace cnnext {
namespace {

template <class V, int T>
inline void depthwise_activate(V (&acc)[T], int32_t flags, float alpha) {
  const V zero = V::zero();
  if (flags & (kConvKRelu | kConvKRelu6)) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) acc[t] = max(zero, acc[t]);
  }
  if (flags & kConvKRelu6) {
    const V six = V::set1(6.f);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) acc[t] = min(six, acc[t]);
  }
  if (flags & kConvKLeakyRelu) {
    const V slope = V::set1(alpha);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) acc[t] = select(lt(acc[t], zero), acc[t] * slope, acc[t]);
  }
}

// One vector of lanes, or its first n, at T positions.
template <class V, int T, bool kColumns, bool kWhole>
inline void depthwise_block(const DepthwiseArgs& args, const float* x, const float* w, const float* bias,
                            float* y, int n) {
  V acc[T];
  V start = V::zero();
  if (bias) start = kColumns ? V::broadcast(bias) : kWhole ? V::load(bias) : V::load_tail(bias, n);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) acc[t] = start;
  const int64_t step = args.x_step;
  for (int64_t i = 0; i < args.tap_rows; ++i) {
    const int64_t* tap_x = args.tap_x + i * args.tap_step;
    const int64_t* tap_w = args.tap_w + i * args.tap_step;
    for (int64_t j = 0; j < args.tap_cols; ++j) {
      const float* p = x + tap_x[j];
      const float* q = w + tap_w[j];
      V weight = kColumns ? V::broadcast(q) : kWhole ? V::load(q) : V::load_tail(q, n);
      pin(weight);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        acc[t] = fma(kWhole ? V::load(p + t * step) : V::load_tail(p + t * step, n), weight, acc[t]);
      }
    }
  }
  if (args.residual) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const float* r = y + t * args.y_step + args.residual;
      acc[t] = acc[t] + (kWhole ? V::load(r) : V::load_tail(r, n));
    }
  }
  depthwise_activate<V, T>(acc, args.flags, args.alpha);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    if (kWhole)
      acc[t].store(y + t * args.y_step);
    else
      acc[t].store_tail(y + t * args.y_step, n);
  }
}

template <class V, bool kColumns, bool kWhole>
inline void depthwise_positions(const DepthwiseArgs& args, const float* x, const float* w, const float* bias,
                                float* y, int n) {
  int64_t left = args.positions;
  for (; left >= 8; left -= 8, x += 8 * args.x_step, y += 8 * args.y_step) {
    depthwise_block<V, 8, kColumns, kWhole>(args, x, w, bias, y, n);
  }
  if (left & 4) {
    depthwise_block<V, 4, kColumns, kWhole>(args, x, w, bias, y, n);
    x += 4 * args.x_step;
    y += 4 * args.y_step;
  }
  if (left & 2) {
    depthwise_block<V, 2, kColumns, kWhole>(args, x, w, bias, y, n);
    x += 2 * args.x_step;
    y += 2 * args.y_step;
  }
  if (left & 1) depthwise_block<V, 1, kColumns, kWhole>(args, x, w, bias, y, n);
}

template <class V, bool kColumns>
void depthwise_run(const DepthwiseArgs& args) {
  for (int64_t lane = 0; lane < args.lanes; lane += V::kLanes) {
    const float* x = args.x + lane;
    const float* w = kColumns ? args.w : args.w + lane;
    const float* bias = kColumns || !args.bias ? args.bias : args.bias + lane;
    float* y = args.y + lane;
    const int64_t left = args.lanes - lane;
    for (int64_t o = 0; o < args.outer; ++o, x += args.x_outer, y += args.y_outer) {
      if (left >= V::kLanes)
        depthwise_positions<V, kColumns, true>(args, x, w, bias, y, V::kLanes);
      else
        depthwise_positions<V, kColumns, false>(args, x, w, bias, y, static_cast<int>(left));
    }
  }
}

// T outputs of a row. count: how many of them to write; pixel j of those they read is inside for low <= j <
// high.
template <class V, int S, int kStride, int T, bool kInside, bool kWhole>
inline void depthwise_row_block(const DepthwiseRowsArgs& args, const float* x, const float* w,
                                const float* bias, float* y, int n, int64_t count, int64_t low,
                                int64_t high) {
  constexpr int kPixels = (T - 1) * kStride + S;
  V acc[T];
  V start = V::zero();
  if (bias) start = kWhole ? V::load(bias) : V::load_tail(bias, n);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) acc[t] = start;
  for (int64_t i = 0; i < args.tap_rows; ++i) {
    const int64_t* tap_w = args.tap_w + i * args.tap_step;
    V weight[S];
#pragma GCC unroll 16
    for (int s = 0; s < S; ++s) {
      weight[s] = kWhole ? V::load(w + tap_w[s]) : V::load_tail(w + tap_w[s], n);
      pin(weight[s]);
    }
    const float* p = x + args.tap_x[i * args.tap_step];
#pragma GCC unroll 32
    for (int j = 0; j < kPixels; ++j, p += args.x_col) {
      if (!kInside && (j < low || j >= high)) continue;
      V pixel = kWhole ? V::load(p) : V::load_tail(p, n);
      pin(pixel);
#pragma GCC unroll 16
      for (int s = 0; s < S; ++s) {
        if (j >= s && (j - s) % kStride == 0 && (j - s) / kStride < T) {
          acc[(j - s) / kStride] = fma(pixel, weight[s], acc[(j - s) / kStride]);
        }
      }
    }
  }
  if (args.residual) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      if (!kInside && t >= count) break;
      const float* r = y + t * args.y_col + args.residual;
      acc[t] = acc[t] + (kWhole ? V::load(r) : V::load_tail(r, n));
    }
  }
  depthwise_activate<V, T>(acc, args.flags, args.alpha);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    if (!kInside && t >= count) break;
    // A line at a time: halves that do not follow one another at once would cost more than they spare.
    if (kWhole && V::kLanes == 16 && (args.flags & kConvKStream))
      acc[t].stream(y + t * args.y_col);
    else if (kWhole)
      acc[t].store(y + t * args.y_col);
    else
      acc[t].store_tail(y + t * args.y_col, n);
  }
}

// One row, for `lanes` neighbouring lanes: a cache line's, so that the vectors of a line are taken together.
template <class V, int S, int kStride, int T>
inline void depthwise_row(const DepthwiseRowsArgs& args, const float* x, const float* w, const float* bias,
                          float* y, int lanes) {
  constexpr int kPixels = (T - 1) * kStride + S;
  for (int64_t q = 0; q < args.cols; q += T, y += T * args.y_col) {
    const int64_t first = args.first + q * kStride, count = args.cols - q;
    const float* p = x + first * args.x_col;
    const bool inside = count >= T && first >= 0 && first + kPixels <= args.width;
    for (int64_t i = 1; i <= args.ahead; ++i) {
      const float* next = p + args.tap_x[(args.tap_rows - 1) * args.tap_step] + i * args.x_line;
      for (int j = 0; j < T * kStride; ++j) __builtin_prefetch(next + j * args.x_col, 0, 2);
    }
    for (int v = 0; v < lanes; v += V::kLanes) {
      const float* b = bias ? bias + v : nullptr;
      if (lanes - v < V::kLanes)
        depthwise_row_block<V, S, kStride, T, false, false>(args, p + v, w + v, b, y + v, lanes - v, count,
                                                            -first, args.width - first);
      else if (inside)
        depthwise_row_block<V, S, kStride, T, true, true>(args, p + v, w + v, b, y + v, 0, T, 0, kPixels);
      else
        depthwise_row_block<V, S, kStride, T, false, true>(args, p + v, w + v, b, y + v, 0, count, -first,
                                                           args.width - first);
    }
  }
}

inline void depthwise_prefetch_row(const DepthwiseRowsArgs& args, const float* row) {
  for (int64_t j = 0; j < args.width; ++j, row += args.x_col) {
    for (int64_t lane = 0; lane < args.lanes; lane += 16) __builtin_prefetch(row + lane, 0, 2);
  }
}

template <class V, int S, int kStride>
void depthwise_rows(const DepthwiseRowsArgs& args) {
  constexpr int T =
      7;  // widths of 7, 14, 28, ... are common; and 16 registers hold 7 sums, 7 weights, a pixel
  constexpr int kLine = 16;
  if (args.ahead) {
    for (int64_t i = 0; i < args.tap_rows; ++i)
      depthwise_prefetch_row(args, args.x + args.tap_x[i * args.tap_step]);
  }
  for (int64_t r = 0; r < args.rows; ++r) {
    for (int64_t lane = 0; lane < args.lanes; lane += kLine) {
      const int lanes = args.lanes - lane < kLine ? static_cast<int>(args.lanes - lane) : kLine;
      depthwise_row<V, S, kStride, T>(args, args.x + r * args.x_row + lane, args.w + lane,
                                      args.bias ? args.bias + lane : nullptr, args.y + r * args.y_row + lane,
                                      lanes);
    }
  }
}

// 2 T outputs of a row, from the one that column 0 of the taps adds input pixel q0 to on.
template <class V, int S, int T, bool kInside, bool kWhole>
inline void depthwise_up_block(const DepthwiseRowsArgs& args, const float* x, const float* w,
                               const float* bias, float* y, int n, int64_t q0) {
  constexpr int kBefore = (S - 1) / 2;  // pixels before q0 that reach its outputs
  V acc[2 * T];
  V start = V::zero();
  if (bias) start = kWhole ? V::load(bias) : V::load_tail(bias, n);
#pragma GCC unroll 16
  for (int a = 0; a < 2 * T; ++a) acc[a] = start;
  for (int64_t i = 0; i < args.tap_rows; ++i) {
    const int64_t* tap_w = args.tap_w + i * args.tap_step;
    V weight[S];
#pragma GCC unroll 16
    for (int s = 0; s < S; ++s) {
      weight[s] = kWhole ? V::load(w + tap_w[s]) : V::load_tail(w + tap_w[s], n);
      pin(weight[s]);
    }
    const float* p = x + args.tap_x[i] + (q0 - kBefore) * args.x_col;
#pragma GCC unroll 16
    for (int d = -kBefore; d < T; ++d, p += args.x_col) {
      if (!kInside && (q0 + d < 0 || q0 + d >= args.width)) continue;
      V pixel = kWhole ? V::load(p) : V::load_tail(p, n);
      pin(pixel);
#pragma GCC unroll 16
      for (int s = 0; s < S; ++s) {
        if (2 * d + s >= 0 && 2 * d + s < 2 * T) acc[2 * d + s] = fma(pixel, weight[s], acc[2 * d + s]);
      }
    }
  }
  depthwise_activate<V, 2 * T>(acc, args.flags, args.alpha);
#pragma GCC unroll 16
  for (int a = 0; a < 2 * T; ++a) {
    const int64_t at = 2 * q0 + args.first + a;
    if (!kInside && (at < 0 || at >= args.cols)) continue;
    float* out = y + at * args.y_col;
    if (kWhole && V::kLanes == 16 && (args.flags & kConvKStream))
      acc[a].stream(out);
    else if (kWhole)
      acc[a].store(out);
    else
      acc[a].store_tail(out, n);
  }
}

template <class V, int S>
void depthwise_up(const DepthwiseRowsArgs& args) {
  constexpr int T = V::kLanes == 16 ? 6 : 4, kLine = 16, kBefore = (S - 1) / 2;
  for (int64_t lane = 0; lane < args.lanes; lane += kLine) {
    const int lanes = args.lanes - lane < kLine ? static_cast<int>(args.lanes - lane) : kLine;
    for (int64_t q0 = 0; 2 * q0 + args.first < args.cols; q0 += T) {
      const bool inside = q0 >= kBefore && q0 + T <= args.width && 2 * q0 + args.first >= 0 &&
                          2 * (q0 + T) + args.first <= args.cols;
      if (args.ahead) {
        const float* next = args.x + lane + args.x_line + q0 * args.x_col;
        for (int j = 0; j < T; ++j) __builtin_prefetch(next + j * args.x_col, 0, 2);
      }
      for (int v = 0; v < lanes; v += V::kLanes) {
        const int64_t at = lane + v;
        const float *x = args.x + at, *w = args.w + at, *bias = args.bias ? args.bias + at : nullptr;
        if (lanes - v < V::kLanes)
          depthwise_up_block<V, S, T, false, false>(args, x, w, bias, args.y + at, lanes - v, q0);
        else if (inside)
          depthwise_up_block<V, S, T, true, true>(args, x, w, bias, args.y + at, 0, q0);
        else
          depthwise_up_block<V, S, T, false, true>(args, x, w, bias, args.y + at, 0, q0);
      }
    }
  }
}

// One vector of channels, or its first n, of the pixels of rows [begin, end).
template <class V, int T, bool kWhole>
inline void depthwise_weights_lanes(const DepthwiseWeightsArgs& args, int64_t begin, int64_t end,
                                    int64_t lane, int n) {
  V acc[T];
  const float* x[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    acc[t] = V::zero();
    x[t] = args.x + lane + args.tap_x[t];
  }
  const int64_t x_col = args.x_col, dy_col = args.dy_col;
  for (int64_t r = begin; r < end; ++r) {
    int64_t at = r * args.x_row;
    const float* dy = args.dy + lane + r * args.dy_row;
    for (int64_t c = args.cols; c > 0; --c, at += x_col, dy += dy_col) {
      if (args.prefetches) {
        __builtin_prefetch(dy + args.dy_row, 0, 2);
        for (int i = 0; i < args.prefetches; ++i) __builtin_prefetch(x[T - 1] + at + args.prefetch[i], 0, 2);
      }
      V g = kWhole ? V::load(dy) : V::load_tail(dy, n);
      pin(g);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        acc[t] = fma(kWhole ? V::load(x[t] + at) : V::load_tail(x[t] + at, n), g, acc[t]);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    float* sums = args.sums + args.tap_sums[t] + lane;
    if (kWhole)
      (V::load(sums) + acc[t]).store(sums);
    else
      (V::load_tail(sums, n) + acc[t]).store_tail(sums, n);
  }
}

template <class V, int T>
void depthwise_weights_channels(const DepthwiseWeightsArgs& args) {
  // Row by row where the next one is prefetched: all of it while this one is summed.
  const int64_t step = args.prefetches ? 1 : args.rows;
  for (int64_t row = 0; row < args.rows; row += step) {
    int64_t lane = 0;
    for (; lane + V::kLanes <= args.lanes; lane += V::kLanes) {
      depthwise_weights_lanes<V, T, true>(args, row, row + step, lane, V::kLanes);
    }
    if (lane < args.lanes) {
      depthwise_weights_lanes<V, T, false>(args, row, row + step, lane, static_cast<int>(args.lanes - lane));
    }
  }
}

template <class V, int T>
void depthwise_weights_columns(const DepthwiseWeightsArgs& args) {
  V acc[T];
  const float* x[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    acc[t] = V::zero();
    x[t] = args.x + args.tap_x[t];
  }
  const int64_t whole = args.lanes / V::kLanes * V::kLanes;
  const int n = static_cast<int>(args.lanes - whole);
  for (int64_t r = 0; r < args.rows; ++r) {
    const int64_t at = r * args.x_row;
    const float* dy = args.dy + r * args.dy_row;
    for (int64_t j = 0; j < whole; j += V::kLanes) {
      V g = V::load(dy + j);
      pin(g);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) acc[t] = fma(V::load(x[t] + at + j), g, acc[t]);
    }
    if (n) {
      V g = V::load_tail(dy + whole, n);
      pin(g);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) acc[t] = fma(V::load_tail(x[t] + at + whole, n), g, acc[t]);
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    float* sums = args.sums + args.tap_sums[t];
    (V::load(sums) + acc[t]).store(sums);
  }
}

template <class V>
float depthwise_reduce(const float* p) {
  return reduce_add(V::load(p));
}

template <class V>
bool depthwise_finite(const float* p, int64_t n) {
  // Infinity and NaN times zero are NaN, and stay.
  const V zero = V::zero();
  V a = zero, b = zero;
  int64_t i = 0;
  for (; i + 2 * V::kLanes <= n; i += 2 * V::kLanes) {
    a = fma(V::load(p + i), zero, a);
    b = fma(V::load(p + i + V::kLanes), zero, b);
  }
  for (; i < n; i += V::kLanes) {
    a = fma(V::load_tail(p + i, n - i < V::kLanes ? static_cast<int>(n - i) : V::kLanes), zero, a);
  }
  return !any(is_nan(a + b));
}

template <class V>
void depthwise_deinterleave(int64_t n, const float* in, float* even, float* odd) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) {
    V a = V::load(in + 2 * i), b = V::load(in + 2 * i + V::kLanes);
    deinterleave(a, b);
    a.store(even + i);
    b.store(odd + i);
  }
  for (; i < n; ++i) {
    even[i] = in[2 * i];
    odd[i] = in[2 * i + 1];
  }
}

template <class V>
void depthwise_interleave(int64_t n, const float* even, const float* odd, float* out) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) {
    V a = V::load(even + i), b = V::load(odd + i);
    interleave(a, b);
    a.store(out + 2 * i);
    b.store(out + 2 * i + V::kLanes);
  }
  for (; i < n; ++i) {
    out[2 * i] = even[i];
    out[2 * i + 1] = odd[i];
  }
}

inline void depthwise_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <class V>
constexpr DepthwiseUkernels depthwise_ukernels(const char* name_channels, const char* name_columns) {
  return {
      V::kLanes,
      depthwise_run<V, false>,
      depthwise_run<V, true>,
      {{},
       {nullptr, nullptr, depthwise_rows<V, 2, 1>, depthwise_rows<V, 3, 1>, depthwise_rows<V, 4, 1>,
        depthwise_rows<V, 5, 1>, nullptr, depthwise_rows<V, 7, 1>},
       {nullptr, nullptr, nullptr, depthwise_rows<V, 3, 2>, nullptr, depthwise_rows<V, 5, 2>, nullptr,
        depthwise_rows<V, 7, 2>}},
      {nullptr, nullptr, nullptr, depthwise_up<V, 3>, nullptr, depthwise_up<V, 5>, nullptr,
       depthwise_up<V, 7>},
      {nullptr, depthwise_weights_channels<V, 1>, depthwise_weights_channels<V, 2>,
       depthwise_weights_channels<V, 3>, depthwise_weights_channels<V, 4>, depthwise_weights_channels<V, 5>,
       depthwise_weights_channels<V, 6>, depthwise_weights_channels<V, 7>, depthwise_weights_channels<V, 8>,
       depthwise_weights_channels<V, 9>},
      {nullptr, depthwise_weights_columns<V, 1>, depthwise_weights_columns<V, 2>,
       depthwise_weights_columns<V, 3>, depthwise_weights_columns<V, 4>, depthwise_weights_columns<V, 5>,
       depthwise_weights_columns<V, 6>, depthwise_weights_columns<V, 7>, depthwise_weights_columns<V, 8>,
       depthwise_weights_columns<V, 9>},
      depthwise_reduce<V>,
      depthwise_finite<V>,
      depthwise_deinterleave<V>,
      depthwise_interleave<V>,
      depthwise_fence,
      name_channels,
      name_columns};
}

}  // namespace
}  // namespace cnnext
