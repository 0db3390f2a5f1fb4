// Batch normalisation: one pass for the statistics, one warp a channel to finish them, one pass to apply
// them. Beside 16-bit images the saved statistics are float32, and parameters and running statistics may be.
#include "cuda/channels.cuh"
#include "cuda/parts.cuh"

namespace cnnext::cuda {
namespace {

// A per-channel vector that may be absent.
struct Parameter {
  void* data;
  int32_t dtype;

  explicit Parameter(const Tensor& t) : data(present(t) ? t.data : nullptr), dtype(t.dtype) {}
  CNNEXT_DEVICE float get(int64_t c, float otherwise) const {
    return data ? load_parameter(data, dtype, c) : otherwise;
  }
  CNNEXT_DEVICE void set(int64_t c, float value) const {
    if (data) store_parameter(data, dtype, c, value);
  }
};

// Sums of distances from the thread's first value, so that a mean far from zero costs no digits.
struct MomentsAccumulator {
  float count, first, sum, squares;
  CNNEXT_DEVICE void add(float value) {
    if (count == 0) first = value;
    const float distance = value - first;
    sum += distance;
    squares += distance * distance;
    count += 1;
  }
  CNNEXT_DEVICE Moments finish() const {
    if (count == 0) return Moments::empty();
    const float mean = sum / count;
    return {{count, first + mean, squares - sum * mean}};
  }
};
template <class T>
struct MomentsReader {
  using State = Moments;
  using Accumulator = MomentsAccumulator;
  const T* x;

  template <int V>
  CNNEXT_DEVICE Vec<float, V> read(int64_t at) const {
    return to_floats(load<V>(x + at));
  }
  template <int V>
  CNNEXT_DEVICE void add(Accumulator* sum, const Vec<float, V>& input, int j, float) const {
    sum->add(input[j]);
  }
  CNNEXT_DEVICE float centre(int64_t) const { return 0; }
};

struct ForwardParameters {
  Parameter weight, bias, running_mean, running_var;
  float *save_mean, *save_invstd;  // may be null
  float eps, momentum;
  bool training;

  explicit ForwardParameters(const BatchNormDesc& d)
      : weight(d.weight),
        bias(d.bias),
        running_mean(d.running_mean),
        running_var(d.running_var),
        save_mean(present(d.save_mean) ? data<float>(d.save_mean) : nullptr),
        save_invstd(present(d.save_invstd) ? data<float>(d.save_invstd) : nullptr),
        eps(static_cast<float>(d.eps)),
        momentum(static_cast<float>(d.momentum)),
        training(d.training != 0) {}
};

// Of each channel, as floats for the pass that applies them: y = (x - mean) * scale + bias.
struct ForwardFactors {
  float *mean, *scale, *bias;
};
// The running statistics move too. An empty batch has none: 0, and the running ones stay.
__global__ void __launch_bounds__(kBlock)
    finish_statistics(Partial partial, ChannelShape s, ForwardParameters p, ForwardFactors factors) {
  const int64_t c = channel_of_warp();
  if (c >= s.C) return;
  float mean, invstd;
  if (p.training) {
    const Moments m = join_slices<Moments>(partial.data, partial.slices, s.C, c);
    const float count = static_cast<float>(s.N * s.inner);
    mean = count == 0 ? 0 : m.mean();
    const float squares = m.squares() < 0 ? 0 : m.squares();
    invstd = count == 0 ? 0 : 1 / sqrtf(squares / count + p.eps);
    if (threadIdx.x % 32 == 0 && count != 0) {
      const float kept = 1 - p.momentum;
      p.running_mean.set(c, kept * p.running_mean.get(c, 0) + p.momentum * mean);
      p.running_var.set(c, kept * p.running_var.get(c, 0) + p.momentum * (squares / (count - 1)));
    }
  } else {
    mean = p.running_mean.get(c, 0);
    invstd = 1 / sqrtf(p.running_var.get(c, 1) + p.eps);
  }
  if (threadIdx.x % 32 != 0) return;
  if (p.save_mean) p.save_mean[c] = mean;
  if (p.save_invstd) p.save_invstd[c] = invstd;
  factors.mean[c] = mean;
  factors.scale[c] = invstd * p.weight.get(c, 1);
  factors.bias[c] = p.bias.get(c, 0);
}

// NaN stays, and its gradient passes.
CNNEXT_DEVICE float activate(int32_t activation, float value) {
  if (activation != CNNEXT_ACT_NONE && value <= 0) return 0;
  return activation == CNNEXT_ACT_RELU6 && value > 6 ? 6 : value;
}
CNNEXT_DEVICE bool stops(int32_t activation, float y) {
  return y <= 0 || (activation == CNNEXT_ACT_RELU6 && y >= 6);
}

template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock) normalise(int64_t count, ChannelOf<kNhwc> channel_of, const T* x,
                                                    ForwardFactors factors, int32_t activation, T* y) {
  for (int64_t i = first_item() * V; i < count; i += item_step() * V) {
    Vec<float, V> values = to_floats(load_streaming<V>(x + i));
    const int64_t c = channel_of(i);
    const Vec<float, V> mean = of_channels<V, kNhwc>(factors.mean, c),
                        scale = of_channels<V, kNhwc>(factors.scale, c),
                        bias = of_channels<V, kNhwc>(factors.bias, c);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      values[j] = activate(activation, (values[j] - mean[j]) * scale[j] + bias[j]);
    }
    store(y + i, from_floats<T>(values));
  }
}

