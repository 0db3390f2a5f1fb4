// Index arithmetic of sliding windows for the reference loops.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/desc.h"

namespace cnnext {

// The output positions q in [begin, end) whose tap, at q * stride + offset, lies in an image of `size`.
struct TapRange {
  int64_t begin, end;
};
inline TapRange positions_inside(int64_t offset, int64_t stride, int64_t size, int64_t count) {
  const int64_t begin = offset >= 0 ? 0 : (-offset - 1) / stride + 1;
  const int64_t end = offset >= size ? 0 : (size - 1 - offset) / stride + 1;
  return {std::min(begin, count), std::max(std::min(end, count), std::min(begin, count))};
}

// The taps of window p along one axis: tap t lies at start + t * dilation, those in [begin, end) in the
// image.
struct WindowTaps {
  int64_t start, dilation, begin, end;
  int64_t at(int64_t tap) const { return start + tap * dilation; }
};
inline WindowTaps window_taps(int64_t p, int64_t stride, int64_t pad, int64_t dilation, int64_t kernel,
                              int64_t size) {
  const int64_t start = p * stride - pad;
  const TapRange taps = positions_inside(start, dilation, size, kernel);
  return {start, dilation, taps.begin, taps.end};
}

// Taps read for one row of a pool's outputs; a kernel may be far larger than the image.
inline int64_t row_work(const Pool2dDesc& d) { return d.Q * std::min(d.R, d.H) * std::min(d.S, d.W); }

// Strides of a dense (N,C,H,W) image by its tensor.
struct ImageStrides {
  int64_t n, c, h, w;
};
inline ImageStrides image_strides(const Tensor& t) {
  return {t.strides[0], t.strides[1], t.strides[2], t.strides[3]};
}

}  // namespace cnnext
