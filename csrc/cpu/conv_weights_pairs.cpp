// Backward-weights of bfloat16 by pairs: the panels' floats are the same pixel of two images.
#include "cpu/conv_weights_task.h"

namespace cnnext {

ConvWeightsSpan ConvWeightsTask::panel_cols(const Chunk& chunk) const {
  ConvWeightsSpan span = plan_.width.span(chunk.col, chunk.cols, 0, plan_.width.taps);
  // Planes are moved whole, also what no position reads.
  if (plan_.pairs && plan_.a.channel != 1 && span.count > 0)
    span = {span.first, (span.count - 1) * span.every + 1, 1};
  return span;
}

void ConvWeightsTask::pack_b_pairs(const Chunk& chunk, int64_t group, const ViewB& view) const {
  const int64_t row_step = plan_.b.row * plan_.height.b_step, col_step = plan_.b.col * plan_.width.b_step;
  const bool one_run = row_step == chunk.cols * col_step;
  const int64_t runs = one_run ? 1 : chunk.rows, length = one_run ? chunk.rows * chunk.cols : chunk.cols;
  for (int64_t i = 0; i < chunk.images; ++i) {
    const uint16_t* in = plan_.b.half + offset_b(chunk, group, view.first) + i * plan_.b.image;
    const int64_t second = plan_.second_image(chunk.image + i, plan_.b);
    float* out = panel_b_ + i * view.image;
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
      if (plan_.a.channel == 1) {
        plan_.pairs->pair_rows({in, other, length, block_.a_count, col_step}, out, plan_.a_pixel);
      } else {
        plan_.pairs->pair_rows({in, other, block_.a_count, length, plan_.a.channel}, out, plan_.a_channel);
      }
    }
  }
}

}  // namespace cnnext
