#include "cpu/conv2d_k_driver.h"

#include <algorithm>
#include <cstring>

#include "cpu/strands.h"

namespace cnnext {
namespace {

// A region of the output: images [n0, n1), and of each the rows [row0, row0 + rows) of every phase that are
// there, which are the rows [h0, h1) of the image.
struct Region {
  int64_t n0, n1, row0, rows, h0, h1;
};

struct Driver {
  const ConvProblem& p;
  const ChannelBlocks& blocks;
  const PackedConvWeight& packed;
  const ConvKTasks& tasks;
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
    v.wide = tasks.wide;
    return v;
  }

  // Copies the region's input rows of one group into `strip`, as NHWC, with zeros for padding columns.
  ConvKView strip_view(const Region& r, int64_t group, float* strip) const;
  void copy_row(const float* src, float* dst, int64_t group) const;
  void run_region(const Region& r, int64_t unit0, int64_t unit1, ConvKRunner& runner, float* strip,
                  float* buffer) const;
  void run_panel(const Region& r, ConvKView view, int64_t group, int64_t block0, int64_t block1,
                 ConvKRunner& runner, float* buffer) const;
  void run_phase(ConvKWork work, ConvKRunner& runner) const;
  void store(const Region& r, int64_t first, int64_t count, int64_t group, int64_t block0, int64_t block1,
             const float* buffer) const;
};

ConvKView Driver::strip_view(const Region& r, int64_t group, float* strip) const {
  const int64_t cols = tasks.wide ? p.end_dw - p.min_dw : p.in_w;
  const int64_t col0 = tasks.wide ? p.min_dw : 0;
  int64_t low = INT64_MAX, high = INT64_MIN;  // input rows [low, high)
  for (int64_t i = 0; i < p.num_phases; ++i) {
    const ConvPhase& phase = p.phases[i];
    const int64_t rows = std::min(r.rows, phase.rows - r.row0);
    if (!phase.num_taps || rows <= 0) continue;
    low = std::min(low, r.row0 * p.step_h + phase.min_dh);
    high = std::max(high, (r.row0 + rows - 1) * p.step_h + phase.max_dh + 1);
  }
  low = std::clamp<int64_t>(low, 0, p.in_h);
  high = std::clamp<int64_t>(high, low, p.in_h);

  ConvKView v{};
  v.wide = tasks.wide;
  v.in_col = p.in_channels;
  v.in_row = cols * v.in_col;
  v.in_image = (high - low) * v.in_row;
  v.in = strip - low * v.in_row - col0 * v.in_col - r.n0 * v.in_image;

  const bool nchw = p.format == Format::kNCHW;
  const int64_t left = std::max<int64_t>(0, -col0), src0 = std::max<int64_t>(0, col0);
  const int64_t used = std::max<int64_t>(0, std::min(p.in_w, col0 + cols) - src0);  // columns of the image
  const int64_t right = cols - left - used;
  const int64_t plane = p.in_h * p.in_w;
  for (int64_t n = r.n0; n < r.n1; ++n) {
    float* dst = strip + (n - r.n0) * v.in_image;
    const float* src = nchw ? p.in + (n * p.groups + group) * p.in_channels * plane
                            : p.in + n * plane * p.groups * p.in_channels + group * p.in_channels;
    if (nchw && cols == p.in_w && used == cols) {  // rows follow one another
      ukernels().conv_pack.transpose(
          {src + low * p.in_w, plane, p.in_channels, (high - low) * cols, dst, p.in_channels});
      continue;
    }
    for (int64_t h = low; h < high; ++h, dst += v.in_row) {
      if (used > 0) {
        float* row = dst + left * p.in_channels;
        if (nchw) {
          ukernels().conv_pack.transpose(
              {src + h * p.in_w + src0, plane, p.in_channels, used, row, p.in_channels});
        } else if (p.groups == 1) {
          std::memcpy(row, src + (h * p.in_w + src0) * p.in_channels,
                      static_cast<size_t>(used * p.in_channels) * sizeof(float));
        } else {
          const int64_t pitch = p.groups * p.in_channels;
          const float* from = src + (h * p.in_w + src0) * pitch;
          for (int64_t w = 0; w < used; ++w, from += pitch, row += p.in_channels) {
            for (int64_t c = 0; c < p.in_channels; ++c) row[c] = from[c];
          }
        }
      }
      std::fill(dst, dst + left * p.in_channels, 0.f);
      std::fill(dst + (cols - right) * p.in_channels, dst + cols * p.in_channels, 0.f);
    }
  }
  return v;
}

// Pixels of a region's buffer (or of the planes below it), [first, first + count), to the planes of the
// output.
void Driver::store(const Region& r, int64_t first, int64_t count, int64_t group, int64_t block0,
                   int64_t block1, const float* buffer) const {
  const int64_t per_image = (r.h1 - r.h0) * p.out_w, plane = p.out_h * p.out_w;
  const int64_t channels = blocks.lanes(block1 - 1) + blocks.first(block1 - 1) - blocks.first(block0);
  TransposeOutArgs args{};
  args.matrix.src_stride = tasks.buffer_channels;
  args.matrix.cols = channels;
  args.matrix.dst_stride = plane;
  args.flags = conv_activation_flags(p.activation);
  args.alpha = p.alpha;
  while (count > 0) {
    const int64_t image = first / per_image, at = first - image * per_image;
    const int64_t n = std::min(count, per_image - at);
    const int64_t channel = ((r.n0 + image) * p.groups + group) * p.out_channels + blocks.first(block0);
    const int64_t offset = channel * plane + r.h0 * p.out_w + at;
    args.matrix.src = buffer;
    args.matrix.rows = n;
    args.matrix.dst = p.out + offset;
    args.residual = p.residual ? p.residual + offset : nullptr;
    ukernels().conv_pack.transpose_out(args);
    if (slow_activation) {
      for (int64_t c = 0; c < channels; ++c)
        conv_activate(p.activation, p.alpha, args.matrix.dst + c * plane, n);
    }
    buffer += n * tasks.buffer_channels;
    first += n;
    count -= n;
  }
}

// All parts of the taps' runs over the pixels that `work` names.
void Driver::run_phase(ConvKWork work, ConvKRunner& runner) const {
  const ConvPhase& phase = *work.phase;
  const bool wide = tasks.wide;
  const int64_t run = wide ? phase.wide_cols * p.in_channels : p.in_channels;
  const int64_t taps = wide ? phase.num_wide : phase.num_taps;
  const int64_t part = phase.num_taps ? conv_k_run_part(run, taps, blocks.nr(0)) : run;
  for (int64_t at = 0; at < run || at == 0; at += part) {
    const bool last = at + part >= run || !phase.num_taps;
    work.run0 = at;
    work.run1 = last ? run : at + part;
    work.flags = (at ? kConvKAccumulate : 0) | (last ? final_flags : 0);
    work.slow_activation = last && slow_activation && !tasks.buffered;
    runner.run(work);
    if (last) break;
  }
}

void Driver::run_panel(const Region& r, ConvKView view, int64_t group, int64_t block0, int64_t block1,
                       ConvKRunner& runner, float* buffer) const {
  ConvKWork work{};
  work.group = group;
  work.image0 = r.n0;
  work.row0 = r.row0;
  work.block0 = block0;
  work.block1 = block1;
  // Output pixel (n, h, w) is at out + n * image + h * row + w * col.
  const int64_t col = tasks.buffered ? tasks.buffer_channels : p.groups * p.out_channels;
  const int64_t row = p.out_w * col;
  const int64_t image = tasks.buffered ? (r.h1 - r.h0) * row : p.out_h * row;
  float* const out = tasks.buffered ? buffer - r.n0 * image - r.h0 * row : p.out + group * p.out_channels;
  work.out_first = tasks.buffered ? blocks.first(block0) : 0;

  const bool one_phase = p.num_phases == 1;
  const bool by_piece = tasks.buffered && one_phase && tasks.max_run >= p.in_channels &&
                        (!tasks.wide || tasks.max_run >= p.phases[0].wide_cols * p.in_channels);
  for (int64_t i = 0; i < p.num_phases; ++i) {
    const ConvPhase& phase = p.phases[i];
    work.phase = &phase;
    work.rows = std::min(r.rows, phase.rows - r.row0);
    if (work.rows <= 0) continue;
    view.out = out + phase.h0 * row + phase.w0 * col;
    view.out_image = image;
    view.out_row = p.out_step_h * row;
    view.out_col = p.out_step_w * col;
    work.view = view;
    const int64_t pixels = (r.n1 - r.n0) * work.rows * phase.cols;
    if (by_piece) {
      // The buffer is used piece by piece, so that it stays in L1.
      constexpr int64_t kPiece = 96;
      for (int64_t at = 0; at < pixels; at += kPiece) {
        work.first = at;
        work.last = std::min(pixels, at + kPiece);
        work.view.out = view.out - at * col;
        run_phase(work, runner);
        store(r, at, work.last - at, group, block0, block1, buffer);
      }
    } else {
      work.first = 0;
      work.last = pixels;
      run_phase(work, runner);
    }
  }
  if (tasks.buffered && !by_piece) {
    store(r, 0, (r.n1 - r.n0) * (r.h1 - r.h0) * p.out_w, group, block0, block1, buffer);
  }
}

void Driver::run_region(const Region& r, int64_t unit0, int64_t unit1, ConvKRunner& runner, float* strip,
                        float* buffer) const {
  while (unit0 < unit1) {
    const int64_t group = unit0 / blocks.count();
    const int64_t begin = unit0 - group * blocks.count();
    const int64_t end = std::min(blocks.count(), begin + unit1 - unit0);
    const ConvKView view = tasks.strip ? strip_view(r, group, strip) : tensor_view(group);
    for (int64_t block = begin; block < end; block += tasks.panel_blocks) {
      run_panel(r, view, group, block, std::min(end, block + tasks.panel_blocks), runner, buffer);
    }
    unit0 += end - begin;
  }
}

}  // namespace

