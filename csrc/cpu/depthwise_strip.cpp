#include "cpu/depthwise_strip.h"

#include <algorithm>
#include <cstring>

namespace cnnext {
namespace {

void zero(float* p, int64_t n) { std::memset(p, 0, static_cast<size_t>(n) * sizeof(float)); }

}  // namespace

void DepthwiseStrip::fill(const DepthwiseUkernels& kernels, const float* plane, int64_t height, int64_t width,
                          int64_t row, int64_t rows, int64_t col, float* strip) const {
  const int64_t begin = std::clamp<int64_t>(-col, 0, row_floats);
  const int64_t end = std::clamp<int64_t>(width - col, begin, row_floats);
  for (int64_t i = 0; i < rows; ++i, strip += row_floats) {
    const int64_t h = row + i;
    if (h < 0 || h >= height || begin == end) {
      zero(strip, row_floats);
    } else {
      fill_row(kernels, plane + h * width + col + begin, begin, end, strip);
    }
  }
}

// Column m of a row, begin <= m < end, is in[m - begin]; the others are padding.
void DepthwiseStrip::fill_row(const DepthwiseUkernels& kernels, const float* in, int64_t begin, int64_t end,
                              float* out) const {
  if (step == 1) {
    zero(out, begin);
    std::memcpy(out + begin, in, static_cast<size_t>(end - begin) * sizeof(float));
    zero(out + end, row_floats - end);
    return;
  }
  const auto place = [&](int64_t m) { return out + m % step * run + m / step; };
  for (int64_t m = 0; m < begin; ++m) *place(m) = 0;
  for (int64_t m = end; m < row_floats; ++m) *place(m) = 0;
  int64_t m = begin;
  if (step == 2) {
    if (m % 2 && m < end) *place(m++) = *in++;
    const int64_t pairs = (end - m) / 2;
    kernels.deinterleave(pairs, in, place(m), place(m + 1));
    m += 2 * pairs;
    in += 2 * pairs;
  }
  for (; m < end; ++m) *place(m) = *in++;
}

}  // namespace cnnext
