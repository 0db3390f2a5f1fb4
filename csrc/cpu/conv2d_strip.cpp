#include "cpu/conv2d_strip.h"

#include <algorithm>
#include <cstring>

namespace cnnext {

ConvStrip::ConvStrip(const ConvProblem& problem, bool wide)
    : p_(problem),
      col0_(wide ? problem.min_dw : 0),
      cols_(wide ? problem.end_dw - problem.min_dw : problem.in_w) {
  left_ = std::clamp<int64_t>(-col0_, 0, cols_);
  used_ =
      std::clamp<int64_t>(std::min(p_.in_w, col0_ + cols_) - std::max<int64_t>(0, col0_), 0, cols_ - left_);
  right_ = cols_ - left_ - used_;
}

int64_t ConvStrip::group_floats(int64_t images, int64_t rows, bool all_rows) const {
  int64_t low = INT64_MAX, high = INT64_MIN;
  for (int64_t i = 0; i < p_.num_phases; ++i) {
    if (!p_.phases[i].num_taps) continue;
    low = std::min(low, p_.phases[i].min_dh);
    high = std::max(high, p_.phases[i].max_dh);
  }
  const int64_t halo = low <= high ? high - low : 0;
  const int64_t in_rows = all_rows ? p_.in_h : std::min(p_.in_h, (rows - 1) * p_.step_h + halo + 1);
  return images * in_rows * cols_ * p_.in_channels;
}

ConvStrip::Rows ConvStrip::rows_of(const ConvRegion& r) const {
  int64_t low = INT64_MAX, high = INT64_MIN;
  for (int64_t i = 0; i < p_.num_phases; ++i) {
    const ConvPhase& phase = p_.phases[i];
    const int64_t rows = std::min(r.rows, phase.rows - r.row0);
    if (!phase.num_taps || rows <= 0) continue;
    low = std::min(low, r.row0 * p_.step_h + phase.min_dh);
    high = std::max(high, (r.row0 + rows - 1) * p_.step_h + phase.max_dh + 1);
  }
  low = std::clamp<int64_t>(low, 0, p_.in_h);
  return {low, std::clamp<int64_t>(high, low, p_.in_h)};
}

ConvKView ConvStrip::view(const ConvRegion& r, const float* part) const {
  const Rows rows = rows_of(r);
  ConvKView v{};
  v.in_col = p_.in_channels;
  v.in_row = cols_ * v.in_col;
  v.in_image = (rows.high - rows.low) * v.in_row;
  v.in = part - rows.low * v.in_row - col0_ * v.in_col - r.n0 * v.in_image;
  return v;
}

void ConvStrip::fill(const ConvRegion& r, int64_t group0, int64_t group1, float* memory,
                     int64_t part_floats) const {
  if (!p_.in) return fill_half(r, group0, group1, memory, part_floats);
  const Rows rows = rows_of(r);
  const ConvPackUkernels& kernels = ukernels().conv_pack;
  const int64_t channels = p_.in_channels, plane = p_.in_h * p_.in_w, src0 = std::max<int64_t>(0, col0_);
  const int64_t row_floats = cols_ * channels, pitch = p_.groups * channels;
  const bool nchw = p_.format == Format::kNCHW, whole_rows = used_ == cols_ && used_ == p_.in_w;
  for (int64_t n = r.n0; n < r.n1; ++n) {
    float* const image = memory + (n - r.n0) * (rows.high - rows.low) * row_floats;
    for (int64_t g = group0; nchw && whole_rows && g < group1; ++g) {  // rows follow one another
      kernels.transpose({p_.in + (n * p_.groups + g) * channels * plane + rows.low * p_.in_w, plane, channels,
                         (rows.high - rows.low) * cols_, image + (g - group0) * part_floats, channels});
    }
    if (nchw && whole_rows) continue;
    for (int64_t h = rows.low; h < rows.high; ++h) {
      float* const row = image + (h - rows.low) * row_floats;
      const int64_t at = left_ * channels, end = at + used_ * channels;
      if (!nchw && p_.groups == 1) {
        std::memcpy(row + at, p_.in + ((n * p_.in_h + h) * p_.in_w + src0) * channels,
                    static_cast<size_t>(end - at) * sizeof(float));
      } else if (!nchw) {
        // Pixel by pixel, all groups, in the order of memory.
        const float* src = p_.in + ((n * p_.in_h + h) * p_.in_w + src0) * pitch + group0 * channels;
        for (int64_t w = 0; w < used_; ++w, src += pitch) {
          kernels.copy_rows({src, channels, group1 - group0, channels, row + at + w * channels, part_floats});
        }
      }
      for (int64_t g = group0; g < group1; ++g) {
        float* const part = row + (g - group0) * part_floats;
        if (nchw) {
          const float* src = p_.in + (n * p_.groups + g) * channels * plane + h * p_.in_w + src0;
          kernels.transpose({src, plane, channels, used_, part + at, channels});
        }
        std::fill(part, part + at, 0.f);
        std::fill(part + end, part + row_floats, 0.f);
      }
    }
  }
}

}  // namespace cnnext
