#include "cpu/conv_weights_task.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace cnnext {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Where part i of n begins, parts as even as can be.
int64_t part(int64_t n, int64_t parts, int64_t i) { return n * i / parts; }

// Loops over pixels that are one run on both sides become one loop.
void join_loops(ConvWeightsPixels& p) {
  if (p.rows > 1 && p.a_row == p.cols * p.a_col && p.b_row == p.cols * p.b_col) {
    p.cols *= p.rows;
    p.rows = 1;
  } else if (p.cols == 1) {
    p.cols = p.rows;
    p.a_col = p.a_row;
    p.b_col = p.b_row;
    p.rows = 1;
  }
  if (p.rows == 1 && p.images > 1 && p.a_image == p.cols * p.a_col && p.b_image == p.cols * p.b_col) {
    p.cols *= p.images;
    p.images = 1;
  }
}

}  // namespace

std::vector<ConvWeightsSegment> conv_weights_segments(const ConvWeightsPlan& plan) {
  const ConvWeightsAxis& axis = plan.width;
  std::vector<ConvWeightsSegment> segments;
  std::vector<int64_t> cuts;
  for (int64_t s = 0; s < axis.taps; ++s) {
    int64_t begin, end;
    axis.valid(s, &begin, &end);
    if (!plan.merge_taps) segments.push_back({begin, end, s, s + 1});
    if (begin >= end) continue;
    cuts.push_back(begin);
    cuts.push_back(end);
  }
  if (!plan.merge_taps) return segments;
  std::sort(cuts.begin(), cuts.end());
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    if (cuts[i] == cuts[i + 1]) continue;
    int64_t tap_begin = axis.taps, tap_end = 0;
    for (int64_t s = 0; s < axis.taps; ++s) {
      const int64_t at = axis.a_index(cuts[i], s);
      if (at < 0 || at >= axis.a_size) continue;
      tap_begin = std::min(tap_begin, s);
      tap_end = s + 1;
    }
    if (tap_begin < tap_end) segments.push_back({cuts[i], cuts[i + 1], tap_begin, tap_end});
  }
  return segments;
}

ConvWeightsBlock conv_weights_block(const ConvWeightsPlan& plan, int64_t index) {
  ConvWeightsBlock block;
  block.tap_row = index % plan.tap_row_blocks * plan.tap_rows;
  index /= plan.tap_row_blocks;
  block.a = index % plan.a_blocks * plan.a_block;
  index /= plan.a_blocks;
  block.b = index % plan.b_blocks * plan.b_block;
  block.group = index / plan.b_blocks * plan.group_block;
  block.tap_rows = std::min(plan.tap_rows, plan.height.taps - block.tap_row);
  block.a_count = std::min(plan.a_block, plan.a.channels - block.a);
  block.b_count = std::min(plan.b_block, plan.b.channels - block.b);
  block.groups = std::min(plan.group_block, plan.groups - block.group);
  return block;
}

ConvWeightsTask::ConvWeightsTask(const ConvWeightsPlan& plan, const ConvWeightsUkernels& kernels,
                                 const std::vector<ConvWeightsSegment>& segments,
                                 const ConvWeightsBlock& block, const ConvWeightsSums& sums, float* panels)
    : plan_(plan),
      kernels_(kernels),
      segments_(segments),
      block_(block),
      sums_(sums),
      panel_b_(panels),
      panel_a_(panels + plan.panel_b_floats()) {}

void ConvWeightsTask::run(int64_t slice) {
  const int64_t end = part(plan_.units(), plan_.slices, slice + 1);
  bool first = true;
  for (int64_t unit = part(plan_.units(), plan_.slices, slice); unit < end; first = false) {
    const Chunk chunk = next_chunk(unit, end, &unit);
    for (int64_t g = 0; g < block_.groups; ++g) run_chunk(chunk, g, first);
  }
}

