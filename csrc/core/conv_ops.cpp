// The convolutions' ABI functions: judge, describe the outputs, bring the tensors into the descriptor's form,
// run.
#include "core/make_desc.h"

namespace cnnext {
namespace {

ImageShape x_shape(const Conv2dDesc& desc, bool is_batched) {
  return image_shape(is_batched, desc.N, desc.C, desc.H, desc.W);
}
ImageShape y_shape(const Conv2dDesc& desc, bool is_batched) {
  return image_shape(is_batched, desc.N, desc.K, desc.P, desc.Q);
}

void check_image_shape(const Tensor& t, const char* name, const ImageShape& shape, const char* rule) {
  if (shape.ndim == 4) {
    check_shape(t, name, {shape.dims[0], shape.dims[1], shape.dims[2], shape.dims[3]}, rule);
  } else {
    check_shape(t, name, {shape.dims[0], shape.dims[1], shape.dims[2]}, rule);
  }
}

bool describe_image(Tensor* out, const char* name, const Conv2dDesc& desc, const ImageShape& shape) {
  return describe_output(out, name, desc.dtype, shape.ndim, shape.dims, desc.format);
}

void check_epilogue(const Conv2dDesc& desc, const Tensor& w, bool is_batched, const Tensor* bias,
                    const Tensor* residual) {
  if (bias) check_bias(*bias, desc.K, w, "one for each output channel");
  if (!residual) return;
  check_tensor(residual, "residual");
  check_same_dtype(w, "weight", *residual, "residual");
  check_image_shape(*residual, "residual", y_shape(desc, is_batched), "the output's shape");
}

void refuse_activation(const cnnext_conv2d_params& params, const char* op) {
  if (params.activation != CNNEXT_ACT_NONE) {
    fail_value("activation is ", params.activation, "; ", op, " takes none (0)");
  }
}

// Reads the forward's operands but the weights, which the caller has put in place, and runs it.
void run_forward(Call& call, Conv2dDesc* desc, const Tensor& x, const Tensor* bias, const Tensor* residual,
                 const Tensor& y) {
  if (numel(y) == 0) return;
  desc->x = read(call, x, "x", desc->format);
  if (bias) desc->bias = read_bias(call, *bias);
  if (residual) desc->residual = read(call, *residual, "residual", desc->format);
  desc->y = call.output(batched(y), desc->format);
  CNNEXT_RUN(call, conv2d_forward, *desc);
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" {

cnnext_status cnnext_conv2d(const cnnext_context* context, const cnnext_conv2d_params* params,
                            const cnnext_tensor* x, const cnnext_tensor* w, const cnnext_tensor* bias,
                            const cnnext_tensor* residual, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}, {w, "weight"}, {bias, "bias"}, {residual, "residual"}}, {{y, "y"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(x, "x");
    check_tensor(w, "weight");
    Conv2dDesc desc = make_conv2d_desc(*params, *x, "x", *w, "weight");
    const bool is_batched = x->ndim == 4;
    check_epilogue(desc, *w, is_batched, bias, residual);
    if (describe_image(y, "y", desc, y_shape(desc, is_batched))) return;
    desc.w = read_weight(call, *w, &desc.w_format);
    run_forward(call, &desc, *x, bias, residual, *y);
  });
}

cnnext_status cnnext_conv2d_packed(const cnnext_context* context, const cnnext_conv2d_params* params,
                                   const cnnext_tensor* x, const cnnext_packed_weight* w,
                                   const cnnext_tensor* bias, const cnnext_tensor* residual,
                                   cnnext_tensor* y) {
  return guard([&] {
    const Tensor* packed = w ? &w->w : nullptr;
    Call call(context, {{x, "x"}, {packed, "weight"}, {bias, "bias"}, {residual, "residual"}}, {{y, "y"}});
    if (!w) fail_value("weight is NULL; a packed weight is required");
    if (!params) params = &w->params;
    check_params(params, sizeof(*params), "params");
    check_tensor(x, "x");
    check_packed_geometry(*params, *w);
    Conv2dDesc desc = make_conv2d_desc(*params, *x, "x", w->w, "weight");
    const bool is_batched = x->ndim == 4;
    check_epilogue(desc, w->w, is_batched, bias, residual);
    if (describe_image(y, "y", desc, y_shape(desc, is_batched))) return;
    desc.w = w->w;
    desc.w_format = Format::kNCHW;
    desc.packed = w;
    call.avoid(desc.w);
    run_forward(call, &desc, *x, bias, residual, *y);
  });
}

cnnext_status cnnext_conv2d_backward_data(const cnnext_context* context, const cnnext_conv2d_params* params,
                                          const cnnext_tensor* grad_y, const cnnext_tensor* w,
                                          cnnext_tensor* grad_x) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}, {w, "weight"}}, {{grad_x, "grad_x"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(grad_y, "grad_y");
    check_tensor(w, "weight");
    check_any_float(*grad_y, "grad_y");
    Tensor x = output_shape(grad_x, "grad_x", grad_y->dtype);
    Conv2dDesc desc = make_conv2d_desc(*params, x, "grad_x", *w, "weight");
    refuse_activation(*params, "conv2d_backward_data");
    const bool is_batched = x.ndim == 4;
    check_same_dtype(*w, "weight", *grad_y, "grad_y");
    check_image_shape(*grad_y, "grad_y", y_shape(desc, is_batched),
                      "what conv2d gives for grad_x's shape with these parameters");
    desc.format = format_of(*grad_y);
    if (describe_image(grad_x, "grad_x", desc, x_shape(desc, is_batched))) return;
    if (numel(*grad_x) == 0) return;
    desc.y = read(call, *grad_y, "grad_y", desc.format);
    desc.w = read_weight(call, *w, &desc.w_format);
    desc.x = call.output(batched(*grad_x), desc.format);
    CNNEXT_RUN(call, conv2d_backward_data, desc);
  });
}

