// Backward-weights of bfloat16 by pairs: the panels' floats are the same pixel of two images.
#include <algorithm>

#include "cpu/conv_weights_task.h"

namespace cnnext {
namespace {
constexpr int64_t kLine = 32;  // values of a cache line
}

ConvWeightsSpan ConvWeightsTask::panel_cols(const Chunk& chunk) const {
  ConvWeightsSpan span = plan_.width.span(chunk.col, chunk.cols, 0, plan_.width.taps);
  // Planes are moved whole, also what no position reads.
  if (plan_.planes && span.count > 0) span = {span.first, (span.count - 1) * span.every + 1, 1};
  return span;
}

void ConvWeightsTask::pack_b_pairs(const Chunk& chunk, int64_t group, const ViewB& view) const {
  const int64_t row_step = plan_.b.row * plan_.height.b_step, col_step = plan_.b.col * plan_.width.b_step;
  const bool one_run = row_step == chunk.cols * col_step;
  const int64_t runs = one_run ? 1 : chunk.rows, length = one_run ? chunk.rows * chunk.cols : chunk.cols;
  for (int64_t i = 0; i < chunk.images; ++i) {
    const uint16_t* in = plan_.b.half + offset_b(chunk, group, view.first) + i * plan_.b.image;
    const int64_t second = plan_.second_image(chunk.image + i, plan_.b);
    float* out = panel_b(chunk, view) + i * view.image;
    for (int64_t r = 0; r < runs; ++r, in += row_step, out += view.row) {
      const uint16_t* const other = second ? in + second : nullptr;
      if (plan_.b.channel == 1) {
        plan_.pairs->pair_rows({in, other, length, view.count, col_step}, out, view.col);
      } else {
        plan_.pairs->pair_transposed({in, other, view.count, length, plan_.b.channel}, out, view.col);
      }
    }
  }
}

void ConvWeightsTask::pack_a_pairs(const Chunk& chunk, int64_t group) const {
  const ConvWeightsSpan rows = plan_.height.span(chunk.row, chunk.rows, block_.tap_row, block_.tap_rows);
  const ConvWeightsSpan cols = panel_cols(chunk);
  if (rows.count == 0 || cols.count == 0) return;
  const int64_t row_step = rows.every * plan_.a.row, col_step = cols.every * plan_.a.col;
  const bool one_run = row_step == cols.count * col_step;
  const int64_t runs = one_run ? 1 : rows.count, length = one_run ? rows.count * cols.count : cols.count;
  for (int64_t i = 0; i < chunk.images; ++i) {
    const uint16_t* in = plan_.a.half + offset_a(chunk, group, 0) + i * plan_.a.image +
                         rows.first * plan_.a.row + cols.first * plan_.a.col;
    const int64_t second = plan_.second_image(chunk.image + i, plan_.a);
    float* out = panel_a_ + i * rows.count * cols.count * plan_.a_pixel;
    for (int64_t r = 0; r < runs; ++r, in += row_step, out += length * plan_.a_pixel) {
      const uint16_t* const other = second ? in + second : nullptr;
      plan_.pairs->pair_rows({in, other, length, block_.a_count, col_step}, out, plan_.a_pixel);
    }
  }
}

// A tile's planes, each as one run where whole rows are read.
void ConvWeightsTask::pack_planes(const Chunk& chunk, int64_t group, int64_t first, int64_t count,
                                  bool prefetch) const {
  const ConvWeightsSpan rows = plan_.height.span(chunk.row, chunk.rows, block_.tap_row, block_.tap_rows);
  const ConvWeightsSpan cols = panel_cols(chunk);
  const int64_t row_step = rows.every * plan_.a.row, pixels = rows.count * cols.count;
  if (pixels == 0) return;
  for (int64_t c = 0; c < count; ++c) {
    for (int64_t i = 0; i < chunk.images; ++i) {
      const uint16_t* const in = plan_.a.half + offset_a(chunk, group, first + c) + i * plan_.a.image +
                                 rows.first * plan_.a.row + cols.first;
      const int64_t second = plan_.second_image(chunk.image + i, plan_.a);
      if (prefetch) {
        for (int64_t at = 0; at < (rows.count - 1) * row_step + cols.count; at += kLine) {
          __builtin_prefetch(in + at);
          __builtin_prefetch(in + second + at);
        }
        continue;
      }
      const uint16_t* const other = second ? in + second : nullptr;
      float* const out = panel_a_ + c * plan_.a_channel + i * pixels;
      if (row_step == cols.count)
        plan_.pairs->pair_rows({in, other, 1, pixels, 0}, out, 0);
      else
        plan_.pairs->pair_rows({in, other, rows.count, cols.count, row_step}, out, cols.count);
    }
  }
}

void ConvWeightsTask::run_planes(const Chunk& chunk, int64_t group, bool first_chunk) const {
  const int64_t b_count = b_tiles();
  int64_t widest = 0;
  for (int64_t t = 0; t < b_count; ++t) {
    const ViewB b = view_b(chunk, group, t, b_count);
    pack_b_pairs(chunk, group, b);
    widest = std::max(widest, b.vectors);
  }
  const int64_t rows = kernels_.rows[widest], tiles = (block_.a_count + rows - 1) / rows;
  const auto begin = [&](int64_t tile) { return block_.a_count * tile / tiles; };
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = begin(i), count = begin(i + 1) - first;
    pack_planes(chunk, group, first, count, false);
    // The next tile's planes: the hardware does not foresee where they begin.
    if (i + 1 < tiles) pack_planes(chunk, group, first + count, begin(i + 2) - first - count, true);
    const ViewA a = view_a(chunk, group, first, count);
    for (int64_t t = 0; t < b_count; ++t)
      run_rows(chunk, group, a, first, view_b(chunk, group, t, b_count), first_chunk);
  }
}

}  // namespace cnnext
