// Depthwise convolution: see depthwise.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/depthwise_rows-inl.h"
#include "cpu/kernels/depthwise_weights-inl.h"

namespace cnnext {
namespace {

// One vector of lanes, or its first n, at T positions.
template <class V, int T, bool kColumns, bool kWhole, class E>
inline void depthwise_block(const DepthwiseArgs<E>& args, const E* x, const float* w, const float* bias, E* y,
                            int n) {
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
      const E* p = x + tap_x[j];
      const float* q = w + tap_w[j];
      V weight = kColumns ? V::broadcast(q) : kWhole ? V::load(q) : V::load_tail(q, n);
      pin(weight);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const E* at = p + t * step;
        acc[t] = fma(kWhole ? load_lanes<V>(at) : load_lanes_tail<V>(at, n), weight, acc[t]);
      }
    }
  }
  if (args.residual) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const E* r = y + t * args.y_step + args.residual;
      acc[t] = acc[t] + (kWhole ? load_lanes<V>(r) : load_lanes_tail<V>(r, n));
    }
  }
  depthwise_activate<V, T>(acc, args.flags, args.alpha);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    if (kWhole)
      store_lanes(acc[t], y + t * args.y_step);
    else
      store_lanes_tail(acc[t], y + t * args.y_step, n);
  }
}

template <class V, bool kColumns, bool kWhole, class E>
inline void depthwise_positions(const DepthwiseArgs<E>& args, const E* x, const float* w, const float* bias,
                                E* y, int n) {
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

template <class V, bool kColumns, class E>
void depthwise_run(const DepthwiseArgs<E>& args) {
  for (int64_t lane = 0; lane < args.lanes; lane += V::kLanes) {
    const E* x = args.x + lane;
    const float* w = kColumns ? args.w : args.w + lane;
    const float* bias = kColumns || !args.bias ? args.bias : args.bias + lane;
    E* y = args.y + lane;
    const int64_t left = args.lanes - lane;
    for (int64_t o = 0; o < args.outer; ++o, x += args.x_outer, y += args.y_outer) {
      if (left >= V::kLanes)
        depthwise_positions<V, kColumns, true>(args, x, w, bias, y, V::kLanes);
      else
        depthwise_positions<V, kColumns, false>(args, x, w, bias, y, static_cast<int>(left));
    }
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

template <class V, class E>
constexpr DepthwiseChannelsUkernels<E> depthwise_channels_ukernels() {
  return {depthwise_run<V, false, E>,
          {{},
           {nullptr, nullptr, depthwise_rows<V, 2, 1, E>, depthwise_rows<V, 3, 1, E>,
            depthwise_rows<V, 4, 1, E>, depthwise_rows<V, 5, 1, E>, nullptr, depthwise_rows<V, 7, 1, E>},
           {nullptr, nullptr, nullptr, depthwise_rows<V, 3, 2, E>, nullptr, depthwise_rows<V, 5, 2, E>,
            nullptr, depthwise_rows<V, 7, 2, E>}},
          {nullptr, nullptr, nullptr, depthwise_up<V, 3, E>, nullptr, depthwise_up<V, 5, E>, nullptr,
           depthwise_up<V, 7, E>},
          {nullptr, depthwise_weights_channels<V, 1, E>, depthwise_weights_channels<V, 2, E>,
           depthwise_weights_channels<V, 3, E>, depthwise_weights_channels<V, 4, E>,
           depthwise_weights_channels<V, 5, E>, depthwise_weights_channels<V, 6, E>,
           depthwise_weights_channels<V, 7, E>, depthwise_weights_channels<V, 8, E>,
           depthwise_weights_channels<V, 9, E>}};
}

template <class V>
constexpr DepthwiseUkernels depthwise_ukernels(const char* name_channels, const char* name_columns) {
  return {V::kLanes,
          depthwise_channels_ukernels<V, float>(),
          depthwise_run<V, true, float>,
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
