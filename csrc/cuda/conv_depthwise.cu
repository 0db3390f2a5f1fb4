// Forward and backward-data: one thread a result (NCHW), or the results of 16 bytes of channels (NHWC), over
// the taps that lie inside. Backward-weights: for each row of taps sums per result channel over all pixels
// (channels.cuh). Result channel k reads channel k / multiple; where that is not k itself, items are single
// channels.
#include "cuda/channels.cuh"
#include "cuda/conv_depthwise.cuh"
#include "cuda/conv_depthwise_strips.cuh"

namespace cnnext::cuda {
namespace {

struct DepthwiseShape {
  WindowAxis rows, columns;
  FastDivisor by_results, by_multiple;  // K; results of a channel
  int64_t multiple;
  int64_t channel_step, row_step, column_step;  // of the weights

  explicit DepthwiseShape(const Conv2dDesc& d)
      : rows{d.H, d.P, d.R, d.pad_top, d.pad_bottom, FastDivisor(d.stride_h), FastDivisor(d.dilation_h)},
        columns{d.W, d.Q, d.S, d.pad_left, d.pad_right, FastDivisor(d.stride_w), FastDivisor(d.dilation_w)},
        by_results(d.K),
        by_multiple(d.K / d.C),
        multiple(d.K / d.C),
        channel_step(d.w.strides[0]),
        row_step(d.w.strides[2]),
        column_step(d.w.strides[3]) {}

  // Numbers of a result's image and channel: its channel, and the image and channel that it reads.
  CNNEXT_DEVICE int64_t result(int64_t image_channel) const {
    by_results.split(&image_channel);
    return image_channel;
  }
  template <int V>
  CNNEXT_DEVICE Pixel source(const Pixel& at) const {
    if constexpr (V > 1) return at;
    return {by_multiple.divide(at.image_channel), at.row, at.column};
  }
};

// sum[j] += values[j] * w(k + j, r, s)
template <class T, int V>
CNNEXT_DEVICE void add_products(const DepthwiseShape& s, const T* w, int64_t k, int64_t r, int64_t t,
                                const Vec<float, V>& values, Vec<float, V>* sum) {
  const T* const weights = w + k * s.channel_step + r * s.row_step + t * s.column_step;
#pragma unroll
  for (int j = 0; j < V; ++j) (*sum)[j] += values[j] * to_float(weights[j * s.channel_step]);
}

template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    depthwise_forward_kernel(DepthwiseShape s, Images<V, kNhwc> from, Images<V, kNhwc> to, const T* x,
                             const T* w, T* y, DepthwiseEpilogue epilogue) {
  for (int64_t item = first_item(); item < to.count(); item += item_step()) {
    const Pixel at = to.pixel(item);
    const int64_t k = s.result(at.image_channel), base = from.base(s.template source<V>(at)),
                  out = to.offset(to.base(at), at.row, at.column);
    const Range rows = s.rows.taps(at.row), columns = s.columns.taps(at.column);
    Vec<float, V> sum{};
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t t = columns.begin; t < columns.end; ++t) {
        const int64_t offset =
            from.offset(base, s.rows.position(at.row, r), s.columns.position(at.column, t));
        add_products<T, V>(s, w, k, r, t, to_floats(load<V>(x + offset)), &sum);
      }
    }
    Vec<float, V> rest{};
    if (epilogue.residual) rest = to_floats(load<V>(static_cast<const T*>(epilogue.residual) + out));
#pragma unroll
    for (int j = 0; j < V; ++j) {
      if (epilogue.bias) sum[j] += to_float(static_cast<const T*>(epilogue.bias)[k + j]);
      sum[j] = activate(epilogue.activation, epilogue.alpha, sum[j] + rest[j]);
    }
    store(y + out, from_floats<T>(sum));
  }
}

