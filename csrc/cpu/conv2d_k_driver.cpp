#include "cpu/conv2d_k_driver.h"

#include <algorithm>

#include "cpu/conv2d_half.h"
#include "cpu/conv2d_strip.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

// Where a panel's output goes: pixel (image, h, w) of the output to out + image * .image + h * row + w * col.
struct PanelOutput {
  float* out;
  int64_t image, row, col;
  int64_t row0, rows;  // of a phase, in the region

  // False where the region has no row of the phase.
  bool set_phase(const ConvProblem& p, const ConvPhase& phase, ConvKWork* work) const {
    work->phase = &phase;
    work->row0 = row0;
    work->row1 = std::min(row0 + rows, phase.rows);
    work->view.out = out + phase.h0 * row + phase.w0 * col;
    work->view.out_image = image;
    work->view.out_row = p.out_step_h * row;
    work->view.out_col = p.out_step_w * col;
    return work->row0 < work->row1;
  }
};

struct Driver {
  const ConvProblem& p;
  const ChannelBlocks& blocks;
  const ConvKTasks& tasks;
  const ConvStrip& strip;
  int32_t final_flags;
  bool slow_activation;

  // Input pixels as the tensor has them.
  ConvKView tensor_view(int64_t group) const {
    ConvKView v{};
    if (p.format == Format::kNHWC) {
      v.in_col = p.groups * p.in_channels;
      v.in = p.in + group * p.in_channels;
    } else {
      v.in_col = 1;  // one channel: its plane is NHWC as well
      v.in = p.in;
    }
    v.in_row = p.in_w * v.in_col;
    v.in_image = p.in_h * v.in_row;
    return v;
  }

  struct Scratch {
    float *strip, *buffer, *chunk;
  };
  void run_region(const ConvRegion& r, int64_t unit0, int64_t unit1, ConvKRunner& runner,
                  const Scratch& scratch) const;
  void run_panel(const ConvRegion& r, const ConvKView& view, int64_t group, int64_t block0, int64_t block1,
                 ConvKRunner& runner, const Scratch& scratch) const;
  void run_packed(ConvKWork& work, const PanelOutput& output, ConvKRunner& runner) const;
  void run_packing(ConvKWork& work, const PanelOutput& output, ConvKRunner& runner, float* chunk) const;
  void run_part(ConvKWork& work, int64_t at, int64_t end, bool last, ConvKRunner& runner) const;
  void store(const ConvRegion& r, int64_t group, int64_t block0, int64_t block1, float* buffer) const;
  void store_half(const ConvRegion& r, int64_t group, int64_t block0, int64_t block1, float* buffer) const;
};

// A region's buffer to the planes of the output.
void Driver::store(const ConvRegion& r, int64_t group, int64_t block0, int64_t block1, float* buffer) const {
  if (p.half) return store_half(r, group, block0, block1, buffer);
  const int64_t pixels = (r.h1 - r.h0) * p.out_w, plane = p.out_h * p.out_w;
  const int64_t channels = blocks.lanes(block1 - 1) + blocks.first(block1 - 1) - blocks.first(block0);
  TransposeOutArgs args{};
  args.matrix.rows = pixels;
  args.matrix.src_stride = tasks.buffer_channels;
  args.matrix.cols = channels;
  args.matrix.dst_stride = plane;
  args.flags = conv_activation_flags(p.activation) | (tasks.stream ? kConvKStream : 0);
  args.alpha = p.alpha;
  for (int64_t n = r.n0; n < r.n1; ++n, buffer += pixels * tasks.buffer_channels) {
    const int64_t channel = (n * p.groups + group) * p.out_channels + blocks.first(block0);
    const int64_t offset = channel * plane + r.h0 * p.out_w;
    args.matrix.src = buffer;
    args.matrix.dst = p.out + offset;
    args.residual = p.residual ? p.residual + offset : nullptr;
    ukernels().conv_pack.transpose_out(args);
    if (!slow_activation) continue;
    for (int64_t c = 0; c < channels; ++c) {
      conv_activate(p.activation, p.alpha, args.matrix.dst + c * plane, pixels);
    }
  }
}

