#include <algorithm>

#include "core/make_desc.h"

namespace cnnext {
namespace {

void check_pool_image(const Tensor& t, const char* name) {
  check_tensor(&t, name);
  check_ndim(t, name, 3, 4);
  for (int i = t.ndim - 3; i < t.ndim; ++i) {
    if (t.shape[i] < 1) {
      fail_value(name, " has shape ", shape_string(t), "; only the batch may be empty");
    }
  }
}

void check_pool_params(const cnnext_pool2d_params& params) {
  for (int i = 0; i < 2; ++i) check_at_least(params.kernel[i], 1, "kernel_size", i);
  for (int i = 0; i < 2; ++i) check_at_least(params.stride[i], 1, "stride", i);
  for (int i = 0; i < 2; ++i) check_at_least(params.dilation[i], 1, "dilation", i);
  check_in_range(params.index_kind, CNNEXT_INDEX_PLANE, CNNEXT_INDEX_ONNX_COLUMN_MAJOR,
                 "index_kind (a cnnext_index_kind)");
}

// torch: at most half the effective kernel, so that no window lies wholly in the padding. Given side by side,
// a side may reach up to the effective kernel - 1.
void check_pool_padding(const WindowAxis& axis, bool four_sided) {
  const int64_t effective = effective_kernel(axis);
  const int64_t limit = four_sided ? effective - 1 : effective / 2;
  for (const int64_t pad : {axis.pad_begin, axis.pad_end}) {
    if (pad > limit) {
      fail_value("padding is ", pad, " along the ", axis.names->axis, "; it must be at most ", limit, ", ",
                 four_sided ? "one less than " : "half of ", axis.names->kernel, " ", effective);
    }
  }
}

// floor or ceil((padded - effective) / stride) + 1; with ceil a last window that would start in the padding
// at the end is dropped.
int64_t pooled_size(const WindowAxis& axis, bool ceil_mode) {
  const int64_t effective = effective_kernel(axis), padded = padded_size(axis);
  checked_add(padded, effective, axis.names->padded);  // what the last window may reach with ceil_mode
  const int64_t room = padded - effective;
  int64_t count = room >= 0 ? room / axis.stride + 1 : 0;
  if (ceil_mode) {
    // One more where a window does not fit whole but its start lies within a stride of the last fit.
    if (room >= 0 ? room % axis.stride != 0 : -room < axis.stride) ++count;
    const int64_t image_end = axis.size + axis.pad_begin, steps = count - 1;  // steps * stride may overflow
    if (steps > 0 && axis.stride >= image_end / steps + (image_end % steps != 0)) --count;
  }
  if (count < 1) {
    fail_value(axis.names->kernel, " ", effective, " exceeds ", axis.names->padded, " ", padded,
               ": the output would be empty");
  }
  return count;
}

struct PoolWindow {
  WindowAxis height, width;
};

PoolWindow window_of(const cnnext_pool2d_params& params, int64_t H, int64_t W) {
  PoolWindow window;
  window.height = {&kHeightNames, H, params.kernel[0], params.stride[0], params.dilation[0], 0, 0};
  window.width = {&kWidthNames, W, params.kernel[1], params.stride[1], params.dilation[1], 0, 0};
  resolve_padding(params.padding_mode, params.padding, &window.height, &window.width);
  const bool four_sided = params.four_sided || params.padding_mode != CNNEXT_PAD_EXPLICIT;
  check_pool_padding(window.height, four_sided);
  check_pool_padding(window.width, four_sided);
  return window;
}

Pool2dDesc start_desc(const Tensor& image, int64_t P, int64_t Q) {
  Pool2dDesc desc{};
  desc.N = image.shape[0];
  desc.C = image.shape[1];
  desc.H = image.shape[2];
  desc.W = image.shape[3];
  desc.P = P;
  desc.Q = Q;
  desc.stride_h = desc.stride_w = desc.dilation_h = desc.dilation_w = 1;
  desc.dtype = image.dtype;
  desc.index_dtype = CNNEXT_INT64;
  desc.format = format_of(image);
  desc.x = desc.y = desc.indices = absent();
  return desc;
}

void set_window(Pool2dDesc* desc, const cnnext_pool2d_params& params, const PoolWindow& window) {
  desc->R = params.kernel[0];
  desc->S = params.kernel[1];
  // A stride between windows of which there is one, and a dilation of one tap, are 1: kernels are chosen by
  // them.
  desc->stride_h = desc->P == 1 ? 1 : params.stride[0];
  desc->stride_w = desc->Q == 1 ? 1 : params.stride[1];
  desc->dilation_h = desc->R == 1 ? 1 : params.dilation[0];
  desc->dilation_w = desc->S == 1 ? 1 : params.dilation[1];
  desc->pad_top = window.height.pad_begin;
  desc->pad_bottom = window.height.pad_end;
  desc->pad_left = window.width.pad_begin;
  desc->pad_right = window.width.pad_end;
  desc->divisor_override = params.divisor_override;
  desc->count_include_pad = params.count_include_pad;
  desc->index_kind = params.index_kind;
  checked_mul(desc->R, desc->S, "the kernel's number of taps");
  desc->index_dtype = index_dtype(params.index_kind, desc->R, desc->S);
}

}  // namespace

int32_t index_dtype(int32_t kind, int64_t R, int64_t S) {
  if (kind != CNNEXT_INDEX_WINDOW) return CNNEXT_INT64;
  const int64_t taps = R * S;
  if (taps > INT32_MAX) {
    fail_value("kernel_size has ", taps, " taps; window indices are for at most ", INT32_MAX);
  }
  return taps <= UINT8_MAX ? CNNEXT_UINT8 : taps <= UINT16_MAX ? CNNEXT_UINT16 : CNNEXT_INT32;
}

Pool2dDesc make_pool2d_desc(const cnnext_pool2d_params& params, const Tensor& x, const char* x_name) {
  check_pool_image(x, x_name);
  check_pool_params(params);
  const Tensor image = batched(x);
  const PoolWindow window = window_of(params, image.shape[2], image.shape[3]);
  const bool ceil_mode = params.ceil_mode != 0;
  const int64_t P = pooled_size(window.height, ceil_mode), Q = pooled_size(window.width, ceil_mode);
  Pool2dDesc desc = start_desc(image, P, Q);
  set_window(&desc, params, window);
  return desc;
}

Pool2dDesc make_unpool2d_desc(const cnnext_pool2d_params& params, const Tensor& y, const char* y_name,
                              const Tensor& x, const char* x_name) {
  check_pool_image(y, y_name);
  check_pool_image(x, x_name);
  if (x.ndim != y.ndim || !std::equal(x.shape, x.shape + x.ndim - 2, y.shape)) {
    fail_value(x_name, " has shape ", shape_string(x), ", but ", y_name, " has ", shape_string(y),
               "; all axes but the last two must be equal");
  }
  check_pool_params(params);
  const Tensor image = batched(x), pooled = batched(y);
  Pool2dDesc desc = start_desc(image, pooled.shape[2], pooled.shape[3]);
  desc.format = format_of(pooled);
  const PoolWindow window = window_of(params, desc.H, desc.W);
  for (const auto& [axis, count] : {std::pair(window.height, desc.P), std::pair(window.width, desc.Q)}) {
    const char* what = "the windows' reach";
    checked_add(checked_mul(count, axis.stride, what), effective_kernel(axis), what);
  }
  set_window(&desc, params, window);
  return desc;
}

Pool2dDesc make_adaptive_pool2d_desc(const int64_t* output_size, const Tensor& x, const char* x_name) {
  check_tensor(&x, x_name);
  check_ndim(x, x_name, 3, 4);
  check_float(x, x_name);
  if (!output_size) fail_value("output_size is NULL; it is required");
  for (int i = 0; i < 2; ++i) check_at_least(output_size[i], -1, "output_size", i);
  const Tensor image = batched(x);
  const int64_t H = image.shape[2], W = image.shape[3];
  if (H < 1 || W < 1) {
    fail_value(x_name, " has shape ", shape_string(x), "; its height and width must be at least 1");
  }
  const int64_t P = output_size[0] < 0 ? H : output_size[0], Q = output_size[1] < 0 ? W : output_size[1];
  checked_mul(checked_add(P, 1, "output_size[0]"), H, "output_size[0] times the height");
  checked_mul(checked_add(Q, 1, "output_size[1]"), W, "output_size[1] times the width");
  return start_desc(image, P, Q);
}

}  // namespace cnnext
