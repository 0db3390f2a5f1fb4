// Packed weights of the K-kernel: per group and block of output channels, rows (tap, input channel) of nr
// floats.
#pragma once

#include "core/exec.h"
#include "core/packed_weight.h"
#include "cpu/conv2d_problem.h"
#include "cpu/ukernels.h"

namespace cnnext {

// How the K-kernel reads its input. It follows from the shape, and from whether every weight is finite.
struct ConvForm {
  bool strip;  // from a copy of each region in scratch, pixel by pixel dense
  bool wide;   // filter rows as runs (ConvPhase::wide_taps); the strip then has zeros for padding columns
  // Many weights for few pixels: each task packs what it needs. Nothing is known of the weights then, and
  // nothing need be, because no tap meets zeros.
  bool pack_late;
  bool planes;  // NCHW is read as it lies: the P-kernel
};

// kept: the weights are packed already.
ConvForm conv_form(const ConvProblem& problem, bool finite_weights, bool kept);

// How a group's output channels are cut into blocks: as few as the widest tile allows, of widths that differ
// by one vector at most, the wide ones first. Few channels take one block of a split tile.
class ChannelBlocks {
 public:
  ChannelBlocks(const ConvProblem& problem, const ConvForm& form, const ConvKUkernels& kernels);

  int64_t count() const { return count_; }
  const ConvKTile& tile(int64_t block) const { return *(block < wide_ ? wide_tile_ : tile_); }
  int64_t nr(int64_t block) const { return tile(block).nr; }
  int64_t first(int64_t block) const {
    return block <= wide_ ? block * wide_tile_->nr : wide_ * wide_tile_->nr + (block - wide_) * tile_->nr;
  }
  int64_t lanes(int64_t block) const {
    const int64_t left = channels_ - first(block);
    return left < nr(block) ? left : nr(block);
  }
  int64_t padded() const { return first(count_); }
  // Pixels that every block's tile takes, and input channels at once.
  int32_t mr() const { return mr_; }
  int32_t split() const { return tile_->split; }

 private:
  int64_t channels_, count_, wide_;
  const ConvKTile *wide_tile_, *tile_;
  int32_t mr_;
};

// Where the weights of each tap lie within a block. A run of a split tile is padded to whole groups, so that
// wide and narrow taps lie differently; of the others they lie the same.
struct WeightLayout {
  bool wide;
  int64_t split;
  int64_t rows;        // of a block
  const int64_t* row;  // by ConvTap::place: the tap's first row; its run's first row where split and wide
};

WeightLayout weight_layout(const ConvProblem& problem, const ConvForm& form, const ChannelBlocks& blocks,
                           Exec& exec);

struct PackedConvWeight {
  const float* data = nullptr;
  int64_t rows = 0, group_floats = 0, split = 1;
  bool finite = true, wide = false;

  const float* block(const ChannelBlocks& blocks, int64_t group, int64_t index) const {
    return data + group * group_floats + blocks.first(index) * rows;
  }
};

inline int64_t packed_floats(const ConvProblem& problem, const ChannelBlocks& blocks,
                             const WeightLayout& layout) {
  return problem.groups * blocks.padded() * layout.rows;
}

// The part of one block of group 0 for input channels [c0, c1): tap by tap, by place. tap_scratch: num_taps
// long.
void pack_conv_chunk(const ConvProblem& problem, const ChannelBlocks& blocks, int64_t block, int64_t c0,
                     int64_t c1, int64_t* tap_scratch, float* dst);

// Packs into dst (64-byte aligned, packed_floats long) on all threads.
PackedConvWeight pack_conv_weight(const ConvProblem& problem, const ChannelBlocks& blocks,
                                  const WeightLayout& layout, float* dst, Exec& exec);

}  // namespace cnnext
