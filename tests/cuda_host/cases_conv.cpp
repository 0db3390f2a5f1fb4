#include "cases_conv.h"

#include <cmath>

#include "cases.h"

using namespace cnnext;

namespace {

// Tiles of 64 and their neighbours, groups, strides that leave phases empty, dilations with and without a
// common divisor with the stride; depthwise, with several results a channel too.
constexpr ConvShape kShapes[] = {
    {1, 3, 9, 8, 5, 3, 2, 1, 1, 1, 1, 1, 1, 0, 0, 1},     {2, 4, 7, 10, 6, 3, 3, 2, 2, 1, 1, 2, 1, 2, 3, 1},
    {1, 65, 5, 4, 63, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},   {2, 17, 9, 9, 66, 3, 3, 1, 2, 2, 1, 1, 1, 1, 1, 1},
    {1, 6, 11, 12, 9, 2, 3, 3, 3, 2, 2, 4, 2, 1, 0, 5},   {3, 5, 6, 6, 4, 1, 1, 1, 3, 2, 1, 1, 0, 0, 0, 0},
    {1, 8, 6, 7, 8, 3, 3, 8, 1, 2, 1, 1, 1, 1, 1, 1},     {1, 4, 8, 9, 12, 5, 3, 4, 2, 1, 1, 2, 2, 1, 2, 2},
    {1, 2, 30, 31, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},   {1, 1, 7, 9, 1, 3, 2, 1, 1, 1, 1, 1, 1, 1, 0, 1},
    {2, 16, 9, 10, 16, 5, 3, 16, 2, 1, 1, 2, 3, 2, 0, 4}, {2, 5, 6, 7, 10, 3, 2, 5, 1, 2, 2, 1, 2, 1, 1, 0},
    {1, 2, 5, 6, 40, 3, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1},    {2, 3, 6, 5, 24, 3, 3, 3, 2, 1, 1, 1, 1, 0, 1, 1},
};
// Depthwise without strides: strips that end before, on and behind the last row, more padding than the window
// reaches, and an image that is smaller than the window.
constexpr ConvShape kDepthwise[] = {
    {2, 8, 7, 5, 8, 3, 3, 8, 1, 1, 1, 1, 1, 1, 1, 1},  {1, 16, 8, 6, 16, 5, 5, 16, 1, 1, 1, 1, 2, 2, 2, 2},
    {1, 8, 9, 10, 8, 7, 7, 8, 1, 1, 1, 1, 3, 3, 3, 3}, {2, 3, 6, 9, 3, 5, 5, 3, 1, 1, 1, 1, 0, 7, 6, 1},
    {1, 8, 2, 3, 8, 7, 7, 8, 1, 1, 1, 1, 8, 5, 4, 6},
};

int64_t results(int64_t size, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
  return (size + pads - dilation * (kernel - 1) - 1) / stride + 1;
}

}  // namespace

