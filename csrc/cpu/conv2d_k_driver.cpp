#include "cpu/conv2d_k_driver.h"

#include <algorithm>

#include "cpu/conv2d_strip.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

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

  void run_region(const ConvRegion& r, int64_t unit0, int64_t unit1, ConvKRunner& runner, float* parts,
                  float* buffer) const;
  void run_panel(const ConvRegion& r, ConvKView view, int64_t group, int64_t block0, int64_t block1,
                 ConvKRunner& runner, float* buffer) const;
  void run_phase(ConvKWork work, ConvKRunner& runner) const;
  void store(const ConvRegion& r, int64_t group, int64_t block0, int64_t block1, const float* buffer) const;
};

// A region's buffer to the planes of the output.
void Driver::store(const ConvRegion& r, int64_t group, int64_t block0, int64_t block1,
                   const float* buffer) const {
  const int64_t pixels = (r.h1 - r.h0) * p.out_w, plane = p.out_h * p.out_w;
  const int64_t channels = blocks.lanes(block1 - 1) + blocks.first(block1 - 1) - blocks.first(block0);
  TransposeOutArgs args{};
  args.matrix.rows = pixels;
  args.matrix.src_stride = tasks.buffer_channels;
  args.matrix.cols = channels;
  args.matrix.dst_stride = plane;
  args.flags = conv_activation_flags(p.activation);
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

// All parts of the taps' runs over the pixels that `work` names.
void Driver::run_phase(ConvKWork work, ConvKRunner& runner) const {
  const ConvRuns runs = conv_runs(p, *work.phase, tasks.form.wide);
  const int64_t part = runs.taps ? conv_k_run_part(runs, blocks.nr(0)) : runs.run;
  for (int64_t at = 0;; at += part) {
    const bool last = runs.taps == 0 || at + part >= runs.run;
    work.run0 = at;
    work.run1 = last ? runs.run : at + part;
    work.flags = (at ? kConvKAccumulate : 0) | (last ? final_flags : 0);
    work.slow_activation = last && slow_activation && !tasks.buffered;
    runner.run(work);
    if (last) break;
  }
}

void Driver::run_panel(const ConvRegion& r, ConvKView view, int64_t group, int64_t block0, int64_t block1,
                       ConvKRunner& runner, float* buffer) const {
  ConvKWork work{};
  work.group = group;
  work.block0 = block0;
  work.block1 = block1;
  work.image0 = r.n0;
  work.image1 = r.n1;
  // Output pixel (n, h, w) is at out + n * image + h * row + w * col.
  const int64_t col = tasks.buffered ? tasks.buffer_channels : p.groups * p.out_channels;
  const int64_t row = p.out_w * col;
  const int64_t image = tasks.buffered ? (r.h1 - r.h0) * row : p.out_h * row;
  float* const out = tasks.buffered ? buffer - r.n0 * image - r.h0 * row : p.out + group * p.out_channels;
  work.out_first = tasks.buffered ? blocks.first(block0) : 0;
  for (int64_t i = 0; i < p.num_phases; ++i) {
    const ConvPhase& phase = p.phases[i];
    work.phase = &phase;
    work.row0 = r.row0;
    work.row1 = std::min(r.row0 + r.rows, phase.rows);
    if (work.row0 >= work.row1) continue;
    view.out = out + phase.h0 * row + phase.w0 * col;
    view.out_image = image;
    view.out_row = p.out_step_h * row;
    view.out_col = p.out_step_w * col;
    work.view = view;
    run_phase(work, runner);
  }
  if (tasks.buffered) store(r, group, block0, block1, buffer);
}

void Driver::run_region(const ConvRegion& r, int64_t unit0, int64_t unit1, ConvKRunner& runner, float* parts,
                        float* buffer) const {
  const int64_t group0 = unit0 / blocks.count(), group1 = (unit1 + blocks.count() - 1) / blocks.count();
  // Groups that lie interleaved are copied together, others one by one, while they are in the cache.
  const bool together = p.format == Format::kNHWC;
  if (tasks.form.strip && together) strip.fill(r, group0, group1, parts, tasks.strip_floats);
  for (int64_t group = group0; group < group1; ++group) {
    float* const part = parts + (together ? (group - group0) * tasks.strip_floats : 0);
    if (tasks.form.strip && !together) strip.fill(r, group, group + 1, part, 0);
    const ConvKView view = tasks.form.strip ? strip.view(r, part) : tensor_view(group);
    const int64_t begin = std::max(unit0 - group * blocks.count(), int64_t{0});
    const int64_t end = std::min(unit1 - group * blocks.count(), blocks.count());
    for (int64_t block = begin; block < end; block += tasks.panel_blocks) {
      run_panel(r, view, group, block, std::min(end, block + tasks.panel_blocks), runner, buffer);
    }
  }
}

}  // namespace

void run_conv_k(const ConvProblem& p, const ConvForm& form, const ChannelBlocks& blocks,
                const WeightLayout& layout, const PackedConvWeight& packed, Exec& exec) {
  const ConvKTasks tasks = plan_conv_k(p, form, blocks, packed.finite);
  int32_t flags = p.bias ? kConvKBias : 0;
  if (!tasks.buffered) {
    flags |= conv_activation_flags(p.activation) | (p.residual ? kConvKResidual : 0);
  }
  const ConvStrip strip(p, form.wide);
  const Driver driver{p, blocks, tasks, strip, flags, conv_activation_is_slow(p.activation)};
  const int64_t units = p.groups * blocks.count();
  const int64_t runner_floats = ConvKRunner::scratch_floats(tasks.max_taps, tasks.max_run);
  const int64_t strip_at = (runner_floats + 15) / 16 * 16;
  const int64_t buffer_at = strip_at + (tasks.strip_parts * tasks.strip_floats + 15) / 16 * 16;
  parallel_strands(exec, tasks.count(), buffer_at + tasks.buffer_floats, [&](int64_t task, float* scratch) {
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
    driver.run_region(r, unit0, unit1, runner, scratch + strip_at, scratch + buffer_at);
  });
}

}  // namespace cnnext
