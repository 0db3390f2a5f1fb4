// Runs the K-kernel over a rectangle of output pixels: cuts it into tiles, finds each tile's pixel pointers,
// and calls the microkernel for every block of output channels.
#pragma once

#include "cpu/conv2d_pack.h"
#include "cpu/conv2d_segments.h"

namespace cnnext {

// Sums of so many terms are cut: few enough for small rounding errors; adding up runs does not show.
constexpr int64_t kConvRunTerms = 320;

// Outputs of so many floats are written past the caches, in whole cache lines.
constexpr int64_t kConvStreamFloats = 2 << 20, kConvLineFloats = 16;

// What becomes of taps in the padding.
enum class ConvPadding {
  kRows,      // rows are cut into segments; columns have zeros in memory (wide taps)
  kSegments,  // rows and columns are cut into segments
  kZeros,     // tiles run on across segments; their taps read zeros in scratch. For finite weights only.
};

// Where the pixels of a region lie. Coordinates are the image's; a strip in scratch has its origin outside.
struct ConvKView {
  const float* in;  // pixel (image 0, row 0, column 0)
  int64_t in_image, in_row, in_col;
  float* out;  // the phase's pixel (image 0, row 0, column 0), channel work.out_first
  int64_t out_image, out_row, out_col;
};

// Images [image0, image1) and of each the rows [row0, row1) of a phase.
struct ConvKWork {
  ConvKView view;
  int64_t group;
  const ConvPhase* phase;
  int64_t image0, image1, row0, row1;
  int64_t block0, block1;  // blocks of output channels
  int64_t out_first;       // output channel (of the group) that view.out points at
  int64_t run0, run1;      // part of each tap's run of floats
  // Weights of block0 for that part alone, a tap's rows one after the other, in place of the packed weights.
  const float* chunk;
  int64_t chunk_channels;
  int32_t flags;         // ConvKFlags of this part
  bool slow_activation;  // apply problem.activation to each finished tile
};

class ConvKRunner {
 public:
  // Scratch for phases of up to max_taps taps and parts of runs of up to max_run floats.
  static int64_t scratch_floats(int64_t max_taps, int64_t max_run);

  ConvKRunner(const ConvProblem& problem, const ChannelBlocks& blocks, const WeightLayout& layout,
              const PackedConvWeight& packed, ConvPadding padding, int64_t max_taps, int64_t max_run,
              float* scratch);

  void run(const ConvKWork& work);
  // Room for num_taps numbers, until the next run.
  int64_t* tap_scratch() { return tap_input_; }

 private:
  struct Rectangle {
    int64_t row0, row1, col0, col1;
  };
  struct Tile {
    const float* const* pixels;
    const int64_t *tap_input, *tap_row;
    int64_t pixels_step, channel, taps;
    int32_t first, m;
  };

  void take_tap(const ConvKWork& work, const ConvTap& tap);
  void run_rectangle(const ConvKWork& work, const Rectangle& r);
  void locate(const ConvKWork& work, const Rectangle& r, int64_t first, int64_t count);
  bool interior(int64_t first, int64_t m) const;
  void add_edge_tile(const ConvKWork& work, int64_t first, int64_t m);
  void run_tiles(const ConvKWork& work);

  static constexpr int64_t kMaxPixels = 96;       // a multiple of every tile's height
  static constexpr int64_t kListPointers = 2048;  // for edge tiles, at least

  const ConvProblem& problem_;
  const ChannelBlocks& blocks_;
  const WeightLayout& layout_;
  const PackedConvWeight& packed_;
  const ConvPadding padding_;

  // The taps at hand.
  int64_t num_taps_;
  int64_t *tap_input_, *tap_row_, *zero_input_;

  // The pixels at hand.
  const float* base_[kMaxPixels];
  float* out_[kMaxPixels];
  Tile tiles_[kMaxPixels];
  int64_t num_tiles_;
  // For kZeros alone.
  int64_t h_[kMaxPixels], w_[kMaxPixels];
  bool interior_[kMaxPixels];
  const float** list_;
  int64_t* list_row_;
  int64_t list_size_, list_capacity_;
  float* zeros_;
};

// Non-temporal stores are not ordered by what a finished task signals with.
inline void conv_stream_fence() {
#if defined(__SSE2__)
  __builtin_ia32_sfence();
#endif
}

// ConvKFlags for those activations that the kernels apply themselves, 0 for none and for the others.
int32_t conv_activation_flags(int32_t activation);
bool conv_activation_is_slow(int32_t activation);
void conv_activate(int32_t activation, float alpha, float* values, int64_t count);

}  // namespace cnnext