ConvWeightsTask::Chunk ConvWeightsTask::next_chunk(int64_t unit, int64_t end, int64_t* next) const {
  const int64_t rows = plan_.height.size;
  Chunk chunk{0, 1, 0, 1, 0, plan_.width.size};
  if (plan_.col_chunks > 1) {
    chunk.col = unit % plan_.col_chunks * plan_.chunk_cols;
    chunk.cols = std::min(plan_.chunk_cols, plan_.width.size - chunk.col);
    chunk.row = unit / plan_.col_chunks % rows;
    chunk.image = unit / plan_.col_chunks / rows;
    *next = unit + 1;
    return chunk;
  }
  chunk.image = unit / rows;
  chunk.row = unit % rows;
  if (chunk.row == 0 && plan_.chunk_rows >= rows && end - unit >= rows) {
    chunk.rows = rows;
    chunk.images = std::min(plan_.chunk_images, (end - unit) / rows);
  } else {
    chunk.rows = std::min({plan_.chunk_rows, rows - chunk.row, end - unit});
  }
  *next = unit + chunk.images * chunk.rows;
  return chunk;
}

void ConvWeightsTask::run_chunk(const Chunk& chunk, int64_t group, bool first_chunk) const {
  if (plan_.planes) return run_planes(chunk, group, first_chunk);
  if (plan_.pack_a) pack_a(chunk, group);
  const int64_t tiles = b_tiles();
  for (int64_t t = 0; t < tiles; ++t) {
    const ViewB b = view_b(chunk, group, t, tiles);
    if (plan_.pack_b) pack_b(chunk, group, b);
    if (plan_.merge_taps) {
      run_merged(chunk, group, view_a(chunk, group, 0, block_.a_count), b);
      continue;
    }
    const int64_t a_tiles =
        ceil_div(block_.a_count, kernels_.rows[plan_.pack_a ? kernels_.vectors : b.vectors]);
    for (int64_t i = 0; i < a_tiles; ++i) {
      const int64_t first = part(block_.a_count, a_tiles, i);
      const ViewA a = view_a(chunk, group, first, part(block_.a_count, a_tiles, i + 1) - first);
      run_rows(chunk, group, a, first, b, first_chunk);
    }
  }
}

int64_t ConvWeightsTask::b_tiles() const {
  return ceil_div(ceil_div(block_.b_count, kernels_.lanes), kernels_.vectors);
}

int64_t ConvWeightsTask::offset_a(const Chunk& chunk, int64_t group, int64_t channel) const {
  return chunk.image * plan_.a.image + (block_.group + group) * plan_.a.group +
         (block_.a + channel) * plan_.a.channel;
}

int64_t ConvWeightsTask::offset_b(const Chunk& chunk, int64_t group, int64_t channel) const {
  const int64_t row = plan_.height.b_first + chunk.row * plan_.height.b_step;
  const int64_t col = plan_.width.b_first + chunk.col * plan_.width.b_step;
  return chunk.image * plan_.b.image + row * plan_.b.row + col * plan_.b.col +
         (block_.group + group) * plan_.b.group + (block_.b + channel) * plan_.b.channel;
}

ConvWeightsTask::ViewB ConvWeightsTask::view_b(const Chunk& chunk, int64_t group, int64_t tile,
                                               int64_t tiles) const {
  const int64_t vectors = ceil_div(block_.b_count, kernels_.lanes);
  const int64_t first = part(vectors, tiles, tile), width = part(vectors, tiles, tile + 1) - first;
  ViewB view;
  view.vectors = width;
  view.first = first * kernels_.lanes;
  view.count = std::min(width * kernels_.lanes, block_.b_count - view.first);
  if (plan_.pack_b) {
    view.data = panel_b(chunk, view);
    view.col = width * kernels_.lanes;
    view.row = chunk.cols * view.col;
    view.image = chunk.rows * view.row;
  } else {
    view.data = plan_.b.data + offset_b(chunk, group, view.first);
    view.col = plan_.b.col * plan_.width.b_step;
    view.row = plan_.b.row * plan_.height.b_step;
    view.image = plan_.b.image;
  }
  return view;
}