void Driver::store_half(const ConvRegion& r, int64_t group, int64_t block0, int64_t block1,
                        float* buffer) const {
  HalfRegion out;
  out.first = group * p.out_channels + blocks.first(block0);
  out.channels = blocks.lanes(block1 - 1) + blocks.first(block1 - 1) - blocks.first(block0);
  out.row = r.h0;
  out.rows = r.h1 - r.h0;
  out.buffer_channels = tasks.buffer_channels;
  out.stream = tasks.stream;
  for (out.image = r.n0; out.image < r.n1; ++out.image) {
    store_half_region(p, out, buffer);
    buffer += out.rows * p.out_w * tasks.buffer_channels;
  }
}

// One part of every run, [at, end), over the phase's pixels of the region.
void Driver::run_part(ConvKWork& work, int64_t at, int64_t end, bool last, ConvKRunner& runner) const {
  work.run0 = at;
  work.run1 = end;
  work.flags = (at ? kConvKAccumulate : 0) | (last ? final_flags : 0);
  if (tasks.stream && !tasks.buffered) work.flags |= kConvKStream;
  work.slow_activation = last && slow_activation && !tasks.buffered;
  runner.run(work);
}

// Packed weights: phase by phase, each with parts of its own.
void Driver::run_packed(ConvKWork& work, const PanelOutput& output, ConvKRunner& runner) const {
  for (int64_t i = 0; i < p.num_phases; ++i) {
    if (!output.set_phase(p, p.phases[i], &work)) continue;
    const ConvRuns runs = conv_runs(p, p.phases[i], tasks.form.wide);
    const int64_t part = runs.taps ? conv_k_run_part(runs, blocks.nr(0)) : runs.run;
    int64_t at = 0;
    for (; runs.taps && at + part < runs.run; at += part) run_part(work, at, at + part, false, runner);
    run_part(work, at, runs.run, true, runner);
  }
}

// Weights that are packed here, part by part of the input channels, and used while they are in the cache.
void Driver::run_packing(ConvKWork& work, const PanelOutput& output, ConvKRunner& runner,
                         float* chunk) const {
  const int64_t part = tasks.max_run;
  for (int64_t at = 0; at < p.in_channels; at += part) {
    const int64_t end = std::min(p.in_channels, at + part);
    pack_conv_chunk(p, blocks, work.block0, at, end, runner.tap_scratch(), chunk);
    work.chunk = chunk;
    work.chunk_channels = end - at;
    for (int64_t i = 0; i < p.num_phases; ++i) {
      if (output.set_phase(p, p.phases[i], &work)) run_part(work, at, end, end == p.in_channels, runner);
    }
  }
}

void Driver::run_panel(const ConvRegion& r, const ConvKView& view, int64_t group, int64_t block0,
                       int64_t block1, ConvKRunner& runner, const Scratch& scratch) const {
  ConvKWork work{};
  work.view = view;
  work.group = group;
  work.block0 = block0;
  work.block1 = block1;
  work.image0 = r.n0;
  work.image1 = r.n1;
  work.out_first = tasks.buffered ? blocks.first(block0) : 0;
  PanelOutput output;
  output.col = tasks.buffered ? tasks.buffer_channels : p.groups * p.out_channels;
  output.row = p.out_w * output.col;
  output.image = (tasks.buffered ? r.h1 - r.h0 : p.out_h) * output.row;
  output.out = tasks.buffered ? scratch.buffer - r.n0 * output.image - r.h0 * output.row
                              : p.out + group * p.out_channels;
  output.row0 = r.row0;
  output.rows = r.rows;
  if (tasks.form.pack_late)
    run_packing(work, output, runner, scratch.chunk);
  else
    run_packed(work, output, runner);
  if (tasks.buffered) store(r, group, block0, block1, scratch.buffer);
}

