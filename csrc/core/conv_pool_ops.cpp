// The ABI functions of convolution, ReLU and max-pool in one.
#include "core/make_desc.h"
#include "core/pool_index.h"

namespace cnnext {

ConvPoolDesc make_conv_pool_desc(const cnnext_conv2d_params& conv, const cnnext_pool2d_params& pool,
                                 const Tensor& x, const Tensor& w) {
  ConvPoolDesc desc{};
  desc.conv = make_conv2d_desc(conv, x, "x", w, "weight");
  if (conv.activation != CNNEXT_ACT_NONE) {
    fail_value("activation is ", conv.activation,
               "; conv2d_relu_max_pool2d has its own: it must be none (0)");
  }
  if (pool.index_kind != CNNEXT_INDEX_WINDOW) {
    fail_value("index_kind is ", pool.index_kind, "; conv2d_relu_max_pool2d's codes are window indices (1)");
  }
  const Conv2dDesc& c = desc.conv;
  Tensor inner = shaped(image_shape(true, c.N, c.K, c.P, c.Q), c.dtype);
  set_format(&inner, c.format);
  try {
    desc.pool = make_pool2d_desc(pool, inner, "the convolution's result");
  } catch (const Error& e) {
    throw Error(e.status, concat("pool: ", e.what()));
  }
  desc.pool.format = c.format;
  desc.grad_x = desc.grad_w = desc.grad_bias = absent();
  return desc;
}

namespace {

ImageShape y_shape(const ConvPoolDesc& desc, bool is_batched) {
  return image_shape(is_batched, desc.pool.N, desc.pool.C, desc.pool.P, desc.pool.Q);
}

bool describe(Tensor* out, const char* name, int32_t dtype, const ImageShape& shape, Format format) {
  return describe_output(out, name, dtype, shape.ndim, shape.dims, format);
}

ConvPoolDesc checked_desc(const cnnext_conv2d_params* conv, const cnnext_pool2d_params* pool, const Tensor* x,
                          const Tensor* w) {
  check_params(conv, sizeof(*conv), "conv's params");
  check_params(pool, sizeof(*pool), "pool's params");
  check_tensor(x, "x");
  check_tensor(w, "weight");
  check_float(*x, "x");
  return make_conv_pool_desc(*conv, *pool, *x, *w);
}

// packed: nullptr, or the handle that w is the dense copy of.
void forward(const cnnext_context* context, const cnnext_conv2d_params* conv,
             const cnnext_pool2d_params* pool, const Tensor* x, const Tensor* w,
             const cnnext_packed_weight* packed, const Tensor* bias, Tensor* y, Tensor* codes) {
  Call call(context, {{x, "x"}, {w, "weight"}, {bias, "bias"}}, {{y, "y"}, {codes, "codes"}});
  ConvPoolDesc desc = checked_desc(conv, pool, x, w);
  if (bias) check_bias(*bias, desc.conv.K, *w, "one for each output channel");
  const ImageShape shape = y_shape(desc, x->ndim == 4);
  bool dry = describe(y, "y", desc.conv.dtype, shape, desc.conv.format);
  if (codes) dry |= describe(codes, "codes", desc.pool.index_dtype, shape, desc.conv.format);
  if (dry || numel(*y) == 0) return;
  if (packed) {
    desc.conv.w = *w;
    desc.conv.w_format = Format::kNCHW;
    desc.conv.packed = packed;
    call.avoid(desc.conv.w);
  } else {
    desc.conv.w = read_weight(call, *w, &desc.conv.w_format);
  }
  desc.conv.x = read(call, *x, "x", desc.conv.format);
  if (bias) desc.conv.bias = read_bias(call, *bias);
  desc.pool.y = call.output(batched(*y), desc.conv.format);
  if (codes) desc.pool.indices = call.output(batched(*codes), desc.conv.format);
  CNNEXT_RUN(call, conv2d_relu_max_pool2d_forward, desc);
}

void check_pooled(const Tensor& t, const char* name, const ConvPoolDesc& desc, bool is_batched) {
  const Tensor expected = shaped(y_shape(desc, is_batched), t.dtype);
  if (same_shape(t, expected)) return;
  fail_value(name, " has shape ", shape_string(t), "; it must be ", shape_string(expected),
             ": what conv2d_relu_max_pool2d gives for x and weight with these parameters");
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" {

cnnext_status cnnext_conv2d_relu_max_pool2d(const cnnext_context* context, const cnnext_conv2d_params* conv,
                                            const cnnext_pool2d_params* pool, const cnnext_tensor* x,
                                            const cnnext_tensor* w, const cnnext_tensor* bias,
                                            cnnext_tensor* y, cnnext_tensor* codes) {
  return guard([&] { forward(context, conv, pool, x, w, nullptr, bias, y, codes); });
}

cnnext_status cnnext_conv2d_relu_max_pool2d_packed(const cnnext_context* context,
                                                   const cnnext_conv2d_params* conv,
                                                   const cnnext_pool2d_params* pool, const cnnext_tensor* x,
                                                   const cnnext_packed_weight* w, const cnnext_tensor* bias,
                                                   cnnext_tensor* y, cnnext_tensor* codes) {
  return guard([&] {
    if (!w) fail_value("weight is NULL; a packed weight is required");
    check_params(conv, sizeof(*conv), "conv's params");
    check_packed_geometry(*conv, *w);
    forward(context, conv, pool, x, &w->w, w, bias, y, codes);
  });
}

cnnext_status cnnext_conv2d_relu_max_pool2d_backward(
    const cnnext_context* context, const cnnext_conv2d_params* conv, const cnnext_pool2d_params* pool,
    const cnnext_tensor* grad_y, const cnnext_tensor* codes, const cnnext_tensor* x, const cnnext_tensor* w,
    cnnext_tensor* grad_x, cnnext_tensor* grad_w, cnnext_tensor* grad_bias) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}, {codes, "codes"}, {x, "x"}, {w, "weight"}},
              {{grad_x, "grad_x"}, {grad_w, "grad_weight"}, {grad_bias, "grad_bias"}});
    check_tensor(grad_y, "grad_y");
    check_tensor(codes, "codes");
    ConvPoolDesc desc = checked_desc(conv, pool, x, w);
    check_same_dtype(*x, "x", *grad_y, "grad_y");
    const bool is_batched = x->ndim == 4;
    check_pooled(*grad_y, "grad_y", desc, is_batched);
    check_pooled(*codes, "codes", desc, is_batched);
    if (codes->dtype != desc.pool.index_dtype) {
      fail_type("codes has dtype ", dtype_name(codes->dtype), "; window indices of a kernel of ", desc.pool.R,
                " x ", desc.pool.S, " taps are ", dtype_name(desc.pool.index_dtype));
    }
    // The gradient's format, as in conv2d's and max_pool2d's backward; x is brought to it.
    const Format format = common_format(batched(*x), batched(*grad_y));
    desc.conv.format = desc.pool.format = format;
    bool dry = false;
    const ImageShape image = image_shape(is_batched, desc.conv.N, desc.conv.C, desc.conv.H, desc.conv.W);
    if (grad_x) dry |= describe(grad_x, "grad_x", desc.conv.dtype, image, format);
    if (grad_w) {
      dry |= describe_output(grad_w, "grad_weight", desc.conv.dtype, 4, w->shape, Format::kNCHW);
    }
    if (grad_bias) {
      dry |= describe_output(grad_bias, "grad_bias", desc.conv.dtype, 1, &desc.conv.K, Format::kNCHW);
    }
    if (dry || !(grad_x || grad_w || grad_bias)) return;
    desc.pool.y = read(call, *grad_y, "grad_y", format);
    desc.pool.indices = read(call, *codes, "codes", format);
    desc.conv.x = read(call, *x, "x", format);
    desc.conv.w = read_weight(call, *w, &desc.conv.w_format);
    if (grad_x && numel(*grad_x)) desc.grad_x = call.output(batched(*grad_x), format);
    if (grad_w && numel(*grad_w)) desc.grad_w = call.output(*grad_w, Format::kNCHW);
    if (grad_bias && numel(*grad_bias)) desc.grad_bias = call.output(*grad_bias, Format::kNCHW);
    try {
      CNNEXT_RUN(call, conv2d_relu_max_pool2d_backward, desc);
    } catch (const Error& e) {
      // The parts see a pool's indices, of some of the images.
      if (e.status == CNNEXT_INVALID_VALUE) fail_bad_index(desc.pool, CNNEXT_INDEX_WINDOW, "codes");
      throw;
    }
  });
}

}  // extern "C"