// The sum of the gradient, and of it times the distance from the mean.
struct GradientAccumulator {
  float sum, dot;
  CNNEXT_DEVICE Sums<2> finish() const { return {{sum, dot}}; }
};
template <int V>
struct GradientInput {
  Vec<float, V> x, grad;
};
template <class T>
struct GradientReader {
  using State = Sums<2>;
  using Accumulator = GradientAccumulator;
  const T *x, *grad_y, *y;  // y: null without an activation
  int32_t activation;
  const float* mean;

  template <int V>
  CNNEXT_DEVICE GradientInput<V> read(int64_t at) const {
    GradientInput<V> input{to_floats(load<V>(x + at)), to_floats(load<V>(grad_y + at))};
    if (y) {
      const Vec<float, V> result = to_floats(load<V>(y + at));
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (stops(activation, result[j])) input.grad[j] = 0;
    }
    return input;
  }
  template <int V>
  CNNEXT_DEVICE void add(Accumulator* sum, const GradientInput<V>& input, int j, float centre) const {
    sum->sum += input.grad[j];
    sum->dot += input.grad[j] * (input.x[j] - centre);
  }
  CNNEXT_DEVICE float centre(int64_t c) const { return mean[c]; }
};

// dx = weight * invstd * (dy - mean(dy) - xhat * mean(dy * xhat)); in evaluation the statistics are
// constants.
struct BackwardFactors {
  float *scale, *shift, *slope;  // of each channel: dx = scale * (dy - shift - (x - mean) * slope)
};
__global__ void __launch_bounds__(kBlock)
    finish_gradients(Partial partial, ChannelShape s, Parameter weight, const float* invstd,
                     Parameter grad_weight, Parameter grad_bias, bool training, BackwardFactors factors) {
  const int64_t c = channel_of_warp();
  if (c >= s.C) return;
  const Sums<2> sums = join_slices<Sums<2>>(partial.data, partial.slices, s.C, c);
  if (threadIdx.x % 32 != 0) return;
  const float sum = sums.fields[0], inverse = invstd[c], dot = sums.fields[1] * inverse;
  grad_weight.set(c, dot);
  grad_bias.set(c, sum);
  const float count = static_cast<float>(s.N * s.inner);
  factors.scale[c] = inverse * weight.get(c, 1);
  factors.shift[c] = training ? sum / count : 0;
  factors.slope[c] = training ? inverse * dot / count : 0;
}

