// Max-pool's backward. Gathering: each element of grad_x sums the windows whose argmax it is, in row-major
// order, so that it is written once, by its owner. Scattering, where windows have many taps: each window's
// gradient is added to its element, in the same order, by the plane's owner. The engines, and what they
// share.
//
// Codes come from outside: each is checked before or while it is used. Where one names no element of its
// window, ref takes the call: it tells which, or (plane indices, which may name any element) computes it.
#pragma once

#include <atomic>

#include "cpu/ops_ukernels.h"
#include "cpu/pool_tables.h"

namespace cnnext {

// The argmax as taps, as stored or from plane indices.
class TapSource {
 public:
  explicit TapSource(const Pool2dDesc& desc) : d(desc), stored_(desc.index_kind == CNNEXT_INDEX_WINDOW) {}

  static bool takes(const Pool2dDesc& d) {
    if (d.R * d.S > kMostTaps || d.dilation_h > INT32_MAX / 2 / d.W / d.R) return false;
    return d.index_kind == CNNEXT_INDEX_WINDOW || (d.S - 1) * d.dilation_w < d.W;
  }
  bool stored() const { return stored_; }

  // Of a row of windows, channels-last. Scratch for it is used where the taps are not stored.
  const uint8_t* pixel_row(int64_t n, int64_t p, uint8_t* scratch) const {
    const int64_t at = (n * d.P + p) * d.Q * d.C;
    if (stored_) return static_cast<const uint8_t*>(d.indices.data) + at;
    for (int64_t q = 0; q < d.Q; ++q) {
      const int64_t corner = (p * d.stride_h - d.pad_top) * d.W + q * d.stride_w - d.pad_left;
      convert(at + q * d.C, d.C, corner, nullptr, scratch + q * d.C);
    }
    return scratch;
  }
  // Of rows of a plane's windows, from plane indices; corners: PlaceFinder's.
  void plane_rows(int64_t plane, int64_t p, int64_t rows, const int32_t* corners, uint8_t* taps) const {
    const int64_t corner = (p * d.stride_h - d.pad_top) * d.W;
    convert((plane * d.P + p) * d.Q, rows * d.Q, corner, corners, taps);
  }

 private:
  void convert(int64_t at, int64_t count, int64_t corner, const int32_t* corners, uint8_t* taps) const {
    const auto* planes = static_cast<const int64_t*>(d.indices.data) + at;
    ops_ukernels().max_pool_grad.taps_of_planes(
        {planes, count, corner, corners, d.W, d.R, d.S, d.dilation_h, d.dilation_w, taps});
  }

  const Pool2dDesc& d;
  bool stored_;
};

// Which taps of a window are in the image.
class TapRules {
 public:
  TapRules(const Pool2dDesc& desc, Exec& exec);

  // How many small planes can be checked at once.
  static constexpr int64_t kMostPlanes = 4;
  int64_t planes_once() const { return planes_once_; }
  // Of `rows` rows of windows of planes from p on; p + rows is at most planes_once() * P.
  bool plane_rows(const uint8_t* taps, int64_t p, int64_t rows) const;
  // Of row p of an image's windows, channels-last.
  bool pixel_row(const uint8_t* taps, int64_t p) const;
  // Of `count` channels of window (p, q).
  bool pixel(const uint8_t* taps, int64_t count, int64_t p, int64_t q) const;

 private:
  bool good(const uint8_t* taps, int64_t count, int64_t p, int64_t q) const;

  const Pool2dDesc& d;
  const WindowTaps *rows_, *columns_;  // by p and by q
  TapRange interior_;                  // the windows of a row whose columns are all in the image
  bool by_mask_, small_;
  int64_t planes_once_;
  uint8_t* row_of_tap_;
  uint32_t *row_masks_, *column_masks_;  // by p and by q; of small planes by window
};

// Each gives whether all codes were good; grad_x is unfinished otherwise.
bool max_pool_pixels_backward(const Pool2dDesc& desc, Exec& exec);  // channels-last
bool max_pool_planes_backward(const Pool2dDesc& desc, Exec& exec);  // stride 1
// Planes whose windows lie side by side, two columns apart: 2x2 with stride 2 and its like.
bool max_pool_is_tiled(const Pool2dDesc& desc);
bool max_pool_tiles_backward(const Pool2dDesc& desc, Exec& exec);
bool max_pool_scatter_backward(const Pool2dDesc& desc, Exec& exec);

}  // namespace cnnext
