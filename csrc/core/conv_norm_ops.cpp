// The ABI function of convolution and batch norm in one.
#include "core/make_desc.h"
#include "core/norm_desc.h"

namespace cnnext {
namespace {

// Messages about the norm begin with "norm: ".
template <class Body>
auto of_norm(const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error& e) {
    throw Error(e.status, concat("norm: ", e.what()));
  }
}

void check_conv(const cnnext_conv2d_params* conv, const Tensor* x, const Tensor* w) {
  check_params(conv, sizeof(*conv), "conv's params");
  check_tensor(x, "x");
  check_tensor(w, "weight");
  check_float(*x, "x");
  check_ndim(*x, "x", 4, 4);
  if (conv->activation != CNNEXT_ACT_NONE) {
    fail_value("activation is ", conv->activation, "; conv2d_batch_norm's is in norm's params");
  }
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" cnnext_status cnnext_conv2d_batch_norm(
    const cnnext_context* context, const cnnext_conv2d_params* conv, const cnnext_batch_norm_params* norm,
    const cnnext_tensor* x, const cnnext_tensor* w, const cnnext_tensor* bias,
    const cnnext_tensor* norm_weight, const cnnext_tensor* norm_bias, cnnext_tensor* running_mean,
    cnnext_tensor* running_var, cnnext_tensor* y, cnnext_tensor* conv_y, cnnext_tensor* save_mean,
    cnnext_tensor* save_invstd) {
  return guard([&] {
    Call call(context,
              {{x, "x"},
               {w, "weight"},
               {bias, "bias"},
               {norm_weight, "norm_weight"},
               {norm_bias, "norm_bias"},
               {running_mean, "running_mean"},
               {running_var, "running_var"}},
              {{y, "y"}, {conv_y, "conv_y"}, {save_mean, "save_mean"}, {save_invstd, "save_invstd"}});
    check_conv(conv, x, w);
    ConvBatchNormDesc d{make_conv2d_desc(*conv, *x, "x", *w, "weight"), {}};
    const Conv2dDesc& c = d.conv;
    if (bias) check_bias(*bias, c.K, *w, "one for each output channel");
    Tensor inner = shaped(image_shape(true, c.N, c.K, c.P, c.Q), c.dtype);
    set_format(&inner, c.format);
    inner.device_type = x->device_type;
    inner.device_id = x->device_id;
    const BatchNormVectors vectors{norm_weight, norm_bias, running_mean, running_var, save_mean, save_invstd};
    of_norm([&] {
      check_batch_norm_params(norm);
      if (!norm->training) fail_value("training is 0; conv2d_batch_norm takes the statistics of the batch");
      d.norm = make_batch_norm_desc(*norm, inner, channel_shape(inner));
      check_batch_norm_vectors(*norm, inner, c.K, vectors);
    });
    if (d.norm.inner > 1) d.norm.format = c.format;
    const auto describe = [&](Tensor* out, const char* name) {
      return describe_output(out, name, c.dtype, 4, inner.shape, c.format);
    };
    bool dry = describe(y, "y");
    if (conv_y) dry |= describe(conv_y, "conv_y");
    dry |= describe_saved_statistics(vectors, c.dtype, c.K);
    if (dry) return;

    d.conv.w = read_weight(call, *w, &d.conv.w_format);
    d.conv.x = read(call, *x, "x", c.format);
    if (bias) d.conv.bias = read_bias(call, *bias);
    read_batch_norm_vectors(call, vectors, &d.norm);
    d.norm.y = call.output(*y, c.format);
    d.conv.y = conv_y ? call.output(*conv_y, c.format) : d.norm.y;
    d.norm.x = d.conv.y;
    CNNEXT_RUN(call, conv2d_batch_norm_forward, d);
    write_back_running_statistics(call, d.norm, vectors);
  });
}
