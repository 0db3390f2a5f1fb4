// Which taps an average pool's windows hold, and what their sum is divided by.
#pragma once

#include "cpu/ref/window.h"

namespace cnnext {

// One window along one axis: the taps in the image, and how many count towards the divisor.
struct AvgTaps {
  WindowTaps taps;
  int64_t counted;
};

// Where padding counts, so do the taps in the padding, but not those that ceil_mode lets reach beyond it.
inline AvgTaps window_along(int64_t p, int64_t stride, int64_t pad_begin, int64_t pad_end, int64_t dilation,
                            int64_t kernel, int64_t size, bool count_include_pad) {
  const WindowTaps taps = window_taps(p, stride, pad_begin, dilation, kernel, size);
  if (!count_include_pad) return {taps, taps.end - taps.begin};
  const int64_t padded = pad_begin + size + pad_end;
  return {taps, positions_inside(p * stride, dilation, padded, kernel).end};
}

// torch's: from floor(p * size / count) up to ceil((p + 1) * size / count).
inline AvgTaps adaptive_along(int64_t p, int64_t count, int64_t size) {
  const int64_t begin = p * size / count, end = ((p + 1) * size + count - 1) / count;
  return {{begin, 1, 0, end - begin}, end - begin};
}

struct AvgWindows {
  const Pool2dDesc& d;
  bool adaptive;

  AvgTaps row(int64_t p) const {
    if (adaptive) return adaptive_along(p, d.P, d.H);
    return window_along(p, d.stride_h, d.pad_top, d.pad_bottom, d.dilation_h, d.R, d.H, d.count_include_pad);
  }
  AvgTaps column(int64_t q) const {
    if (adaptive) return adaptive_along(q, d.Q, d.W);
    return window_along(q, d.stride_w, d.pad_left, d.pad_right, d.dilation_w, d.S, d.W, d.count_include_pad);
  }
  // 0 where no tap counts: such a window has no tap in the image either, and its average is 0.
  double divisor(const AvgTaps& row, const AvgTaps& column) const {
    if (d.divisor_override != 0) return static_cast<double>(d.divisor_override);
    return static_cast<double>(row.counted) * static_cast<double>(column.counted);
  }
};

}  // namespace cnnext
