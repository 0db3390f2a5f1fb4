// Batch normalisation. The statistics of a chunk are taken about its own mean while it is in the cache, and
// chunks are merged in double (Chan, Golub and LeVeque, 1979): one pass over memory, and nothing cancels
// however far the mean is from zero.
#include <cmath>

#include "cpu/channel_tasks.h"
#include "cpu/cpu.h"
#include "cpu/flat_tasks.h"
#include "cpu/ops_ukernels.h"

namespace cnnext {
namespace {

const float* in(const Tensor& t) { return static_cast<const float*>(t.data); }
float* out(const Tensor& t) { return static_cast<float*>(t.data); }

const ChannelUkernels& kernels() { return ops_ukernels().channel; }

struct Statistics {
  double count = 0, mean = 0, squares = 0;  // squares: of the distances from the mean

  void add(double other_count, double other_mean, double other_squares) {
    if (other_count == 0) return;
    const double total = count + other_count, distance = other_mean - mean, share = other_count / total;
    mean += distance * share;
    squares += other_squares + distance * distance * count * share;
    count = total;
  }
  void add(int64_t n, const Moments& m) {
    const double rest = m.sum / static_cast<double>(n);
    add(static_cast<double>(n), m.shift + rest, m.squares - m.sum * rest);
  }
};

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

// What closes the gradient's gate, or nullptr.
const float* gate(const BatchNormDesc& d, int64_t at) { return d.relu ? in(d.y) + at : nullptr; }

float weight(const BatchNormDesc& d, int64_t c) { return present(d.weight) ? in(d.weight)[c] : 1.f; }

// Ends a channel of the forward: saved and running statistics, coefficients.
void finish_forward(const BatchNormDesc& d, int64_t c, const Statistics& s, const Coefficients& k) {
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
  const double scale = invstd * weight(d, c);
  k.scale[c] = static_cast<float>(scale);
  // A mean near zero goes into the bias, which saves the rounding of x - mean; a large one would round the
  // bias.
  k.mean[c] = std::abs(mean * invstd) <= 4 ? 0.f : static_cast<float>(mean);
  const double moved = std::isfinite(mean) ? (k.mean[c] - mean) * k.scale[c] : 0;
  k.bias[c] = static_cast<float>((present(d.bias) ? in(d.bias)[c] : 0.f) + moved);
}

// Ends a channel of the backward; dot is of grad and x - mean.
void finish_backward(const BatchNormDesc& d, int64_t c, double sum, double dot, const Coefficients& k) {
  const double invstd = in(d.save_invstd)[c], count = static_cast<double>(d.N * d.inner);
  if (present(d.grad_weight)) out(d.grad_weight)[c] = static_cast<float>(dot * invstd);
  if (present(d.grad_bias)) out(d.grad_bias)[c] = static_cast<float>(sum);
  const double scale = invstd * weight(d, c);
  k.mean[c] = in(d.save_mean)[c];
  k.scale[c] = static_cast<float>(scale);
  k.slope[c] = static_cast<float>(-scale * invstd * invstd * dot / count);
  k.bias[c] = static_cast<float>(-scale * sum / count);
}

// ---- planes ----

bool streams(const BatchNormDesc& d) { return d.N * d.C * d.inner * int64_t{sizeof(float)} >= kStreamBytes; }

Statistics run_statistics(const BatchNormDesc& d, int64_t c, int64_t begin, int64_t end) {
  Statistics s;
  for_runs(d.C, d.inner, c, begin, end, [&](int64_t at, int64_t rows, int64_t count) {
    const RunArgs run{in(d.x) + at, nullptr, nullptr, rows, d.C * d.inner, count, false};
    s.add(rows * count, kernels().run_moments(run));
  });
  return s;
}

struct DoubleDots {
  double sum = 0, dot = 0;
};

DoubleDots run_dots(const BatchNormDesc& d, int64_t c, int64_t begin, int64_t end) {
  DoubleDots s;
  const float mean = in(d.save_mean)[c];
  for_runs(d.C, d.inner, c, begin, end, [&](int64_t at, int64_t rows, int64_t count) {
    const RunArgs run{in(d.x) + at, in(d.grad_y) + at, nullptr, rows, d.C * d.inner, count,
                      false,        gate(d, at)};
    const Dots part = kernels().run_dots(run, mean);
    s.sum += part.sum;
    s.dot += part.dot;
  });
  return s;
}

// partial(c, begin, end) over slices of images, merge(&total, part), finish(c, total), then apply(c, begin,
// end). With one slice a channel is read again while it is in the cache.
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

void forward_planes(const BatchNormDesc& d, const Coefficients& k, Exec& exec) {
  const bool stream = streams(d);
  run_planes<Statistics>(
      d, exec,
      [&](int64_t c, int64_t begin, int64_t end) {
        return d.training ? run_statistics(d, c, begin, end) : Statistics{};
      },
      [](Statistics* total, const Statistics& s) { total->add(s.count, s.mean, s.squares); },
      [&](int64_t c, const Statistics& s) { finish_forward(d, c, s, k); },
      [&](int64_t c, int64_t begin, int64_t end) {
        for_runs(d.C, d.inner, c, begin, end, [&](int64_t at, int64_t rows, int64_t count) {
          const RunArgs run{in(d.x) + at, nullptr, out(d.y) + at, rows,       d.C * d.inner,
                            count,        stream,  nullptr,       d.relu != 0};
          kernels().run_affine(run, k.mean[c], k.scale[c], k.bias[c]);
        });
      });
}

void backward_planes(const BatchNormDesc& d, const Coefficients& k, Exec& exec) {
  const bool stream = streams(d);
  run_planes<DoubleDots>(
      d, exec, [&](int64_t c, int64_t begin, int64_t end) { return run_dots(d, c, begin, end); },
      [](DoubleDots* total, const DoubleDots& s) { *total = {total->sum + s.sum, total->dot + s.dot}; },
      [&](int64_t c, const DoubleDots& s) { finish_backward(d, c, s.sum, s.dot, k); },
      [&](int64_t c, int64_t begin, int64_t end) {
        if (!present(d.grad_x)) return;
        for_runs(d.C, d.inner, c, begin, end, [&](int64_t at, int64_t rows, int64_t count) {
          RunArgs run{in(d.x) + at, in(d.grad_y) + at, out(d.grad_x) + at, rows, d.C * d.inner, count,
                      stream,       gate(d, at)};
          if (d.training) {
            kernels().run_grad(run, k.mean[c], k.scale[c], k.slope[c], k.bias[c]);
          } else {
            run.x = run.grad;
            kernels().run_affine(run, 0.f, k.scale[c], 0.f);
          }
        });
      });
}

// ---- channels-last ----

// The coefficients repeated to a matrix's columns.
const float* repeat(const float* values, const ChannelMatrix& m, Exec& exec) {
  if (m.rounds == 1) return values;
  float* repeated = exec.scratch_array<float>(m.columns);
  for (int64_t j = 0; j < m.columns; ++j) repeated[j] = values[j % m.C];
  return repeated;
}

// body(block's first row, rows, scratch of 3 rows of floats) over each slice, in parallel.
template <class Body>
void for_blocks(const ChannelMatrix& m, Exec& exec, const Body& body) {
  float* scratch = exec.scratch_array<float>(m.slices * 3 * m.columns);
  exec.parallel_for(m.slices, [&](int64_t slice) {
    for (int64_t r = m.begin(slice); r < m.end(slice); r += m.block_rows) {
      body(slice, r, std::min(m.block_rows, m.end(slice) - r), scratch + slice * 3 * m.columns);
    }
  });
}

// The sums of channel c from its columns in each slice, merged in order, and from the rest.
template <class Part, class Merge>
Part gather(const ChannelMatrix& m, const Part* parts, int64_t c, const Merge& merge) {
  Part total{};
  for (int64_t slice = 0; slice < m.slices; ++slice) {
    for (int64_t j = c; j < m.columns; j += m.C) merge(&total, parts[slice * m.columns + j]);
  }
  return total;
}

void column_statistics(const BatchNormDesc& d, const ChannelMatrix& m, const Coefficients& k, Exec& exec) {
  Statistics* parts = exec.scratch_array<Statistics>(m.slices * m.columns);
  std::fill_n(parts, m.slices * m.columns, Statistics{});
  for_blocks(m, exec, [&](int64_t slice, int64_t r, int64_t rows, float* scratch) {
    float *shift = scratch, *sums = shift + m.columns, *squares = sums + m.columns;
    kernels().column_moments(
        {in(d.x) + r * m.columns, nullptr, rows, m.columns, m.columns, shift, sums, squares});
    Statistics* mine = parts + slice * m.columns;
    for (int64_t j = 0; j < m.columns; ++j) mine[j].add(rows, {shift[j], sums[j], squares[j]});
  });
  for (int64_t j = 0; j < m.rest; ++j) parts[j].add(1, in(d.x)[m.rows * m.columns + j], 0);
  for_chunks(exec, d.C, kRowChunk / m.slices, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      finish_forward(
          d, c,
          gather(m, parts, c,
                 [](Statistics* total, const Statistics& s) { total->add(s.count, s.mean, s.squares); }),
          k);
    }
  });
}

