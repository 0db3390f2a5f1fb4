// Batch norm's forward: in NHWC one pass over x for the statistics and one for y; in NCHW a channel is read
// again while it is in a cache.
#include <cmath>

#include "cpu/batch_norm.h"
#include "cpu/batch_norm_tasks.h"
#include "cpu/cpu.h"

namespace cnnext {
namespace {

// Ends a channel: saved and running statistics, coefficients.
void finish_channel(const BatchNormDesc& d, int64_t c, const Statistics& s, const Coefficients& k) {
  double mean = s.mean, invstd = 0;
  if (!d.training) {
    mean = in(d.running_mean)[c];
    invstd = 1 / std::sqrt(in(d.running_var)[c] + d.eps);
  } else if (s.count > 0) {
    invstd = 1 / std::sqrt(s.squares / s.count + d.eps);
    if (present(d.running_mean)) {
      float &running_mean = out(d.running_mean)[c], &running_var = out(d.running_var)[c];
      running_mean = static_cast<float>((1 - d.momentum) * running_mean + d.momentum * mean);
      running_var =
          static_cast<float>((1 - d.momentum) * running_var + d.momentum * s.squares / (s.count - 1));
    }
  }
  if (present(d.save_mean)) out(d.save_mean)[c] = static_cast<float>(mean);
  if (present(d.save_invstd)) out(d.save_invstd)[c] = static_cast<float>(invstd);
  const double scale = invstd * weight_of(d, c);
  k.scale[c] = static_cast<float>(scale);
  // A mean near zero goes into the bias, which saves the rounding of x - mean; a large one would round the
  // bias.
  k.mean[c] = std::abs(mean * invstd) <= 4 ? 0.f : static_cast<float>(mean);
  const double moved = std::isfinite(mean) ? (k.mean[c] - mean) * k.scale[c] : 0;
  k.bias[c] = static_cast<float>((present(d.bias) ? in(d.bias)[c] : 0.f) + moved);
}

Range range_of(const BatchNormDesc& d) {
  if (d.activation == CNNEXT_ACT_NONE) return {};
  return {0.f, d.activation == CNNEXT_ACT_RELU6 ? 6.f : Range{}.most};
}

// ---- planes ----

Statistics run_statistics(const BatchNormDesc& d, int64_t c, int64_t begin, int64_t end) {
  Statistics s;
  for_runs(d.C, d.inner, c, begin, end, [&](int64_t at, int64_t rows, int64_t count) {
    const RunArgs run{in(d.x) + at, nullptr, nullptr, rows, d.C * d.inner, count, false};
    s.add(rows * count, kernels().run_moments(run));
  });
  return s;
}

void apply_to_runs(const BatchNormDesc& d, const Coefficients& k, bool stream, int64_t c, int64_t begin,
                   int64_t end) {
  for_runs(d.C, d.inner, c, begin, end, [&](int64_t at, int64_t rows, int64_t count) {
    const RunArgs run{in(d.x) + at, nullptr, out(d.y) + at, rows, d.C * d.inner, count,
                      stream,       {},      range_of(d)};
    kernels().run_affine(run, k.mean[c], k.scale[c], k.bias[c]);
  });
}

void forward_planes(const BatchNormDesc& d, Exec& exec) {
  const Coefficients k(d.C, exec);
  const bool stream = streams(d);
  run_planes<Statistics>(
      d, exec,
      [&](int64_t c, int64_t begin, int64_t end) {
        return d.training ? run_statistics(d, c, begin, end) : Statistics{};
      },
      [](Statistics* total, const Statistics& s) { total->add(s); },
      [&](int64_t c, const Statistics& s) { finish_channel(d, c, s, k); },
      [&](int64_t c, int64_t begin, int64_t end) { apply_to_runs(d, k, stream, c, begin, end); });
}

void plane_statistics(const BatchNormDesc& d, Statistics* channels, Exec& exec) {
  const int64_t group = channels_per_task(d.N * d.inner, d.C);
  exec.parallel_for((d.C + group - 1) / group, [&](int64_t task) {
    for (int64_t c = task * group; c < std::min(d.C, (task + 1) * group); ++c) {
      channels[c] = run_statistics(d, c, 0, d.N);
    }
  });
}

// Some channels of an image, or of some images where planes are small, a task.
void apply_to_planes(const BatchNormDesc& d, const Coefficients& k, Exec& exec) {
  const bool stream = streams(d);
  const int64_t images = std::clamp<int64_t>(kRowChunk / std::max<int64_t>(d.inner, 1), 1, d.N);
  const int64_t group = channels_per_task(images * d.inner, d.C), groups = (d.C + group - 1) / group;
  const int64_t tasks = (d.N + images - 1) / images * groups;
  exec.parallel_for(tasks, [&](int64_t task) {
    const int64_t i = tasks - 1 - task, n = i / groups * images, first = i % groups * group;
    for (int64_t c = first; c < std::min(d.C, first + group); ++c) {
      apply_to_runs(d, k, stream, c, n, std::min(d.N, n + images));
    }
  });
}

// ---- channels-last ----

void column_statistics(const BatchNormDesc& d, Statistics* channels, Exec& exec) {
  const ChannelMatrix m(d.N * d.inner, d.C, ops_ukernels().lanes);
  Statistics* parts =
      for_blocks<Statistics>(m, exec, [&](int64_t r, int64_t rows, float* scratch, Statistics* columns) {
        float *shift = scratch, *sums = shift + m.columns, *squares = sums + m.columns;
        kernels().column_moments(
            {in(d.x) + r * m.columns, nullptr, rows, m.columns, m.columns, shift, sums, squares});
        for (int64_t j = 0; j < m.columns; ++j) columns[j].add(rows, {shift[j], sums[j], squares[j]});
      });
  if (!exec.planning()) {
    for (int64_t j = 0; j < m.rest; ++j) parts[j].add(1, in(d.x)[m.rows * m.columns + j], 0);
  }
  gather_columns(
      m, parts, exec, [](Statistics* total, const Statistics& s) { total->add(s); },
      [&](int64_t c, const Statistics& s) { channels[c] = s; });
}

void apply_to_columns(const BatchNormDesc& d, const Coefficients& k, Exec& exec) {
  const ChannelMatrix m(d.N * d.inner, d.C, ops_ukernels().lanes);
  const float *mean = repeat(k.mean, m, exec), *scale = repeat(k.scale, m, exec);
  const float* bias = repeat(k.bias, m, exec);
  for_applied(m, exec, [&](int64_t row, int64_t rows, int64_t columns) {
    const int64_t at = row * m.columns;
    kernels().column_affine(
        {in(d.x) + at, out(d.y) + at, rows, columns, mean, scale, bias, streams(d), range_of(d)});
  });
}

void forward_columns(const BatchNormDesc& d, Exec& exec) {
  Statistics* channels = exec.scratch_array<Statistics>(d.C);
  if (d.training) column_statistics(d, channels, exec);
  normalise_batch(d, channels, exec);
}

}  // namespace

void batch_statistics(const BatchNormDesc& d, Statistics* channels, Exec& exec) {
  d.format == Format::kNHWC ? column_statistics(d, channels, exec) : plane_statistics(d, channels, exec);
}

void normalise_batch(const BatchNormDesc& d, const Statistics* channels, Exec& exec) {
  const Coefficients k(d.C, exec);
  for_chunks(exec, d.C, kRowChunk, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) finish_channel(d, c, d.training ? channels[c] : Statistics{}, k);
  });
  d.format == Format::kNHWC ? apply_to_columns(d, k, exec) : apply_to_planes(d, k, exec);
}

Ran cpu_batch_norm_forward(const BatchNormDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.C == 0) return Ran::kUnsupported;
  d.format == Format::kNHWC ? forward_columns(d, exec) : forward_planes(d, exec);
  exec.ran(CNNEXT_KERNEL_NAME("batch_norm"));
  return Ran::kDone;
}

}  // namespace cnnext