void run_conv_case(Suite& suite, const ConvCase& c) {
  const ConvShape& s = c.s;
  const int64_t P = results(s.H, s.top + s.bottom, s.R, s.stride_h, s.dilation_h);
  const int64_t Q = results(s.W, s.left + s.right, s.S, s.stride_w, s.dilation_w);
  const std::string name =
      describe("conv", c.dtype, {s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.groups, s.stride_h, s.stride_w, P, Q}) +
      (c.format == Format::kNHWC ? " NHWC" : " NCHW") + (c.infinite ? " infinite" : "") +
      (c.tf32 ? " TF32" : "");
  suite.permit_tf32(c.tf32);
  const ArgPtr x = suite.arg({s.N, s.C, s.H, s.W}, c.dtype, c.format),
               y = suite.arg({s.N, s.K, P, Q}, c.dtype, c.format);
  const ArgPtr w = suite.arg({s.K, s.C / s.groups, s.R, s.S}, c.dtype, c.w_format);
  const ArgPtr residual = suite.arg({s.N, s.K, P, Q}, c.dtype, c.format);
  const ArgPtr bias_k = suite.arg({s.K}, c.dtype), bias_c = suite.arg({s.C}, c.dtype);
  // With values that all types hold; or just below them, where TF32 has to round to the nearest.
  const auto fill_short = [&](const ArgPtr& arg) {
    for (int64_t i = 0; i < arg->count(); ++i) {
      const float value = static_cast<float>(suite.random()() % 33) / 8 - (c.infinite ? 0 : 2);
      arg->values()[i] = c.tf32 ? std::nextafter(value, 0.0f) : value;
    }
    arg->upload();
  };
  // Beside infinite weights all is positive: what is not infinite then, or is NaN, is wrong.
  if (c.tf32 || c.infinite) fill_short(x), fill_short(w);
  if (c.infinite) {
    for (int64_t i = 0; i < w->count(); i += 2) w->values()[i] = INFINITY;
    w->upload();
  }
  const auto base = [&](Side side) {
    Conv2dDesc d{};
    d.N = s.N, d.C = s.C, d.H = s.H, d.W = s.W, d.K = s.K, d.R = s.R, d.S = s.S, d.P = P, d.Q = Q,
    d.groups = s.groups;
    d.stride_h = s.stride_h, d.stride_w = s.stride_w, d.dilation_h = s.dilation_h,
    d.dilation_w = s.dilation_w;
    d.pad_top = s.top, d.pad_bottom = s.bottom, d.pad_left = s.left, d.pad_right = s.right;
    d.dtype = dtype_on(side, c.dtype);
    d.format = c.format;
    d.w_format = c.w_format;
    d.x = x->on(side), d.w = w->on(side), d.y = y->on(side);
    d.bias = d.residual = absent();
    return d;
  };
  const auto forward = [&](Side side) {
    Conv2dDesc d = base(side);
    if (!c.extras) return d;
    d.activation = c.activation;
    d.activation_alpha = 0.25;
    d.bias = bias_k->on(side), d.residual = residual->on(side);
    return d;
  };
  const auto backward_data = [&](Side side) {
    Conv2dDesc d = base(side);
    if (c.extras) d.bias = bias_c->on(side);
    return d;
  };
  const auto n = static_cast<double>(s.C * s.R * s.S), m = static_cast<double>(s.K * s.R * s.S);
  suite.check<Conv2dDesc>(name, &OpTable::conv2d_forward, forward, {y}, {2, 2e-6 * n});
  if (c.also_forward > 0) {
    suite.check_bits<Conv2dDesc>(name, &OpTable::conv2d_forward, forward, y, c.also_forward);
  }
  fill_short(y);
  if (c.infinite) y->values()[0] = y->values()[y->count() - 1] = INFINITY;
  y->upload();
  suite.check<Conv2dDesc>(name + " data", &OpTable::conv2d_backward_data, backward_data, {x}, {2, 2e-6 * m});
  if (c.also_data > 0) {
    suite.check_bits<Conv2dDesc>(name + " data", &OpTable::conv2d_backward_data, backward_data, x,
                                 c.also_data);
  }
  fill_short(x);
  const auto pixels = static_cast<double>(s.N * P * Q);
  if (c.weights) {
    suite.check<Conv2dDesc>(name + " weights", &OpTable::conv2d_backward_weights, base, {w},
                            {2, 2e-6 * pixels});
  }
  suite.permit_tf32(false);
}

void cases_conv(Suite& suite) {
  for (const Format format : {Format::kNCHW, Format::kNHWC}) {
    for (const int32_t dtype : kFloatTypes) {
      for (size_t i = 0; i < std::size(kShapes); ++i) {
        if (dtype != CNNEXT_FLOAT32 && i % 2) continue;
        const Format w_format = i % 3 ? Format::kNCHW : Format::kNHWC;
        run_conv_case(suite, {kShapes[i], dtype, CNNEXT_ACT_LEAKY_RELU, format, w_format, i % 2 == 0, false});
      }
    }
    for (const int32_t dtype : kFloatTypes) {
      for (size_t i = 0; i < std::size(kDepthwise); ++i) {
        const Format w_format = i % 2 ? Format::kNHWC : Format::kNCHW;
        const int32_t activation = i % 2 ? CNNEXT_ACT_SILU : CNNEXT_ACT_RELU;
        run_conv_case(suite, {kDepthwise[i], dtype, activation, format, w_format, i != 3, false});
      }
    }
    suite.expect_ran("cuda/depthwise_forward_strips");
    suite.expect_ran("cuda/depthwise_backward_data_strips");
    run_conv_case(suite, {kDepthwise[4], CNNEXT_FLOAT32, 0, format, Format::kNCHW, false, true});
    // A padding tap contributes nothing, even under an infinite weight.
    run_conv_case(suite, {kShapes[0], CNNEXT_FLOAT32, 0, format, Format::kNCHW, false, true});
    run_conv_case(suite, {kShapes[6], CNNEXT_FLOAT32, 0, format, Format::kNCHW, false, true});
  }
}
