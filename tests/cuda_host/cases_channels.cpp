// Bias and batch normalisation: everything that is reduced over N and the pixels.
#include "cases.h"

using namespace cnnext;

namespace {

struct Shape {
  int64_t N, C, inner;
};
// Runs of one and several slices, of whole and broken vectors, with fewer channels than lanes and more.
constexpr Shape kShapes[] = {{2, 3, 5},    {1, 1, 1},     {3, 8, 16},  {2, 5, 1},   {5, 64, 4},
                             {1, 4, 5001}, {2, 16, 1211}, {1, 100, 3}, {4, 40, 49}, {0, 3, 4}};

ArgPtr image(Suite& suite, const Shape& s, int32_t dtype, Format format) {
  return suite.arg({s.N, s.C, 1, s.inner}, dtype, format);
}

void run_bias(Suite& suite, const Shape& s, int32_t dtype, Format format) {
  const std::string name =
      describe("bias", dtype, {s.N, s.C, s.inner}) + (format == Format::kNHWC ? " NHWC" : " NCHW");
  const ArgPtr x = image(suite, s, dtype, format), y = image(suite, s, dtype, format);
  const ArgPtr bias = suite.arg({s.C}, dtype);
  const auto desc = [&](Side side) {
    ChannelDesc d{};
    d.N = s.N, d.C = s.C, d.inner = s.inner;
    d.dtype = dtype_on(side, dtype);
    d.format = format;
    d.x = x->on(side), d.y = y->on(side), d.bias = bias->on(side);
    return d;
  };
  suite.check<ChannelDesc>(name + " add", &OpTable::bias_add, desc, {y}, {1, 0});
  suite.check<ChannelDesc>(name + " grad", &OpTable::bias_grad, desc, {bias}, {2, 2e-4});
}

struct BatchNormArgs {
  ArgPtr x, weight, bias, running_mean, running_var, y, save_mean, save_invstd, grad_y, grad_x, grad_weight,
      grad_bias;
};

void run_batch_norm(Suite& suite, const Shape& s, int32_t dtype, Format format, bool training,
                    int32_t activation, bool optional) {
  const std::string name =
      describe("batch_norm", dtype, {s.N, s.C, s.inner, training, activation, optional}) +
      (format == Format::kNHWC ? " NHWC" : " NCHW");
  const auto vector_of = [&](bool wanted, float least, int32_t type) {
    if (!wanted) return ArgPtr();
    const ArgPtr arg = suite.arg({s.C}, type);
    for (int64_t i = 0; i < s.C; ++i) arg->values()[i] = arg->values()[i] / 2 + least;
    arg->upload();
    return arg;
  };
  // Parameters of 16-bit images may be float32; what is saved always is.
  const auto vector = [&](bool wanted, float least) {
    return vector_of(wanted, least, activation ? static_cast<int32_t>(CNNEXT_FLOAT32) : dtype);
  };
  BatchNormArgs a;
  a.x = image(suite, s, dtype, format);
  for (int64_t i = 0; i < a.x->count(); ++i)
    a.x->values()[i] += s.N * s.inner >= 50 ? 20.0f : 0.5f;  // a mean that costs naive sums their digits
  a.x->upload();
  a.y = image(suite, s, dtype, format);
  a.grad_y = image(suite, s, dtype, format);
  a.grad_x = image(suite, s, dtype, format);
  a.weight = vector(optional, activation == CNNEXT_ACT_RELU6 ? 6 : 1.5f), a.bias = vector(optional, 0);
  a.running_mean = vector(optional || !training, 20), a.running_var = vector(optional || !training, 1.5f);
  a.save_mean = vector_of(true, 0, CNNEXT_FLOAT32), a.save_invstd = vector_of(true, 0, CNNEXT_FLOAT32);
  a.grad_weight = vector(optional, 0), a.grad_bias = vector(optional, 0);
  const auto desc = [&](Side side) {
    BatchNormDesc d{};
    d.N = s.N, d.C = s.C, d.inner = s.inner;
    d.dtype = dtype_on(side, dtype);
    d.format = format;
    d.training = training;
    d.activation = activation;
    d.eps = 1e-5, d.momentum = 0.25;
    d.x = a.x->on(side), d.y = a.y->on(side);
    d.weight = on(a.weight, side), d.bias = on(a.bias, side);
    d.running_mean = on(a.running_mean, side), d.running_var = on(a.running_var, side);
    d.save_mean = on(a.save_mean, side), d.save_invstd = on(a.save_invstd, side);
    d.grad_y = a.grad_y->on(side), d.grad_x = a.grad_x->on(side);
    d.grad_weight = on(a.grad_weight, side), d.grad_bias = on(a.grad_bias, side);
    return d;
  };
  const double n = static_cast<double>(s.N * s.inner);
  if (n == 1 && training) return;  // the running variance is 0 / 0
  std::vector<ArgPtr> outputs = {a.y, a.save_mean, a.save_invstd};
  if (a.running_mean) outputs.insert(outputs.end(), {a.running_mean, a.running_var});
  suite.check<BatchNormDesc>(name, &OpTable::batch_norm_forward, desc, outputs, {8, 2e-5});
  // The backward's inputs are alike on both sides.
  for (const ArgPtr& arg : {a.y, a.save_mean, a.save_invstd}) arg->upload();
  outputs = {a.grad_x};
  if (optional) outputs.insert(outputs.end(), {a.grad_weight, a.grad_bias});
  suite.check<BatchNormDesc>(name + " backward", &OpTable::batch_norm_backward, desc, outputs, {8, 5e-4});
}

}  // namespace

void cases_channels(Suite& suite) {
  for (const Format format : {Format::kNCHW, Format::kNHWC}) {
    for (const int32_t dtype : kFloatTypes) {
      for (const Shape& s : kShapes) {
        if (dtype != CNNEXT_FLOAT32 && s.inner > 100) continue;
        run_bias(suite, s, dtype, format);
        run_batch_norm(suite, s, dtype, format, true, CNNEXT_ACT_NONE, true);
        run_batch_norm(suite, s, dtype, format, true, CNNEXT_ACT_RELU6, true);
        run_batch_norm(suite, s, dtype, format, false, CNNEXT_ACT_RELU, true);
        run_batch_norm(suite, s, dtype, format, true, CNNEXT_ACT_NONE, false);
      }
    }
  }
}