void ConvWeightsTask::pack_b(const Chunk& chunk, int64_t group, const ViewB& view) const {
  if (plan_.pairs) return pack_b_pairs(chunk, group, view);
  if (plan_.half) return pack_b_half(chunk, group, view);
  const int64_t row_step = plan_.b.row * plan_.height.b_step, col_step = plan_.b.col * plan_.width.b_step;
  const bool one_run = row_step == chunk.cols * col_step;
  const int64_t runs = one_run ? 1 : chunk.rows, length = one_run ? chunk.rows * chunk.cols : chunk.cols;
  for (int64_t i = 0; i < chunk.images; ++i) {
    const float* in = plan_.b.data + offset_b(chunk, group, view.first) + i * plan_.b.image;
    float* out = panel_b_ + i * view.image;
    for (int64_t r = 0; r < runs; ++r, in += row_step, out += view.row) {
      if (plan_.b.channel == 1) {
        kernels_.copy_rows(length, view.count, in, col_step, out, view.col);
      } else {
        assert(col_step == 1);
        kernels_.transpose_padded(view.count, length, in, plan_.b.channel, out, view.col);
      }
    }
  }
}

ConvWeightsTask::ViewA ConvWeightsTask::view_a(const Chunk& chunk, int64_t group, int64_t first,
                                               int64_t count) const {
  const ConvWeightsSide& a = plan_.a;
  const ConvWeightsAxis &h = plan_.height, &w = plan_.width;
  ViewA view;
  view.count = count;
  if (!plan_.pack_a) {
    view.data = plan_.a.data + offset_a(chunk, group, first) + h.a_first * a.row + w.a_first * a.col;
    view.channel = a.channel;
    view.image = a.image;
    view.row = h.a_step * a.row;
    view.col = w.a_step * a.col;
    view.tap_row = h.tap_step * a.row;
    view.tap_col = w.tap_step * a.col;
    return view;
  }
  const ConvWeightsSpan rows = h.span(chunk.row, chunk.rows, block_.tap_row, block_.tap_rows);
  const ConvWeightsSpan cols = panel_cols(chunk);
  const int64_t pixel = plan_.pairs ? plan_.a_pixel : count, row = cols.count * pixel;  // floats
  view.channel = plan_.pairs ? plan_.a_channel : 1;
  view.image = rows.count * row;
  // A span leaves out what no position reads, every `every`th of A's rows; then there is one tap only.
  view.row = h.a_step / rows.every * row;
  view.col = w.a_step / cols.every * pixel;
  view.tap_row = h.tap_step / rows.every * row;
  view.tap_col = w.tap_step / cols.every * pixel;
  const int64_t tile = plan_.planes  ? 0
                       : plan_.pairs ? first
                                     : first * chunk.images * rows.count * cols.count;
  view.data = panel_a_ + tile + (h.a_first - rows.first) / rows.every * row +
              (w.a_first - cols.first) / cols.every * pixel;
  return view;
}

void ConvWeightsTask::pack_a(const Chunk& chunk, int64_t group) const {
  if (plan_.pairs) return pack_a_pairs(chunk, group);
  if (plan_.half) return pack_a_half(chunk, group);
  const ConvWeightsSpan rows = plan_.height.span(chunk.row, chunk.rows, block_.tap_row, block_.tap_rows);
  const ConvWeightsSpan cols = plan_.width.span(chunk.col, chunk.cols, 0, plan_.width.taps);
  const int64_t tiles = ceil_div(block_.a_count, kernels_.rows[kernels_.vectors]);
  float* out = panel_a_;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t first = part(block_.a_count, tiles, t), count = part(block_.a_count, tiles, t + 1) - first;
    for (int64_t i = 0; i < chunk.images; ++i) {
      const float* in =
          plan_.a.data + offset_a(chunk, group, first) + i * plan_.a.image + cols.first * plan_.a.col;
      for (int64_t r = 0; r < rows.count; ++r, out += cols.count * count) {
        kernels_.copy_rows(cols.count, count, in + (rows.first + r * rows.every) * plan_.a.row,
                           cols.every * plan_.a.col, out, count);
      }
    }
  }
}

