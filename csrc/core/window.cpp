// Sliding windows, padding and image shapes: what convolution and pooling judge alike.
#include <algorithm>

#include "core/make_desc.h"

namespace cnnext {

void check_at_least(int64_t value, int64_t low, const char* name, int index) {
  if (value < low) fail_value(name, "[", index, "] is ", value, "; it must be at least ", low);
}

void check_in_range(int64_t value, int64_t low, int64_t high, const char* name) {
  if (value < low || value > high) {
    fail_value(name, " is ", value, "; it must be between ", low, " and ", high);
  }
}

const AxisNames kHeightNames = {"height", "the kernel's effective height", "the padded height",
                                "the output's height"};
const AxisNames kWidthNames = {"width", "the kernel's effective width", "the padded width",
                               "the output's width"};

int64_t effective_kernel(const WindowAxis& axis) {
  const char* what = axis.names->kernel;
  return checked_add(checked_mul(axis.dilation, axis.kernel - 1, what), 1, what);
}

int64_t padded_size(const WindowAxis& axis) {
  const char* what = axis.names->padded;
  return checked_add(checked_add(axis.size, axis.pad_begin, what), axis.pad_end, what);
}

namespace {

// Output ceil(size / stride); an odd total puts the extra at the end.
void same_padding(WindowAxis* axis) {
  const int64_t out = axis->size / axis->stride + (axis->size % axis->stride != 0);
  const int64_t last = std::max<int64_t>(out - 1, 0) * axis->stride;  // below size: no overflow
  const int64_t reach = checked_add(last, effective_kernel(*axis), axis->names->padded);
  const int64_t total = std::max<int64_t>(reach - axis->size, 0);
  axis->pad_begin = total / 2;
  axis->pad_end = total - axis->pad_begin;
}

}  // namespace

void resolve_padding(int32_t mode, const int64_t* padding, WindowAxis* height, WindowAxis* width) {
  switch (mode) {
    case CNNEXT_PAD_EXPLICIT: {
      static const char* const sides[] = {"top", "bottom", "left", "right"};
      for (int i = 0; i < 4; ++i) {
        if (padding[i] < 0) {
          fail_value("padding is ", padding[i], " at the ", sides[i], "; it must be at least 0");
        }
      }
      height->pad_begin = padding[0];
      height->pad_end = padding[1];
      width->pad_begin = padding[2];
      width->pad_end = padding[3];
      return;
    }
    case CNNEXT_PAD_SAME:
      same_padding(height);
      same_padding(width);
      return;
    case CNNEXT_PAD_VALID:
      height->pad_begin = height->pad_end = width->pad_begin = width->pad_end = 0;
      return;
    default:
      fail_value("padding_mode is ", mode, "; it must be 0 (explicit), 1 (same) or 2 (valid)");
  }
}

int64_t windows_that_fit(const WindowAxis& axis) {
  const int64_t effective = effective_kernel(axis), padded = padded_size(axis);
  if (effective > padded) {
    fail_value(axis.names->kernel, " ", effective, " exceeds ", axis.names->padded, " ", padded);
  }
  return (padded - effective) / axis.stride + 1;
}

void check_has_data(const Tensor& t, const char* name) {
  if (!t.data && numel(t) > 0) fail_value(name, "'s data is NULL; only an empty tensor may have none");
}

Tensor read(Call& call, const Tensor& t, const char* name, Format format) {
  check_has_data(t, name);
  const Tensor dense = call.dense(batched(t), format);
  call.avoid(dense);
  return dense;
}

Tensor read_weight(Call& call, const Tensor& w, Format* w_format) {
  check_has_data(w, "weight");
  const Tensor dense = call.dense_weight(w, w_format);
  call.avoid(dense);
  return dense;
}

Tensor read_bias(Call& call, const Tensor& bias) {
  check_has_data(bias, "bias");
  const Tensor dense = call.contiguous(bias);
  call.avoid(dense);
  return dense;
}

Tensor output_shape(const Tensor* out, const char* name, int32_t dtype) {
  if (!out) fail_value(name, " is NULL; an output tensor is required");
  Tensor shape = *out;
  shape.dtype = dtype;
  check_tensor(&shape, name);
  if (!out->data) set_contiguous(&shape);
  return shape;
}

Format common_format(const Tensor& a, const Tensor& b) {
  const Format a_format = format_of(a), b_format = format_of(b);
  if (a_format == b_format) return a_format;
  if (!is_dense(a, a_format) || is_dense(a, b_format)) return b_format;
  if (!is_dense(b, b_format) || is_dense(b, a_format)) return a_format;
  return numel(a) >= numel(b) ? a_format : b_format;
}

ImageShape image_shape(bool is_batched, int64_t N, int64_t C, int64_t H, int64_t W) {
  if (is_batched) return {4, {N, C, H, W}};
  return {3, {C, H, W, 0}};
}

Tensor shaped(const ImageShape& shape, int32_t dtype) {
  Tensor t{};
  t.dtype = dtype;
  t.ndim = shape.ndim;
  t.device_type = CNNEXT_CPU;
  std::copy(shape.dims, shape.dims + shape.ndim, t.shape);
  set_contiguous(&t);
  return t;
}

}  // namespace cnnext