// apply(first row, rows, columns): whole rows in parallel, then the rest as one short row.
template <class Apply>
void for_applied(const ChannelMatrix& m, Exec& exec, const Apply& apply) {
  const int64_t chunk = std::max<int64_t>(1, kCheapChunk / m.columns);
  exec.parallel_for((m.rows + chunk - 1) / chunk, [&](int64_t task) {
    apply(task * chunk, std::min(chunk, m.rows - task * chunk), m.columns);
  });
  if (m.rest) apply(m.rows, 1, m.rest);
}

void forward_columns(const BatchNormDesc& d, const Coefficients& k, Exec& exec) {
  const ChannelMatrix m(d.N * d.inner, d.C, ops_ukernels().lanes);
  if (d.training) {
    column_statistics(d, m, k, exec);
  } else {
    for (int64_t c = 0; c < d.C; ++c) finish_forward(d, c, {}, k);
  }
  const float *mean = repeat(k.mean, m, exec), *scale = repeat(k.scale, m, exec);
  const float* bias = repeat(k.bias, m, exec);
  for_applied(m, exec, [&](int64_t row, int64_t rows, int64_t columns) {
    const int64_t at = row * m.columns;
    kernels().column_affine(
        {in(d.x) + at, out(d.y) + at, rows, columns, mean, scale, bias, streams(d), d.relu != 0});
  });
}

