// Runs the K-kernel over a range of output pixels: cuts it into tiles, finds each tile's pixel pointers, and
// calls the microkernel for every block of output channels.
#pragma once

#include "cpu/conv2d_pack.h"

namespace cnnext {

// Where the pixels of a region lie. Coordinates are the image's; a strip in scratch has its origin outside.
struct ConvKView {
  const float* in;  // pixel (image 0, row 0, column 0)
  int64_t in_image, in_row, in_col;
  float* out;  // the phase's pixel (image 0, row 0, column 0), first channel of the group or block range
  int64_t out_image, out_row, out_col;
  bool wide;  // take the phase's wide taps: columns are padded in memory
};

// Pixels [first, last) of a region of one phase: images from image0 on, `rows` rows from row0 on of each.
struct ConvKWork {
  ConvKView view;
  int64_t group;
  const ConvPhase* phase;
  int64_t image0, row0, rows;
  int64_t first, last;
  int64_t block0, block1;  // blocks of output channels
  int64_t out_first;       // output channel (in the group) that view.out points at
  int64_t run0, run1;      // part of each tap's run of floats
  int32_t flags;           // ConvKFlags of this part
  bool slow_activation;    // apply problem.activation to each finished tile
};

class ConvKRunner {
 public:
  // Scratch for problems with up to max_taps taps and parts of runs up to max_run floats.
  static int64_t scratch_floats(int64_t max_taps, int64_t max_run);

  ConvKRunner(const ConvProblem& problem, const ChannelBlocks& blocks, const PackedConvWeight& packed,
              int64_t max_taps, int64_t max_run, float* scratch);

  void run(const ConvKWork& work);

 private:
  struct Tile {
    const float* const* pixels;
    const int64_t *tap_input, *tap_row;
    int64_t pixels_step, channel, taps;
    int32_t first, m;
  };

  void locate(const ConvKWork& work, int64_t first, int64_t count);
  bool interior(int64_t first, int64_t m) const;
  void add_tile(const ConvKWork& work, int64_t first, int64_t m);
  void add_edge_tile(const ConvKWork& work, int64_t first, int64_t m);
  void run_tiles(const ConvKWork& work);

  static constexpr int64_t kMaxPixels = 96;       // a multiple of every tile's height
  static constexpr int64_t kListPointers = 2048;  // for edge tiles, at least

  const ConvProblem& problem_;
  const ChannelBlocks& blocks_;
  const PackedConvWeight& packed_;

  // The taps of the phase at hand.
  const ConvTap* taps_;
  int64_t num_taps_;
  int64_t *tap_input_, *tap_row_, *zero_input_;

  // The pixels of the block at hand.
  const float* base_[kMaxPixels];
  float* out_[kMaxPixels];
  int64_t h_[kMaxPixels], w_[kMaxPixels];
  bool interior_[kMaxPixels];
  Tile tiles_[kMaxPixels];
  int64_t num_tiles_;
  const float** list_;
  int64_t* list_row_;
  int64_t list_size_, list_capacity_;
  float* zeros_;
};

// ConvKFlags for those activations that the kernels apply themselves, 0 for none and for the others.
int32_t conv_activation_flags(int32_t activation);
bool conv_activation_is_slow(int32_t activation);
void conv_activate(int32_t activation, float alpha, float* values, int64_t count);

}  // namespace cnnext
