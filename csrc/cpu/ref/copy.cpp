#include "cpu/ref/loops.h"

namespace cnnext {
namespace {

// Row by row of the last axis; the other axes are counted like an odometer.
template <class T>
void copy_strided(const Tensor& src, const Tensor& dst) {
  const int last = src.ndim - 1;
  const int64_t length = last >= 0 ? src.shape[last] : 1;
  const int64_t from_step = last >= 0 ? src.strides[last] : 0, to_step = last >= 0 ? dst.strides[last] : 0;
  int64_t index[CNNEXT_MAX_NDIM] = {}, from = 0, to = 0;
  const T* in = data<const T>(src);
  T* out = data<T>(dst);
  for (;;) {
    for (int64_t i = 0; i < length; ++i) out[to + i * to_step] = in[from + i * from_step];
    int axis = last - 1;
    for (; axis >= 0; --axis) {
      from += src.strides[axis];
      to += dst.strides[axis];
      if (++index[axis] < src.shape[axis]) break;
      from -= src.strides[axis] * src.shape[axis];
      to -= dst.strides[axis] * dst.shape[axis];
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

}  // namespace

Ran ref_copy(const CopyDesc& d, Exec&) {
  if (numel(d.src) == 0) return Ran::kDone;
  switch (dtype_size(d.src.dtype)) {
    case 1:
      copy_strided<uint8_t>(d.src, d.dst);
      break;
    case 2:
      copy_strided<uint16_t>(d.src, d.dst);
      break;
    case 4:
      copy_strided<uint32_t>(d.src, d.dst);
      break;
    default:
      copy_strided<uint64_t>(d.src, d.dst);
      break;
  }
  return Ran::kDone;
}

}  // namespace cnnext
