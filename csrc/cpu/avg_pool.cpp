// Average pools, over windows and adaptive, and their gradients. Channels-last sums whole pixels. Planes sum
// the rows of a window first, then, with the row split by stride, its columns for many outputs at once;
// adaptive windows, whose size varies, are summed one by one.
#include <algorithm>

#include "cpu/cpu.h"
#include "cpu/ops_ukernels.h"
#include "cpu/pool_tables.h"
#include "cpu/ref/avg_window.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTasks = 64;            // aimed at, where the work is enough
constexpr int64_t kTaskFloats = 1 << 14;  // read by a task, at least
constexpr int64_t kMaxStride = 16;        // planes: a row is split into as many

// The windows of both axes, and for each element the windows that hold it.
struct Problem {
  const Pool2dDesc& d;
  const AvgWindows windows;
  AvgTaps *rows, *columns;

  Problem(const Pool2dDesc& desc, bool adaptive, Exec& exec)
      : d(desc),
        windows{desc, adaptive},
        rows(exec.scratch_array<AvgTaps>(desc.P)),
        columns(exec.scratch_array<AvgTaps>(desc.Q)) {
    for (int64_t p = 0; p < d.P; ++p) rows[p] = windows.row(p);
    for (int64_t q = 0; q < d.Q; ++q) columns[q] = windows.column(q);
  }

  const float* x() const { return static_cast<const float*>(d.x.data); }
  const float* y() const { return static_cast<const float*>(d.y.data); }
  float* x_out() const { return static_cast<float*>(d.x.data); }
  float* y_out() const { return static_cast<float*>(d.y.data); }

  // 1 for a window without taps: its sum is 0.
  float divisor(const AvgTaps& row, const AvgTaps& column) const {
    const double value = windows.divisor(row, column);
    return value != 0 ? static_cast<float>(value) : 1.f;
  }
  static int64_t taps_in_image(const AvgTaps* table, int64_t count) {
    int64_t most = 0;
    for (int64_t i = 0; i < count; ++i) most = std::max(most, table[i].taps.end - table[i].taps.begin);
    return most;
  }
};

void sum_terms(const SumTerms& terms) { ops_ukernels().avg_pool.sum_terms(terms); }

// The windows that hold each element along an axis, in order.
class Covers {
 public:
  Covers(const AvgTaps* windows, int64_t count, int64_t size, Exec& exec)
      : first_(exec.scratch_array<int64_t>(size + 1)) {
    std::fill_n(first_, size + 1, 0);
    for (int64_t w = 0; w < count; ++w) each(windows[w].taps, [&](int64_t at) { ++first_[at + 1]; });
    for (int64_t i = 0; i < size; ++i) {
      most_ = std::max(most_, first_[i + 1]);
      first_[i + 1] += first_[i];
    }
    list_ = exec.scratch_array<int64_t>(first_[size]);
    auto* const next = exec.scratch_array<int64_t>(size);
    std::copy_n(first_, size, next);
    for (int64_t w = 0; w < count; ++w) each(windows[w].taps, [&](int64_t at) { list_[next[at]++] = w; });
  }

  const int64_t* begin(int64_t i) const { return list_ + first_[i]; }
  const int64_t* end(int64_t i) const { return list_ + first_[i + 1]; }
  int64_t most() const { return most_; }

 private:
  template <class Body>
  static void each(const WindowTaps& taps, const Body& body) {
    for (int64_t t = taps.begin; t < taps.end; ++t) body(taps.at(t));
  }
  int64_t *first_, *list_;
  int64_t most_ = 0;
};

// Channels of a task, so that there are enough of them.
int64_t channel_block(const Pool2dDesc& d, int64_t rows) {
  const int64_t wanted = std::clamp<int64_t>(d.N * d.C * d.H * d.W / kTaskFloats, 1, kTasks);
  const int64_t parts = std::min(ceil_div(wanted, rows), ceil_div(d.C, 64));
  return round_up(ceil_div(d.C, parts), 16);
}

// ---- channels-last ----

