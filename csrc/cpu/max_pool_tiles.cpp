// Each window's gradient goes to one of the elements that it alone covers, the others are zeros: a row of
// windows is compared with each of its taps and written as stride_h rows. No element has two terms.
#include <algorithm>
#include <atomic>

#include "cpu/max_pool_grad.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 1 << 15;  // elements of grad_x in a task

}  // namespace

bool max_pool_is_tiled(const Pool2dDesc& d) {
  const bool dense = (d.dilation_h == 1 || d.R == 1) && (d.dilation_w == 1 || d.S == 1);
  return d.format == Format::kNCHW && d.index_kind == CNNEXT_INDEX_WINDOW && d.stride_w == 2 && d.S <= 2 &&
         d.R <= d.stride_h && dense && d.pad_top == 0 && d.pad_left == 0;
}

bool max_pool_tiles_backward(const Pool2dDesc& d, Exec& exec) {
  const MaxPoolGradUkernels& kernels = ops_ukernels().max_pool_grad;
  const TapRules rules(d, exec);
  MaxPoolGradTiles tiles{};
  tiles.columns = d.Q;
  tiles.stride_h = d.stride_h;
  tiles.width = d.W;
  tiles.R = d.R;
  tiles.S = d.S;

  const int64_t block = std::clamp<int64_t>(kTaskInputs / (d.stride_h * d.W), 1, d.P);
  const int64_t blocks = ceil_div(d.P, block), group = std::max<int64_t>(1, kTaskInputs / (d.H * d.W));
  const int64_t planes = d.N * d.C;
  std::atomic<bool> good{true};
  exec.parallel_for(ceil_div(planes, group) * blocks, [&](int64_t task) {
    const int64_t begin = task % blocks * block, end = std::min(d.P, begin + block);
    for (int64_t plane = task / blocks * group; plane < std::min(planes, (task / blocks + 1) * group);
         ++plane) {
      MaxPoolGradTiles part = tiles;
      part.rows = end - begin;
      part.grad = static_cast<const float*>(d.y.data) + (plane * d.P + begin) * d.Q;
      part.taps = static_cast<const uint8_t*>(d.indices.data) + (plane * d.P + begin) * d.Q;
      part.grad_x = static_cast<float*>(d.x.data) + (plane * d.H + begin * d.stride_h) * d.W;
      // The last task of a plane also has the rows that no window covers.
      part.height = (end == d.P ? d.H : end * d.stride_h) - begin * d.stride_h;
      if (!rules.plane_rows(part.taps, begin, part.rows)) good = false;
      kernels.tiles(part);
    }
  });
  return good;
}

}  // namespace cnnext
