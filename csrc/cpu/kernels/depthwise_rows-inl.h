// Depthwise convolution of whole rows, channels along the vectors: see depthwise.h.
#pragma once

#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/lanes-inl.h"

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

// Short vectors make whole lines in a buffer before they stream: halves of a line that do not follow one
// another at once cost more than streaming spares. 16 bits stream by rows, from a strip.
template <class E>
constexpr int kDepthwiseLine = 64 / sizeof(E);

template <class V, class E>
inline bool depthwise_buffers(const DepthwiseRowsArgs<E>& args) {
  return sizeof(E) == sizeof(float) && V::kLanes < kDepthwiseLine<E> && (args.flags & kConvKStream) &&
         !args.residual;
}

template <class E>
inline DepthwiseRowsArgs<E> depthwise_buffered(DepthwiseRowsArgs<E> args) {
  args.y_col = kDepthwiseLine<E>;
  args.flags &= ~kConvKStream;
  return args;
}

template <class V, int T, class E>
inline void depthwise_stream_lines(const E* buffer, E* y, int64_t y_col) {
  if constexpr (sizeof(E) == sizeof(float)) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
      for (int v = 0; v < kDepthwiseLine<E>; v += V::kLanes) {
        V::load(buffer + t * kDepthwiseLine<E> + v).stream(y + t * y_col + v);
      }
    }
  }
}

template <class V, bool kWhole, class E>
inline void depthwise_store(V x, E* y, int32_t flags, int n) {
  if constexpr (kWhole && V::kLanes == kDepthwiseLine<E>) {
    if (flags & kConvKStream) return x.stream(y);
  }
  if (kWhole)
    store_lanes(x, y);
  else
    store_lanes_tail(x, y, n);
}

// T outputs of a row. count: how many of them to write; pixel j of those they read is inside for low <= j <
// high.
template <class V, int S, int kStride, int T, bool kInside, bool kWhole, class E>
inline void depthwise_row_block(const DepthwiseRowsArgs<E>& args, const E* x, const float* w,
                                const float* bias, E* y, int n, int64_t count, int64_t low, int64_t high) {
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
    const E* p = x + args.tap_x[i * args.tap_step];
#pragma GCC unroll 32
    for (int j = 0; j < kPixels; ++j, p += args.x_col) {
      if (!kInside && (j < low || j >= high)) continue;
      V pixel = kWhole ? load_lanes<V>(p) : load_lanes_tail<V>(p, n);
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
      const E* r = y + t * args.y_col + args.residual;
      acc[t] = acc[t] + (kWhole ? load_lanes<V>(r) : load_lanes_tail<V>(r, n));
    }
  }
  depthwise_activate<V, T>(acc, args.flags, args.alpha);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    if (!kInside && t >= count) break;
    depthwise_store<V, kWhole>(acc[t], y + t * args.y_col, args.flags, n);
  }
}

