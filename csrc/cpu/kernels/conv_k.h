// The K-kernel: vectors over output channels, activations broadcast. It computes one register tile, up to MR
// output pixels by NR output channels, summing over a list of taps; each tap is a run of contiguous input
// channels per pixel and as many rows of NR packed weights.
#pragma once

#include <stdint.h>

namespace cnnext {

constexpr int64_t kConvKRunStep = 16;  // a multiple of every tile's split

enum ConvKFlags : int32_t {
  kConvKAccumulate = 1,  // out += instead of out =
  kConvKBias = 2,
  kConvKResidual = 4,
  kConvKRelu = 8,
  kConvKRelu6 = 16,
  kConvKLeakyRelu = 32,
  kConvKStream = 64,  // non-temporal stores; out is aligned to a vector and lanes == NR
};

struct ConvKArgs {
  // Pixel i of tap t starts at pixels[t * pixels_step + i] + tap_input[t] + channel. A tile in the interior
  // has one list of m pointers (pixels_step 0); at an edge each tap has its own (pixels_step m, tap_input all
  // 0).
  const float* const* pixels;
  int64_t pixels_step;
  const int64_t* tap_input;
  int64_t channel;
  // The tap's weights: `channels` rows of nr floats from row tap_row[t] on.
  const float* weight;
  const int64_t* tap_row;
  int64_t taps, channels;
  int64_t run_rows;   // sums are cut at every multiple of so many rows, itself one of kConvKRunStep
  float* const* out;  // m pointers; the tile's first output channel is out_offset floats further
  int64_t out_offset;
  const float* bias;  // of the tile's first channel
  int64_t residual;   // floats from an output to its residual
  int32_t lanes;      // output channels to write, at most nr
  int32_t flags;
  float alpha;  // leaky ReLU's slope
};

// A tile whose vectors hold several input channels (split > 1) takes them split at a time: its weight rows
// come in groups of `split`, within which a row's float (channel c, lane l) is at l * split + c % split of
// its vector.
struct ConvKTile {
  int32_t mr, nr, split;
  void (*const* run)(const ConvKArgs& args);  // run[m - 1]: the kernel for m pixels, m <= mr
  const char* name;                           // "cpu/avx512/conv2d_k_6x64"
};

struct ConvKUkernels {
  int32_t lanes;  // of the full vector; tiles[v] is v + 1 of them wide, and not split
  int32_t num_tiles;
  const ConvKTile* tiles;
  int32_t num_split_tiles;
  const ConvKTile* split_tiles;
};

}  // namespace cnnext