cnnext_status cnnext_conv2d_backward_weights(const cnnext_context* context,
                                             const cnnext_conv2d_params* params, const cnnext_tensor* grad_y,
                                             const cnnext_tensor* x, cnnext_tensor* grad_w) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}, {x, "x"}}, {{grad_w, "grad_weight"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(grad_y, "grad_y");
    check_tensor(x, "x");
    check_any_float(*x, "x");
    Tensor w = output_shape(grad_w, "grad_weight", x->dtype);
    Conv2dDesc desc = make_conv2d_desc(*params, *x, "x", w, "grad_weight");
    refuse_activation(*params, "conv2d_backward_weights");
    check_same_dtype(*x, "x", *grad_y, "grad_y");
    check_image_shape(*grad_y, "grad_y", y_shape(desc, x->ndim == 4),
                      "what conv2d gives for x and grad_weight's shape with these parameters");
    desc.format = common_format(batched(*x), batched(*grad_y));
    // Alone among the outputs, a gradient of weights may keep the order that the caller gave it.
    desc.w_format = grad_w->data && !is_dense(*grad_w, Format::kNCHW) ? format_of(*grad_w) : Format::kNCHW;
    if (describe_output(grad_w, "grad_weight", desc.dtype, 4, w.shape, desc.w_format)) return;
    if (numel(*grad_w) == 0) return;
    desc.x = read(call, *x, "x", desc.format);
    desc.y = read(call, *grad_y, "grad_y", desc.format);
    desc.w = call.output(*grad_w, desc.w_format);
    CNNEXT_RUN(call, conv2d_backward_weights, desc);
  });
}

cnnext_status cnnext_conv_transpose2d(const cnnext_context* context, const cnnext_conv2d_params* params,
                                      const cnnext_tensor* x, const cnnext_tensor* w,
                                      const cnnext_tensor* bias, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}, {w, "weight"}, {bias, "bias"}}, {{y, "y"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(x, "x");
    check_tensor(w, "weight");
    Conv2dDesc desc = make_conv_transpose2d_desc(*params, *x, *w);
    refuse_activation(*params, "conv_transpose2d");
    if (bias) check_bias(*bias, desc.C, *w, "one for each output channel");
    if (describe_image(y, "y", desc, x_shape(desc, x->ndim == 4))) return;
    if (numel(*y) == 0) return;
    desc.y = read(call, *x, "x", desc.format);
    desc.w = read_weight(call, *w, &desc.w_format);
    if (bias) desc.bias = read_bias(call, *bias);
    desc.x = call.output(batched(*y), desc.format);
    CNNEXT_RUN(call, conv2d_backward_data, desc);
  });
}

}  // extern "C"
