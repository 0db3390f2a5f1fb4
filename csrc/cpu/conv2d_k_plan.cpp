// How the K-kernel's driver cuts a problem into tasks. Sizes are for an L2 cache of 1 MB: a weight panel, the
// input of a region and the output of a region each take a quarter or so. All of it follows from the shape,
// so that the order of every sum does.
#include <algorithm>

#include "cpu/conv2d_k_driver.h"
#include "cpu/conv2d_strip.h"

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

// The time of the tiles of `pixels` outputs with so many taps, in steps of one channel of one pixel: a tile
// of one pixel takes as long as one of two, and a tap costs a step or so besides its channels.
double tiles_cost(double pixels, double taps, double run, int64_t mr) {
  const double tiles = static_cast<double>(ceil_div(static_cast<int64_t>(pixels), mr));
  return std::max(pixels, 2 * tiles) * (taps * (run + 1) + 2);
}

// The cheapest way to meet the padding, by what a region of one image's rows would cost.
ConvPadding choose_padding(const ConvProblem& p, const ConvForm& form, const ConvKTasks& t, int64_t mr,
                           bool finite_weights) {
  if (form.wide) return ConvPadding::kRows;
  if (!finite_weights) return ConvPadding::kSegments;
  double segments = 0, zeros = 0;
  for (int64_t i = 0; i < p.num_phases; ++i) {
    const ConvPhase& phase = p.phases[i];
    const double run = static_cast<double>(p.in_channels), images = static_cast<double>(t.images);
    const ConvAxis rows = row_axis(p, phase), cols = col_axis(p, phase);
    for (int64_t row = 0; row < phase.rows;) {
      const ConvSegment r = rows.segment(row, phase.rows);
      row = r.end;
      // As many rows as a region has.
      const double high = static_cast<double>(std::min(r.end - r.begin, t.rows));
      const double times = static_cast<double>(r.end - r.begin) / high;
      zeros += times * tiles_cost(images * high * static_cast<double>(phase.cols),
                                  static_cast<double>((r.tap_end - r.tap_begin) * cols.count), run, mr);
      for (int64_t col = 0; col < phase.cols;) {
        const ConvSegment c = cols.segment(col, phase.cols);
        col = c.end;
        const double taps = static_cast<double>((r.tap_end - r.tap_begin) * (c.tap_end - c.tap_begin));
        segments += times * tiles_cost(images * high * static_cast<double>(c.end - c.begin), taps, run, mr);
      }
    }
  }
  return segments <= zeros ? ConvPadding::kSegments : ConvPadding::kZeros;
}

// Outputs that no cache keeps are written past it, which spares reading them first. Each vector must be one
// that the kernel writes once, whole and aligned.
bool streams(const ConvProblem& p, const ConvKTasks& t, const ChannelBlocks& blocks) {
  const int64_t floats = p.N * p.groups * p.out_channels * p.out_h * p.out_w;
  if (p.half) {
    constexpr int64_t kHalves = 2 * kConvLineFloats;
    if (floats < 2 * kConvStreamFloats || reinterpret_cast<uintptr_t>(p.half_out) % 64 != 0) return false;
    if (p.format == Format::kNHWC) return p.groups * p.out_channels % kHalves == 0;
    return p.out_h * p.out_w % kHalves == 0 && t.rows * p.out_step_h * p.out_w % kHalves == 0;
  }
  if (floats < kConvStreamFloats || reinterpret_cast<uintptr_t>(p.out) % 64 != 0) return false;
  if (conv_activation_is_slow(p.activation)) return false;
  if (t.buffered) {
    return p.out_h * p.out_w % kConvLineFloats == 0 && t.rows * p.out_step_h * p.out_w % kConvLineFloats == 0;
  }
  return t.whole_runs && blocks.split() == 1 && p.out_channels % kConvLineFloats == 0;
}

}  // namespace

int64_t conv_k_run_part(const ConvRuns& runs, int64_t nr) {
  constexpr int64_t kWhole = 16;  // of every split
  const int64_t fits = std::max(kWhole, kPanelFloats / std::max<int64_t>(1, runs.taps * nr));
  const int64_t parts = ceil_div(runs.run, fits);
  return std::min(runs.run, ceil_div(ceil_div(runs.run, parts), kWhole) * kWhole);
}

