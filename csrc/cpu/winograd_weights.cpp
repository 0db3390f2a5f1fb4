// Backward-weights by Winograd's F(3x3, 4x4). A task owns some output and input channels and a slice of the
// tiles; it transforms what it needs of both images, group of tiles by group of tiles, and keeps its 36 sums
// of every pair of channels in the L2 cache until the end, when they become filters. The slices' filters are
// added in order.
#include <algorithm>
#include <cassert>

#include "cpu/scratch_parts.h"
#include "cpu/strands.h"
#include "cpu/winograd.h"
#include "cpu/winograd_driver.h"

namespace cnnext {
namespace {

constexpr int64_t kOut = 4, kElements = kWinogradElements, kTaps = 9;
constexpr int64_t kStrip = 16;             // channels of planes that are transposed together
constexpr int64_t kAddFloats = 32 * 1024;  // of a task that adds slices

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

class Driver {
 public:
  Driver(const Conv2dDesc& desc, const ConvProblem& problem, const WinogradWeightsPlan& plan)
      : d_(desc),
        p_(problem),
        plan_(plan),
        blocks_(problem.out_channels, 1),
        steps_(problem, blocks_, plan.tiles),
        kernels_(*winograd_ukernels()),
        rows_(ukernels().conv_weights),
        y_(static_cast<const float*>(desc.y.data)) {}

  int64_t scratch_floats() const {
    Parts none;
    return cut(nullptr, &none);
  }
  // dst: all weights, of which the task writes its block.
  void run(int64_t slice, int64_t group, int64_t k_part, int64_t c_part, float* dst, float* scratch) const;

 private:
  struct Parts {
    float *x, *y, *sums, *rest;
  };
  int64_t cut(float* base, Parts* parts) const;
  void transform_grad(const TileGroup& tiles, int64_t group, int64_t k0, int64_t k1, float* elements,
                      float* strip) const;
  void multiply(int64_t tiles, int64_t channels_k, int64_t channels_c, const Parts& parts, bool first) const;
  void finish(int64_t group, int64_t k0, int64_t k1, int64_t c0, int64_t c1, const Parts& parts,
              float* dst) const;

