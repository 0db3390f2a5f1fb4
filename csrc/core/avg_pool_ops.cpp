// The ABI functions of average pooling, by windows and adaptive.
#include "core/make_desc.h"

namespace cnnext {
namespace {

ImageShape y_shape(const Pool2dDesc& desc, bool is_batched) {
  return image_shape(is_batched, desc.N, desc.C, desc.P, desc.Q);
}

using Op = Ran (*OpTable::*)(const Pool2dDesc&, Exec&);

void run_forward(Call& call, Op op, const char* op_name, Pool2dDesc* desc, const Tensor& x, Tensor* y) {
  const ImageShape shape = y_shape(*desc, x.ndim == 4);
  if (describe_output(y, "y", desc->dtype, shape.ndim, shape.dims, desc->format)) return;
  if (numel(*y) == 0) return;
  check_has_data(x, "x");
  desc->x = call.dense(batched(x), desc->format);
  call.avoid(desc->x);
  desc->y = call.output(batched(*y), desc->format);
  call.run(op, op_name, *desc);
}

void run_backward(Call& call, Op op, const char* op_name, Pool2dDesc* desc, const Tensor& grad_y,
                  Tensor* grad_x) {
  desc->format = format_of(grad_y);
  const ImageShape shape = image_shape(grad_y.ndim == 4, desc->N, desc->C, desc->H, desc->W);
  if (describe_output(grad_x, "grad_x", desc->dtype, shape.ndim, shape.dims, desc->format)) return;
  if (numel(*grad_x) == 0) return;
  check_has_data(grad_y, "grad_y");
  desc->y = call.dense(batched(grad_y), desc->format);
  call.avoid(desc->y);
  desc->x = call.output(batched(*grad_x), desc->format);
  call.run(op, op_name, *desc);
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" {

cnnext_status cnnext_avg_pool2d(const cnnext_context* context, const cnnext_pool2d_params* params,
                                const cnnext_tensor* x, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}}, {{y, "y"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(x, "x");
    check_float(*x, "x");
    Pool2dDesc desc = make_pool2d_desc(*params, *x, "x");
    run_forward(call, &OpTable::avg_pool2d_forward, "avg_pool2d_forward", &desc, *x, y);
  });
}

cnnext_status cnnext_avg_pool2d_backward(const cnnext_context* context, const cnnext_pool2d_params* params,
                                         const cnnext_tensor* grad_y, cnnext_tensor* grad_x) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}}, {{grad_x, "grad_x"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(grad_y, "grad_y");
    check_float(*grad_y, "grad_y");
    const Tensor x = output_shape(grad_x, "grad_x", grad_y->dtype);
    Pool2dDesc desc = make_pool2d_desc(*params, x, "grad_x");
    const ImageShape shape = y_shape(desc, x.ndim == 4);
    if (!same_shape(*grad_y, shaped(shape, desc.dtype))) {
      fail_value("grad_y has shape ", shape_string(*grad_y), "; it must be ",
                 shape_string(shaped(shape, desc.dtype)),
                 ": what avg_pool2d gives for grad_x's shape with these parameters");
    }
    run_backward(call, &OpTable::avg_pool2d_backward, "avg_pool2d_backward", &desc, *grad_y, grad_x);
  });
}

cnnext_status cnnext_adaptive_avg_pool2d(const cnnext_context* context, const int64_t* output_size,
                                         const cnnext_tensor* x, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}}, {{y, "y"}});
    check_tensor(x, "x");
    Pool2dDesc desc = make_adaptive_pool2d_desc(output_size, *x, "x");
    run_forward(call, &OpTable::adaptive_avg_pool2d_forward, "adaptive_avg_pool2d_forward", &desc, *x, y);
  });
}

cnnext_status cnnext_adaptive_avg_pool2d_backward(const cnnext_context* context, const cnnext_tensor* grad_y,
                                                  cnnext_tensor* grad_x) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}}, {{grad_x, "grad_x"}});
    check_tensor(grad_y, "grad_y");
    check_ndim(*grad_y, "grad_y", 3, 4);
    check_float(*grad_y, "grad_y");
    const Tensor x = output_shape(grad_x, "grad_x", grad_y->dtype);
    Pool2dDesc desc = make_adaptive_pool2d_desc(grad_y->shape + grad_y->ndim - 2, x, "grad_x");
    const ImageShape shape = y_shape(desc, x.ndim == 4);
    if (!same_shape(*grad_y, shaped(shape, desc.dtype))) {
      fail_value("grad_y has shape ", shape_string(*grad_y), ", but grad_x has ", shape_string(x),
                 "; all axes but the last two must be equal");
    }
    run_backward(call, &OpTable::adaptive_avg_pool2d_backward, "adaptive_avg_pool2d_backward", &desc, *grad_y,
                 grad_x);
  });
}

}  // extern "C"