void pixels_forward(const Problem& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const int64_t block = channel_block(d, d.N * d.P), blocks = ceil_div(d.C, block);
  const int64_t most = Problem::taps_in_image(p.rows, d.P) * Problem::taps_in_image(p.columns, d.Q);
  parallel_strands(exec, d.N * d.P * blocks, 2 * most, [&](int64_t task, float* scratch) {
    const int64_t c = task % blocks * block, row = task / blocks % d.P, n = task / blocks / d.P;
    auto** const terms = reinterpret_cast<const float**>(scratch);
    SumTerms sum{terms, nullptr, 0, std::min(block, d.C - c), 1.f, nullptr, nullptr};
    const WindowTaps& rows = p.rows[row].taps;
    for (int64_t q = 0; q < d.Q; ++q) {
      const WindowTaps& columns = p.columns[q].taps;
      sum.num_terms = 0;
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        const float* line = p.x() + (n * d.H + rows.at(r)) * d.W * d.C + c;
        for (int64_t s = columns.begin; s < columns.end; ++s) {
          terms[sum.num_terms++] = line + columns.at(s) * d.C;
        }
      }
      sum.divisor = p.divisor(p.rows[row], p.columns[q]);
      sum.y = p.y_out() + ((n * d.P + row) * d.Q + q) * d.C + c;
      sum_terms(sum);
    }
  });
}

void pixels_backward(const Problem& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const Covers rows(p.rows, d.P, d.H, exec), columns(p.columns, d.Q, d.W, exec);
  const int64_t most = rows.most() * columns.most();
  parallel_strands(exec, d.N * d.H, 3 * most + 2, [&](int64_t task, float* scratch) {
    const int64_t h = task % d.H, n = task / d.H;
    auto** const terms = reinterpret_cast<const float**>(scratch);
    float* const scales = scratch + 2 * most;
    SumTerms sum{terms, scales, 0, d.C, 1.f, nullptr, nullptr};
    for (int64_t w = 0; w < d.W; ++w) {
      sum.num_terms = 0;
      for (const int64_t* row = rows.begin(h); row < rows.end(h); ++row) {
        for (const int64_t* column = columns.begin(w); column < columns.end(w); ++column) {
          scales[sum.num_terms] = p.divisor(p.rows[*row], p.columns[*column]);
          terms[sum.num_terms++] = p.y() + ((n * d.P + *row) * d.Q + *column) * d.C;
        }
      }
      sum.y = p.x_out() + ((n * d.H + h) * d.W + w) * d.C;
      sum_terms(sum);
    }
  });
}

// ---- planes ----

// One window that is the whole plane: the global pool.
bool is_global(const Problem& p) {
  const Pool2dDesc& d = p.d;
  const WindowTaps &rows = p.rows[0].taps, &columns = p.columns[0].taps;
  return d.P == 1 && d.Q == 1 && rows.end - rows.begin == d.H && columns.end - columns.begin == d.W &&
         d.H * d.W <= kPlaneSumFloats;
}

// run(first plane, planes) in tasks.
template <class Run>
void for_planes(const Pool2dDesc& d, Exec& exec, const Run& run) {
  const int64_t planes = d.N * d.C, group = std::max<int64_t>(16, kTaskFloats / (d.H * d.W));
  exec.parallel_for(ceil_div(planes, group),
                    [&](int64_t task) { run(task * group, std::min(group, planes - task * group)); });
}

void global_forward(const Problem& p, Exec& exec) {
  const int64_t size = p.d.H * p.d.W;
  const float divisor = p.divisor(p.rows[0], p.columns[0]);
  for_planes(p.d, exec, [&](int64_t plane, int64_t planes) {
    ops_ukernels().avg_pool.plane_means({p.x() + plane * size, planes, size, divisor, p.y_out() + plane});
  });
}

void global_backward(const Problem& p, Exec& exec) {
  const int64_t size = p.d.H * p.d.W;
  const float divisor = p.divisor(p.rows[0], p.columns[0]);
  for_planes(p.d, exec, [&](int64_t plane, int64_t planes) {
    ops_ukernels().avg_pool.plane_spread({p.y() + plane, planes, size, divisor, p.x_out() + plane * size});
  });
}

