// Each window's gradient goes to one of the elements that it alone covers, the others are zeros: a row of
// windows is compared with each of its taps and written as stride_h rows. No element has two terms.
#include "cpu/max_pool_tiles.h"

#include <algorithm>
#include <atomic>

#include "cpu/ops_ukernels.h"
#include "cpu/pool_tables.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 1 << 15;  // elements of grad_x in a task

}  // namespace

bool max_pool_is_tiled(const Pool2dDesc& d) {
  const bool dense = (d.dilation_h == 1 || d.R == 1) && (d.dilation_w == 1 || d.S == 1);
  return d.format == Format::kNCHW && d.stride_w == 2 && d.S <= 2 && d.R <= d.stride_h &&
         d.stride_h <= kMaxTileRows && dense && d.pad_top == 0 && d.pad_left == 0;
}

bool max_pool_tiles_backward(const Pool2dDesc& d, Exec& exec) {
  const MaxPoolUkernels& kernels = ops_ukernels().max_pool;
  const bool plane_codes = d.index_kind == CNNEXT_INDEX_PLANE;
  const int64_t code_bytes = dtype_size(d.index_dtype), taps_step = plane_codes ? d.W : d.S;
  MaxPoolGradTiles tiles{};
  tiles.columns = d.Q;
  tiles.stride_h = d.stride_h;
  tiles.width = d.W;
  for (int64_t r = 0; r < d.R; ++r) {
    tiles.even[r] = static_cast<int32_t>(r * taps_step + 1);
    tiles.odd[r] = d.S > 1 ? tiles.even[r] + 1 : -1;
  }
  for (int64_t r = d.R; r < d.stride_h; ++r) tiles.even[r] = tiles.odd[r] = -1;  // no code is

  const int64_t block = std::clamp<int64_t>(kTaskInputs / (d.stride_h * d.W), 1, d.P);
  const int64_t blocks = ceil_div(d.P, block), group = std::max<int64_t>(1, kTaskInputs / (d.H * d.W));
  const int64_t planes = d.N * d.C;
  std::atomic<int64_t> missed{0};
  parallel_strands(exec, ceil_div(planes, group) * blocks, block * d.Q, [&](int64_t task, float* scratch) {
    auto* const codes = reinterpret_cast<int32_t*>(scratch);
    const int64_t begin = task % blocks * block, end = std::min(d.P, begin + block);
    int64_t named = 0, met = 0;
    for (int64_t plane = task / blocks * group; plane < std::min(planes, (task / blocks + 1) * group);
         ++plane) {
      const int64_t first = (plane * d.P + begin) * d.Q;
      const char* stored = static_cast<const char*>(d.indices.data) + first * code_bytes;
      if (plane_codes) {
        for (int64_t p = begin; p < end; ++p) {
          named += kernels.widen(stored + (p - begin) * d.Q * code_bytes, d.index_dtype, d.Q,
                                 p * d.stride_h * d.W, d.stride_w, codes + (p - begin) * d.Q);
        }
      } else {
        named += kernels.widen(stored, d.index_dtype, (end - begin) * d.Q, 0, 0, codes);
      }
      MaxPoolGradTiles part = tiles;
      part.rows = end - begin;
      part.grad = static_cast<const float*>(d.y.data) + first;
      part.codes = codes;
      part.grad_x = static_cast<float*>(d.x.data) + (plane * d.H + begin * d.stride_h) * d.W;
      // The last task of a plane also has the rows that no window covers.
      part.height = (end == d.P ? d.H : end * d.stride_h) - begin * d.stride_h;
      met += kernels.grad_tiles(part);
    }
    missed += named - met;
  });
  return missed == 0;
}

}  // namespace cnnext
