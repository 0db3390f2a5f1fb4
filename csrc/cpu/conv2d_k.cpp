#include "cpu/conv2d_k.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace cnnext {

int64_t ConvKRunner::scratch_floats(int64_t max_taps, int64_t max_run) {
  // Per float two slots would do for a pointer or an int64; the list grows with the taps of one tile.
  const int64_t list = std::max(kListPointers, max_taps * kMaxPixels / 6);
  return 2 * (3 * max_taps + 2 * list) + max_run;
}

ConvKRunner::ConvKRunner(const ConvProblem& problem, const ChannelBlocks& blocks,
                         const PackedConvWeight& packed, int64_t max_taps, int64_t max_run, float* scratch)
    : problem_(problem), blocks_(blocks), packed_(packed) {
  list_capacity_ = std::max(kListPointers, max_taps * kMaxPixels / 6);
  tap_input_ = reinterpret_cast<int64_t*>(scratch);
  tap_row_ = tap_input_ + max_taps;
  zero_input_ = tap_row_ + max_taps;
  list_ = reinterpret_cast<const float**>(zero_input_ + max_taps);
  list_row_ = reinterpret_cast<int64_t*>(list_ + list_capacity_);
  zeros_ = reinterpret_cast<float*>(list_row_ + list_capacity_);
  std::fill(zero_input_, zero_input_ + max_taps, 0);
  std::fill(zeros_, zeros_ + max_run, 0.f);
}

// Base pointers, output pointers and positions of `count` pixels from `first` on.
void ConvKRunner::locate(const ConvKWork& work, int64_t first, int64_t count) {
  const ConvKView& v = work.view;
  const ConvPhase& phase = *work.phase;
  const int64_t per_image = work.rows * phase.cols;
  int64_t image = first / per_image;
  int64_t i = (first - image * per_image) / phase.cols;
  int64_t j = first - image * per_image - i * phase.cols;
  const int64_t step_w = problem_.step_w;
  // Interior columns: every tap inside.
  const int64_t w_low = work.view.wide ? INT64_MIN : -phase.min_dw;
  const int64_t w_high = work.view.wide ? INT64_MAX : problem_.in_w - 1 - phase.max_dw;
  for (int64_t at = 0; at < count;) {
    const int64_t n = std::min(phase.cols - j, count - at);
    const int64_t h = (work.row0 + i) * problem_.step_h;
    const bool row_interior = h + phase.min_dh >= 0 && h + phase.max_dh < problem_.in_h;
    const float* in = v.in + (work.image0 + image) * v.in_image + h * v.in_row;
    float* out = v.out + (work.image0 + image) * v.out_image + (work.row0 + i) * v.out_row;
    for (int64_t k = 0; k < n; ++k) {
      const int64_t w = (j + k) * step_w;
      base_[at + k] = in + w * v.in_col;
      out_[at + k] = out + (j + k) * v.out_col;
      h_[at + k] = h;
      w_[at + k] = w;
      interior_[at + k] = row_interior && w >= w_low && w <= w_high;
    }
    at += n;
    j = 0;
    if (++i == work.rows) i = 0, ++image;
  }
}

bool ConvKRunner::interior(int64_t first, int64_t m) const {
  bool all = true;
  for (int64_t i = 0; i < m; ++i) all = all && interior_[first + i];
  return all;
}

void ConvKRunner::add_tile(const ConvKWork& work, int64_t first, int64_t m) {
  if (interior(first, m)) {
    tiles_[num_tiles_++] = {
        base_ + first,          tap_input_, tap_row_, 0, work.run0, num_taps_, static_cast<int32_t>(first),
        static_cast<int32_t>(m)};
  } else if (packed_.finite) {
    add_edge_tile(work, first, m);
  } else {
    // The zeros that stand for padding must not meet an infinite weight: each pixel has its own taps.
    for (int64_t i = 0; i < m; ++i) add_edge_tile(work, first + i, 1);
  }
}

// A tile with padding: pointers tap by tap, into zeros where the tap lies outside. Taps that are outside for
// the whole tile are left out.
void ConvKRunner::add_edge_tile(const ConvKWork& work, int64_t first, int64_t m) {
  const int64_t in_h = problem_.in_h, in_w = work.view.wide ? INT64_MAX : problem_.in_w;
  const int64_t low_w = work.view.wide ? INT64_MIN : 0;
  const float** const list = list_ + list_size_;
  int64_t* const rows = list_row_ + list_size_;
  int64_t kept = 0;
  for (int64_t t = 0; t < num_taps_; ++t) {
    const ConvTap& tap = taps_[t];
    const int64_t shift = tap_input_[t] + work.run0;
    const float** const pointers = list + kept * m;
    bool any = false;
    for (int64_t i = 0; i < m; ++i) {
      const int64_t h = h_[first + i] + tap.dh, w = w_[first + i] + tap.dw;
      const bool inside = h >= 0 && h < in_h && w >= low_w && w < in_w;
      pointers[i] = inside ? base_[first + i] + shift : zeros_;
      any = any || inside;
    }
    if (any) rows[kept++] = tap.row;
  }
  tiles_[num_tiles_++] = {
      list, zero_input_, rows, m, 0, kept, static_cast<int32_t>(first), static_cast<int32_t>(m)};
  list_size_ += std::max(kept * m, kept);
}

void ConvKRunner::run_tiles(const ConvKWork& work) {
  ConvKArgs args;
  args.channels = work.run1 - work.run0;
  args.residual = problem_.residual ? problem_.residual - problem_.out : 0;
  args.flags = work.flags;
  args.alpha = problem_.alpha;
  for (int64_t block = work.block0; block < work.block1; ++block) {
    const ConvKTile& kernel = blocks_.tile(block);
    args.weight = packed_.block(blocks_, work.group, block) + work.run0 * kernel.nr;
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

void ConvKRunner::run(const ConvKWork& work) {
  const ConvPhase& phase = *work.phase;
  taps_ = work.view.wide ? phase.wide_taps : phase.taps;
  num_taps_ = work.view.wide ? phase.num_wide : phase.num_taps;
  for (int64_t t = 0; t < num_taps_; ++t) {
    tap_input_[t] = taps_[t].dh * work.view.in_row + taps_[t].dw * work.view.in_col;
    tap_row_[t] = taps_[t].row;
  }
  const int64_t count = work.last - work.first, mr = blocks_.mr();
  const int64_t tiles = (count + mr - 1) / mr;
  // Tiles of equal height but for one pixel: no tile is left with a pixel or two.
  const auto tile_begin = [&](int64_t t) { return work.first + count * t / tiles; };
  for (int64_t t = 0; t < tiles;) {
    const int64_t begin = tile_begin(t);
    int64_t end = t;
    list_size_ = num_tiles_ = 0;
    while (end < tiles && tile_begin(end + 1) - begin <= kMaxPixels) ++end;
    locate(work, begin, tile_begin(end) - begin);
    for (; t < end && list_size_ + num_taps_ * mr <= list_capacity_; ++t) {
      add_tile(work, tile_begin(t) - begin, tile_begin(t + 1) - tile_begin(t));
    }
    run_tiles(work);
  }
}

}  // namespace cnnext