void run_conv_k(const ConvProblem& p, const ChannelBlocks& blocks, const PackedConvWeight& packed,
                Exec& exec) {
  const ConvKTasks tasks = plan_conv_k(p, blocks, packed.finite);
  int32_t flags = p.bias ? kConvKBias : 0;
  if (!tasks.buffered) {
    flags |= conv_activation_flags(p.activation) | (p.residual ? kConvKResidual : 0);
  }
  const Driver driver{p, blocks, packed, tasks, flags, conv_activation_is_slow(p.activation)};
  const int64_t units = p.groups * blocks.count();
  const int64_t runner_floats = ConvKRunner::scratch_floats(tasks.max_taps, tasks.max_run);
  const int64_t strip_at = (runner_floats + 15) / 16 * 16;
  const int64_t buffer_at = strip_at + (tasks.strip_floats + 15) / 16 * 16;
  parallel_strands(exec, tasks.count(), buffer_at + tasks.buffer_floats, [&](int64_t task, float* scratch) {
    const int64_t unit_part = task % tasks.unit_parts;
    const int64_t row_part = task / tasks.unit_parts % tasks.row_parts;
    const int64_t image_part = task / tasks.unit_parts / tasks.row_parts;
    Region r;
    r.n0 = image_part * tasks.images;
    r.n1 = std::min(p.N, r.n0 + tasks.images);
    r.row0 = row_part * tasks.rows;
    r.rows = std::min(tasks.rows, p.phases[0].rows - r.row0);
    r.h0 = r.row0 * p.out_step_h;
    r.h1 = std::min(p.out_h, (r.row0 + r.rows) * p.out_step_h);
    const int64_t unit0 = unit_part * tasks.units, unit1 = std::min(units, unit0 + tasks.units);
    ConvKRunner runner(p, blocks, packed, tasks.max_taps, tasks.max_run, scratch);
    driver.run_region(r, unit0, unit1, runner, scratch + strip_at, scratch + buffer_at);
  });
}

}  // namespace cnnext
