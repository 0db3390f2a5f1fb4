#include "core/views.h"

namespace cnnext {
namespace {

ChannelDesc make_channel_desc(const Tensor& x, const ChannelShape& shape) {
  ChannelDesc d{};
  d.N = shape.N;
  d.C = shape.C;
  d.inner = shape.inner;
  d.format = shape.format;
  d.dtype = x.dtype;
  d.x = d.bias = d.y = absent();
  return d;
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" cnnext_status cnnext_bias_add(const cnnext_context* context, const cnnext_tensor* x,
                                         const cnnext_tensor* bias, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}, {bias, "bias"}}, {{y, "y"}});
    check_input(x, "x");
    check_float(*x, "x");
    check_ndim(*x, "x", 2, CNNEXT_MAX_NDIM);
    const ChannelShape shape = channel_shape(*x);
    check_vector(bias, "bias", *x, shape.C, "one value for each channel (axis 1 of x)");
    if (describe_channel_output(y, "y", *x) || numel(*y) == 0) return;
    ChannelDesc d = make_channel_desc(*x, shape);
    d.x = channel_input(call, *x, shape.format);
    d.bias = call.contiguous(*bias);
    // y may be x itself; the same memory counts as the same view in the 4-D form too.
    call.avoid(d.x);
    call.avoid(d.bias);
    call.allow_same(true);
    d.y = channel_output(call, *y, shape.format);
    CNNEXT_RUN(call, bias_add, d);
  });
}

extern "C" cnnext_status cnnext_bias_grad(const cnnext_context* context, const cnnext_tensor* grad_y,
                                          cnnext_tensor* grad_bias) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}}, {{grad_bias, "grad_bias"}});
    check_input(grad_y, "grad_y");
    check_any_float(*grad_y, "grad_y");
    check_ndim(*grad_y, "grad_y", 2, CNNEXT_MAX_NDIM);
    const ChannelShape shape = channel_shape(*grad_y);
    if (describe_output(grad_bias, "grad_bias", grad_y->dtype, 1, &shape.C, Format::kNCHW) ||
        numel(*grad_bias) == 0)
      return;
    ChannelDesc d = make_channel_desc(*grad_y, shape);
    d.x = channel_input(call, *grad_y, shape.format);
    call.avoid(d.x);
    d.bias = call.output(*grad_bias, Format::kNCHW);
    CNNEXT_RUN(call, bias_grad, d);
  });
}
