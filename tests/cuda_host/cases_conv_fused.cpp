// Convolution with ReLU and max-pool, or with batch norm, in one. Values are small whole numbers, so that the
// sums are exact in every dtype: maxima tie, and nothing but the right answer is near.
#include "cases.h"

using namespace cnnext;

namespace {

struct Shape {
  int64_t N, C, H, W, K, R, S, groups, stride, dilation, pad;
  int64_t pool, pool_stride, pool_pad;
};
// Batches of one part and of several, the last of fewer images; depthwise, with several results a channel
// too; windows that overlap, and that leave gaps.
constexpr Shape kShapes[] = {
    {5, 3, 9, 8, 5, 3, 2, 1, 1, 1, 1, 3, 2, 1},    {1, 4, 7, 10, 6, 3, 3, 2, 2, 1, 1, 2, 2, 0},
    {7, 6, 8, 9, 6, 3, 3, 6, 1, 1, 1, 2, 1, 1},    {3, 4, 11, 7, 8, 2, 3, 4, 1, 2, 2, 2, 3, 0},
    {2, 17, 9, 10, 66, 1, 1, 1, 1, 1, 0, 3, 3, 1}, {4, 2, 6, 5, 16, 3, 3, 1, 1, 1, 1, 3, 1, 1},
};

int64_t results(int64_t size, int64_t pad, int64_t kernel, int64_t stride, int64_t dilation) {
  return (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

void fill(Arg& arg, Suite& suite, unsigned count, float unit) {
  for (int64_t i = 0; i < arg.count(); ++i) {
    arg.values()[i] = (static_cast<float>(suite.random()() % count) - static_cast<float>(count / 2)) * unit;
  }
  arg.upload();
}

Conv2dDesc convolution(const Shape& s, int32_t dtype, Format format) {
  Conv2dDesc d{};
  d.N = s.N, d.C = s.C, d.H = s.H, d.W = s.W, d.K = s.K, d.R = s.R, d.S = s.S, d.groups = s.groups;
  d.P = results(s.H, s.pad, s.R, s.stride, s.dilation);
  d.Q = results(s.W, s.pad, s.S, s.stride, s.dilation);
  d.stride_h = d.stride_w = s.stride, d.dilation_h = d.dilation_w = s.dilation;
  d.pad_top = d.pad_bottom = d.pad_left = d.pad_right = s.pad;
  d.dtype = dtype;
  d.format = format;
  d.w_format = Format::kNCHW;
  d.x = d.w = d.y = d.bias = d.residual = absent();
  return d;
}

std::string name_of(const char* what, const Shape& s, int32_t dtype, Format format) {
  return describe(what, dtype, {s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.groups}) +
         (format == Format::kNHWC ? " NHWC" : " NCHW");
}

void run_pool(Suite& suite, const Shape& s, int32_t dtype, Format format) {
  const std::string name = name_of("conv_pool", s, dtype, format);
  const Conv2dDesc c = convolution(s, dtype, format);
  const int64_t P = results(c.P, s.pool_pad, s.pool, s.pool_stride, 1),
                Q = results(c.Q, s.pool_pad, s.pool, s.pool_stride, 1);
  const ArgPtr x = suite.arg({s.N, s.C, s.H, s.W}, dtype, format),
               w = suite.arg({s.K, s.C / s.groups, s.R, s.S}, dtype), bias = suite.arg({s.K}, dtype);
  const ArgPtr y = suite.arg({s.N, s.K, P, Q}, dtype, format),
               codes = suite.arg({s.N, s.K, P, Q}, CNNEXT_UINT8, format);
  const ArgPtr grad_x = suite.arg({s.N, s.C, s.H, s.W}, dtype, format),
               grad_w = suite.arg({s.K, s.C / s.groups, s.R, s.S}, dtype),
               grad_bias = suite.arg({s.K}, dtype);
  fill(*x, suite, 5, 1), fill(*w, suite, 3, 1), fill(*bias, suite, 3, 1);
  const auto base = [&](Side side) {
    ConvPoolDesc d{};
    d.conv = c;
    d.conv.dtype = dtype_on(side, dtype);
    d.conv.x = x->on(side), d.conv.w = w->on(side);
    Pool2dDesc& p = d.pool;
    p.N = s.N, p.C = s.K, p.H = c.P, p.W = c.Q, p.P = P, p.Q = Q, p.R = p.S = s.pool;
    p.stride_h = p.stride_w = s.pool_stride, p.dilation_h = p.dilation_w = 1;
    p.pad_top = p.pad_bottom = p.pad_left = p.pad_right = s.pool_pad;
    p.dtype = d.conv.dtype;
    p.index_kind = CNNEXT_INDEX_WINDOW;
    p.index_dtype = CNNEXT_UINT8;
    p.format = format;
    p.x = absent();
    p.y = y->on(side), p.indices = codes->on(side);
    d.grad_x = d.grad_w = d.grad_bias = absent();
    return d;
  };
  const auto forward = [&](bool with_bias, bool with_codes) {
    return [&, with_bias, with_codes](Side side) {
      ConvPoolDesc d = base(side);
      if (with_bias) d.conv.bias = bias->on(side);
      if (!with_codes) d.pool.indices = absent();
      return d;
    };
  };
  const auto run = &OpTable::conv2d_relu_max_pool2d_forward;
  suite.check<ConvPoolDesc>(name + " alone", run, forward(false, false), {y}, kExact);
  suite.check<ConvPoolDesc>(name, run, forward(true, true), {y, codes}, kExact);
  fill(*y, suite, 9, 0.25f);  // the gradient
  const auto backward = [&](bool of_x, bool of_w, bool of_bias) {
    return [&, of_x, of_w, of_bias](Side side) {
      ConvPoolDesc d = base(side);
      if (of_x) d.grad_x = grad_x->on(side);
      if (of_w) d.grad_w = grad_w->on(side);
      if (of_bias) d.grad_bias = grad_bias->on(side);
      return d;
    };
  };
  const auto back = &OpTable::conv2d_relu_max_pool2d_backward;
  suite.check<ConvPoolDesc>(name + " backward", back, backward(true, true, true), {grad_x, grad_w, grad_bias},
                            kExact);
  suite.check<ConvPoolDesc>(name + " data", back, backward(true, false, false), {grad_x}, kExact);
  suite.check<ConvPoolDesc>(name + " weights", back, backward(false, true, false), {grad_w}, kExact);
  suite.check<ConvPoolDesc>(name + " bias", back, backward(false, false, true), {grad_bias}, kExact);
}

// What weights and bias get from no images is 0.
void run_empty(Suite& suite, int32_t dtype) {
  Shape s = kShapes[0];
  s.N = 0;
  const ArgPtr w = suite.arg({s.K, s.C, s.R, s.S}, dtype), grad_w = suite.arg({s.K, s.C, s.R, s.S}, dtype),
               grad_bias = suite.arg({s.K}, dtype);
  const auto desc = [&](Side side) {
    ConvPoolDesc d{};
    d.conv = convolution(s, dtype_on(side, dtype), Format::kNCHW);
    d.conv.w = w->on(side);
    d.grad_x = absent();
    d.grad_w = grad_w->on(side), d.grad_bias = grad_bias->on(side);
    return d;
  };
  suite.check<ConvPoolDesc>("conv_pool backward of nothing", &OpTable::conv2d_relu_max_pool2d_backward, desc,
                            {grad_w, grad_bias}, kExact);
}

void run_norm(Suite& suite, const Shape& s, int32_t dtype, Format format, bool keep, int32_t activation) {
  const std::string name = name_of("conv_batch_norm", s, dtype, format);
  const Conv2dDesc c = convolution(s, dtype, format);
  const ArgPtr x = suite.arg({s.N, s.C, s.H, s.W}, dtype, format),
               w = suite.arg({s.K, s.C / s.groups, s.R, s.S}, dtype), bias = suite.arg({s.K}, dtype);
  const ArgPtr y = suite.arg({s.N, s.K, c.P, c.Q}, dtype, format),
               inner = suite.arg({s.N, s.K, c.P, c.Q}, dtype, format);
  const auto vector = [&] { return suite.arg({s.K}, static_cast<int32_t>(CNNEXT_FLOAT32)); };
  const ArgPtr weight = vector(), shift = vector(), running_mean = vector(), running_var = vector(),
               save_mean = vector(), save_invstd = vector();
  fill(*x, suite, 5, 1), fill(*w, suite, 3, 1), fill(*bias, suite, 3, 1);
  const auto desc = [&](Side side) {
    ConvBatchNormDesc d{};
    d.conv = c;
    d.conv.dtype = dtype_on(side, dtype);
    d.conv.x = x->on(side), d.conv.w = w->on(side), d.conv.bias = bias->on(side);
    d.conv.y = keep ? inner->on(side) : y->on(side);
    BatchNormDesc& n = d.norm;
    n.N = s.N, n.C = s.K, n.inner = c.P * c.Q;
    n.dtype = d.conv.dtype;
    n.training = 1, n.activation = activation;
    n.eps = 1e-5, n.momentum = 0.25;
    n.format = format;
    n.x = d.conv.y, n.y = y->on(side);
    n.weight = weight->on(side), n.bias = shift->on(side);
    n.running_mean = running_mean->on(side), n.running_var = running_var->on(side);
    n.save_mean = save_mean->on(side), n.save_invstd = save_invstd->on(side);
    return d;
  };
  std::vector<ArgPtr> outputs = {y, save_mean, save_invstd, running_mean, running_var};
  if (keep) outputs.push_back(inner);
  suite.check<ConvBatchNormDesc>(name, &OpTable::conv2d_batch_norm_forward, desc, outputs, {8, 2e-5});
}

}  // namespace

void cases_conv_fused(Suite& suite) {
  for (const Format format : {Format::kNCHW, Format::kNHWC}) {
    for (const int32_t dtype : kFloatTypes) {
      for (size_t i = 0; i < std::size(kShapes); ++i) {
        if (dtype != CNNEXT_FLOAT32 && i % 2) continue;
        run_pool(suite, kShapes[i], dtype, format);
        constexpr int32_t kActivations[] = {CNNEXT_ACT_NONE, CNNEXT_ACT_RELU, CNNEXT_ACT_RELU6};
        run_norm(suite, kShapes[i], dtype, format, i % 2 == 0, kActivations[i % 3]);
      }
    }
  }
  for (const int32_t dtype : kFloatTypes) run_empty(suite, dtype);
}
