// bias_add and bias_grad.
#include "core/exec.h"
#include "cpu/channel_tasks.h"
#include "cpu/cpu.h"
#include "cpu/flat_tasks.h"
#include "cpu/ops_ukernels.h"

namespace cnnext {
namespace {

const float* in(const Tensor& t) { return static_cast<const float*>(t.data); }
float* out(const Tensor& t) { return static_cast<float*>(t.data); }

bool streams(const ChannelDesc& d) {
  return d.N * d.C * d.inner * int64_t{sizeof(float)} >= kStreamBytes && d.y.data != d.x.data;
}

// C values repeated to the columns of a matrix.
const float* repeat(const float* values, const ChannelMatrix& m, Exec& exec) {
  if (m.rounds == 1) return values;
  float* repeated = exec.scratch_array<float>(m.columns);
  for (int64_t j = 0; j < m.columns; ++j) repeated[j] = values[j % m.C];
  return repeated;
}

void add_to_columns(const ChannelDesc& d, Exec& exec) {
  const ChannelMatrix m(d.N * d.inner, d.C, ops_ukernels().lanes);
  const float* bias = repeat(in(d.bias), m, exec);
  float* zeros = exec.scratch_array<float>(2 * m.columns);
  float* ones = zeros + m.columns;
  std::fill_n(zeros, m.columns, 0.f);
  std::fill_n(ones, m.columns, 1.f);
  const float* x = in(d.x);
  float* y = out(d.y);
  const bool stream = streams(d);
  const int64_t chunk = std::max<int64_t>(1, kCheapChunk / m.columns), tasks = (m.rows + chunk - 1) / chunk;
  exec.parallel_for(tasks, [&](int64_t task) {
    const int64_t first = task * chunk, at = first * m.columns;
    ops_ukernels().channel.column_affine(
        {x + at, y + at, std::min(chunk, m.rows - first), m.columns, zeros, ones, bias, stream});
  });
  const int64_t at = m.rows * m.columns;
  for (int64_t j = 0; j < m.rest; ++j) y[at + j] = x[at + j] + bias[j];
}

void add_to_planes(const ChannelDesc& d, Exec& exec) {
  const bool stream = streams(d);
  const int64_t planes = d.N * d.C, chunk = std::max<int64_t>(1, kCheapChunk / std::max<int64_t>(d.inner, 1));
  exec.parallel_for((planes + chunk - 1) / chunk, [&](int64_t task) {
    for (int64_t i = task * chunk; i < std::min(planes, (task + 1) * chunk); ++i) {
      const RunArgs plane{in(d.x) + i * d.inner, nullptr, out(d.y) + i * d.inner, 1, 0, d.inner, stream};
      ops_ukernels().channel.run_affine(plane, 0.f, 1.f, in(d.bias)[i % d.C]);
    }
  });
}

void sum_columns(const ChannelDesc& d, Exec& exec) {
  const ChannelMatrix m(d.N * d.inner, d.C, ops_ukernels().lanes);
  const float* x = in(d.x);
  double* sums = exec.scratch_array<double>(m.slices * m.columns);
  float* blocks = exec.scratch_array<float>(m.slices * m.columns);
  exec.parallel_for(m.slices, [&](int64_t slice) {
    double* sum = sums + slice * m.columns;
    float* block = blocks + slice * m.columns;
    std::fill_n(sum, m.columns, 0.0);
    for (int64_t r = m.begin(slice); r < m.end(slice); r += m.block_rows) {
      const int64_t rows = std::min(m.block_rows, m.end(slice) - r);
      ops_ukernels().channel.column_sums(
          {x + r * m.columns, nullptr, rows, m.columns, m.columns, nullptr, block, nullptr});
      for (int64_t j = 0; j < m.columns; ++j) sum[j] += block[j];
    }
  });
  if (exec.planning()) return;
  for (int64_t j = 0; j < m.rest; ++j) sums[j] += x[m.rows * m.columns + j];
  for (int64_t c = 0; c < d.C; ++c) {
    double sum = 0;
    for (int64_t slice = 0; slice < m.slices; ++slice) {
      for (int64_t j = c; j < m.columns; j += d.C) sum += sums[slice * m.columns + j];
    }
    out(d.bias)[c] = static_cast<float>(sum);
  }
}

void sum_planes(const ChannelDesc& d, Exec& exec) {
  const int64_t slices = image_slices(d.N, d.C, d.inner), images = (d.N + slices - 1) / slices;
  const int64_t group = slices == 1 ? channels_per_task(d.N * d.inner, d.C) : 1;
  const int64_t groups = (d.C + group - 1) / group;
  double* sums = exec.scratch_array<double>(slices * d.C);
  exec.parallel_for(groups * slices, [&](int64_t task) {
    const int64_t slice = task % slices, first = task / slices * group;
    for (int64_t c = first; c < std::min(d.C, first + group); ++c) {
      double sum = 0;
      const int64_t end = std::min(d.N, (slice + 1) * images);
      for_runs(d.C, d.inner, c, slice * images, end, [&](int64_t at, int64_t rows, int64_t count) {
        sum += ops_ukernels().channel.run_sum(
            {in(d.x) + at, nullptr, nullptr, rows, d.C * d.inner, count, false});
      });
      sums[slice * d.C + c] = sum;
    }
  });
  if (exec.planning()) return;
  for (int64_t c = 0; c < d.C; ++c) {
    double sum = 0;
    for (int64_t slice = 0; slice < slices; ++slice) sum += sums[slice * d.C + c];
    out(d.bias)[c] = static_cast<float>(sum);
  }
}

}  // namespace

Ran cpu_bias_add(const ChannelDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  if (d.N * d.C * d.inner > 0) d.format == Format::kNHWC ? add_to_columns(d, exec) : add_to_planes(d, exec);
  exec.ran(CNNEXT_KERNEL_NAME("bias_add"));
  return Ran::kDone;
}

Ran cpu_bias_grad(const ChannelDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  if (d.C > 0) d.format == Format::kNHWC ? sum_columns(d, exec) : sum_planes(d, exec);
  exec.ran(CNNEXT_KERNEL_NAME("bias_grad"));
  return Ran::kDone;
}

}  // namespace cnnext
