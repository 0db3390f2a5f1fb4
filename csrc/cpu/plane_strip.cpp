#include "cpu/plane_strip.h"

#include <algorithm>

#include "cpu/ukernels.h"

namespace cnnext {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

PlaneStrip::PlaneStrip(int64_t groups_, int64_t channels_, int64_t in_h_, int64_t in_w_, int64_t step_,
                       int64_t min_dw_, int64_t max_dw_, int64_t rows, int64_t cols_)
    : groups(groups_),
      channels(channels_),
      in_h(in_h_),
      in_w(in_w_),
      step(step_),
      min_dw(min_dw_),
      max_dw(max_dw_),
      cols(cols_),
      pitch(cols + (max_dw - min_dw) / step) {
  // A vector of a short row reads beyond it, and filling one residue must not reach the next.
  const int64_t lanes = ukernels().lanes;
  if (cols < lanes || step > 1) pitch += lanes;
  row = step * pitch;
  // An odd number of cache lines, so that channels do not all meet in one set of the cache.
  channel = (rows * row / 32 * 2 + 3) * 16;
}

int64_t PlaneStrip::floats() const { return channels * channel + 2 * ukernels().lanes; }

void PlaneStrip::fill(const float* images, int64_t image, int64_t group, int64_t low, int64_t high,
                      int64_t col0, int64_t col1, float* memory) const {
  const int64_t plane = in_h * in_w, width = col1 - col0 + (max_dw - min_dw) / step;
  const float* const in = images + (image * groups + group) * channels * plane + low * in_w;
  for (int64_t residue = 0; residue < step; ++residue) {
    const int64_t first = col0 * step + min_dw + residue;  // input column of position 0
    const int64_t begin = std::clamp<int64_t>(first < 0 ? ceil_div(-first, step) : 0, 0, width);
    const int64_t end = std::clamp<int64_t>(first < in_w ? ceil_div(in_w - first, step) : 0, begin, width);
    for (int64_t c = 0; c < channels; ++c) {
      ukernels().conv_p.fill({in + c * plane + first + begin * step, in_w, step, high - low, begin,
                              end - begin, width - end, memory + c * channel + residue * pitch, row});
    }
  }
}

}  // namespace cnnext