void planes_adaptive_forward(const Problem& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const int64_t planes = d.N * d.C, group = std::max<int64_t>(1, kTaskFloats / (d.H * d.W));
  exec.parallel_for(ceil_div(planes, group), [&](int64_t task) {
    for (int64_t plane = task * group; plane < std::min(planes, (task + 1) * group); ++plane) {
      float* y = p.y_out() + plane * d.P * d.Q;
      for (int64_t row = 0; row < d.P; ++row) {
        const WindowTaps& rows = p.rows[row].taps;
        for (int64_t q = 0; q < d.Q; ++q) {
          const WindowTaps& columns = p.columns[q].taps;
          const float* window = p.x() + (plane * d.H + rows.start) * d.W + columns.start;
          const float sum =
              ops_ukernels().channel.run_sum({window, nullptr, nullptr, rows.end, d.W, columns.end, false});
          *y++ = sum / p.divisor(p.rows[row], p.columns[q]);
        }
      }
    }
  });
}

// A strand's row of sums, split by stride and padded with zeros, and the divisors of its outputs.
class PlaneRows {
 public:
  explicit PlaneRows(const Problem& problem)
      : p_(problem), d_(problem.d), taps_(Problem::taps_in_image(problem.rows, d_.P)) {
    const int64_t last = d_.Q + (d_.S - 1) * d_.dilation_w / d_.stride_w;
    phase_step_ = round_up(std::max(last, (d_.W + d_.pad_left) / d_.stride_w + 1), 16);
  }

  int64_t scratch_floats() { return cut(nullptr); }

  void start(float* scratch) {
    cut(scratch);
    std::fill_n(phases_, d_.stride_w * phase_step_, 0.f);  // the padding stays
    for (int64_t s = 0; s < d_.S; ++s) {
      const int64_t at = s * d_.dilation_w;
      column_terms_[s] = phases_ + at % d_.stride_w * phase_step_ + at / d_.stride_w;
    }
    counted_ = -1;
  }

  void row(const float* plane, int64_t row, float* y) {
    const AvgTaps& window = p_.rows[row];
    int64_t count = 0;
    for (int64_t r = window.taps.begin; r < window.taps.end; ++r) {
      row_terms_[count++] = plane + window.taps.at(r) * d_.W;
    }
    const float* line = count == 1 ? row_terms_[0] : line_;
    if (count != 1) sum_terms({row_terms_, nullptr, count, d_.W, 1.f, nullptr, line_});
    ops_ukernels().max_pool.strip({line, d_.W, d_.pad_left, d_.stride_w, phases_, phase_step_});
    if (counted_ != window.counted) {
      counted_ = window.counted;
      for (int64_t q = 0; q < d_.Q; ++q) divisors_[q] = p_.divisor(window, p_.columns[q]);
    }
    sum_terms({column_terms_, nullptr, d_.S, d_.Q, 1.f, divisors_, y});
  }

