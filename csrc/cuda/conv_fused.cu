// Fused operations, made of the kernels of their parts on one stream.
//
// Convolution, ReLU and max-pool run some images at a time: what lies between the convolution and the pool is
// scratch of a bounded size, which the next images take again while it is in L2. The bits are those of the
// convolution with a ReLU, followed by the pool.
#include "cuda/parts.cuh"

namespace cnnext::cuda {
namespace {

// What lies between at a time, but at least one image. On the test bed little, so that small batches have
// several parts.
#if CNNEXT_CUDA_HOST
constexpr int64_t kMostBetween = 4 << 10;
#else
constexpr int64_t kMostBetween = 32 << 20;  // bytes: what L2 holds on a large device
#endif

int64_t bytes_of(int32_t dtype) {
  switch (dtype) {
    case CNNEXT_UINT8:
      return 1;
    case CNNEXT_INT32:
    case CNNEXT_FLOAT32:
      return 4;
    default:
      return 2;
  }
}

Tensor images_of(const Tensor& t, int64_t first, int64_t count) {
  Tensor part = t;
  part.shape[0] = count;
  part.data = static_cast<char*>(t.data) + first * t.strides[0] * bytes_of(t.dtype);
  return part;
}

bool knows(int32_t dtype) {
  return dispatch_float(dtype, [](auto) {});
}

// Some images of the operation: pool.x is conv.y, or its gradient.
struct Part {
  Op op;
  Conv2dDesc conv;
  Pool2dDesc pool;
  int64_t first, count;  // images
  bool last;

  PartSum sum(float* total) const { return {total, first == 0, last}; }
};

// A batch cut into parts of equal size, but for the last; how follows from the shape alone.
class Parts {
 public:
  Parts(const Op& op, const ConvPoolDesc& d) : d_(d), scratch_(op), between_(d.pool.y) {
    const Conv2dDesc& c = d.conv;
    const int64_t image = c.K * c.P * c.Q, bytes = image * bytes_of(c.dtype);
    const int64_t fit = greatest(1, least(kMostBetween / bytes, c.N));
    images_ = ceil_div(c.N, ceil_div(c.N, fit));
    const bool channels_last = d.pool.format == Format::kNHWC;
    const int64_t shape[] = {images_, c.K, c.P, c.Q};
    const int64_t strides[] = {image, channels_last ? 1 : c.P * c.Q, c.Q * (channels_last ? c.K : 1),
                               channels_last ? c.K : 1};
    for (int i = 0; i < 4; ++i) between_.shape[i] = shape[i], between_.strides[i] = strides[i];
    between_.data = op.scratch<char>(images_ * bytes);
  }
  bool several() const { return images_ < d_.conv.N; }

  // body(Part&) for each; what it says other than kDone ends it.
  template <class Body>
  Ran run(const Body& body) {
    for (int64_t first = 0; first < d_.conv.N; first += images_) {
      const int64_t count = least(images_, d_.conv.N - first);
      Part part{scratch_.part(), d_.conv, d_.pool, first, count, first + count == d_.conv.N};
      part.conv.N = part.pool.N = count;
      part.conv.x = images_of(d_.conv.x, first, count);
      part.conv.y = part.pool.x = images_of(between_, 0, count);
      part.pool.y = images_of(d_.pool.y, first, count);
      if (present(d_.pool.indices)) part.pool.indices = images_of(d_.pool.indices, first, count);
      const Ran ran = body(part);
      if (ran != Ran::kDone) return ran;
    }
    return Ran::kDone;
  }

 private:
  const ConvPoolDesc& d_;
  ReusedScratch scratch_;
  Tensor between_;
  int64_t images_;
};

void fill_zero(const Op& op, const Tensor& t) {
  int64_t bytes = bytes_of(t.dtype);
  for (int i = 0; i < t.ndim; ++i) bytes *= t.shape[i];
  clear(op, "clearing a gradient", t.data, bytes);
}

}  // namespace

Ran conv2d_relu_max_pool2d_forward(const ConvPoolDesc& d, Exec& exec) {
  const Op op{"conv2d_relu_max_pool2d_forward", exec, d.conv.x};
  if (!knows(d.conv.dtype)) return Ran::kUnsupported;
  Parts parts(op, d);
  parts.run([](Part& part) {
    part.conv.activation = CNNEXT_ACT_RELU;
    conv2d_forward(part.op, part.conv);
    return max_pool2d_forward(part.op, part.pool, true);
  });
  return op.done("cuda/conv2d_relu_max_pool2d_forward");
}

Ran conv2d_relu_max_pool2d_backward(const ConvPoolDesc& d, Exec& exec) {
  const Op op{"conv2d_relu_max_pool2d_backward", exec, d.conv.x};
  if (!knows(d.conv.dtype)) return Ran::kUnsupported;
  if (d.conv.N == 0) {
    if (present(d.grad_w)) fill_zero(op, d.grad_w);
    if (present(d.grad_bias)) fill_zero(op, d.grad_bias);
    return op.done("cuda/conv2d_relu_max_pool2d_backward");
  }
  const Conv2dDesc& c = d.conv;
  Parts parts(op, d);
  const bool several = parts.several();
  float* const w_total =
      several && present(d.grad_w) ? op.scratch<float>(c.K * (c.C / c.groups) * c.R * c.S) : nullptr;
  float* const bias_total = several && present(d.grad_bias) ? op.scratch<float>(c.K) : nullptr;
  const Ran ran = parts.run([&](Part& part) {
    max_pool2d_backward(part.op, part.pool);
    if (present(d.grad_x)) {  // first, as it may decline
      Conv2dDesc data = part.conv;
      data.x = images_of(d.grad_x, part.first, part.count);
      if (conv2d_backward_data(part.op, data) != Ran::kDone) return Ran::kUnsupported;
    }
    if (present(d.grad_w)) {
      Conv2dDesc weights = part.conv;
      weights.w = d.grad_w;
      conv2d_backward_weights(part.op, weights, part.sum(w_total));
    }
    if (present(d.grad_bias)) {
      const ChannelDesc bias{part.count, c.K,         c.P * c.Q,   c.dtype,
                             c.format,   part.conv.y, d.grad_bias, absent()};
      bias_grad(part.op, bias, part.sum(bias_total));
    }
    return Ran::kDone;
  });
  return ran == Ran::kDone ? op.done("cuda/conv2d_relu_max_pool2d_backward") : ran;
}

// The statistics are a pass of their own over the convolution's result.
Ran conv2d_batch_norm_forward(const ConvBatchNormDesc& d, Exec& exec) {
  const Op op{"conv2d_batch_norm_forward", exec, d.conv.x};
  if (!knows(d.conv.dtype)) return Ran::kUnsupported;
  if (d.conv.N > 0 && d.conv.K > 0) conv2d_forward(op, d.conv);
  batch_norm_forward(op, d.norm);
  return op.done("cuda/conv2d_batch_norm_forward");
}

}  // namespace cnnext::cuda
