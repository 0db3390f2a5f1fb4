#include "cpu/conv2d_k.h"

#include <algorithm>
#include <cassert>

namespace cnnext {

namespace {
constexpr int64_t kHighestTile = 12;  // pixels of any tile
}  // namespace

int64_t ConvKRunner::scratch_floats(int64_t max_taps, int64_t max_run) {
  // A pointer or an int64 takes the room of two floats.
  const int64_t list = std::max(kListPointers, max_taps * kHighestTile);
  return 2 * (3 * max_taps + 2 * list) + max_run;
}

ConvKRunner::ConvKRunner(const ConvProblem& problem, const ChannelBlocks& blocks, const WeightLayout& layout,
                         const PackedConvWeight& packed, ConvPadding padding, int64_t max_taps,
                         int64_t max_run, float* scratch)
    : problem_(problem), blocks_(blocks), layout_(layout), packed_(packed), padding_(padding) {
  assert(packed.finite || padding == ConvPadding::kSegments);
  list_capacity_ = std::max(kListPointers, max_taps * kHighestTile);
  tap_input_ = reinterpret_cast<int64_t*>(scratch);
  tap_row_ = tap_input_ + max_taps;
  zero_input_ = tap_row_ + max_taps;
  list_ = reinterpret_cast<const float**>(zero_input_ + max_taps);
  list_row_ = reinterpret_cast<int64_t*>(list_ + list_capacity_);
  zeros_ = reinterpret_cast<float*>(list_row_ + list_capacity_);
  if (padding != ConvPadding::kZeros) return;
  std::fill(zero_input_, zero_input_ + max_taps, 0);
  std::fill(zeros_, zeros_ + max_run, 0.f);
}

void ConvKRunner::take_tap(const ConvKWork& work, const ConvTap& tap) {
  tap_input_[num_taps_] = tap.dh * work.view.in_row + tap.dw * work.view.in_col;
  tap_row_[num_taps_] = work.chunk ? tap.place * work.chunk_channels : layout_.row[tap.place];
  ++num_taps_;
}

// Base pointers and output pointers of `count` pixels of the rectangle, from its pixel number `first` on.
void ConvKRunner::locate(const ConvKWork& work, const Rectangle& r, int64_t first, int64_t count) {
  const ConvKView& v = work.view;
  const ConvPhase& phase = *work.phase;
  const int64_t cols = r.col1 - r.col0, per_image = (r.row1 - r.row0) * cols;
  int64_t image = first / per_image;
  int64_t i = (first - image * per_image) / cols;
  int64_t j = first - image * per_image - i * cols;
  const int64_t step_w = problem_.step_w * v.in_col;
  for (int64_t at = 0; at < count;) {
    const int64_t n = std::min(cols - j, count - at);
    const int64_t h = (r.row0 + i) * problem_.step_h, w = r.col0 + j;
    const float* in = v.in + (work.image0 + image) * v.in_image + h * v.in_row + w * step_w;
    float* out = v.out + (work.image0 + image) * v.out_image + (r.row0 + i) * v.out_row + w * v.out_col;
    for (int64_t k = 0; k < n; ++k) {
      base_[at + k] = in + k * step_w;
      out_[at + k] = out + k * v.out_col;
    }
    if (padding_ == ConvPadding::kZeros) {
      const bool row_interior = h + phase.min_dh >= 0 && h + phase.max_dh < problem_.in_h;
      for (int64_t k = 0; k < n; ++k) {
        const int64_t at_w = (w + k) * problem_.step_w;
        h_[at + k] = h;
        w_[at + k] = at_w;
        interior_[at + k] = row_interior && at_w + phase.min_dw >= 0 && at_w + phase.max_dw < problem_.in_w;
      }
    }
    at += n;
    j = 0;
    if (++i == r.row1 - r.row0) i = 0, ++image;
  }
}

bool ConvKRunner::interior(int64_t first, int64_t m) const {
  bool all = true;
  for (int64_t i = 0; i < m; ++i) all = all && interior_[first + i];
  return all;
}

// A tile with padding: pointers tap by tap, into zeros where the tap lies outside. Taps that are outside for
// the whole tile are left out.
void ConvKRunner::add_edge_tile(const ConvKWork& work, int64_t first, int64_t m) {
  const float** const list = list_ + list_size_;
  int64_t* const rows = list_row_ + list_size_;
  int64_t kept = 0;
  for (int64_t t = 0; t < num_taps_; ++t) {
    const ConvTap& tap = work.phase->taps[t];
    const int64_t shift = tap_input_[t] + work.run0;
    const float** const pointers = list + kept * m;
    bool any = false;
    for (int64_t i = 0; i < m; ++i) {
      const int64_t h = h_[first + i] + tap.dh, w = w_[first + i] + tap.dw;
      const bool inside = h >= 0 && h < problem_.in_h && w >= 0 && w < problem_.in_w;
      pointers[i] = inside ? base_[first + i] + shift : zeros_;
      any = any || inside;
    }
    if (any) rows[kept++] = tap_row_[t];
  }
  tiles_[num_tiles_++] = {
      list, zero_input_, rows, m, 0, kept, static_cast<int32_t>(first), static_cast<int32_t>(m)};
  list_size_ += kept * m;
}

void ConvKRunner::run_tiles(const ConvKWork& work) {
  ConvKArgs args;
  args.channels = work.run1 - work.run0;
  args.residual = problem_.residual ? problem_.residual - problem_.out : 0;
  args.flags = work.flags;
  args.alpha = problem_.alpha;
  args.bias = nullptr;
  // Where only a part of a tap's rows is summed here, a run of so many terms spans more rows.
  const int64_t tap_rows = problem_.in_channels * (layout_.wide ? work.phase->wide_cols : 1);
  const bool whole = work.chunk || !args.channels;  // a phase may have no taps
  const int64_t rows = whole ? kConvRunTerms : kConvRunTerms * tap_rows / args.channels;
  args.run_rows = (rows + kConvKRunStep - 1) / kConvKRunStep * kConvKRunStep;
  for (int64_t block = work.block0; block < work.block1; ++block) {
    const ConvKTile& kernel = blocks_.tile(block);
    args.weight = work.chunk ? work.chunk : packed_.block(blocks_, work.group, block) + work.run0 * kernel.nr;
    args.out_offset = blocks_.first(block) - work.out_first;
    args.lanes = static_cast<int32_t>(blocks_.lanes(block));
    if (problem_.bias) {
      args.bias = problem_.bias + work.group * problem_.out_channels + blocks_.first(block);
    }
    for (int64_t t = 0; t < num_tiles_; ++t) {
      const Tile& tile = tiles_[t];
      args.pixels = tile.pixels;
      args.pixels_step = tile.pixels_step;
      args.tap_input = tile.tap_input;
      args.channel = tile.channel;
      args.tap_row = tile.tap_row;
      args.taps = tile.taps;
      args.out = out_ + tile.first;
      kernel.run[tile.m - 1](args);
      if (work.slow_activation) {
        for (int32_t i = 0; i < tile.m; ++i) {
          conv_activate(problem_.activation, problem_.alpha, args.out[i] + args.out_offset, args.lanes);
        }
      }
    }
  }
}

void ConvKRunner::run_rectangle(const ConvKWork& work, const Rectangle& r) {
  const int64_t count = (work.image1 - work.image0) * (r.row1 - r.row0) * (r.col1 - r.col0);
  const int64_t mr = blocks_.mr(), tiles = (count + mr - 1) / mr;
  // Tiles of equal height but for one pixel: no tile is left with a pixel or two.
  const auto tile_begin = [&](int64_t t) { return count * t / tiles; };
  for (int64_t t = 0; t < tiles;) {
    const int64_t begin = tile_begin(t);
    int64_t end = t;
    list_size_ = num_tiles_ = 0;
    while (end < tiles && tile_begin(end + 1) - begin <= kMaxPixels) ++end;
    locate(work, r, begin, tile_begin(end) - begin);
    for (; t < end && list_size_ + num_taps_ * mr <= list_capacity_; ++t) {
      const int64_t first = tile_begin(t) - begin, m = tile_begin(t + 1) - tile_begin(t);
      if (padding_ == ConvPadding::kZeros && !interior(first, m)) {
        add_edge_tile(work, first, m);
      } else {
        tiles_[num_tiles_++] = {base_ + first,
                                tap_input_,
                                tap_row_,
                                0,
                                work.run0,
                                num_taps_,
                                static_cast<int32_t>(first),
                                static_cast<int32_t>(m)};
      }
    }
    run_tiles(work);
  }
}

void ConvKRunner::run(const ConvKWork& work) {
  const ConvPhase& phase = *work.phase;
  if (padding_ == ConvPadding::kZeros) {
    num_taps_ = 0;
    for (int64_t t = 0; t < phase.num_taps; ++t) take_tap(work, phase.taps[t]);
    return run_rectangle(work, {work.row0, work.row1, 0, phase.cols});
  }
  const ConvAxis rows = row_axis(problem_, phase), cols = col_axis(problem_, phase);
  for (int64_t row = work.row0; row < work.row1;) {
    const ConvSegment r = rows.segment(row, work.row1);
    row = r.end;
    if (padding_ == ConvPadding::kRows) {
      num_taps_ = 0;
      for (int64_t i = r.tap_begin; i < r.tap_end; ++i) take_tap(work, phase.wide_taps[i]);
      run_rectangle(work, {r.begin, r.end, 0, phase.cols});
      continue;
    }
    for (int64_t col = 0; col < phase.cols;) {
      const ConvSegment c = cols.segment(col, phase.cols);
      col = c.end;
      num_taps_ = 0;
      for (int64_t i = r.tap_begin; i < r.tap_end; ++i) {
        for (int64_t j = c.tap_begin; j < c.tap_end; ++j) take_tap(work, phase.taps[i * phase.wide_cols + j]);
      }
      run_rectangle(work, {r.begin, r.end, c.begin, c.end});
    }
  }
}

}  // namespace cnnext
