// Max-pool's backward: which engine takes it, and the rules that codes have to keep.
#include "cpu/cpu.h"
#include "cpu/max_pool_grad.h"
#include "cpu/ref/ref.h"

namespace cnnext {

TapRules::TapRules(const Pool2dDesc& desc, Exec& exec)
    : d(desc),
      rows_(window_table({d.H, d.P, d.R, d.stride_h, d.pad_top, d.dilation_h}, exec)),
      columns_(window_table({d.W, d.Q, d.S, d.stride_w, d.pad_left, d.dilation_w}, exec)),
      interior_(interior_columns(desc)),
      by_mask_(d.R * d.S <= 32),
      small_(d.P * d.Q <= 4096),
      planes_once_(by_mask_ && d.P * d.Q <= 1024 ? kMostPlanes : 1) {
  row_of_tap_ = exec.scratch_array<uint8_t>(UINT8_MAX + 1);
  for (int64_t tap = 0; tap <= UINT8_MAX; ++tap) row_of_tap_[tap] = static_cast<uint8_t>(tap / d.S);
  if (!by_mask_) return;
  row_masks_ = exec.scratch_array<uint32_t>(d.P);
  column_masks_ = exec.scratch_array<uint32_t>(small_ ? planes_once_ * d.P * d.Q : d.Q);
  const auto bits = [&](int64_t r_begin, int64_t r_end, int64_t s_begin, int64_t s_end) {
    uint32_t mask = 0;
    for (int64_t r = r_begin; r < r_end; ++r) {
      for (int64_t s = s_begin; s < s_end; ++s) mask |= 1u << (r * d.S + s);
    }
    return mask;
  };
  for (int64_t p = 0; p < d.P; ++p) row_masks_[p] = bits(rows_[p].begin, rows_[p].end, 0, d.S);
  for (int64_t q = 0; q < d.Q; ++q) column_masks_[q] = bits(0, d.R, columns_[q].begin, columns_[q].end);
  if (!small_) return;
  for (int64_t i = planes_once_ * d.P * d.Q - 1; i >= 0; --i) {
    column_masks_[i] = column_masks_[i % d.Q] & row_masks_[i / d.Q % d.P];
  }
}

bool TapRules::good(const uint8_t* taps, int64_t count, int64_t p, int64_t q) const {
  const WindowTaps &rows = rows_[p], &columns = columns_[q];
  bool all = true;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t r = row_of_tap_[taps[i]], s = taps[i] - r * d.S;
    all &=
        taps[i] == kNoTapByte || (r >= rows.begin && r < rows.end && s >= columns.begin && s < columns.end);
  }
  return all;
}

bool TapRules::plane_rows(const uint8_t* taps, int64_t p, int64_t rows) const {
  const auto check = ops_ukernels().max_pool_grad.check;
  if (by_mask_ && small_) return check({taps, rows * d.Q, column_masks_ + p * d.Q, UINT32_MAX});
  bool all = true;
  for (int64_t i = 0; i < rows; ++i, taps += d.Q) {
    if (by_mask_) {
      all &= check({taps, d.Q, column_masks_, row_masks_[p + i]});
      continue;
    }
    for (int64_t q = 0; q < d.Q; ++q) all &= good(taps + q, 1, p + i, q);
  }
  return all;
}

bool TapRules::pixel(const uint8_t* taps, int64_t count, int64_t p, int64_t q) const {
  if (!by_mask_) return good(taps, count, p, q);
  const uint32_t mask = row_masks_[p] & column_masks_[small_ ? p * d.Q + q : q];
  return ops_ukernels().max_pool_grad.check({taps, count, nullptr, mask});
}

bool TapRules::pixel_row(const uint8_t* taps, int64_t p) const {
  bool all = true;
  for (int64_t q = 0; q < d.Q;) {
    const int64_t end = q == interior_.begin && q < interior_.end ? interior_.end : q + 1;
    all &= pixel(taps + q * d.C, (end - q) * d.C, p, q);
    q = end;
  }
  return all;
}

namespace {

// Some row of windows has no tap in the image: no pixel meets its codes.
bool has_empty_rows(const Pool2dDesc& d) {
  for (int64_t p = 0; p < d.P; ++p) {
    const WindowTaps taps = window_taps(p, d.stride_h, d.pad_top, d.dilation_h, d.R, d.H);
    if (taps.begin == taps.end) return true;
  }
  return false;
}

// Gathering asks as many windows for each element as a window has taps; these limits are measured.
constexpr int64_t kMostPlaneTaps = 16, kMostPixelTaps = 36;
constexpr int64_t kMostSpread = 4;  // of a window's taps, in planes

bool gathers_pixels(const Pool2dDesc& d) {
  return d.format == Format::kNHWC && d.R * d.S <= kMostPixelTaps && TapSource::takes(d) &&
         !has_empty_rows(d);
}
bool gathers_planes(const Pool2dDesc& d) {
  // Rows beside a block's own are in its strip.
  if ((d.R - 1) * d.dilation_h > kMostSpread * d.H || (d.S - 1) * d.dilation_w > kMostSpread * d.W)
    return false;
  return d.format == Format::kNCHW && d.index_kind == CNNEXT_INDEX_WINDOW && d.R * d.S <= kMostPlaneTaps &&
         d.stride_h == 1 && d.stride_w == 1;
}

}  // namespace

Ran cpu_max_pool2d_backward(const Pool2dDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.H * d.W >= INT32_MAX || d.R * d.S >= INT32_MAX) return Ran::kUnsupported;
  bool good;
  if (gathers_pixels(d)) {
    good = max_pool_pixels_backward(d, exec);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_pixels"));
  } else if (max_pool_is_tiled(d)) {
    good = max_pool_tiles_backward(d, exec);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_tiles"));
  } else if (gathers_planes(d)) {
    good = max_pool_planes_backward(d, exec);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_planes"));
  } else {
    good = max_pool_scatter_backward(d, exec);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_scatter"));
  }
  return good ? Ran::kDone : ref_max_pool2d_backward(d, exec);
}

}  // namespace cnnext
