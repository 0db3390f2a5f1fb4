// How a Winograd convolution is cut up, and its steps: tiles of input into elements, elements times filters,
// elements into tiles of output.
#pragma once

#include <algorithm>

#include "cpu/conv2d_problem.h"
#include "cpu/ukernels.h"
#include "cpu/winograd_ukernels.h"

namespace cnnext {

// Output channels in blocks for the K-kernel: as few as its tiles allow, of widths that differ by one vector
// at most, the wide ones first.
class WinogradBlocks {
 public:
  WinogradBlocks(int64_t channels, int64_t max_vectors);

  int64_t count() const { return count_; }
  const ConvKTile& tile(int64_t block) const { return *(block < wide_ ? wide_tile_ : tile_); }
  int64_t nr(int64_t block) const { return tile(block).nr; }
  int64_t first(int64_t block) const { return block * tile_->nr + std::min(block, wide_) * ukernels().lanes; }
  int64_t lanes(int64_t block) const { return std::min(nr(block), channels_ - first(block)); }
  int32_t mr() const { return std::min(wide_tile_->mr, tile_->mr); }

 private:
  int64_t channels_, count_, wide_;
  const ConvKTile *wide_tile_, *tile_;
};

constexpr int64_t kMaxPanelBlocks = 16, kMaxGroupTiles = 64;

// Follows from the shape alone.
//
// A group is a rectangle of tiles: some tile rows, counted over all images, by some tile columns. Either a
// task takes a group through all steps, in scratch of its own, and reads filters that were transformed before
// all tasks. Or, where there are few tiles for many filters, the inputs of a wave of groups are transformed
// first, and a task then takes a panel of output channels of a group. It transforms the panel's filters part
// by part just before it needs them: they stay in the core's cache and never reach memory. Either way a
// handle may have the filters ready.
struct WinogradPlan {
  int64_t out;                   // of a tile, high and wide
  bool by_panel;                 // the second way
  int64_t tile_rows, tile_cols;  // of an image
  int64_t group_rows, group_cols, row_parts, col_parts;
  // A group's elements lie as (part, element, tile, channel of the part).
  int64_t part, parts;   // input channels whose products are summed at a time: long sums round more
  int64_t pitch, plane;  // floats from tile to tile and from element to element
  int64_t panel_blocks, panels, panel_lanes;  // blocks of output channels that are multiplied together
  int64_t wave;

  int64_t groups() const { return row_parts * col_parts; }
  int64_t group_tiles() const { return group_rows * group_cols; }
  int64_t part_floats() const { return kWinogradElements * plane; }
  int64_t input_floats() const { return parts * part_floats(); }
  int64_t product_floats() const { return group_tiles() * kWinogradElements * panel_lanes; }
};

// Of filters of 5x5 or 3x3.
const WinogradForm& winograd_form(const ConvProblem& problem);
bool winograd_by_panel(const ConvProblem& problem);
// In vectors. A handle's blocks do not depend on the images.
int64_t winograd_block_vectors(const ConvProblem& problem, bool by_panel, bool kept);
WinogradPlan plan_winograd(const ConvProblem& problem, const WinogradBlocks& blocks, bool by_panel);

// Backward-weights. `tiles` says which tiles make a group, and where the input's elements lie: element,
// tile, channel of the block, as the output gradient's do.
struct WinogradWeightsPlan {
  WinogradPlan tiles;
  int64_t k_block, k_blocks, c_block, c_blocks;  // channels of a task
  int64_t y_pitch, y_plane;
  int64_t run_tiles;  // of a sum in registers
  int64_t slices;     // of the groups of tiles; their sums are added in order

  int64_t sums_plane() const { return k_block * tiles.pitch + 16; }
};

WinogradWeightsPlan plan_winograd_weights(const ConvProblem& forward);

// Where transformed filters lie: for each group of channels and block of output channels 36 planes of `rows`
// rows of nr floats.
struct WinogradFilters {
  // A line more than the rows need: planes a power of two apart would share their sets in the cache.
  static int64_t plane(int64_t rows, int64_t nr) { return rows * nr + 16; }
  static int64_t block(const WinogradBlocks& blocks, int64_t rows, int64_t index) {
    return kWinogradElements * (rows * blocks.first(index) + 16 * index);
  }
  static int64_t floats(const WinogradBlocks& blocks, int64_t rows) {
    return block(blocks, rows, blocks.count());
  }
};

// A rectangle of tiles; rows counted over all images.
struct TileGroup {
  int64_t row0, row1, col0, col1;

  int64_t cols() const { return col1 - col0; }
  int64_t tiles() const { return (row1 - row0) * cols(); }
};

class WinogradSteps {
 public:
  WinogradSteps(const ConvProblem& problem, const WinogradBlocks& blocks, const WinogradPlan& plan)
      : p_(problem),
        blocks_(blocks),
        plan_(plan),
        form_(winograd_form(problem)),
        kernels_(*winograd_ukernels()) {}

  TileGroup group(int64_t index) const;

  // Scratch of one task, in floats, for each of the steps.
  int64_t input_scratch() const;
  int64_t output_scratch() const;
  int64_t filter_scratch() const;

  // Elements of a part's input channels [c0, c1) of a group's tiles.
  void transform_input(const TileGroup& tiles, int64_t group, int64_t c0, int64_t c1, float* elements,
                       float* scratch) const;

  // Filters of input channels [c0, c1) of one block. Row r of dst is channel c0 + r; planes are `plane`
  // apart. False where one is not finite.
  bool transform_filters(int64_t group, int64_t block, int64_t c0, int64_t c1, float* dst, int64_t plane,
                         float* scratch) const;

  // products (tile, element, panel_lanes) = or += elements x filters of blocks [block0, block1), over parts
  // [part0, part1) of the input channels. filters[block - block0]: of the first of these, planes of `rows`.
  void multiply(const TileGroup& tiles, const float* elements, int64_t block0, int64_t block1, int64_t part0,
                int64_t part1, const float* const* filters, int64_t rows, float* products) const;

  // The output of blocks [block0, block1).
  void transform_output(const TileGroup& tiles, int64_t group, int64_t block0, int64_t block1,
                        const float* products, float* scratch) const;

 private:
  void input_tiles(const TileGroup& row, int64_t group, int64_t c0, int64_t c1, float* elements,
                   const float** pixels, const float* zeros) const;
  void input_planes(const TileGroup& row, int64_t group, int64_t c0, int64_t c1, float* elements,
                    float* strip) const;
  void output_tiles(const TileGroup& row, int64_t channel, int64_t lanes, const float* products) const;
  void output_planes(const TileGroup& row, int64_t channel, int64_t lanes, const float* products,
                     float* buffer) const;

  const ConvProblem& p_;
  const WinogradBlocks& blocks_;
  const WinogradPlan& plan_;
  const WinogradForm& form_;
  const WinogradUkernels& kernels_;
};

// False: a filter is not finite; the output then holds nothing. kept: from transform_winograd_filters, or
// nullptr to transform the filters for this call.
bool run_winograd(const ConvProblem& problem, const float* kept, Exec& exec);

// All filters, for a handle.
int64_t winograd_filter_floats(const ConvProblem& problem);
bool transform_winograd_filters(const ConvProblem& problem, float* dst, Exec& exec);

}  // namespace cnnext