 private:
  int64_t cut(float* scratch) {
    ScratchParts parts(scratch);
    row_terms_ = parts.take<const float*>(taps_);
    column_terms_ = parts.take<const float*>(d_.S);
    line_ = parts.take<float>(d_.W);
    divisors_ = parts.take<float>(d_.Q);
    phases_ = parts.take<float>(d_.stride_w * phase_step_);
    return parts.floats();
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  const int64_t taps_;
  int64_t phase_step_, counted_ = -1;
  const float **row_terms_, **column_terms_;
  float *line_, *divisors_, *phases_;
};

void planes_forward(const Problem& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const int64_t rows = d.N * d.C * d.P;
  const int64_t group = std::clamp<int64_t>(kTaskFloats * d.P / (d.H * d.W), 1, ceil_div(rows, 4));
  parallel_strands(exec, ceil_div(rows, group), PlaneRows(p).scratch_floats(),
                   [&](int64_t task, float* scratch) {
                     PlaneRows strip(p);
                     strip.start(scratch);
                     for (int64_t i = task * group; i < std::min(rows, (task + 1) * group); ++i) {
                       strip.row(p.x() + i / d.P * d.H * d.W, i % d.P, p.y_out() + i * d.Q);
                     }
                   });
}

// Each row of the gradient is spread over its windows' columns; a row of the image is the sum of those that
// hold it.
void planes_backward(const Problem& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const Covers rows(p.rows, d.P, d.H, exec);
  const int64_t planes = d.N * d.C, group = std::max<int64_t>(1, kTaskFloats / (d.H * d.W));
  const int64_t pointers = 2 * round_up(rows.most(), 8);
  parallel_strands(exec, ceil_div(planes, group), pointers + d.P * d.W, [&](int64_t task, float* scratch) {
    auto** const terms = reinterpret_cast<const float**>(scratch);
    float* const spread = scratch + pointers;
    for (int64_t plane = task * group; plane < std::min(planes, (task + 1) * group); ++plane) {
      std::fill_n(spread, d.P * d.W, 0.f);
      const float* y = p.y() + plane * d.P * d.Q;
      for (int64_t row = 0; row < d.P; ++row) {
        float* const line = spread + row * d.W;
        for (int64_t q = 0; q < d.Q; ++q) {
          const WindowTaps& columns = p.columns[q].taps;
          const float share = *y++ / p.divisor(p.rows[row], p.columns[q]);
          for (int64_t s = columns.begin; s < columns.end; ++s) line[columns.at(s)] += share;
        }
      }
      for (int64_t h = 0; h < d.H; ++h) {
        int64_t count = 0;
        for (const int64_t* row = rows.begin(h); row < rows.end(h); ++row) {
          terms[count++] = spread + *row * d.W;
        }
        sum_terms({terms, nullptr, count, d.W, 1.f, nullptr, p.x_out() + (plane * d.H + h) * d.W});
      }
    }
  });
}

Ran forward(const Pool2dDesc& d, bool adaptive, const char* name, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || numel(d.x) == 0 || numel(d.y) == 0) return Ran::kUnsupported;
  if (d.format == Format::kNCHW && !adaptive && d.stride_w > kMaxStride) return Ran::kUnsupported;
  const Problem problem(d, adaptive, exec);
  if (d.format == Format::kNHWC)
    pixels_forward(problem, exec);
  else if (is_global(problem))
    global_forward(problem, exec);
  else if (adaptive)
    planes_adaptive_forward(problem, exec);
  else
    planes_forward(problem, exec);
  exec.ran(name);
  return Ran::kDone;
}

Ran backward(const Pool2dDesc& d, bool adaptive, const char* name, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || numel(d.x) == 0 || numel(d.y) == 0) return Ran::kUnsupported;
  // Far more rows out than in: what they are spread to would be larger than both images.
  if (d.format == Format::kNCHW && d.P > 4 * d.H) return Ran::kUnsupported;
  const Problem problem(d, adaptive, exec);
  if (d.format == Format::kNHWC)
    pixels_backward(problem, exec);
  else if (is_global(problem))
    global_backward(problem, exec);
  else
    planes_backward(problem, exec);
  exec.ran(name);
  return Ran::kDone;
}

}  // namespace

Ran cpu_avg_pool2d_forward(const Pool2dDesc& d, Exec& exec) {
  return forward(d, false, CNNEXT_KERNEL_NAME("avg_pool2d_forward"), exec);
}
Ran cpu_avg_pool2d_backward(const Pool2dDesc& d, Exec& exec) {
  return backward(d, false, CNNEXT_KERNEL_NAME("avg_pool2d_backward"), exec);
}
Ran cpu_adaptive_avg_pool2d_forward(const Pool2dDesc& d, Exec& exec) {
  return forward(d, true, CNNEXT_KERNEL_NAME("adaptive_avg_pool2d_forward"), exec);
}
Ran cpu_adaptive_avg_pool2d_backward(const Pool2dDesc& d, Exec& exec) {
  return backward(d, true, CNNEXT_KERNEL_NAME("adaptive_avg_pool2d_backward"), exec);
}

}  // namespace cnnext
