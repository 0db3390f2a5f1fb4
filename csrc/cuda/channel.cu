// Adding a bias to each channel, and its gradient: sums over everything but the channels.
#include "cuda/channels.cuh"
#include "cuda/parts.cuh"

namespace cnnext::cuda {
namespace {

template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock) add_bias(int64_t count, ChannelOf<kNhwc> channel_of, const T* x,
                                                   const void* bias, int32_t bias_dtype, T* y) {
  for (int64_t i = first_item() * V; i < count; i += item_step() * V) {
    Vec<float, V> values = to_floats(load_streaming<V>(x + i));
    const Vec<float, V> added = of_channels<V, kNhwc>(bias, bias_dtype, channel_of(i));
#pragma unroll
    for (int j = 0; j < V; ++j) values[j] += added[j];
    store(y + i, from_floats<T>(values));
  }
}

template <class T>
struct SumReader {
  using State = Sums<1>;
  using Accumulator = SumAccumulator;
  const T* x;

  template <int V>
  CNNEXT_DEVICE Vec<float, V> read(int64_t at) const {
    return to_floats(load_streaming<V>(x + at));
  }
  template <int V>
  CNNEXT_DEVICE void add(Accumulator* sum, const Vec<float, V>& input, int j, float) const {
    sum->sum += input[j];
  }
  CNNEXT_DEVICE float centre(int64_t) const { return 0; }
};

__global__ void __launch_bounds__(kBlock)
    finish_bias_grad(Partial partial, int64_t C, void* bias, int32_t dtype, PartSum parts) {
  const int64_t c = channel_of_warp();
  if (c >= C) return;
  Sums<1> sum = join_slices<Sums<1>>(partial.data, partial.slices, C, c);
  if (threadIdx.x % 32 != 0) return;
  if (parts.finish(c, &sum.fields[0])) store_parameter(bias, dtype, c, sum.fields[0]);
}

}  // namespace

Ran bias_add(const ChannelDesc& d, Exec& exec) {
  const Op op{"bias_add", exec, d.x};
  const ChannelShape s{d.N, d.C, d.inner};
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (s.count() == 0) return;
    dispatch_channels<T>(d.format, s, {d.x.data, d.y.data, d.bias.data}, [&](auto v, auto nhwc) {
      constexpr int V = decltype(v)::value;
      constexpr bool kNhwc = decltype(nhwc)::value;
      launch_flat(op, add_bias<T, V, kNhwc>, blocks_for(s.count(), kBlock * V), s.count(),
                  ChannelOf<kNhwc>(s), data<const T>(d.x), d.bias.data, d.bias.dtype, data<T>(d.y));
    });
  });
  return known ? op.done("cuda/bias_add") : Ran::kUnsupported;
}

Ran bias_grad(const Op& op, const ChannelDesc& d, const PartSum& parts) {
  const ChannelShape s{d.N, d.C, d.inner};
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (s.C == 0) return;
    const Partial partial = reduce_channels<T>(op, d.format, s, {d.x.data}, SumReader<T>{data<const T>(d.x)});
    launch_flat(op, finish_bias_grad, blocks_of_channels(s), partial, s.C, d.bias.data, d.bias.dtype, parts);
  });
  return known ? op.done("cuda/bias_grad") : Ran::kUnsupported;
}

Ran bias_grad(const ChannelDesc& d, Exec& exec) { return bias_grad({"bias_grad", exec, d.x}, d, {}); }

}  // namespace cnnext::cuda
