// Depthwise backward-weights: see depthwise.h.
#pragma once

#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/lanes-inl.h"

namespace cnnext {
namespace {

// One vector of channels, or its first n, of the pixels of rows [begin, end).
template <class V, int T, bool kWhole, class E>
inline void depthwise_weights_lanes(const DepthwiseWeightsArgs<E>& args, int64_t begin, int64_t end,
                                    int64_t lane, int n) {
  V acc[T];
  const E* x[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    acc[t] = V::zero();
    x[t] = args.x + lane + args.tap_x[t];
  }
  const int64_t x_col = args.x_col, dy_col = args.dy_col;
  for (int64_t r = begin; r < end; ++r) {
    int64_t at = r * args.x_row;
    const E* dy = args.dy + lane + r * args.dy_row;
    for (int64_t c = args.cols; c > 0; --c, at += x_col, dy += dy_col) {
      if (args.prefetches) {
        __builtin_prefetch(dy + args.dy_row, 0, 2);
        for (int i = 0; i < args.prefetches; ++i) __builtin_prefetch(x[T - 1] + at + args.prefetch[i], 0, 2);
      }
      V g = kWhole ? load_lanes<V>(dy) : load_lanes_tail<V>(dy, n);
      pin(g);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        acc[t] = fma(kWhole ? load_lanes<V>(x[t] + at) : load_lanes_tail<V>(x[t] + at, n), g, acc[t]);
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

template <class V, int T, class E>
void depthwise_weights_channels(const DepthwiseWeightsArgs<E>& args) {
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
void depthwise_weights_columns(const DepthwiseWeightsArgs<float>& args) {
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

}  // namespace
}  // namespace cnnext
