// Views: dtype and shape helpers over cnnext_tensor. No ownership.
#pragma once

#include <string>

#include "cnnext/cnnext.h"

namespace cnnext {

using Tensor = cnnext_tensor;

// How a 4-D tensor lies in memory. Both are first class; anything else is copied once, at the ABI.
enum class Format : int32_t { kNCHW = 0, kNHWC = 1 };

// In bytes; 0 for an unknown dtype.
constexpr int64_t dtype_size(int32_t dtype) {
  switch (dtype) {
    case CNNEXT_UINT8:
    case CNNEXT_INT8:
      return 1;
    case CNNEXT_FLOAT16:
    case CNNEXT_BFLOAT16:
    case CNNEXT_UINT16:
    case CNNEXT_INT16:
      return 2;
    case CNNEXT_FLOAT32:
    case CNNEXT_INT32:
      return 4;
    case CNNEXT_FLOAT64:
    case CNNEXT_INT64:
      return 8;
    default:
      return 0;
  }
}
const char* dtype_name(int32_t dtype);
bool is_float(int32_t dtype);    // float32 or float64: what every operation takes
bool is_half(int32_t dtype);     // float16 or bfloat16: what some take, computed in wider floats
bool is_integer(int32_t dtype);  // any integer

int64_t numel(const Tensor& t);
std::string shape_string(const Tensor& t);  // "(2, 3, 8, 8)"
bool same_shape(const Tensor& a, const Tensor& b);

// Row-major strides for the tensor's shape.
void set_contiguous(Tensor* t);
// Row-major, or N,H,W,C order for ndim 4 and H,W,C for ndim 3. Other ranks above 2: C last; below 3:
// row-major.
void set_format(Tensor* t, Format format);

// True where the tensor's memory is dense in that order. Strides of axes of length 1 do not matter.
bool is_dense(const Tensor& t, Format format);
bool is_contiguous(const Tensor& t);
// Dense in some order of its axes, without gaps or overlap: an element-wise operation may run over it as one
// flat run.
bool is_permuted_dense(const Tensor& t);
// The format of an image tensor: what it is dense in; where both or neither hold, what its strides come
// nearest to.
Format format_of(const Tensor& t);

// Whether the byte ranges of two tensors meet.
bool overlap(const Tensor& a, const Tensor& b);
// Same memory, dtype, shape and strides.
bool same_view(const Tensor& a, const Tensor& b);

// A copy of t's metadata with an axis of length 1 put in front: (C,H,W) -> (1,C,H,W).
Tensor with_batch_axis(const Tensor& t);

}  // namespace cnnext