template <class T, int V, bool kNhwc>
__global__ void __launch_bounds__(kBlock)
    spread_gradients(int64_t count, ChannelOf<kNhwc> channel_of, GradientReader<T> reader,
                     BackwardFactors factors, T* grad_x) {
  for (int64_t i = first_item() * V; i < count; i += item_step() * V) {
    const GradientInput<V> input = reader.template read<V>(i);
    const int64_t c = channel_of(i);
    const Vec<float, V> mean = of_channels<V, kNhwc>(reader.mean, c),
                        scale = of_channels<V, kNhwc>(factors.scale, c),
                        shift = of_channels<V, kNhwc>(factors.shift, c),
                        slope = of_channels<V, kNhwc>(factors.slope, c);
    Vec<float, V> result;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float distance = input.x[j] - mean[j];
      result[j] = scale[j] * (input.grad[j] - shift[j] - distance * slope[j]);
    }
    store(grad_x + i, from_floats<T>(result));
  }
}

}  // namespace

Ran batch_norm_forward(const Op& op, const BatchNormDesc& d) {
  const ChannelShape s{d.N, d.C, d.inner};
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (s.C == 0) return;
    Partial partial{};
    if (d.training) {
      partial = reduce_channels<T>(op, d.format, s, {d.x.data}, MomentsReader<T>{data<const T>(d.x)});
    }
    float* const memory = op.scratch<float>(3 * s.C);
    const ForwardFactors factors{memory, memory + s.C, memory + 2 * s.C};
    launch_flat(op, finish_statistics, blocks_of_channels(s), partial, s, ForwardParameters(d), factors);
    if (s.count() == 0) return;
    dispatch_channels<T>(d.format, s, {d.x.data, d.y.data}, [&](auto v, auto nhwc) {
      constexpr int V = decltype(v)::value;
      constexpr bool kNhwc = decltype(nhwc)::value;
      launch_flat(op, normalise<T, V, kNhwc>, blocks_for(s.count(), kBlock * V), s.count(),
                  ChannelOf<kNhwc>(s), data<const T>(d.x), factors, d.activation, data<T>(d.y));
    });
  });
  return known ? op.done("cuda/batch_norm_forward") : Ran::kUnsupported;
}

Ran batch_norm_forward(const BatchNormDesc& d, Exec& exec) {
  return batch_norm_forward({"batch_norm_forward", exec, d.x}, d);
}

Ran batch_norm_backward(const BatchNormDesc& d, Exec& exec) {
  const Op op{"batch_norm_backward", exec, d.x};
  const ChannelShape s{d.N, d.C, d.inner};
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (s.C == 0) return;
    const GradientReader<T> reader{data<const T>(d.x), data<const T>(d.grad_y),
                                   d.activation ? data<const T>(d.y) : nullptr, d.activation,
                                   data<const float>(d.save_mean)};
    const std::initializer_list<const void*> inputs = {reader.x, reader.grad_y, reader.y};
    const Partial partial = reduce_channels<T>(op, d.format, s, inputs, reader);
    float* const memory = op.scratch<float>(3 * s.C);
    const BackwardFactors factors{memory, memory + s.C, memory + 2 * s.C};
    launch_flat(op, finish_gradients, blocks_of_channels(s), partial, s, Parameter(d.weight),
                data<const float>(d.save_invstd), Parameter(d.grad_weight), Parameter(d.grad_bias),
                d.training != 0, factors);
    if (!present(d.grad_x) || s.count() == 0) return;
    dispatch_channels<T>(d.format, s, {reader.x, reader.grad_y, reader.y, reader.mean, d.grad_x.data},
                         [&](auto v, auto nhwc) {
                           constexpr int V = decltype(v)::value;
                           constexpr bool kNhwc = decltype(nhwc)::value;
                           launch_flat(op, spread_gradients<T, V, kNhwc>, blocks_for(s.count(), kBlock * V),
                                       s.count(), ChannelOf<kNhwc>(s), reader, factors, data<T>(d.grad_x));
                         });
  });
  return known ? op.done("cuda/batch_norm_backward") : Ran::kUnsupported;
}

}  // namespace cnnext::cuda
