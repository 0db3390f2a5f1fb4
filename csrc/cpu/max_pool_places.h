// The places in the plane, h * W + w, that the indices of windows name: checked, in 32 bits, a run of windows
// at a time.
#pragma once

#include "cpu/max_pool_grad.h"

namespace cnnext {

class PlaceFinder {
 public:
  static constexpr int64_t kMostChannels = 64;  // of a pixel at a time

  PlaceFinder(const Pool2dDesc& desc, Exec& exec);
  // What it can take: places in 32 bits, and indices of any kind but ONNX's column-major one.
  static bool takes(const Pool2dDesc& desc);

  // Small planes whose windows can be found at once, all of each.
  int64_t planes_once() const { return rows_once_ == d.P ? rules_.planes_once() : 1; }
  // Rows of windows of a plane that go together well.
  int64_t rows_once() const { return rows_once_; }
  // The corners of their windows, less the first row's.
  const int32_t* corners() const { return corners_; }
  // Both: kNoTap for windows without a tap; false where an index is bad, which may leave places unfinished.
  // Rows [p, p + count), at most rows_once, of windows of plane n * C + c; or whole planes from there on.
  bool of_rows(int64_t plane, int64_t p, int64_t count, int32_t* places) const;
  // Channels-last: `count` channels, at most kMostChannels, of window (p, q) of image n from channel c on.
  bool of_pixel(int64_t n, int64_t p, int64_t q, int64_t c, int64_t count, int32_t* places) const;

 private:
  // The place of index i of the tensor, of window (p, q) of plane n * C + c, or kBadIndex.
  int64_t place(int64_t i, int64_t plane, int64_t p, int64_t q) const;
  bool from_flat(const int64_t* indices, int64_t count, int64_t base, int64_t step, int32_t* places) const;

  const Pool2dDesc& d;
  TapRules rules_;
  const WindowTaps *rows_, *columns_;
  int64_t rows_once_;
  int32_t* corners_;
};

}  // namespace cnnext
