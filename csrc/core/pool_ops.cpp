// The ABI functions of max-pool, its relatives and their indices.
#include <algorithm>

#include "core/make_desc.h"

namespace cnnext {
namespace {

void check_pool_dtype(const Tensor& t, const char* name) {
  if (t.dtype == CNNEXT_UINT8 || t.dtype == CNNEXT_INT8) return;
  if (is_integer(t.dtype)) {
    fail_type(name, " has dtype ", dtype_name(t.dtype), "; it must be a float, uint8 or int8");
  }
  check_any_float(t, name);
}

void check_stored_kind(int32_t kind) {
  if (kind == CNNEXT_INDEX_PLANE || kind == CNNEXT_INDEX_WINDOW) return;
  fail_value("index_kind is ", kind,
             "; a pool's indices are 0 (plane) or 1 (window): convert_indices gives and takes the others");
}

ImageShape x_shape(const Pool2dDesc& desc, bool is_batched) {
  return image_shape(is_batched, desc.N, desc.C, desc.H, desc.W);
}
ImageShape y_shape(const Pool2dDesc& desc, bool is_batched) {
  return image_shape(is_batched, desc.N, desc.C, desc.P, desc.Q);
}

bool has_shape(const Tensor& t, const ImageShape& shape) {
  return t.ndim == shape.ndim && std::equal(t.shape, t.shape + t.ndim, shape.dims);
}

void check_pooled(const Tensor& t, const char* name, const Pool2dDesc& desc, bool is_batched,
                  const char* rule) {
  const ImageShape shape = y_shape(desc, is_batched);
  if (has_shape(t, shape)) return;
  fail_value(name, " has shape ", shape_string(t), "; it must be ", shape_string(shaped(shape, t.dtype)),
             ": ", rule);
}

void check_index_dtype(const Tensor& t, const Pool2dDesc& desc) {
  if (t.dtype == desc.index_dtype) return;
  fail_type("indices has dtype ", dtype_name(t.dtype), "; ",
            desc.index_kind == CNNEXT_INDEX_WINDOW ? "window indices of a kernel of " : "indices into planes",
            desc.index_kind == CNNEXT_INDEX_WINDOW ? concat(desc.R, " x ", desc.S, " taps") : "", " are ",
            dtype_name(desc.index_dtype));
}

bool describe(Tensor* out, const char* name, int32_t dtype, const ImageShape& shape, Format format) {
  return describe_output(out, name, dtype, shape.ndim, shape.dims, format);
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" {

cnnext_status cnnext_max_pool2d(const cnnext_context* context, const cnnext_pool2d_params* params,
                                const cnnext_tensor* x, cnnext_tensor* y, cnnext_tensor* indices) {
  return guard([&] {
    Call call(context, {{x, "x"}}, {{y, "y"}, {indices, "indices"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(x, "x");
    check_pool_dtype(*x, "x");
    Pool2dDesc desc = make_pool2d_desc(*params, *x, "x");
    check_stored_kind(desc.index_kind);
    const ImageShape shape = y_shape(desc, x->ndim == 4);
    bool dry = describe(y, "y", desc.dtype, shape, desc.format);
    if (indices) dry |= describe(indices, "indices", desc.index_dtype, shape, desc.format);
    if (dry || numel(*y) == 0) return;
    desc.x = read(call, *x, "x", desc.format);
    desc.y = call.output(batched(*y), desc.format);
    if (indices) desc.indices = call.output(batched(*indices), desc.format);
    CNNEXT_RUN(call, max_pool2d_forward, desc);
  });
}

cnnext_status cnnext_max_pool2d_backward(const cnnext_context* context, const cnnext_pool2d_params* params,
                                         const cnnext_tensor* grad_y, const cnnext_tensor* indices,
                                         cnnext_tensor* grad_x) {
  return guard([&] {
    Call call(context, {{grad_y, "grad_y"}, {indices, "indices"}}, {{grad_x, "grad_x"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(grad_y, "grad_y");
    check_any_float(*grad_y, "grad_y");
    check_tensor(indices, "indices");
    const Tensor x = output_shape(grad_x, "grad_x", grad_y->dtype);
    Pool2dDesc desc = make_pool2d_desc(*params, x, "grad_x");
    check_stored_kind(desc.index_kind);
    const bool is_batched = x.ndim == 4;
    const char* rule = "what max_pool2d gives for grad_x's shape with these parameters";
    check_pooled(*grad_y, "grad_y", desc, is_batched, rule);
    check_pooled(*indices, "indices", desc, is_batched, rule);
    check_index_dtype(*indices, desc);
    desc.format = format_of(*grad_y);
    if (describe(grad_x, "grad_x", desc.dtype, x_shape(desc, is_batched), desc.format)) return;
    if (numel(*grad_x) == 0) return;
    desc.y = read(call, *grad_y, "grad_y", desc.format);
    desc.indices = read(call, *indices, "indices", desc.format);
    desc.x = call.output(batched(*grad_x), desc.format);
    CNNEXT_RUN(call, max_pool2d_backward, desc);
  });
}

cnnext_status cnnext_max_pool2d_gather(const cnnext_context* context, const cnnext_pool2d_params* params,
                                       const cnnext_tensor* x, const cnnext_tensor* indices,
                                       cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}, {indices, "indices"}}, {{y, "y"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(x, "x");
    check_float(*x, "x");
    check_tensor(indices, "indices");
    // The indices may be max_unpool2d's, whose pooled side has any size: it is theirs, not the parameters'.
    Pool2dDesc desc = make_unpool2d_desc(*params, *indices, "indices", *x, "x");
    check_stored_kind(desc.index_kind);
    check_index_dtype(*indices, desc);
    desc.format = format_of(*x);
    if (describe(y, "y", desc.dtype, y_shape(desc, x->ndim == 4), desc.format)) return;
    if (numel(*y) == 0) return;
    desc.x = read(call, *x, "x", desc.format);
    desc.indices = read(call, *indices, "indices", desc.format);
    desc.y = call.output(batched(*y), desc.format);
    CNNEXT_RUN(call, max_pool2d_gather, desc);
  });
}

cnnext_status cnnext_max_unpool2d(const cnnext_context* context, const cnnext_pool2d_params* params,
                                  const cnnext_tensor* x, const cnnext_tensor* indices, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}, {indices, "indices"}}, {{y, "y"}});
    check_params(params, sizeof(*params), "params");
    check_tensor(x, "x");
    check_float(*x, "x");
    check_tensor(indices, "indices");
    const Tensor large = output_shape(y, "y", x->dtype);
    Pool2dDesc desc = make_unpool2d_desc(*params, *x, "x", large, "y");
    check_stored_kind(desc.index_kind);
    const bool is_batched = x->ndim == 4;
    check_pooled(*indices, "indices", desc, is_batched, "x's shape");
    check_index_dtype(*indices, desc);
    if (describe(y, "y", desc.dtype, x_shape(desc, is_batched), desc.format)) return;
    if (numel(*y) == 0) return;
    desc.y = read(call, *x, "x", desc.format);
    desc.indices = read(call, *indices, "indices", desc.format);
    desc.x = call.output(batched(*y), desc.format);
    CNNEXT_RUN(call, max_unpool2d, desc);
  });
}

cnnext_status cnnext_convert_indices(const cnnext_context* context, const cnnext_pool2d_params* params,
                                     const int64_t* input_shape, int32_t target_kind,
                                     const cnnext_tensor* indices, cnnext_tensor* out) {
  return guard([&] {
    Call call(context, {{indices, "indices"}}, {{out, "out"}});
    check_params(params, sizeof(*params), "params");
    if (!input_shape) fail_value("input_shape is NULL; it is required");
    check_tensor(indices, "indices");
    check_ndim(*indices, "indices", 3, 4);
    check_in_range(target_kind, CNNEXT_INDEX_PLANE, CNNEXT_INDEX_ONNX_COLUMN_MAJOR,
                   "target_kind (a cnnext_index_kind)");
    Tensor x{};
    x.dtype = CNNEXT_FLOAT64;  // the widest: its size in bytes is checked
    x.ndim = 4;
    x.device_type = CNNEXT_CPU;
    std::copy(input_shape, input_shape + 4, x.shape);
    check_tensor(&x, "input_shape");
    set_contiguous(&x);
    ConvertIndicesDesc desc{};
    desc.pool = make_pool2d_desc(*params, x, "input_shape");
    const bool is_batched = indices->ndim == 4;
    if (!is_batched && desc.pool.N != 1) {
      fail_value("input_shape's batch is ", desc.pool.N, ", but indices, of shape ", shape_string(*indices),
                 ", has no batch axis; it must be 1");
    }
    check_pooled(*indices, "indices", desc.pool, is_batched,
                 "what max_pool2d gives for input_shape with these parameters");
    check_index_dtype(*indices, desc.pool);
    desc.pool.format = format_of(*indices);
    desc.target_kind = target_kind;
    const int32_t dtype = index_dtype(target_kind, desc.pool.R, desc.pool.S);
    if (describe(out, "out", dtype, y_shape(desc.pool, is_batched), desc.pool.format)) return;
    if (numel(*out) == 0) return;
    desc.pool.indices = read(call, *indices, "indices", desc.pool.format);
    desc.out = call.output(batched(*out), desc.pool.format);
    CNNEXT_RUN(call, convert_indices, desc);
  });
}

}  // extern "C"