void column_dots(const BatchNormDesc& d, const ChannelMatrix& m, const Coefficients& k, Exec& exec) {
  DoubleDots* parts = exec.scratch_array<DoubleDots>(m.slices * m.columns);
  std::fill_n(parts, m.slices * m.columns, DoubleDots{});
  const float* mean = repeat(in(d.save_mean), m, exec);
  for_blocks(m, exec, [&](int64_t slice, int64_t r, int64_t rows, float* scratch) {
    float *sums = scratch, *dots = sums + m.columns;
    const int64_t at = r * m.columns;
    kernels().column_dots({in(d.x) + at, in(d.grad_y) + at, rows, m.columns, m.columns,
                           const_cast<float*>(mean), sums, dots, gate(d, at)});
    DoubleDots* mine = parts + slice * m.columns;
    for (int64_t j = 0; j < m.columns; ++j) {
      mine[j].sum += sums[j];
      mine[j].dot += dots[j];
    }
  });
  for (int64_t j = 0; j < m.rest; ++j) {
    const int64_t at = m.rows * m.columns + j;
    const bool closed = d.relu && *gate(d, at) <= 0;
    const double grad = closed ? 0 : in(d.grad_y)[at], x = in(d.x)[at];
    parts[j].sum += grad;
    parts[j].dot += grad * (x - mean[j]);
  }
  for_chunks(exec, d.C, kRowChunk / m.slices, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const DoubleDots s = gather(m, parts, c, [](DoubleDots* total, const DoubleDots& part) {
        *total = {total->sum + part.sum, total->dot + part.dot};
      });
      finish_backward(d, c, s.sum, s.dot, k);
    }
  });
}

void backward_columns(const BatchNormDesc& d, const Coefficients& k, Exec& exec) {
  const ChannelMatrix m(d.N * d.inner, d.C, ops_ukernels().lanes);
  column_dots(d, m, k, exec);
  if (!present(d.grad_x)) return;
  if (!d.training) {
    std::fill_n(k.mean, d.C, 0.f);
    std::fill_n(k.bias, d.C, 0.f);
  }
  const float *mean = repeat(k.mean, m, exec), *scale = repeat(k.scale, m, exec);
  const float *slope = repeat(k.slope, m, exec), *bias = repeat(k.bias, m, exec);
  for_applied(m, exec, [&](int64_t row, int64_t rows, int64_t columns) {
    const int64_t at = row * m.columns;
    const float *grad = in(d.grad_y) + at, *x = in(d.x) + at;
    float* grad_x = out(d.grad_x) + at;
    d.training ? kernels().column_grad(
                     {x, grad, grad_x, rows, columns, mean, scale, slope, bias, streams(d), gate(d, at)})
               : kernels().column_affine({grad, grad_x, rows, columns, mean, scale, bias, streams(d)});
  });
}

}  // namespace

Ran cpu_batch_norm_forward(const BatchNormDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.C == 0) return Ran::kUnsupported;
  const Coefficients k(d.C, exec);
  d.format == Format::kNHWC ? forward_columns(d, k, exec) : forward_planes(d, k, exec);
  exec.ran(CNNEXT_KERNEL_NAME("batch_norm"));
  return Ran::kDone;
}

Ran cpu_batch_norm_backward(const BatchNormDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.C == 0) return Ran::kUnsupported;
  if (d.relu && !d.training) return Ran::kUnsupported;  // nobody is in a hurry there
  const Coefficients k(d.C, exec);
  d.format == Format::kNHWC ? backward_columns(d, k, exec) : backward_planes(d, k, exec);
  exec.ran(CNNEXT_KERNEL_NAME("batch_norm_grad"));
  return Ran::kDone;
}

}  // namespace cnnext
