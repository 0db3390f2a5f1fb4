#include "core/tensor.h"

#include <algorithm>
#include <cstdint>

#include "core/error.h"

namespace cnnext {
namespace {

constexpr const char* kDtypes[] = {"float32", "float64", "float16", "bfloat16", "uint8",
                                   "int8",    "uint16",  "int16",   "int32",    "int64"};
constexpr int32_t kNumDtypes = sizeof(kDtypes) / sizeof(kDtypes[0]);

// The axes from outermost to innermost in memory for a format.
void axis_order(int ndim, Format format, int* order) {
  for (int i = 0; i < ndim; ++i) order[i] = i;
  if (format == Format::kNCHW || ndim < 3) return;
  const int channel = ndim == 3 ? 0 : 1;  // (C,H,W), else (N,C,...)
  for (int i = channel; i + 1 < ndim; ++i) order[i] = i + 1;
  order[ndim - 1] = channel;
}

bool dense_in_order(const Tensor& t, const int* order) {
  int64_t expected = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    const int axis = order[i];
    if (t.shape[axis] == 1) continue;
    if (t.strides[axis] != expected) return t.shape[axis] == 0 || numel(t) == 0;
    expected *= t.shape[axis];
  }
  return true;
}

// Lowest and highest element offset that the view touches.
void extent(const Tensor& t, int64_t* low, int64_t* high) {
  *low = *high = 0;
  for (int i = 0; i < t.ndim; ++i) {
    const int64_t reach = (t.shape[i] - 1) * t.strides[i];
    (reach < 0 ? *low : *high) += reach;
  }
}

}  // namespace

const char* dtype_name(int32_t dtype) {
  return dtype >= 0 && dtype < kNumDtypes ? kDtypes[dtype] : "unknown";
}
bool is_float(int32_t dtype) { return dtype == CNNEXT_FLOAT32 || dtype == CNNEXT_FLOAT64; }
bool is_half(int32_t dtype) { return dtype == CNNEXT_FLOAT16 || dtype == CNNEXT_BFLOAT16; }
bool is_integer(int32_t dtype) { return dtype >= CNNEXT_UINT8 && dtype <= CNNEXT_INT64; }

int64_t numel(const Tensor& t) {
  int64_t n = 1;
  for (int i = 0; i < t.ndim; ++i) n *= t.shape[i];
  return n;
}

std::string shape_string(const Tensor& t) {
  std::string s = "(";
  for (int i = 0; i < t.ndim; ++i) {
    if (i) s += ", ";
    s += std::to_string(t.shape[i]);
  }
  return s + (t.ndim == 1 ? ",)" : ")");
}

bool same_shape(const Tensor& a, const Tensor& b) {
  return a.ndim == b.ndim && std::equal(a.shape, a.shape + a.ndim, b.shape);
}

void set_contiguous(Tensor* t) { set_format(t, Format::kNCHW); }

void set_format(Tensor* t, Format format) {
  int order[CNNEXT_MAX_NDIM];
  axis_order(t->ndim, format, order);
  int64_t stride = 1;
  for (int i = t->ndim - 1; i >= 0; --i) {
    t->strides[order[i]] = stride;
    stride = checked_mul(stride, std::max<int64_t>(t->shape[order[i]], 1), "the number of elements");
  }
  checked_mul(stride, 8, "the size in bytes");
}

bool is_dense(const Tensor& t, Format format) {
  int order[CNNEXT_MAX_NDIM];
  axis_order(t.ndim, format, order);
  return dense_in_order(t, order);
}

bool is_contiguous(const Tensor& t) { return is_dense(t, Format::kNCHW); }

bool is_permuted_dense(const Tensor& t) {
  int order[CNNEXT_MAX_NDIM];
  for (int i = 0; i < t.ndim; ++i) {  // insertion sort by stride, largest first
    int j = i;
    for (; j > 0 && t.strides[order[j - 1]] < t.strides[i]; --j) order[j] = order[j - 1];
    order[j] = i;
  }
  return dense_in_order(t, order);
}

Format format_of(const Tensor& t) {
  if (t.ndim != 4 && t.ndim != 3) {
    if (t.ndim < 3 || is_dense(t, Format::kNCHW)) return Format::kNCHW;
    return is_dense(t, Format::kNHWC) ? Format::kNHWC : Format::kNCHW;
  }
  const bool nchw = is_dense(t, Format::kNCHW), nhwc = is_dense(t, Format::kNHWC);
  if (nchw != nhwc) return nchw ? Format::kNCHW : Format::kNHWC;
  // Both (axes of length 1) or neither: what the strides say. A channels-last tensor steps channels by 1 and
  // columns by C.
  const int c = t.ndim - 3;
  const bool channel_innermost = t.strides[c] == 1 && t.strides[c + 2] == std::max<int64_t>(t.shape[c], 1);
  const bool row_major = t.strides[c + 2] == 1 && t.strides[c + 1] == std::max<int64_t>(t.shape[c + 2], 1);
  if (nchw) return channel_innermost && !row_major ? Format::kNHWC : Format::kNCHW;
  const auto magnitude = [](int64_t s) { return s < 0 ? -s : s; };
  return t.shape[c] > 1 && magnitude(t.strides[c]) < magnitude(t.strides[c + 2]) ? Format::kNHWC
                                                                                 : Format::kNCHW;
}

bool overlap(const Tensor& a, const Tensor& b) {
  if (!a.data || !b.data || numel(a) == 0 || numel(b) == 0) return false;
  int64_t a_low, a_high, b_low, b_high;
  extent(a, &a_low, &a_high);
  extent(b, &b_low, &b_high);
  const int64_t a_size = dtype_size(a.dtype), b_size = dtype_size(b.dtype);
  const char* a_base = static_cast<const char*>(a.data);
  const char* b_base = static_cast<const char*>(b.data);
  return a_base + a_low * a_size < b_base + (b_high + 1) * b_size &&
         b_base + b_low * b_size < a_base + (a_high + 1) * a_size;
}

bool same_view(const Tensor& a, const Tensor& b) {
  return a.data == b.data && a.dtype == b.dtype && same_shape(a, b) &&
         std::equal(a.strides, a.strides + a.ndim, b.strides);
}

Tensor with_batch_axis(const Tensor& t) {
  Tensor result = t;
  result.ndim = t.ndim + 1;
  int64_t extent_all = 1;
  for (int i = 0; i < t.ndim; ++i) {
    result.shape[i + 1] = t.shape[i];
    result.strides[i + 1] = t.strides[i];
    extent_all *= std::max<int64_t>(t.shape[i], 1);
  }
  result.shape[0] = 1;
  result.strides[0] = extent_all;
  return result;
}

}  // namespace cnnext