namespace {

ConvKTasks plan_tasks(const ConvProblem& p, const ConvForm& form, const ChannelBlocks& blocks,
                      bool finite_weights, ConvVariant variant) {
  ConvKTasks t{};
  t.form = form;
  t.buffered = p.half || (p.format == Format::kNCHW && !(p.groups == 1 && p.out_channels == 1));
  t.max_taps = t.max_run = 1;
  if (form.pack_late) {  // all taps share the cache
    t.max_taps = p.num_taps;
    t.max_run = conv_k_run_part({p.num_taps, p.in_channels}, blocks.nr(0));
  }
  t.whole_runs = true;
  int64_t rows = 0;
  for (int64_t i = 0; i < p.num_phases; ++i) {
    const ConvPhase& phase = p.phases[i];
    if (!phase.num_taps) continue;
    const ConvRuns runs = conv_runs(p, phase, form.wide);
    const int64_t part = form.pack_late ? t.max_run : conv_k_run_part(runs, blocks.nr(0));
    t.max_taps = std::max(t.max_taps, runs.taps);
    t.max_run = std::max(t.max_run, part);
    t.whole_runs = t.whole_runs && part == runs.run;
    rows = std::max(rows, runs.taps * runs.run);
  }
  t.panel_blocks = 1;
  if (t.whole_runs && !form.pack_late) {
    const int64_t fit = kPanelFloats / std::max<int64_t>(1, rows * blocks.nr(0));
    t.panel_blocks = std::clamp<int64_t>(fit, 1, blocks.count());
  }
  if (t.buffered) t.panel_blocks = std::min(t.panel_blocks, std::max<int64_t>(1, 256 / blocks.nr(0)));
  t.buffer_channels = blocks.first(t.panel_blocks);

  // Regions: as many pixels as the input's share of the cache takes, fewer where there would be few tasks.
  const int64_t units = p.groups * blocks.count();
  // Packed late, each task copies all of an NCHW input.
  const int64_t most = form.pack_late && form.strip ? kMaxWantedTasks / 4 : kMaxWantedTasks;
  const int64_t wanted = conv_wanted_tasks(p, kTaskFlops, most);
  const int64_t pixel_floats = p.groups * p.in_channels * p.step_h * p.step_w;
  int64_t pixels = std::clamp(kInputFloats / pixel_floats, kMinPixels, kMaxPixels);
  if (t.buffered) pixels = std::min(pixels, std::max(kMinPixels, kBufferFloats / t.buffer_channels));
  const int64_t all_pixels = p.N * p.out_h * p.out_w;
  pixels = std::min(pixels, std::max(kMinPixels, ceil_div(all_pixels, wanted)));
  pixels = conv_region_size(variant, pixels);
  if (form.pack_late) pixels = all_pixels;
  set_region(p, pixels, &t);
  const int64_t regions = t.image_parts * t.row_parts;
  t.unit_parts = std::clamp<int64_t>(ceil_div(wanted, regions), 1, units);
  t.units = ceil_div(units, t.unit_parts);
  t.unit_parts = ceil_div(units, t.units);
  const int64_t enough = std::min<int64_t>(wanted, 4);
  if (t.count() < enough && !form.pack_late) set_region(p, ceil_div(all_pixels * t.unit_parts, enough), &t);

  t.stream = variant != ConvVariant::kPlainStores && streams(p, t, blocks);
  t.padding = choose_padding(p, form, t, blocks.mr(), finite_weights);
  if (form.strip) {
    t.strip_floats = ConvStrip(p, form.wide).group_floats(t.images, t.rows, t.row_parts == 1);
    // An odd number of cache lines, so that the groups' parts do not all meet in one set of the cache.
    t.strip_floats = (t.strip_floats / 32 * 2 + 3) * 16;
    t.strip_parts = p.format == Format::kNHWC ? ceil_div(t.units - 1, blocks.count()) + 1 : 1;
  }
  if (t.buffered) {
    t.buffer_floats = t.images * std::min(p.out_h, t.rows * p.out_step_h) * p.out_w * t.buffer_channels;
  }
  return t;
}

}  // namespace

ConvKTasks plan_conv_k(const ConvProblem& p, const ConvForm& form, const ChannelBlocks& blocks,
                       bool finite_weights) {
  const bool plain = p.variant == ConvVariant::kPlainStores;
  const ConvKTasks t = plan_tasks(p, form, blocks, finite_weights, plain ? p.variant : ConvVariant::kTable);
  const bool regions = p.variant == ConvVariant::kSmallRegions || p.variant == ConvVariant::kLargeRegions;
  if (!regions || !t.free_regions()) return t;
  // How the padding is met stays, and with it the bits.
  ConvKTasks other = plan_tasks(p, form, blocks, finite_weights, p.variant);
  other.padding = t.padding;
  return other;
}

}  // namespace cnnext
