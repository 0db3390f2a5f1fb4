// How the K-kernel's driver cuts a problem into tasks. Sizes are for an L2 cache of 1 MB: a weight panel, the
// input of a region and the output of a region each take a quarter or so. All of it follows from the shape,
// so that the order of every sum does.
#include <algorithm>

#include "cpu/conv2d_k_driver.h"

namespace cnnext {
namespace {

constexpr int64_t kPanelFloats = 1 << 16;
constexpr int64_t kInputFloats = 96 << 10;
constexpr int64_t kBufferFloats = 1 << 16;
constexpr int64_t kMinPixels = 96, kMaxPixels = 512;
constexpr double kTaskFlops = 2e6;
constexpr int64_t kMaxWantedTasks = 32;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The rows of a phase and the images of a region of about `pixels` output pixels.
void set_region(const ConvProblem& p, int64_t pixels, ConvKTasks* tasks) {
  const int64_t phase_rows = p.phases[0].rows, row_pixels = p.out_step_h * p.out_w;
  tasks->images = 1;
  tasks->rows = std::clamp<int64_t>(pixels / row_pixels, 1, phase_rows);
  if (tasks->rows == phase_rows) {
    tasks->images = std::clamp<int64_t>(pixels / (p.out_h * p.out_w), 1, p.N);
  }
  // Parts of equal size.
  tasks->image_parts = ceil_div(p.N, tasks->images);
  tasks->images = ceil_div(p.N, tasks->image_parts);
  tasks->image_parts = ceil_div(p.N, tasks->images);
  tasks->row_parts = ceil_div(phase_rows, tasks->rows);
  tasks->rows = ceil_div(phase_rows, tasks->row_parts);
  tasks->row_parts = ceil_div(phase_rows, tasks->rows);
}

}  // namespace

int64_t conv_k_run_part(int64_t run, int64_t taps, int64_t nr) {
  const int64_t fits = std::max<int64_t>(16, kPanelFloats / std::max<int64_t>(1, taps * nr));
  const int64_t parts = ceil_div(run, fits);
  return std::min(run, ceil_div(ceil_div(run, parts), 4) * 4);
}

ConvKTasks plan_conv_k(const ConvProblem& p, const ChannelBlocks& blocks, bool finite_weights) {
  ConvKTasks t{};
  const bool nchw = p.format == Format::kNCHW;
  bool can_widen = finite_weights, gains = false;
  for (int64_t i = 0; i < p.num_phases; ++i) {
    const ConvPhase& phase = p.phases[i];
    if (phase.num_taps && !phase.num_wide) can_widen = false;
    if (phase.wide_cols > 1) gains = true;
  }
  const bool dense = !nchw && p.groups == 1 && p.min_dw >= 0 && p.end_dw <= p.in_w;
  t.strip = nchw ? p.in_channels > 1 || p.groups > 1 || (can_widen && gains)
                 : can_widen && gains && !dense && p.in_channels <= 8;
  t.wide = can_widen && gains && (t.strip || dense);
  t.buffered = nchw && !(p.groups == 1 && p.out_channels == 1);

  bool parts = false;
  t.max_taps = 1, t.max_run = 1;
  int64_t rows = 0;
  for (int64_t i = 0; i < p.num_phases; ++i) {
    const ConvPhase& phase = p.phases[i];
    if (!phase.num_taps) continue;
    const int64_t taps = t.wide ? phase.num_wide : phase.num_taps;
    const int64_t run = t.wide ? phase.wide_cols * p.in_channels : p.in_channels;
    const int64_t part = conv_k_run_part(run, taps, blocks.nr(0));
    t.max_taps = std::max(t.max_taps, taps);
    t.max_run = std::max(t.max_run, part);
    rows = std::max(rows, taps * run);
    parts = parts || part < run;
  }
  t.panel_blocks = parts ? 1
                         : std::clamp<int64_t>(kPanelFloats / std::max<int64_t>(1, rows * blocks.nr(0)), 1,
                                               blocks.count());
  if (t.buffered) t.panel_blocks = std::min(t.panel_blocks, std::max<int64_t>(1, 256 / blocks.nr(0)));
  t.buffer_channels = blocks.first(t.panel_blocks);

  // Regions: as many pixels as the input's share of the cache takes, fewer where there would be few tasks.
  const int64_t units = p.groups * blocks.count();
  const int64_t wanted =
      static_cast<int64_t>(std::clamp(p.flops / kTaskFlops, 1.0, static_cast<double>(kMaxWantedTasks)));
  const int64_t pixel_floats = p.groups * p.in_channels * p.step_h * p.step_w;
  int64_t pixels = std::clamp(kInputFloats / pixel_floats, kMinPixels, kMaxPixels);
  if (t.buffered) pixels = std::min(pixels, std::max(kMinPixels, kBufferFloats / t.buffer_channels));
  const int64_t all_pixels = p.N * p.out_h * p.out_w;
  pixels = std::min(pixels, std::max(kMinPixels, ceil_div(all_pixels, wanted)));
  set_region(p, pixels, &t);
  const int64_t regions = t.image_parts * t.row_parts;
  t.unit_parts = std::clamp<int64_t>(ceil_div(wanted, regions), 1, units);
  t.units = ceil_div(units, t.unit_parts);
  t.unit_parts = ceil_div(units, t.units);
  const int64_t enough = std::min<int64_t>(wanted, 4);
  if (t.count() < enough) set_region(p, ceil_div(all_pixels * t.unit_parts, enough), &t);

  if (t.strip) {
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (int64_t i = 0; i < p.num_phases; ++i) {
      if (!p.phases[i].num_taps) continue;
      low = std::min(low, p.phases[i].min_dh);
      high = std::max(high, p.phases[i].max_dh);
    }
    const int64_t halo = low <= high ? high - low : 0;
    const int64_t strip_rows =
        t.row_parts == 1 ? p.in_h : std::min(p.in_h, (t.rows - 1) * p.step_h + halo + 1);
    const int64_t cols = t.wide ? p.end_dw - p.min_dw : p.in_w;
    t.strip_floats = t.images * strip_rows * cols * p.in_channels;
  }
  if (t.buffered) {
    t.buffer_floats = t.images * std::min(p.out_h, t.rows * p.out_step_h) * p.out_w * t.buffer_channels;
  }
  return t;
}

}  // namespace cnnext
