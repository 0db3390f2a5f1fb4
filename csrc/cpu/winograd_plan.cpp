// How Winograd's driver cuts a problem into tasks. Sizes are for an L2 cache of 1 MB and a few MB of L3 a
// core. All of it follows from the shape, so that results and their speed do.
#include <algorithm>

#include "cpu/winograd_driver.h"

namespace cnnext {
namespace {

constexpr int64_t kPart = 64;              // channels of a sum: adding them up in one go rounds more
constexpr int64_t kGroupTiles = 28;        // reads of a filter pay for its way from L3
constexpr int64_t kTaskTiles = 64;         // the same for its transform
constexpr int64_t kGroupFloats = 5 << 17;  // of a group's elements, in L2 or just beyond
constexpr int64_t kWaveFloats = 2 << 20;   // of a wave's elements, in L3
constexpr int64_t kPanelLanes = 64;
constexpr int64_t kMinTiles = 6, kWantedTasks = 8;
constexpr double kTaskFlops = 1e6;
constexpr int64_t kGradTiles = 16, kGradChannels = 64;  // sums and elements of a task together fill L2

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Planes an odd number of cache lines apart: a power of two would crowd them into few sets.
int64_t odd_lines(int64_t floats) { return floats % 32 == 0 ? floats + 16 : floats; }

// Groups of about `tiles` tiles: whole rows of the image where they are short, else equal parts of one.
void set_groups(int64_t all_rows, int64_t tiles, WinogradPlan* t) {
  t->col_parts = ceil_div(t->tile_cols, tiles);
  t->group_cols = ceil_div(t->tile_cols, t->col_parts);
  t->col_parts = ceil_div(t->tile_cols, t->group_cols);
  t->row_parts = ceil_div(all_rows, std::max<int64_t>(1, tiles / t->group_cols));
  // A few large tasks should share out evenly.
  if (!t->by_panel && t->row_parts > 1 && t->groups() < 32) {
    t->row_parts = std::min(all_rows, ceil_div(t->row_parts, 4) * 4);
  }
  t->group_rows = ceil_div(all_rows, t->row_parts);
}

}  // namespace

const WinogradForm& winograd_form(const ConvProblem& p) {
  return p.num_taps == 25 ? winograd_ukernels()->of_5x5 : winograd_ukernels()->of_3x3;
}

bool winograd_by_panel(const ConvProblem& p) {
  const int64_t out = winograd_form(p).out;
  const int64_t tiles = p.N * ceil_div(p.out_h, out) * ceil_div(p.out_w, out);
  return tiles * 1024 <= p.in_channels * p.out_channels;
}

int64_t winograd_block_vectors(const ConvProblem& p, bool by_panel, bool kept) {
  const int64_t widest = ukernels().conv_k.num_tiles;
  // Narrow blocks cost little, and where there is nothing else to share out they make more tasks.
  const bool narrow = by_panel && !kept && p.out_channels < 6 * kPanelLanes;
  return narrow ? std::min<int64_t>(2, widest) : widest;
}

WinogradBlocks::WinogradBlocks(int64_t channels, int64_t max_vectors) : channels_(channels) {
  const ConvKUkernels& kernels = ukernels().conv_k;
  const int64_t vectors = ceil_div(channels, kernels.lanes);
  count_ = ceil_div(vectors, max_vectors);
  const int64_t each = vectors / count_;
  wide_ = vectors % count_;
  tile_ = &kernels.tiles[each - 1];
  wide_tile_ = wide_ ? &kernels.tiles[each] : tile_;
}

WinogradPlan plan_winograd(const ConvProblem& p, const WinogradBlocks& blocks, bool by_panel) {
  WinogradPlan t{};
  t.out = winograd_form(p).out;
  t.by_panel = by_panel;
  t.tile_rows = ceil_div(p.out_h, t.out);
  t.tile_cols = ceil_div(p.out_w, t.out);
  const int64_t all_rows = p.N * t.tile_rows, all_tiles = all_rows * t.tile_cols;

  t.parts = ceil_div(p.in_channels, kPart);
  t.part = ceil_div(ceil_div(p.in_channels, t.parts), 16) * 16;
  t.parts = ceil_div(p.in_channels, t.part);

  int64_t tiles = kTaskTiles;
  if (!by_panel) {
    const double tile_flops = 72.0 * static_cast<double>(p.in_channels * p.out_channels);
    const int64_t worth = std::max(kMinTiles, static_cast<int64_t>(kTaskFlops / tile_flops) + 1);
    const int64_t fits = std::max(kMinTiles, kGroupFloats / (kWinogradElements * p.in_channels));
    const int64_t share = p.one_thread ? all_tiles : ceil_div(all_tiles, kWantedTasks);
    tiles = std::min({kGroupTiles, fits, std::max(worth, share)});
  }
  tiles = std::clamp(conv_region_size(p.variant, tiles), kMinTiles, kMaxGroupTiles);
  set_groups(all_rows, tiles, &t);

  t.pitch = t.part;
  t.plane = odd_lines(t.group_tiles() * t.pitch);

  t.panel_blocks = std::clamp<int64_t>((by_panel ? kPanelLanes / 2 : kPanelLanes) / blocks.nr(0), 1,
                                       std::min<int64_t>(blocks.count(), kMaxPanelBlocks));
  t.panels = ceil_div(blocks.count(), t.panel_blocks);
  t.panel_lanes = blocks.first(t.panel_blocks);
  t.wave = by_panel ? std::clamp<int64_t>(kWaveFloats / t.input_floats(), 1, t.groups()) : 1;
  return t;
}

WinogradWeightsPlan plan_winograd_weights(const ConvProblem& p) {
  WinogradWeightsPlan t{};
  WinogradPlan& tiles = t.tiles;
  tiles.out = winograd_form(p).out;
  tiles.tile_rows = ceil_div(p.out_h, tiles.out);
  tiles.tile_cols = ceil_div(p.out_w, tiles.out);
  set_groups(p.N * tiles.tile_rows, kGradTiles, &tiles);

  const auto cut = [](int64_t channels, int64_t* block, int64_t* blocks) {
    *block = std::min(channels, ceil_div(ceil_div(channels, ceil_div(channels, kGradChannels)), 16) * 16);
    *blocks = ceil_div(channels, *block);
  };
  cut(p.in_channels, &t.c_block, &t.c_blocks);
  cut(p.out_channels, &t.k_block, &t.k_blocks);
  tiles.pitch = ceil_div(t.c_block, 16) * 16;
  tiles.plane = odd_lines(tiles.group_tiles() * tiles.pitch);
  t.y_pitch = ceil_div(t.k_block, 16) * 16;
  t.y_plane = odd_lines(tiles.group_tiles() * t.y_pitch);
  t.run_tiles = tiles.group_tiles();
  const int64_t blocks = p.groups * t.c_blocks * t.k_blocks;
  t.slices = std::clamp<int64_t>(ceil_div(kWantedTasks, blocks), 1, tiles.groups());
  return t;
}

}  // namespace cnnext
