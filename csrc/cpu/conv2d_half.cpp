#include "cpu/conv2d_half.h"

#include <algorithm>

#include "cpu/conv2d_k.h"
#include "cpu/conv2d_strip.h"
#include "cpu/half_rows.h"

namespace cnnext {
namespace {

// values += the 16-bit values at `more`, a block at a time.
void add_halves(const HalfConverter& half, int64_t count, const uint16_t* more, float* values) {
  alignas(64) float block[kHalfBlockCols];
  for (int64_t i = 0; i < count; i += kHalfBlockCols) {
    const int64_t n = std::min(count - i, kHalfBlockCols);
    half.widen(n, more + i, block);
    for (int64_t j = 0; j < n; ++j) values[i + j] += block[j];
  }
}

// The ends of a run of outputs that lie side by side in memory, `out` values from the tensor's first.
void finish_run(const ConvProblem& p, int64_t count, float* values, int64_t out) {
  if (p.half_residual) add_halves(*p.half, count, p.half_residual + out, values);
  if (p.activation != CNNEXT_ACT_NONE) conv_activate(p.activation, p.alpha, values, count);
  p.half->narrow(count, values, p.half_out + out);
}

}  // namespace

void store_half_region(const ConvProblem& p, const HalfRegion& region, float* buffer) {
  const int64_t pixels = region.rows * p.out_w, all = p.groups * p.out_channels;
  if (p.format == Format::kNHWC) {
    const int64_t first = (region.image * p.out_h + region.row) * p.out_w * all + region.first;
    if (region.channels == all && region.buffer_channels == all) {
      return finish_run(p, pixels * all, buffer, first);
    }
    for (int64_t i = 0; i < pixels; ++i) {
      finish_run(p, region.channels, buffer + i * region.buffer_channels, first + i * all);
    }
    return;
  }
  const int64_t plane = p.out_h * p.out_w;
  const int64_t first = (region.image * all + region.first) * plane + region.row * p.out_w;
  for_half_blocks(region.channels, pixels, [&](int64_t c, int64_t n, int64_t i, int64_t m, float* block) {
    const float* const from = buffer + i * region.buffer_channels + c;
    ukernels().conv_pack.transpose({from, region.buffer_channels, m, n, block, m});
    for (int64_t j = 0; j < n; ++j) finish_run(p, m, block + j * m, first + (c + j) * plane + i);
  });
}

void ConvStrip::fill_half(const ConvRegion& r, int64_t group0, int64_t group1, float* memory,
                          int64_t part_floats) const {
  const Rows rows = rows_of(r);
  const int64_t channels = p_.in_channels, all = p_.groups * channels, plane = p_.in_h * p_.in_w;
  const int64_t row_floats = cols_ * channels, src0 = std::max<int64_t>(0, col0_);
  const bool nchw = p_.format == Format::kNCHW, whole_rows = used_ == cols_ && used_ == p_.in_w;
  // Whole rows follow one another: one run.
  const int64_t runs = whole_rows ? 1 : rows.high - rows.low;
  const int64_t length = whole_rows ? (rows.high - rows.low) * cols_ : used_;
  for (int64_t n = r.n0; n < r.n1; ++n) {
    for (int64_t g = group0; g < group1; ++g) {
      float* part = memory + (g - group0) * part_floats + (n - r.n0) * (rows.high - rows.low) * row_floats;
      for (int64_t i = 0; i < runs; ++i, part += row_floats) {
        const int64_t pixel = (rows.low + i) * p_.in_w + src0, at = left_ * channels,
                      end = at + used_ * channels;
        if (nchw) {
          const uint16_t* src = p_.half_in + (n * p_.groups + g) * channels * plane + pixel;
          widen_transposed(*p_.half, channels, length, src, plane, part + at, channels);
        } else {
          const uint16_t* src = p_.half_in + (n * plane + pixel) * all + g * channels;
          widen_rows(*p_.half, length, channels, src, all, part + at, channels);
        }
        if (whole_rows) continue;
        std::fill(part, part + at, 0.f);
        std::fill(part + end, part + row_floats, 0.f);
      }
    }
  }
}

}  // namespace cnnext