template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    depthwise_data_kernel(DepthwiseShape s, Images<V, kNhwc> to, Images<V, kNhwc> from, T* x, const T* w,
                          const T* y, const T* bias) {
  for (int64_t item = first_item(); item < to.count(); item += item_step()) {
    const Pixel at = to.pixel(item);
    const Range rows = s.rows.windows_over(at.row), columns = s.columns.windows_over(at.column);
    const int64_t multiple = V > 1 ? 1 : s.multiple, first = at.image_channel * multiple;
    Vec<float, V> sum{};
    for (int64_t i = 0; i < multiple; ++i) {
      const Pixel result{first + i, at.row, at.column};
      const int64_t k = s.result(result.image_channel), base = from.base(result);
      for (int64_t p = rows.begin; p < rows.end; ++p) {
        const int64_t r = s.rows.tap_at(p, at.row);
        if (r < 0) continue;
        for (int64_t q = columns.begin; q < columns.end; ++q) {
          const int64_t t = s.columns.tap_at(q, at.column);
          if (t < 0) continue;
          add_products<T, V>(s, w, k, r, t, to_floats(load<V>(y + from.offset(base, p, q))), &sum);
        }
      }
    }
    const int64_t k = s.result(first), c = V > 1 ? k : s.by_multiple.divide(k);
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] += bias ? to_float(bias[c + j]) : 0;
    store(x + to.offset(to.base(at), at.row, at.column), from_floats<T>(sum));
  }
}

// Elements of y, each times what kTaps neighbouring taps of a row see of x from there.
template <class T, bool kNhwc, int kTaps>
struct TapReader {
  using State = Sums<kTaps>;
  struct Accumulator {
    State sums;
    CNNEXT_DEVICE State finish() const { return sums; }
  };
  DepthwiseShape s;
  Images<1, kNhwc> from, to;
  const T *x, *y;
  int64_t r, t;

  // Item numbers are offsets in y: both count in the order of memory.
  CNNEXT_DEVICE State products(int64_t at) const {
    State result{};
    const Pixel pixel = to.pixel(at);
    const int64_t h = s.rows.position(pixel.row, r);
    if (h < 0 || h >= s.rows.size) return result;
    const float grad = to_float(y[at]);
    const T* const row = x + from.offset(from.base(s.template source<1>(pixel)), h, 0);
#pragma unroll
    for (int i = 0; i < kTaps; ++i) {
      const int64_t w = s.columns.position(pixel.column, t + i);
      if (w < 0 || w >= s.columns.size) continue;
      result.fields[i] = grad * to_float(row[w * from.column_step()]);
    }
    return result;
  }
  template <int V>
  struct Input {
    State products[V];
  };
  template <int V>
  CNNEXT_DEVICE Input<V> read(int64_t at) const {
    Input<V> input;
#pragma unroll
    for (int j = 0; j < V; ++j) input.products[j] = products(at + j);
    return input;
  }
  template <int V>
  CNNEXT_DEVICE void add(Accumulator* sum, const Input<V>& input, int j, float) const {
    sum->sums.merge(input.products[j]);
  }
  CNNEXT_DEVICE float centre(int64_t) const { return 0; }
};

// w: of the first of kTaps taps.
template <class T, int kTaps>
__global__ void __launch_bounds__(kBlock)
    finish_taps(Partial partial, int64_t K, T* w, int64_t channel_step, int64_t tap_step, PartSum parts) {
  const int64_t k = channel_of_warp();
  if (k >= K) return;
  Sums<kTaps> sum = join_slices<Sums<kTaps>>(partial.data, partial.slices, K, k);
  if (threadIdx.x % 32 != 0) return;
#pragma unroll
  for (int i = 0; i < kTaps; ++i) {
    if (parts.finish(i * K + k, &sum.fields[i])) {
      w[k * channel_step + i * tap_step] = from_float<T>(sum.fields[i]);
    }
  }
}

// body(T{}, V, kNhwc)
template <class Body>
bool dispatch_depthwise(const Conv2dDesc& d, const Body& body) {
  return dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (d.format == Format::kNCHW) {
      body(t, std::integral_constant<int, 1>{}, std::false_type{});
    } else {
      const void* const residual = present(d.residual) ? d.residual.data : nullptr;
      // Of several results a channel, none are read at once.
      dispatch_width<T>(d.K == d.C ? d.C : 1, {d.x.data, d.y.data, residual},
                        [&](auto v) { body(t, v, std::true_type{}); });
    }
  });
}

}  // namespace

