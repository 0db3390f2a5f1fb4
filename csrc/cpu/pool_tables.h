// Index arithmetic of windows, done once a call: divisions cost more than a row of a small image.
#pragma once

#include "core/exec.h"
#include "cpu/ref/window.h"

namespace cnnext {

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One axis of a pool.
struct PoolAxis {
  int64_t size, windows, kernel, stride, pad, dilation;
};

// The taps in the image of each window along an axis.
inline const WindowTaps* window_table(const PoolAxis& axis, Exec& exec) {
  WindowTaps* table = exec.scratch_array<WindowTaps>(axis.windows);
  for (int64_t p = 0; p < axis.windows; ++p) {
    table[p] = window_taps(p, axis.stride, axis.pad, axis.dilation, axis.kernel, axis.size);
  }
  return table;
}

// The outputs of a row whose taps all lie in the image.
inline TapRange interior_columns(const Pool2dDesc& d) {
  TapRange inside{0, d.Q};
  for (const int64_t s : {int64_t{0}, d.S - 1}) {
    const TapRange r = positions_inside(s * d.dilation_w - d.pad_left, d.stride_w, d.W, d.Q);
    inside.begin = std::max(inside.begin, r.begin);
    inside.end = std::min(inside.end, r.end);
  }
  inside.end = std::max(inside.begin, inside.end);
  return inside;
}

// One window along an axis that covers an element, and by which of its taps.
struct PoolCover {
  int64_t window, tap;
};

// The windows that cover each element along an axis, in order.
class CoverTable {
 public:
  struct Range {
    const PoolCover* begin_;
    const PoolCover* end_;
    const PoolCover* begin() const { return begin_; }
    const PoolCover* end() const { return end_; }
    int64_t count() const { return end_ - begin_; }
  };

  CoverTable(const PoolAxis& axis, Exec& exec)
      : most_((axis.kernel - 1) * axis.dilation / axis.stride + 1),
        covers_(exec.scratch_array<PoolCover>(axis.windows * axis.kernel)),
        first_(exec.scratch_array<int64_t>(axis.size + 1)) {
    const int64_t reach = (axis.kernel - 1) * axis.dilation;
    int64_t count = 0;
    for (int64_t i = 0; i < axis.size; ++i) {
      first_[i] = count;
      const int64_t at = i + axis.pad;
      for (int64_t w = at > reach ? ceil_div(at - reach, axis.stride) : 0;
           w <= at / axis.stride && w < axis.windows; ++w) {
        const int64_t offset = at - w * axis.stride;
        if (offset % axis.dilation == 0) covers_[count++] = {w, offset / axis.dilation};
      }
    }
    first_[axis.size] = count;
  }

  Range at(int64_t i) const { return {covers_ + first_[i], covers_ + first_[i + 1]}; }
  int64_t most() const { return most_; }  // windows that cover one element, at most

 private:
  int64_t most_;
  PoolCover* covers_;
  int64_t* first_;
};

}  // namespace cnnext