ConvWeightsPixels ConvWeightsTask::pixels_of(const Chunk& chunk, const ViewA& a, const ViewB& b, int64_t rows,
                                             int64_t cols) const {
  ConvWeightsPixels pixels{chunk.images, rows,    cols,  a.image, a.row,
                           a.col,        b.image, b.row, b.col,   plan_.run_pixels};
  join_loops(pixels);
  return pixels;
}

// One tile under each tap by itself. The first chunk writes the sums, zeros where a tap meets no pixel.
void ConvWeightsTask::run_rows(const Chunk& chunk, int64_t group, const ViewA& a, int64_t first,
                               const ViewB& b, bool first_chunk) const {
  ConvWeightsTile tile;
  tile.accumulate = !first_chunk;
  for (int64_t r = block_.tap_row; r < block_.tap_row + block_.tap_rows; ++r) {
    int64_t top, bottom;
    plan_.height.valid(r, &top, &bottom);
    top = std::max(top, chunk.row);
    bottom = std::min(bottom, chunk.row + chunk.rows);
    for (const ConvWeightsSegment& segment : segments_) {
      const int64_t left = std::max(segment.begin, chunk.col),
                    right = std::min(segment.end, chunk.col + chunk.cols);
      const bool empty = top >= bottom || left >= right;
      if (empty && !first_chunk) continue;
      const float* at = empty ? a.data : a_at(a, top, left, r, segment.tap_begin);
      for (int64_t m = 0; m < a.count; ++m) {
        tile.a[m] = at + m * a.channel;
        tile.out[m] = sums_at(group, first + m, r, segment.tap_begin, b.first);
      }
      tile.b = empty ? b.data : b.data + (top - chunk.row) * b.row + (left - chunk.col) * b.col;
      kernels_.run[b.vectors][a.count](
          empty ? ConvWeightsPixels{} : pixels_of(chunk, a, b, bottom - top, right - left), tile);
    }
  }
}

// Tiles whose rows are channels and taps together, over the columns where those taps all count. The sums were
// zero before the first chunk.
void ConvWeightsTask::run_merged(const Chunk& chunk, int64_t group, const ViewA& a, const ViewB& b) const {
  ConvWeightsTile tile;
  tile.accumulate = true;
  for (int64_t r = block_.tap_row; r < block_.tap_row + block_.tap_rows; ++r) {
    int64_t top, bottom;
    plan_.height.valid(r, &top, &bottom);
    top = std::max(top, chunk.row);
    bottom = std::min(bottom, chunk.row + chunk.rows);
    if (top >= bottom) continue;
    for (const ConvWeightsSegment& segment : segments_) {
      const int64_t left = std::max(segment.begin, chunk.col),
                    right = std::min(segment.end, chunk.col + chunk.cols);
      if (left >= right) continue;
      const ConvWeightsPixels pixels = pixels_of(chunk, a, b, bottom - top, right - left);
      tile.b = b.data + (top - chunk.row) * b.row + (left - chunk.col) * b.col;
      const int64_t rows = (segment.tap_end - segment.tap_begin) * a.count;
      const int64_t tiles = ceil_div(rows, kernels_.rows[b.vectors]);
      int64_t tap = segment.tap_begin, channel = 0;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t count = part(rows, tiles, t + 1) - part(rows, tiles, t);
        for (int64_t m = 0; m < count; ++m) {
          tile.a[m] = a_at(a, top, left, r, tap) + channel * a.channel;
          tile.out[m] = sums_at(group, channel, r, tap, b.first);
          if (++channel == a.count) channel = 0, ++tap;
        }
        kernels_.run[b.vectors][count](pixels, tile);
      }
    }
  }
}

}  // namespace cnnext
