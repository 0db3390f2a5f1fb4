// linear is a 1x1 convolution over an image of one column: N = 1, C = in, H = the rows, W = 1, channels-last,
// which is how a row-major (rows, in) lies in memory.
#include <algorithm>

#include "core/make_desc.h"

namespace cnnext {
namespace {

void check_rows(const Tensor& t, const char* name) {
  check_tensor(&t, name);
  check_ndim(t, name, 1, CNNEXT_MAX_NDIM);
  check_any_float(t, name);
}

int64_t last(const Tensor& t) { return t.shape[t.ndim - 1]; }

int64_t rows_of(const Tensor& t) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < t.ndim; ++i) rows = checked_mul(rows, t.shape[i], "the number of rows");
  return rows;
}

// (..., features) row-major as (1, features, rows, 1); no rows are an empty batch, as H is at least 1.
Tensor as_image(const Tensor& t) {
  Tensor image = t;
  const int64_t rows = rows_of(t), features = last(t);
  image.ndim = 4;
  image.shape[0] = rows > 0 ? 1 : 0;
  image.shape[1] = features;
  image.shape[2] = std::max<int64_t>(rows, 1);
  image.shape[3] = 1;
  set_format(&image, Format::kNHWC);
  return image;
}

// (out, in) as (out, in, 1, 1).
Tensor as_filters(const Tensor& w) {
  Tensor filters = w;
  filters.ndim = 4;
  filters.shape[2] = filters.shape[3] = 1;
  set_contiguous(&filters);
  return filters;
}

Conv2dDesc make_linear_desc(int64_t rows, int64_t in, int64_t out, int32_t dtype) {
  Conv2dDesc desc{};
  desc.N = rows > 0 ? 1 : 0;
  desc.H = desc.P = std::max<int64_t>(rows, 1);
  desc.C = in;
  desc.K = out;
  desc.W = desc.Q = desc.R = desc.S = desc.groups = 1;
  desc.stride_h = desc.stride_w = desc.dilation_h = desc.dilation_w = 1;
  desc.dtype = dtype;
  desc.format = Format::kNHWC;
  desc.w_format = Format::kNCHW;
  desc.x = desc.w = desc.y = desc.bias = desc.residual = absent();
  return desc;
}

Tensor read(Call& call, const Tensor& t, const char* name) {
  check_has_data(t, name);
  const Tensor dense = call.contiguous(t);
  call.avoid(dense);
  return dense;
}

bool describe_rows(Tensor* out, const char* name, const Tensor& like, int64_t features) {
  int64_t shape[CNNEXT_MAX_NDIM];
  std::copy(like.shape, like.shape + like.ndim, shape);
  shape[like.ndim - 1] = features;
  return describe_output(out, name, like.dtype, like.ndim, shape, Format::kNCHW);
}

void check_linear_weight(const Tensor* w) {
  check_tensor(w, "weight");
  check_ndim(*w, "weight", 2, 2);
  check_any_float(*w, "weight");
}

void check_features(const Tensor& t, const char* name, const Tensor& w, int axis, const char* what) {
  if (last(t) != w.shape[axis]) {
    fail_value(name, " has ", last(t), " features on its last axis, but weight, of shape ", shape_string(w),
               ", has ", w.shape[axis], " ", what);
  }
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" {

cnnext_status cnnext_linear(const cnnext_context* context, const cnnext_conv2d_params* params,
                            const cnnext_tensor* x, const cnnext_tensor* w, const cnnext_tensor* bias,
                            cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}, {w, "weight"}, {bias, "bias"}}, {{y, "y"}});
    check_tensor(x, "x");
    check_rows(*x, "x");
    check_linear_weight(w);
    check_same_dtype(*x, "x", *w, "weight");
    check_features(*x, "x", *w, 1, "input features");
    if (bias) check_bias(*bias, w->shape[0], *w, "one for each output feature");
    Conv2dDesc desc = make_linear_desc(rows_of(*x), w->shape[1], w->shape[0], x->dtype);
    if (params) {
      check_params(params, sizeof(*params), "params");
      check_activation(params->activation);
      desc.activation = params->activation;
      desc.activation_alpha = params->activation_alpha;
    }
    if (describe_rows(y, "y", *x, w->shape[0])) return;
    if (numel(*y) == 0) return;
    desc.x = as_image(read(call, *x, "x"));
    desc.w = as_filters(read(call, *w, "weight"));
    if (bias) desc.bias = read(call, *bias, "bias");
    desc.y = as_image(call.output(*y, Format::kNCHW));
    CNNEXT_RUN(call, conv2d_forward, desc);
  });
}

cnnext_status cnnext_linear_backward_data(const cnnext_context* context, const cnnext_tensor* grad_y,
                                          const cnnext_tensor* w, cnnext_tensor* grad_x) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}, {w, "weight"}}, {{grad_x, "grad_x"}});
    check_tensor(grad_y, "grad_y");
    check_rows(*grad_y, "grad_y");
    check_linear_weight(w);
    check_same_dtype(*grad_y, "grad_y", *w, "weight");
    check_features(*grad_y, "grad_y", *w, 0, "output features");
    Conv2dDesc desc = make_linear_desc(rows_of(*grad_y), w->shape[1], w->shape[0], w->dtype);
    if (describe_rows(grad_x, "grad_x", *grad_y, w->shape[1])) return;
    if (numel(*grad_x) == 0) return;
    desc.y = as_image(read(call, *grad_y, "grad_y"));
    desc.w = as_filters(read(call, *w, "weight"));
    desc.x = as_image(call.output(*grad_x, Format::kNCHW));
    CNNEXT_RUN(call, conv2d_backward_data, desc);
  });
}

cnnext_status cnnext_linear_backward_weights(const cnnext_context* context, const cnnext_tensor* grad_y,
                                             const cnnext_tensor* x, cnnext_tensor* grad_w) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}, {x, "x"}}, {{grad_w, "grad_weight"}});
    check_tensor(grad_y, "grad_y");
    check_rows(*grad_y, "grad_y");
    check_tensor(x, "x");
    check_rows(*x, "x");
    check_same_dtype(*x, "x", *grad_y, "grad_y");
    if (grad_y->ndim != x->ndim || !std::equal(x->shape, x->shape + x->ndim - 1, grad_y->shape)) {
      fail_value("grad_y has shape ", shape_string(*grad_y), ", but x has ", shape_string(*x),
                 "; all axes but the last must be equal");
    }
    Conv2dDesc desc = make_linear_desc(rows_of(*x), last(*x), last(*grad_y), x->dtype);
    const int64_t shape[] = {last(*grad_y), last(*x)};
    if (describe_output(grad_w, "grad_weight", x->dtype, 2, shape, Format::kNCHW)) return;
    if (numel(*grad_w) == 0) return;
    desc.x = as_image(read(call, *x, "x"));
    desc.y = as_image(read(call, *grad_y, "grad_y"));
    desc.w = as_filters(call.output(*grad_w, Format::kNCHW));
    CNNEXT_RUN(call, conv2d_backward_weights, desc);
  });
}

}  // extern "C"
