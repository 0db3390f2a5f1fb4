// Packed weights of the K-kernel: per group and block of output channels, rows (tap, input channel) of nr
// floats.
#pragma once

#include "core/exec.h"
#include "core/packed_weight.h"
#include "cpu/conv2d_problem.h"
#include "cpu/ukernels.h"

namespace cnnext {

// How a group's output channels are cut into blocks: as few as the widest tile allows, of widths that differ
// by one vector at most, the wide ones first.
class ChannelBlocks {
 public:
  ChannelBlocks(int64_t channels, const ConvKUkernels& kernels);

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
  // Pixels that every block's tile takes.
  int32_t mr() const { return mr_; }

 private:
  int64_t channels_, count_, wide_;
  const ConvKTile *wide_tile_, *tile_;
  int32_t mr_;
};

struct PackedConvWeight {
  const float* data = nullptr;
  int64_t rows = 0;  // of each block: taps * input channels
  int64_t group_floats = 0;
  bool finite = true;

  const float* block(const ChannelBlocks& blocks, int64_t group, int64_t index) const {
    return data + group * group_floats + blocks.first(index) * rows;
  }
};

int64_t packed_floats(const ConvProblem& problem, const ChannelBlocks& blocks);

// Packs into dst (64-byte aligned, packed_floats long) on all threads.
PackedConvWeight pack_conv_weight(const ConvProblem& problem, const ChannelBlocks& blocks, float* dst,
                                  Exec& exec);

}  // namespace cnnext
