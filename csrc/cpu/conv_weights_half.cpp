// Backward-weights of 16-bit images: both sides are widened on their way into panels.
#include <algorithm>
#include <cstring>

#include "cpu/conv_weights_task.h"
#include "cpu/half_rows.h"

namespace cnnext {

void ConvWeightsTask::pack_b_half(const Chunk& chunk, int64_t group, const ViewB& view) const {
  const int64_t row_step = plan_.b.row * plan_.height.b_step, col_step = plan_.b.col * plan_.width.b_step;
  const bool one_run = row_step == chunk.cols * col_step;
  const int64_t runs = one_run ? 1 : chunk.rows, length = one_run ? chunk.rows * chunk.cols : chunk.cols;
  for (int64_t i = 0; i < chunk.images; ++i) {
    const uint16_t* in = plan_.b.half + offset_b(chunk, group, view.first) + i * plan_.b.image;
    float* out = panel_b_ + i * view.image;
    for (int64_t r = 0; r < runs; ++r, in += row_step, out += view.row) {
      if (plan_.b.channel == 1) {
        widen_rows(*plan_.half, length, view.count, in, col_step, out, view.col);
        for (int64_t j = 0; view.count < view.col && j < length; ++j) {
          std::fill(out + j * view.col + view.count, out + (j + 1) * view.col, 0.f);
        }
        continue;
      }
      for_half_blocks(view.count, length, [&](int64_t c, int64_t m, int64_t at, int64_t n, float* block) {
        widen_rows(*plan_.half, m, n, in + c * plan_.b.channel + at, plan_.b.channel, block, n);
        kernels_.transpose_padded(m, n, block, n, out + at * view.col + c, view.col);
      });
    }
  }
}

// Tile by tile as pack_a has them, each a row of pixels of `count` channels after the other.
void ConvWeightsTask::pack_a_half(const Chunk& chunk, int64_t group) const {
  const ConvWeightsSpan rows = plan_.height.span(chunk.row, chunk.rows, block_.tap_row, block_.tap_rows);
  const ConvWeightsSpan cols = plan_.width.span(chunk.col, chunk.cols, 0, plan_.width.taps);
  const int64_t tiles =
      (block_.a_count + kernels_.rows[kernels_.vectors] - 1) / kernels_.rows[kernels_.vectors];
  const auto tile_begin = [&](int64_t t) { return block_.a_count * t / tiles; };
  const int64_t all_pixels = chunk.images * rows.count * cols.count, step = cols.every * plan_.a.col;
  alignas(64) float block[kHalfBlockRows * kHalfBlockCols];
  for (int64_t i = 0; i < chunk.images * rows.count; ++i) {
    const int64_t image = i / rows.count, row = rows.first + i % rows.count * rows.every;
    const uint16_t* const in = plan_.a.half + offset_a(chunk, group, 0) + image * plan_.a.image +
                               row * plan_.a.row + cols.first * plan_.a.col;
    if (plan_.a.channel == 1) {
      // All channels of some pixels, then tile by tile.
      const int64_t each = kHalfBlockRows * kHalfBlockCols / block_.a_count;
      for (int64_t at = 0; at < cols.count; at += each) {
        const int64_t n = std::min(each, cols.count - at);
        widen_rows(*plan_.half, n, block_.a_count, in + at * step, step, block, block_.a_count);
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t first = tile_begin(t), count = tile_begin(t + 1) - first;
          float* const out = panel_a_ + first * all_pixels + (i * cols.count + at) * count;
          // What copy_rows writes beyond a row belongs to the next ones; beyond the last, to others.
          const int64_t loose = std::max<int64_t>(n - (kernels_.lanes + count - 1) / count, 0);
          kernels_.copy_rows(loose, count, block + first, block_.a_count, out, count);
          for (int64_t j = loose; j < n; ++j) {
            std::memcpy(out + j * count, block + first + j * block_.a_count,
                        static_cast<size_t>(count) * sizeof(float));
          }
        }
      }
      continue;
    }
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = tile_begin(t), count = tile_begin(t + 1) - first;
      float* const out = panel_a_ + first * all_pixels + i * cols.count * count;
      const uint16_t* const plane = in + first * plan_.a.channel;
      // Of pixels that lie `every` apart those between are widened as well.
      const int64_t each = (kHalfBlockCols - 1) / cols.every + 1;
      for (int64_t at = 0; at < cols.count; at += each) {
        const int64_t n = std::min(each, cols.count - at), width = (n - 1) * cols.every + 1;
        widen_rows(*plan_.half, count, width, plane + at * step, plan_.a.channel, block, width);
        for (int64_t c = 0; cols.every > 1 && c < count; ++c) {
          for (int64_t j = 0; j < n; ++j) out[(at + j) * count + c] = block[c * width + j * cols.every];
        }
        if (cols.every == 1) kernels_.transpose(count, n, block, width, out + at * count, count);
      }
    }
  }
}

}  // namespace cnnext
