// Depthwise convolution of 3 x 3, 5 x 5 and 7 x 7 taps without stride and dilation, one result a channel: a
// thread computes kStrip results above one another. Each element that it reads goes into all of them, and
// each weight is read once for them; the taps are known to the compiler, so that nothing is divided on the
// way. Backward-data is the same over the results with the taps turned round.
#pragma once

#include "cuda/activation.cuh"
#include "cuda/pool.cuh"

namespace cnnext::cuda {

struct DepthwiseEpilogue {
  const void *bias, *residual;
  int32_t activation;
  float alpha;
};

constexpr int kStrip = 4;

// Result row p takes row p - pad_top + r of what is read, by weight (r, t). x and y: read and written.
template <class T, int V, bool kNhwc>
struct DepthwiseStrips {
  int64_t rows, columns, rows_read, columns_read;
  int64_t pad_top, pad_left;
  int64_t channel_step, row_step, column_step;  // of the weights
  FastDivisor by_channels;
  Images<V, kNhwc> strips, to, from;
  const T *x, *w;
  T* y;

  explicit DepthwiseStrips(const Conv2dDesc& d, bool backward)
      : rows(backward ? d.H : d.P),
        columns(backward ? d.W : d.Q),
        rows_read(backward ? d.P : d.H),
        columns_read(backward ? d.Q : d.W),
        pad_top(backward ? d.R - 1 - d.pad_top : d.pad_top),
        pad_left(backward ? d.S - 1 - d.pad_left : d.pad_left),
        channel_step(d.w.strides[0]),
        row_step(backward ? -d.w.strides[2] : d.w.strides[2]),
        column_step(backward ? -d.w.strides[3] : d.w.strides[3]),
        by_channels(d.C),
        strips(d.N, d.C, ceil_div(rows, kStrip), columns),
        to(d.N, d.C, rows, columns),
        from(d.N, d.C, rows_read, columns_read),
        x(data<const T>(backward ? d.y : d.x)),
        w(data<const T>(d.w) + (backward ? (d.R - 1) * d.w.strides[2] + (d.S - 1) * d.w.strides[3] : 0)),
        y(data<T>(backward ? d.x : d.y)) {}

  CNNEXT_DEVICE int64_t channel(int64_t image_channel) const {
    by_channels.split(&image_channel);
    return image_channel;
  }
};

template <class T, int V, bool kNhwc, int kTaps>
__global__ void __launch_bounds__(kBlock, 2)
    depthwise_strips_kernel(DepthwiseStrips<T, V, kNhwc> s, DepthwiseEpilogue epilogue) {
  for (int64_t item = first_item(); item < s.strips.count(); item += item_step()) {
    const Pixel at = s.strips.pixel(item);
    const int64_t row = at.row * kStrip, top = row - s.pad_top, left = at.column - s.pad_left;
    const int64_t k = s.channel(at.image_channel), read = s.from.base(at);
    const int64_t begin = greatest(0, -left), end = least(kTaps, s.columns_read - left);
    Vec<float, V> sums[kStrip] = {};
    for (int64_t t = begin; t < end; ++t) {
      const T* const weights = s.w + k * s.channel_step + t * s.column_step;
      const T* const column = s.x + s.from.offset(read, top, left + t);
      Vec<float, V> factors[kTaps];  // kStrip of them at a time are in use
#pragma unroll
      for (int i = 0; i < kTaps + kStrip - 1; ++i) {
        if (i < kTaps) {
#pragma unroll
          for (int j = 0; j < V; ++j) {
            factors[i][j] = to_float(weights[j * s.channel_step + i * s.row_step]);
          }
        }
        if (top + i < 0 || top + i >= s.rows_read) continue;
        const Vec<float, V> value = to_floats(load<V>(column + i * s.from.row_step()));
#pragma unroll
        for (int o = 0; o < kStrip; ++o) {
          const int r = i - o;
          if (r < 0 || r >= kTaps) continue;
#pragma unroll
          for (int j = 0; j < V; ++j) sums[o][j] += value[j] * factors[r][j];
        }
      }
    }
#pragma unroll
    for (int o = 0; o < kStrip; ++o) {
      if (row + o >= s.rows) continue;
      const int64_t out = s.to.offset(s.to.base(at), row + o, at.column);
      Vec<float, V> rest{};
      if (epilogue.residual) rest = to_floats(load<V>(static_cast<const T*>(epilogue.residual) + out));
#pragma unroll
      for (int j = 0; j < V; ++j) {
        if (epilogue.bias) rest[j] += to_float(static_cast<const T*>(epilogue.bias)[k + j]);
        sums[o][j] += rest[j];
      }
      activate_all(epilogue.activation, epilogue.alpha, &sums[o]);
      store(s.y + out, from_floats<T>(sums[o]));
    }
  }
}

inline bool is_for_strips(const Conv2dDesc& d) {
  const bool steps = d.stride_h == 1 && d.stride_w == 1 && d.dilation_h == 1 && d.dilation_w == 1;
  return steps && d.K == d.C && d.R == d.S && (d.R == 3 || d.R == 5 || d.R == 7);
}

template <class T, int V, bool kNhwc>
void run_depthwise_strips(const Op& op, const Conv2dDesc& d, bool backward,
                          const DepthwiseEpilogue& epilogue) {
  const DepthwiseStrips<T, V, kNhwc> s(d, backward);
  const int64_t blocks = blocks_for(s.strips.count(), kBlock);
  if (d.R == 3) return launch_flat(op, depthwise_strips_kernel<T, V, kNhwc, 3>, blocks, s, epilogue);
  if (d.R == 5) return launch_flat(op, depthwise_strips_kernel<T, V, kNhwc, 5>, blocks, s, epilogue);
  launch_flat(op, depthwise_strips_kernel<T, V, kNhwc, 7>, blocks, s, epilogue);
}

}  // namespace cnnext::cuda