void Driver::run_region(const ConvRegion& r, int64_t unit0, int64_t unit1, ConvKRunner& runner,
                        const Scratch& scratch) const {
  const int64_t group0 = unit0 / blocks.count(), group1 = (unit1 + blocks.count() - 1) / blocks.count();
  // Groups that lie interleaved are copied together, others one by one, while they are in the cache.
  const bool together = p.format == Format::kNHWC;
  if (tasks.form.strip && together) strip.fill(r, group0, group1, scratch.strip, tasks.strip_floats);
  for (int64_t group = group0; group < group1; ++group) {
    float* const part = scratch.strip + (together ? (group - group0) * tasks.strip_floats : 0);
    if (tasks.form.strip && !together) strip.fill(r, group, group + 1, part, 0);
    const ConvKView view = tasks.form.strip ? strip.view(r, part) : tensor_view(group);
    const int64_t begin = std::max(unit0 - group * blocks.count(), int64_t{0});
    const int64_t end = std::min(unit1 - group * blocks.count(), blocks.count());
    for (int64_t block = begin; block < end; block += tasks.panel_blocks) {
      run_panel(r, view, group, block, std::min(end, block + tasks.panel_blocks), runner, scratch);
    }
  }
}

}  // namespace

void run_conv_k(const ConvProblem& p, const ConvForm& form, const ChannelBlocks& blocks,
                const WeightLayout& layout, const PackedConvWeight& packed, Exec& exec) {
  const ConvKTasks tasks = plan_conv_k(p, form, blocks, packed.finite);
  if (tasks.free_regions() && tasks.images * tasks.rows > 1) exec.offers(ConvVariant::kSmallRegions);
  if (tasks.free_regions() && tasks.image_parts * tasks.row_parts > 1)
    exec.offers(ConvVariant::kLargeRegions);
  if (tasks.stream) exec.offers(ConvVariant::kPlainStores);
  int32_t flags = p.bias ? kConvKBias : 0;
  if (!tasks.buffered) {
    flags |= conv_activation_flags(p.activation) | (p.residual ? kConvKResidual : 0);
  }
  const ConvStrip strip(p, form.wide);
  const Driver driver{p, blocks, tasks, strip, flags, conv_activation_is_slow(p.activation)};
  const int64_t units = p.groups * blocks.count();
  const auto whole_lines = [](int64_t floats) { return (floats + 15) / 16 * 16; };
  const int64_t runner_floats = whole_lines(ConvKRunner::scratch_floats(tasks.max_taps, tasks.max_run));
  const int64_t strip_floats = whole_lines(tasks.strip_parts * tasks.strip_floats);
  const int64_t buffer_floats = whole_lines(tasks.buffer_floats);
  const int64_t chunk_floats = form.pack_late ? tasks.max_run * p.num_taps * blocks.nr(0) : 0;
  const int64_t all_floats = runner_floats + strip_floats + buffer_floats + chunk_floats;
  parallel_strands(exec, tasks.count(), all_floats, [&](int64_t task, float* scratch) {
    const int64_t unit_part = task % tasks.unit_parts;
    const int64_t row_part = task / tasks.unit_parts % tasks.row_parts;
    const int64_t image_part = task / tasks.unit_parts / tasks.row_parts;
    ConvRegion r;
    r.n0 = image_part * tasks.images;
    r.n1 = std::min(p.N, r.n0 + tasks.images);
    r.row0 = row_part * tasks.rows;
    r.rows = std::min(tasks.rows, p.phases[0].rows - r.row0);
    r.h0 = r.row0 * p.out_step_h;
    r.h1 = std::min(p.out_h, (r.row0 + r.rows) * p.out_step_h);
    const int64_t unit0 = unit_part * tasks.units, unit1 = std::min(units, unit0 + tasks.units);
    ConvKRunner runner(p, blocks, layout, packed, tasks.padding, tasks.max_taps, tasks.max_run, scratch);
    float* const strip_memory = scratch + runner_floats;
    float* const buffer = strip_memory + strip_floats;
    driver.run_region(r, unit0, unit1, runner, {strip_memory, buffer, buffer + buffer_floats});
    if (tasks.stream) conv_stream_fence();
  });
}

}  // namespace cnnext
