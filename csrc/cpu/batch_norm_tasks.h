// How batch norm's passes share their work, forward and backward.
#pragma once

#include "cpu/channel_tasks.h"
#include "cpu/flat_tasks.h"
#include "cpu/ops_ukernels.h"

namespace cnnext {

inline const float* in(const Tensor& t) { return static_cast<const float*>(t.data); }
inline float* out(const Tensor& t) { return static_cast<float*>(t.data); }
inline const ChannelUkernels& kernels() { return ops_ukernels().channel; }

inline bool streams(const BatchNormDesc& d) {
  return d.N * d.C * d.inner * int64_t{sizeof(float)} >= kStreamBytes;
}
inline float weight_of(const BatchNormDesc& d, int64_t c) {
  return present(d.weight) ? in(d.weight)[c] : 1.f;
}

// What is applied to each element of a channel: y = (x - mean) * scale + bias, or for the gradient
// grad * scale + (x - mean) * slope + bias.
struct Coefficients {
  float *mean, *scale, *slope, *bias;

  Coefficients(int64_t C, Exec& exec) {
    mean = exec.scratch_array<float>(4 * C);
    scale = mean + C;
    slope = scale + C;
    bias = slope + C;
  }
};

// Planes: partial(c, begin, end) over slices of images, merge(&total, part), finish(c, total), then apply(c,
// begin, end). With one slice a channel is read again while it is in the cache.
template <class Part, class Partial, class Merge, class Finish, class Apply>
void run_planes(const BatchNormDesc& d, Exec& exec, const Partial& partial, const Merge& merge,
                const Finish& finish, const Apply& apply) {
  const int64_t slices = image_slices(d.N, d.C, d.inner), images = (d.N + slices - 1) / slices;
  const auto slice_end = [&](int64_t slice) { return std::min(d.N, (slice + 1) * images); };
  if (slices == 1) {
    const int64_t group = channels_per_task(d.N * d.inner, d.C);
    exec.parallel_for((d.C + group - 1) / group, [&](int64_t task) {
      for (int64_t c = task * group; c < std::min(d.C, (task + 1) * group); ++c) {
        finish(c, partial(c, 0, d.N));
        apply(c, 0, d.N);
      }
    });
    return;
  }
  Part* parts = exec.scratch_array<Part>(d.C * slices);
  exec.parallel_for(d.C * slices, [&](int64_t task) {
    const int64_t slice = task % slices;
    parts[task] = partial(task / slices, slice * images, slice_end(slice));
  });
  if (exec.planning()) return;
  for (int64_t c = 0; c < d.C; ++c) {
    Part total = parts[c * slices];
    for (int64_t slice = 1; slice < slices; ++slice) merge(&total, parts[c * slices + slice]);
    finish(c, total);
  }
  exec.parallel_for(d.C * slices, [&](int64_t task) {
    const int64_t slice = task % slices;
    apply(task / slices, slice * images, slice_end(slice));
  });
}

// Channels-last: coefficients repeated to a matrix's columns.
inline const float* repeat(const float* values, const ChannelMatrix& m, Exec& exec) {
  if (m.rounds == 1) return values;
  float* repeated = exec.scratch_array<float>(m.columns);
  if (exec.planning()) return repeated;
  for (int64_t j = 0; j < m.columns; ++j) repeated[j] = values[j % m.C];
  return repeated;
}

// body(slice, block's first row, rows, scratch of 3 rows of floats, the slice's parts) over each slice, in
// parallel; each slice's parts, one a column, begin as Part{}.
template <class Part, class Body>
Part* for_blocks(const ChannelMatrix& m, Exec& exec, const Body& body) {
  float* scratch = exec.scratch_array<float>(m.slices * 3 * m.columns);
  Part* parts = exec.scratch_array<Part>(m.slices * m.columns);
  exec.parallel_for(m.slices, [&](int64_t slice) {
    Part* mine = parts + slice * m.columns;
    std::fill_n(mine, m.columns, Part{});
    for (int64_t r = m.begin(slice); r < m.end(slice); r += m.block_rows) {
      body(r, std::min(m.block_rows, m.end(slice) - r), scratch + slice * 3 * m.columns, mine);
    }
  });
  return parts;
}

// finish(c, sums) of each channel: those of its columns in each slice, merged in order.
template <class Part, class Merge, class Finish>
void gather_columns(const ChannelMatrix& m, const Part* parts, Exec& exec, const Merge& merge,
                    const Finish& finish) {
  for_chunks(exec, m.C, kRowChunk / m.slices, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      Part total{};
      for (int64_t slice = 0; slice < m.slices; ++slice) {
        for (int64_t j = c; j < m.columns; j += m.C) merge(&total, parts[slice * m.columns + j]);
      }
      finish(c, total);
    }
  });
}

// apply(first row, rows, columns): whole rows in parallel, the last ones first, then the rest as one short
// row.
template <class Apply>
void for_applied(const ChannelMatrix& m, Exec& exec, const Apply& apply) {
  const int64_t chunk = std::max<int64_t>(1, kCheapChunk / m.columns), tasks = (m.rows + chunk - 1) / chunk;
  exec.parallel_for(tasks, [&](int64_t task) {
    const int64_t row = (tasks - 1 - task) * chunk;
    apply(row, std::min(chunk, m.rows - row), m.columns);
  });
  if (m.rest && !exec.planning()) apply(m.rows, 1, m.rest);
}

}  // namespace cnnext
