#include "core/views.h"

#include <algorithm>

namespace cnnext {

void check_input(const Tensor* t, const char* name) {
  check_tensor(t, name);
  if (!t->data && numel(*t) > 0) {
    fail_value(name, "'s data is NULL, but its shape is ", shape_string(*t), "; an input needs data");
  }
}

void check_float_like(const Tensor* t, const char* name, const Tensor& like, const char* like_name) {
  check_input(t, name);
  check_float(*t, name);
  check_any_float_like(t, name, like, like_name);
}

void check_any_float_like(const Tensor* t, const char* name, const Tensor& like, const char* like_name) {
  check_input(t, name);
  check_any_float(*t, name);
  check_same_dtype(like, like_name, *t, name);
  if (!same_shape(*t, like)) {
    fail_value(name, " has shape ", shape_string(*t), ", but ", like_name, " has ", shape_string(like),
               "; they must be equal");
  }
}

void check_vector(const Tensor* t, const char* name, const Tensor& x, int64_t length, const char* rule) {
  check_input(t, name);
  check_float(*t, name);
  check_same_dtype(x, "x", *t, name);
  check_shape(*t, name, {length}, rule);
}

void memory_order(const Tensor& t, int* order) {
  for (int i = 0; i < t.ndim; ++i) {  // insertion sort by stride, largest first; equal ones keep their order
    int j = i;
    for (; j > 0 && t.strides[order[j - 1]] < t.strides[i]; --j) order[j] = order[j - 1];
    order[j] = i;
  }
}

bool describe_output_like(Tensor* out, const char* name, const Tensor& like) {
  const Format format = format_of(like);
  const bool dry = describe_output(out, name, like.dtype, like.ndim, like.shape, format);
  if (!dry || is_dense(like, format) || !is_permuted_dense(like)) return dry;
  int order[CNNEXT_MAX_NDIM];
  memory_order(like, order);
  int64_t stride = 1;
  for (int i = like.ndim - 1; i >= 0; --i) {
    out->strides[order[i]] = stride;
    stride *= std::max<int64_t>(like.shape[order[i]], 1);
  }
  return dry;
}

Tensor dense_any(Call& call, const Tensor& t) {
  return is_permuted_dense(t) ? t : call.dense(t, format_of(t));
}

void write_back(Call& call, const Tensor& dense, const Tensor& original) {
  if (dense.data == original.data) return;
  call.copy(dense, original);
}

namespace {

// N, C and inner of a shape; the format is not decided yet.
ChannelShape channel_counts(const Tensor& t) {
  ChannelShape s{1, 1, 1, Format::kNCHW};
  if (t.ndim == 1) {
    s.C = t.shape[0];
  } else if (t.ndim >= 2) {
    s.N = t.shape[0];
    s.C = t.shape[1];
    for (int i = 2; i < t.ndim; ++i) s.inner *= t.shape[i];
  }
  return s;
}

// Ranks up to 4 as a strided (N, C, H, W) view; higher ranks must be dense in `format`.
Tensor as_image(const Tensor& t, Format format) {
  if (t.ndim == 4) return t;
  const ChannelShape s = channel_counts(t);
  const int64_t shape[4] = {s.N, s.C, 1, s.inner};
  Tensor v = t;
  v.ndim = 4;
  std::copy(shape, shape + 4, v.shape);
  if (t.ndim > 4) {
    set_format(&v, format);
    return v;
  }
  v.strides[0] = t.ndim > 1 ? t.strides[0] : 0;
  v.strides[1] = t.ndim > 1 ? t.strides[1] : t.strides[0];
  v.strides[2] = 0;
  v.strides[3] = t.ndim == 3 ? t.strides[2] : 1;
  return v;
}

}  // namespace

ChannelShape channel_shape(const Tensor& t) {
  ChannelShape s = channel_counts(t);
  // With one value per channel and image both formats are the same memory; rows of channels are the better
  // view.
  s.format = s.inner == 1 ? Format::kNHWC : format_of(t.ndim == 3 ? as_image(t, Format::kNCHW) : t);
  return s;
}

bool describe_channel_output(Tensor* out, const char* name, const Tensor& like) {
  const bool dry = describe_output(out, name, like.dtype, like.ndim, like.shape, Format::kNCHW);
  if (!dry) return false;
  const Format format = like.ndim == 3 ? channel_shape(like).format : format_of(like);
  if (format == Format::kNCHW || like.ndim < 3 || (like.ndim == 3 && like.shape[2] == 1)) return true;
  int64_t stride = 1;
  const auto lay = [&](int axis) {
    out->strides[axis] = stride;
    stride *= std::max<int64_t>(like.shape[axis], 1);
  };
  lay(1);
  for (int axis = like.ndim - 1; axis >= 2; --axis) lay(axis);
  lay(0);
  return true;
}

Tensor channel_input(Call& call, const Tensor& t, Format format) {
  if (t.ndim <= 4) return call.dense(as_image(t, format), format);
  return as_image(call.dense(t, format), format);
}

Tensor channel_output(Call& call, const Tensor& t, Format format) {
  if (t.ndim <= 4) return call.output(as_image(t, format), format);
  return as_image(call.output(t, format), format);
}

}  // namespace cnnext