// One row, for `lanes` neighbouring lanes: a cache line's, so that the vectors of a line are taken together.
template <class V, int S, int kStride, int T, class E>
inline void depthwise_row(const DepthwiseRowsArgs<E>& args, const E* x, const float* w, const float* bias,
                          E* y, int lanes) {
  constexpr int kPixels = (T - 1) * kStride + S;
  const bool buffers = depthwise_buffers<V>(args) && lanes == kDepthwiseLine<E>;
  const DepthwiseRowsArgs<E> buffered = depthwise_buffered(args);
  alignas(64) E buffer[T * kDepthwiseLine<E>];
  for (int64_t q = 0; q < args.cols; q += T, y += T * args.y_col) {
    const int64_t first = args.first + q * kStride, count = args.cols - q;
    const E* p = x + first * args.x_col;
    const bool inside = count >= T && first >= 0 && first + kPixels <= args.width;
    for (int64_t i = 1; i <= args.ahead; ++i) {
      const E* next = p + args.tap_x[(args.tap_rows - 1) * args.tap_step] + i * args.x_line;
      for (int j = 0; j < T * kStride; ++j) __builtin_prefetch(next + j * args.x_col, 0, 2);
    }
    if (buffers && inside) {
      for (int v = 0; v < kDepthwiseLine<E>; v += V::kLanes) {
        depthwise_row_block<V, S, kStride, T, true, true>(buffered, p + v, w + v, bias ? bias + v : nullptr,
                                                          buffer + v, 0, T, 0, kPixels);
      }
      depthwise_stream_lines<V, T>(buffer, y, args.y_col);
      continue;
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

template <class E>
inline void depthwise_prefetch_row(const DepthwiseRowsArgs<E>& args, const E* row) {
  for (int64_t j = 0; j < args.width; ++j, row += args.x_col) {
    for (int64_t lane = 0; lane < args.lanes; lane += kDepthwiseLine<E>) __builtin_prefetch(row + lane, 0, 2);
  }
}

template <class V, int S, int kStride, class E>
void depthwise_rows(const DepthwiseRowsArgs<E>& args) {
  constexpr int T =
      7;  // widths of 7, 14, 28, ... are common; and 16 registers hold 7 sums, 7 weights, a pixel
  constexpr int kLine = kDepthwiseLine<E>;
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

// 2 T outputs of a row, from the one that column 0 of the taps adds input pixel q0 to on: y.
template <class V, int S, int T, bool kInside, bool kWhole, class E>
inline void depthwise_up_block(const DepthwiseRowsArgs<E>& args, const E* x, const float* w,
                               const float* bias, E* y, int n, int64_t q0) {
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
    const E* p = x + args.tap_x[i] + (q0 - kBefore) * args.x_col;
#pragma GCC unroll 16
    for (int d = -kBefore; d < T; ++d, p += args.x_col) {
      if (!kInside && (q0 + d < 0 || q0 + d >= args.width)) continue;
      V pixel = kWhole ? load_lanes<V>(p) : load_lanes_tail<V>(p, n);
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
    depthwise_store<V, kWhole>(acc[a], y + a * args.y_col, args.flags, n);
  }
}

template <class V, int S, class E>
void depthwise_up(const DepthwiseRowsArgs<E>& args) {
  constexpr int T = V::kLanes == 16 ? 6 : 4, kLine = kDepthwiseLine<E>, kBefore = (S - 1) / 2;
  const bool buffers = depthwise_buffers<V>(args);
  const DepthwiseRowsArgs<E> buffered = depthwise_buffered(args);
  alignas(64) E buffer[2 * T * kLine];
  for (int64_t lane = 0; lane < args.lanes; lane += kLine) {
    const int lanes = args.lanes - lane < kLine ? static_cast<int>(args.lanes - lane) : kLine;
    for (int64_t q0 = 0; 2 * q0 + args.first < args.cols; q0 += T) {
      const bool inside = q0 >= kBefore && q0 + T <= args.width && 2 * q0 + args.first >= 0 &&
                          2 * (q0 + T) + args.first <= args.cols;
      if (args.ahead) {
        const E* next = args.x + lane + args.x_line + q0 * args.x_col;
        for (int j = 0; j < T; ++j) __builtin_prefetch(next + j * args.x_col, 0, 2);
      }
      E* const y = args.y + lane + (2 * q0 + args.first) * args.y_col;
      const bool lines = buffers && inside && lanes == kLine;
      for (int v = 0; v < lanes; v += V::kLanes) {
        const int64_t at = lane + v;
        const E* x = args.x + at;
        const float *w = args.w + at, *bias = args.bias ? args.bias + at : nullptr;
        if (lanes - v < V::kLanes)
          depthwise_up_block<V, S, T, false, false>(args, x, w, bias, y + v, lanes - v, q0);
        else if (lines)
          depthwise_up_block<V, S, T, true, true>(buffered, x, w, bias, buffer + v, 0, q0);
        else if (inside)
          depthwise_up_block<V, S, T, true, true>(args, x, w, bias, y + v, 0, q0);
        else
          depthwise_up_block<V, S, T, false, true>(args, x, w, bias, y + v, 0, q0);
      }
      if (lines) depthwise_stream_lines<V, 2 * T>(buffer, y, args.y_col);
    }
  }
}

}  // namespace
}  // namespace cnnext
