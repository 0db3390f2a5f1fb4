// One task of backward-weights: one block of the gradient, summed over one slice of the pixels.
#pragma once

#include <vector>

#include "cpu/conv_weights_plan.h"

namespace cnnext {

// Columns under which the taps [tap_begin, tap_end) of a filter row all count.
struct ConvWeightsSegment {
  int64_t begin, end, tap_begin, tap_end;
};
// Every tap by itself, or (merge_taps) the columns cut where the set of taps changes.
std::vector<ConvWeightsSegment> conv_weights_segments(const ConvWeightsPlan& plan);

// A block of the gradient: groups x channels of A x channels of B x filter rows.
struct ConvWeightsBlock {
  int64_t group, groups, a, a_count, b, b_count, tap_row, tap_rows;
};
ConvWeightsBlock conv_weights_block(const ConvWeightsPlan& plan, int64_t index);

// Where a block's sums lie. Rows are channels of A times taps, in the weights' own order; across lie
// channels of B.
struct ConvWeightsSums {
  float* data;
  int64_t group, channel, tap_row, tap;  // steps in floats
};

class ConvWeightsTask {
 public:
  ConvWeightsTask(const ConvWeightsPlan& plan, const ConvWeightsUkernels& kernels,
                  const std::vector<ConvWeightsSegment>& segments, const ConvWeightsBlock& block,
                  const ConvWeightsSums& sums, float* panels);
  void run(int64_t slice);

 private:
  struct Chunk {
    int64_t image, images, row, rows, col, cols;
  };
  // Rows of a tile: channels of A, in the image or in a panel. Position (u, v) under tap (r, s) is at
  // data + u * row + v * col + r * tap_row + s * tap_col.
  struct ViewA {
    const float* data;
    int64_t count;
    int64_t image, row, col, tap_row, tap_col, channel;
  };
  // The vectors of a tile: channels of B, likewise. Steps are a position's.
  struct ViewB {
    const float* data;
    int64_t first, count, vectors;
    int64_t image, row, col;
  };

  Chunk next_chunk(int64_t unit, int64_t end, int64_t* next) const;
  void run_chunk(const Chunk& chunk, int64_t group, bool first_chunk) const;
  void run_planes(const Chunk& chunk, int64_t group, bool first_chunk) const;
  float* panel_b(const Chunk& chunk, const ViewB& view) const {
    return panel_b_ + (plan_.planes ? chunk.images * chunk.rows * chunk.cols * view.first : 0);
  }
  ViewA view_a(const Chunk& chunk, int64_t group, int64_t first, int64_t count) const;
  ViewB view_b(const Chunk& chunk, int64_t group, int64_t tile, int64_t tiles) const;
  int64_t b_tiles() const;
  void pack_a(const Chunk& chunk, int64_t group) const;
  void pack_b(const Chunk& chunk, int64_t group, const ViewB& view) const;
  void pack_a_half(const Chunk& chunk, int64_t group) const;
  void pack_a_pairs(const Chunk& chunk, int64_t group) const;
  void pack_planes(const Chunk& chunk, int64_t group, int64_t first, int64_t count, bool prefetch) const;
  void pack_b_half(const Chunk& chunk, int64_t group, const ViewB& view) const;
  void pack_b_pairs(const Chunk& chunk, int64_t group, const ViewB& view) const;
  // The columns of A that its panel holds.
  ConvWeightsSpan panel_cols(const Chunk& chunk) const;
  // Where the chunk's pixels begin in side A's or B's images.
  int64_t offset_a(const Chunk& chunk, int64_t group, int64_t channel) const;
  int64_t offset_b(const Chunk& chunk, int64_t group, int64_t channel) const;
  void run_rows(const Chunk& chunk, int64_t group, const ViewA& a, int64_t first, const ViewB& b,
                bool first_chunk) const;
  void run_merged(const Chunk& chunk, int64_t group, const ViewA& a, const ViewB& b) const;

  // The block of pixels of a chunk that count under a tap row, between two columns.
  ConvWeightsPixels pixels_of(const Chunk& chunk, const ViewA& a, const ViewB& b, int64_t rows,
                              int64_t cols) const;
  static const float* a_at(const ViewA& a, int64_t u, int64_t v, int64_t tap_row, int64_t tap) {
    return a.data + u * a.row + v * a.col + tap_row * a.tap_row + tap * a.tap_col;
  }
  float* sums_at(int64_t group, int64_t channel, int64_t tap_row, int64_t tap, int64_t lane) const {
    return sums_.data + group * sums_.group + channel * sums_.channel +
           (tap_row - block_.tap_row) * sums_.tap_row + tap * sums_.tap + lane;
  }

  const ConvWeightsPlan& plan_;
  const ConvWeightsUkernels& kernels_;
  const std::vector<ConvWeightsSegment>& segments_;
  const ConvWeightsBlock block_;
  const ConvWeightsSums sums_;
  float *panel_b_, *panel_a_;
};

}  // namespace cnnext