  const Conv2dDesc& d_;
  const ConvProblem& p_;
  const WinogradWeightsPlan& plan_;
  const WinogradBlocks blocks_;  // of no use here, but the steps want them
  const WinogradSteps steps_;
  const WinogradUkernels& kernels_;
  const ConvWeightsUkernels& rows_;
  const float* const y_;
};

int64_t Driver::cut(float* base, Parts* parts) const {
  ScratchParts all(base);
  parts->x = all.take<float>(kElements * plan_.tiles.plane);
  parts->y = all.take<float>(kElements * plan_.y_plane);
  parts->sums = all.take<float>(kElements * plan_.sums_plane());
  const int64_t strip = d_.format == Format::kNCHW ? kOut * kOut * plan_.tiles.group_cols * kStrip : 0;
  parts->rest = all.take<float>(std::max({steps_.input_scratch(), strip, kTaps * plan_.c_block}));
  return all.floats();
}

// NHWC: from where the pixels lie. NCHW: the rows under a row of tiles, some channels at a time, transposed.
void Driver::transform_grad(const TileGroup& tiles, int64_t group, int64_t k0, int64_t k1, float* elements,
                            float* strip) const {
  const int64_t k = d_.K / d_.groups, plane = d_.P * d_.Q;
  const bool planes = d_.format == Format::kNCHW;
  WinogradGradArgs args{};
  args.plane = plan_.y_plane;
  for (int64_t row = tiles.row0; row < tiles.row1; ++row) {
    const int64_t image = row / plan_.tiles.tile_rows, h0 = row % plan_.tiles.tile_rows * kOut;
    const int64_t w0 = tiles.col0 * kOut, cols = std::min(tiles.cols() * kOut, d_.Q - w0);
    args.rows = static_cast<int32_t>(std::min(kOut, d_.P - h0));
    float* const dst = elements + (row - tiles.row0) * tiles.cols() * plan_.y_pitch;
    const auto transform = [&](const float* src, int64_t channels, float* to) {
      args.channels = channels;
      for (int64_t t = 0; t < tiles.cols(); ++t) {
        args.src = src + t * kOut * args.col;
        args.cols = static_cast<int32_t>(std::min(kOut, cols - t * kOut));
        args.dst = to + t * plan_.y_pitch;
        kernels_.grad(args);
      }
    };
    if (!planes) {
      args.col = d_.K;
      args.row = d_.Q * d_.K;
      transform(y_ + ((image * d_.P + h0) * d_.Q + w0) * d_.K + group * k + k0, k1 - k0, dst);
      continue;
    }
    args.col = kStrip;
    args.row = cols * kStrip;
    const bool whole_rows = cols == d_.Q;
    for (int64_t c = k0; c < k1; c += kStrip) {
      const int64_t channels = std::min(kStrip, k1 - c);
      const float* const src = y_ + ((image * d_.groups + group) * k + c) * plane + h0 * d_.Q + w0;
      for (int64_t i = 0; i < (whole_rows ? 1 : args.rows); ++i) {
        ukernels().conv_pack.transpose({src + i * d_.Q, plane, channels, whole_rows ? args.rows * cols : cols,
                                        strip + i * args.row, kStrip});
      }
      transform(strip, channels, dst + c - k0);
    }
  }
}

void Driver::multiply(int64_t tiles, int64_t channels_k, int64_t channels_c, const Parts& parts,
                      bool first) const {
  const int64_t vectors = ceil_div(channels_c, rows_.lanes), c_tiles = ceil_div(vectors, rows_.vectors);
  ConvWeightsPixels pixels{1, 1, tiles, 0, 0, plan_.y_pitch, 0, 0, plan_.tiles.pitch, plan_.run_tiles};
  ConvWeightsTile tile;
  tile.accumulate = !first;
  for (int64_t e = 0; e < kElements; ++e) {
    const float* const y = parts.y + e * plan_.y_plane;
    float* const sums = parts.sums + e * plan_.sums_plane();
    for (int64_t v = 0; v < c_tiles; ++v) {
      const int64_t v0 = vectors * v / c_tiles, wide = vectors * (v + 1) / c_tiles - v0;
      tile.b = parts.x + e * plan_.tiles.plane + v0 * rows_.lanes;
      const int64_t high = ceil_div(channels_k, rows_.rows[wide]);
      for (int64_t i = 0; i < high; ++i) {
        const int64_t k0 = channels_k * i / high, count = channels_k * (i + 1) / high - k0;
        for (int64_t m = 0; m < count; ++m) {
          tile.a[m] = y + k0 + m;
          tile.out[m] = sums + (k0 + m) * plan_.tiles.pitch + v0 * rows_.lanes;
        }
        rows_.run[wide][count](pixels, tile);
      }
    }
  }
}

void Driver::finish(int64_t group, int64_t k0, int64_t k1, int64_t c0, int64_t c1, const Parts& parts,
                    float* dst) const {
  const int64_t c = d_.C / d_.groups, k = group * (d_.K / d_.groups);
  const bool taps_inside = d_.w_format == Format::kNCHW;
  WinogradFilterGradArgs args{};
  args.plane = plan_.sums_plane();
  args.lanes = c1 - c0;
  args.tap = taps_inside ? plan_.c_block : c;
  for (int64_t m = k0; m < k1; ++m) {
    float* const filter = dst + (k + m) * c * kTaps;
    args.src = parts.sums + (m - k0) * plan_.tiles.pitch;
    args.dst = taps_inside ? parts.rest : filter + c0;
    kernels_.filter_grad(args);
    if (taps_inside) rows_.transpose(kTaps, args.lanes, parts.rest, args.tap, filter + c0 * kTaps, kTaps);
  }
}

void Driver::run(int64_t slice, int64_t group, int64_t k_part, int64_t c_part, float* dst,
                 float* scratch) const {
  Parts parts;
  cut(scratch, &parts);
  const int64_t k = d_.K / d_.groups, c = d_.C / d_.groups;
  const int64_t k0 = k_part * plan_.k_block, k1 = std::min(k, k0 + plan_.k_block);
  const int64_t c0 = c_part * plan_.c_block, c1 = std::min(c, c0 + plan_.c_block);
  const int64_t all = plan_.tiles.groups(), begin = all * slice / plan_.slices,
                end = all * (slice + 1) / plan_.slices;
  assert(begin < end);
  for (int64_t i = begin; i < end; ++i) {
    const TileGroup tiles = steps_.group(i);
    steps_.transform_input(tiles, group, c0, c1, parts.x, parts.rest);
    transform_grad(tiles, group, k0, k1, parts.y, parts.rest);
    multiply(tiles.tiles(), k1 - k0, c1 - c0, parts, i == begin);
  }
  finish(group, k0, k1, c0, c1, parts, dst);
}

}  // namespace

void winograd_backward_weights(const Conv2dDesc& desc, Exec& exec) {
  const ConvProblem problem = forward_problem(desc, exec);
  const WinogradWeightsPlan plan = plan_winograd_weights(problem);
  const Driver driver(desc, problem, plan);
  exec.ran(winograd_ukernels()->weights_name);
  exec.offers(ConvVariant::kDirect);

  auto* const w = static_cast<float*>(desc.w.data);
  const int64_t floats = desc.K * (desc.C / desc.groups) * kTaps;
  float* const parts = plan.slices > 1 ? exec.scratch_array<float>((plan.slices - 1) * floats) : nullptr;
  const int64_t blocks = desc.groups * plan.k_blocks * plan.c_blocks;
  parallel_strands(exec, plan.slices * blocks, driver.scratch_floats(), [&](int64_t task, float* scratch) {
    const int64_t slice = task / blocks, c_part = task % plan.c_blocks;
    const int64_t k_part = task / plan.c_blocks % plan.k_blocks;
    const int64_t group = task % blocks / (plan.c_blocks * plan.k_blocks);
    driver.run(slice, group, k_part, c_part, slice ? parts + (slice - 1) * floats : w, scratch);
  });
  if (plan.slices == 1) return;
  exec.parallel_for(ceil_div(floats, kAddFloats), [&](int64_t i) {
    const int64_t at = i * kAddFloats;
    ukernels().conv_weights.add(std::min(kAddFloats, floats - at), plan.slices - 1, parts + at, floats,
                                w + at);
  });
}

}  // namespace cnnext
