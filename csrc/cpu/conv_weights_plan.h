// Backward-weights: which side of the product is the vector, and how the work is cut. Everything follows from
// the shape and the instruction set, never from the number of threads.
//
// dW[k][tap][c] = sum over pixels of dY[pixel][k] * X[pixel moved by tap][c]. One of the two images is side
// B: its channels lie along the vectors and its pixels are walked. The other is side A: its channels are
// broadcast, read where the tap moves the pixel to. So B is read as it lies (or packed once, without a halo),
// and taps that fall into the padding are simply not in the range walked.
#pragma once

#include "core/desc.h"
#include "cpu/kernels/bf16.h"
#include "cpu/kernels/conv_weights.h"
#include "cpu/kernels/half.h"

namespace cnnext {

// Indices first, first + every, ... of side A.
struct ConvWeightsSpan {
  int64_t first, count, every;
};

// One axis of the pixels walked. Position u is B's index b_first + u * b_step, and A's index
// a_step * u + tap_step * tap + a_first, which counts where it lies in [0, a_size).
struct ConvWeightsAxis {
  int64_t size, taps;
  int64_t b_first, b_step;
  int64_t a_first, a_step, tap_step, a_size;

  int64_t a_index(int64_t u, int64_t tap) const { return a_step * u + tap_step * tap + a_first; }
  // The positions that count under a tap: [begin, end), empty as begin >= end.
  void valid(int64_t tap, int64_t* begin, int64_t* end) const;
  // What of A the positions [u, u + positions) need under the taps [tap, tap + count).
  ConvWeightsSpan span(int64_t u, int64_t positions, int64_t tap, int64_t count) const;
};

struct ConvWeightsSide {
  const float* data;
  const uint16_t* half;                     // in place of data where the images are of 16 bits
  int64_t channels;                         // of one group
  int64_t image, row, col, channel, group;  // steps in floats
};

struct ConvWeightsPlan {
  const HalfConverter* half;  // nullptr: float32. Else both sides go through panels.
  // Not nullptr: a float of a panel is the same pixel of two images, which `images` then counts as one. So
  // pairs do not depend on taps, strides and padding; an odd last image is paired with zeros.
  const Bf16Ukernels* pairs;
  bool lone_image;
  // A's panel of pairs keeps the image's order: these are its steps. Pixels lie there for all of the block;
  // planes for a tile at a time, so that they stay in L1, and B's for the block.
  int64_t a_pixel, a_channel;
  bool planes;
  bool b_is_y;       // B is dY, its channels K; else B is X, its channels C
  bool pack_b;       // B's channels go into panels as wide as a tile
  bool pack_a;       // A's channels go into panels as wide as a tile is high
  bool merge_taps;   // a filter row's taps share tiles: few channels on side A
  bool direct;       // tiles are written straight into the weights
  bool taps_inside;  // the weights are K,C,R,S in memory: a channel's taps lie together
  ConvWeightsAxis height, width;
  ConvWeightsSide a, b;
  int64_t images, groups;

  int64_t slices;                                            // of the pixels; their sums are added in order
  int64_t run_pixels;                                        // of a sum in registers
  int64_t group_block, group_blocks;                         // groups of one task
  int64_t a_block, a_blocks;                                 // channels of A
  int64_t b_block, b_blocks, b_padded;                       // channels of B; a block's in whole vectors
  int64_t b_tile;                                            // of a tile, at most
  int64_t tap_rows, tap_row_blocks;                          // filter rows
  int64_t chunk_images, chunk_rows, chunk_cols, col_chunks;  // pixels that stay in cache

  int64_t blocks() const { return group_blocks * a_blocks * b_blocks * tap_row_blocks; }
  int64_t taps() const { return tap_rows * width.taps; }                              // of one block, at most
  int64_t block_floats() const { return group_block * a_block * taps() * b_padded; }  // its sums
  // From the first image of a pair to the second, in values; 0 where there is none.
  int64_t second_image(int64_t pair, const ConvWeightsSide& side) const {
    return lone_image && pair + 1 == images ? 0 : side.image / 2;
  }
  int64_t panel_b_floats() const;
  int64_t panel_a_pixels() const;
  int64_t panel_a_floats() const;
  int64_t units() const { return images * height.size * col_chunks; }  // what slices are cut from
};

// Whether either image may be side B.
bool conv_weights_side_is_free(const Conv2dDesc& desc);
// Whether backward-weights multiplies pairs of bfloat16 values.
bool conv_weights_pairs_suit(const Conv2dDesc& desc);
ConvWeightsPlan plan_conv_weights(const Conv2dDesc& desc, const ConvWeightsUkernels& kernels);

}  // namespace cnnext