Ran depthwise_forward(const Op& op, const Conv2dDesc& d) {
  const DepthwiseEpilogue epilogue{present(d.bias) ? d.bias.data : nullptr,
                                   present(d.residual) ? d.residual.data : nullptr, d.activation,
                                   static_cast<float>(d.activation_alpha)};
  bool strips = false;
  const bool known = dispatch_depthwise(d, [&](auto t, auto v, auto nhwc) {
    using T = decltype(t);
    constexpr int V = decltype(v)::value;
    constexpr bool kNhwc = decltype(nhwc)::value;
    if constexpr (!kNhwc || V > 1) {
      strips = is_for_strips(d);
      if (strips) return run_depthwise_strips<T, V, kNhwc>(op, d, false, epilogue);
    }
    const Images<V, kNhwc> from(d.N, d.C, d.H, d.W), to(d.N, d.K, d.P, d.Q);
    launch_flat(op, depthwise_forward_kernel<T, V, kNhwc>, blocks_for(to.count(), kBlock), DepthwiseShape(d),
                from, to, data<const T>(d.x), data<const T>(d.w), data<T>(d.y), epilogue);
  });
  if (!known) return Ran::kUnsupported;
  return op.done(strips ? "cuda/depthwise_forward_strips" : "cuda/depthwise_forward");
}

Ran depthwise_backward_data(const Op& op, const Conv2dDesc& d) {
  bool strips = false;
  const bool known = dispatch_depthwise(d, [&](auto t, auto v, auto nhwc) {
    using T = decltype(t);
    constexpr int V = decltype(v)::value;
    constexpr bool kNhwc = decltype(nhwc)::value;
    if constexpr (!kNhwc || V > 1) {
      strips = is_for_strips(d);
      const DepthwiseEpilogue epilogue{present(d.bias) ? d.bias.data : nullptr, nullptr, CNNEXT_ACT_NONE, 0};
      if (strips) return run_depthwise_strips<T, V, kNhwc>(op, d, true, epilogue);
    }
    const Images<V, kNhwc> to(d.N, d.C, d.H, d.W), from(d.N, d.K, d.P, d.Q);
    const T* const bias = present(d.bias) ? data<const T>(d.bias) : nullptr;
    launch_flat(op, depthwise_data_kernel<T, V, kNhwc>, blocks_for(to.count(), kBlock), DepthwiseShape(d), to,
                from, data<T>(d.x), data<const T>(d.w), data<const T>(d.y), bias);
  });
  if (!known) return Ran::kUnsupported;
  return op.done(strips ? "cuda/depthwise_backward_data_strips" : "cuda/depthwise_backward_data");
}

Ran depthwise_backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts) {
  const ChannelShape shape{d.N, d.K, d.P * d.Q};
  ReusedScratch scratch(op);  // of each run of taps
  const bool known = dispatch_float(d.dtype, [&](auto type) {
    using T = decltype(type);
    const auto run = [&](auto nhwc, auto taps) {
      constexpr bool kNhwc = decltype(nhwc)::value;
      constexpr int kTaps = decltype(taps)::value;
      TapReader<T, kNhwc, kTaps> reader{DepthwiseShape(d),
                                        Images<1, kNhwc>(d.N, d.C, d.H, d.W),
                                        Images<1, kNhwc>(d.N, d.K, d.P, d.Q),
                                        data<const T>(d.x),
                                        data<const T>(d.y),
                                        0,
                                        0};
      for (reader.r = 0; reader.r < d.R; ++reader.r) {
        for (reader.t = 0; reader.t < d.S; reader.t += kTaps) {
          const Op part = scratch.part();
          const Partial partial = kNhwc || shape.inner == 1 ? reduce_as<1, true>(part, shape, reader)
                                                            : reduce_as<1, false>(part, shape, reader);
          T* const w = data<T>(d.w) + reader.r * d.w.strides[2] + reader.t * d.w.strides[3];
          PartSum sum = parts;
          if (sum.total) sum.total += (reader.r * d.S + reader.t) * d.K;
          launch_flat(op, finish_taps<T, kTaps>, blocks_of_channels(shape), partial, d.K, w, d.w.strides[0],
                      d.w.strides[3], sum);
        }
      }
    };
    const auto run_taps = [&](auto nhwc) {
      // Rows of the sizes that nets have in one go.
      if (d.S == 3) return run(nhwc, std::integral_constant<int, 3>{});
      if (d.S == 5) return run(nhwc, std::integral_constant<int, 5>{});
      if (d.S == 7) return run(nhwc, std::integral_constant<int, 7>{});
      run(nhwc, std::integral_constant<int, 1>{});
    };
    if (d.format == Format::kNCHW) {
      run_taps(std::false_type{});
    } else {
      run_taps(std::true_type{});
    }
  });
  return known ? op.done("cuda/depthwise_backward_weights") : Ran::kUnsupported;
}

}  // namespace cnnext::cuda
