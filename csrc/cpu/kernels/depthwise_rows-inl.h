// Depthwise convolution of whole rows, channels along the vectors: see depthwise.h.
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

// Short vectors make whole lines in a buffer before they stream: halves of a line that do not follow one
// another at once cost more than streaming spares.
constexpr int kDepthwiseLine = 16;

template <class V>
inline bool depthwise_buffers(const DepthwiseRowsArgs& args) {
  return V::kLanes < kDepthwiseLine && (args.flags & kConvKStream) && !args.residual;
}

inline DepthwiseRowsArgs depthwise_buffered(DepthwiseRowsArgs args) {
  args.y_col = kDepthwiseLine;
  args.flags &= ~kConvKStream;
  return args;
}

template <class V, int T>
inline void depthwise_stream_lines(const float* buffer, float* y, int64_t y_col) {
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < kDepthwiseLine; v += V::kLanes) {
      V::load(buffer + t * kDepthwiseLine + v).stream(y + t * y_col + v);
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
    if (kWhole && V::kLanes == kDepthwiseLine && (args.flags & kConvKStream))
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
  const bool buffers = depthwise_buffers<V>(args) && lanes == kDepthwiseLine;
  const DepthwiseRowsArgs buffered = depthwise_buffered(args);
  alignas(64) float buffer[T * kDepthwiseLine];
  for (int64_t q = 0; q < args.cols; q += T, y += T * args.y_col) {
    const int64_t first = args.first + q * kStride, count = args.cols - q;
    const float* p = x + first * args.x_col;
    const bool inside = count >= T && first >= 0 && first + kPixels <= args.width;
    for (int64_t i = 1; i <= args.ahead; ++i) {
      const float* next = p + args.tap_x[(args.tap_rows - 1) * args.tap_step] + i * args.x_line;
      for (int j = 0; j < T * kStride; ++j) __builtin_prefetch(next + j * args.x_col, 0, 2);
    }
    if (buffers && inside) {
      for (int v = 0; v < kDepthwiseLine; v += V::kLanes) {
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

// 2 T outputs of a row, from the one that column 0 of the taps adds input pixel q0 to on: y.
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
    float* out = y + a * args.y_col;
    if (kWhole && V::kLanes == kDepthwiseLine && (args.flags & kConvKStream))
      acc[a].stream(out);
    else if (kWhole)
      acc[a].store(out);
    else
      acc[a].store_tail(out, n);
  }
}

template <class V, int S>
void depthwise_up(const DepthwiseRowsArgs& args) {
  constexpr int T = V::kLanes == 16 ? 6 : 4, kLine = kDepthwiseLine, kBefore = (S - 1) / 2;
  const bool buffers = depthwise_buffers<V>(args);
  const DepthwiseRowsArgs buffered = depthwise_buffered(args);
  alignas(64) float buffer[2 * T * kLine];
  for (int64_t lane = 0; lane < args.lanes; lane += kLine) {
    const int lanes = args.lanes - lane < kLine ? static_cast<int>(args.lanes - lane) : kLine;
    for (int64_t q0 = 0; 2 * q0 + args.first < args.cols; q0 += T) {
      const bool inside = q0 >= kBefore && q0 + T <= args.width && 2 * q0 + args.first >= 0 &&
                          2 * (q0 + T) + args.first <= args.cols;
      if (args.ahead) {
        const float* next = args.x + lane + args.x_line + q0 * args.x_col;
        for (int j = 0; j < T; ++j) __builtin_prefetch(next + j * args.x_col, 0, 2);
      }
      float* const y = args.y + lane + (2 * q0 + args.first) * args.y_col;
      const bool lines = buffers && inside && lanes == kLine;
      for (int v = 0; v < lanes; v += V::kLanes) {
        const int64_t at = lane + v;
        const float *x = args.x + at, *w = args.w + at, *bias = args.bias ? args.bias + at : nullptr;
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
