// Average pools, over windows and adaptive, and their gradients. Channels-last sums whole pixels; planes are
// summed in bands (avg_pool_bands.cpp) or row by row (avg_pool_rows.cpp), adaptive windows of planes, whose
// size varies, one by one.
#include "cpu/avg_pool.h"

#include "cpu/cpu.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTasks = 64;  // aimed at, where the work is enough

// Channels of a task, so that there are enough of them.
int64_t channel_block(const Pool2dDesc& d, int64_t rows) {
  const int64_t wanted = std::clamp<int64_t>(d.N * d.C * d.H * d.W / kAvgTaskFloats, 1, kTasks);
  const int64_t parts = std::min(ceil_div(wanted, rows), ceil_div(d.C, 64));
  return round_up(ceil_div(d.C, parts), 16);
}

// ---- channels-last ----

void pixels_forward(const AvgPool& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const int64_t block = channel_block(d, d.N * d.P), blocks = ceil_div(d.C, block);
  const int64_t most = AvgPool::taps_in_image(p.rows, d.P) * AvgPool::taps_in_image(p.columns, d.Q);
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

void pixels_backward(const AvgPool& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const AvgCovers rows(p.rows, d.P, d.H, exec), columns(p.columns, d.Q, d.W, exec);
  const int64_t most = rows.most() * columns.most();
  parallel_strands(exec, d.N * d.H, 3 * most + 2, [&](int64_t task, float* scratch) {
    const int64_t h = task % d.H, n = task / d.H;
    auto** const terms = reinterpret_cast<const float**>(scratch);
    float* const scales = scratch + 2 * most;
    SumTerms sum{terms, scales, 0, d.C, 1.f, nullptr, nullptr};
    for (int64_t w = 0; w < d.W; ++w) {
      sum.num_terms = 0;
      bool equal = true;
      for (const int64_t* row = rows.begin(h); row < rows.end(h); ++row) {
        for (const int64_t* column = columns.begin(w); column < columns.end(w); ++column) {
          scales[sum.num_terms] = p.divisor(p.rows[*row], p.columns[*column]);
          equal = equal && scales[sum.num_terms] == scales[0];
          terms[sum.num_terms++] = p.y() + ((n * d.P + *row) * d.Q + *column) * d.C;
        }
      }
      sum.scales = equal ? nullptr : scales;  // one division instead of one a term
      sum.divisor = equal && sum.num_terms ? scales[0] : 1.f;
      sum.y = p.x_out() + ((n * d.H + h) * d.W + w) * d.C;
      sum_terms(sum);
    }
  });
}

// ---- planes ----

// One window that is the whole plane: the global pool.
bool is_global(const AvgPool& p) {
  const Pool2dDesc& d = p.d;
  const WindowTaps &rows = p.rows[0].taps, &columns = p.columns[0].taps;
  return d.P == 1 && d.Q == 1 && rows.end - rows.begin == d.H && columns.end - columns.begin == d.W &&
         d.H * d.W <= kPlaneSumFloats;
}

// run(first plane, planes) in tasks.
template <class Run>
void for_planes(const Pool2dDesc& d, Exec& exec, const Run& run) {
  const int64_t planes = d.N * d.C, group = std::max<int64_t>(16, kAvgTaskFloats / (d.H * d.W));
  exec.parallel_for(ceil_div(planes, group),
                    [&](int64_t task) { run(task * group, std::min(group, planes - task * group)); });
}

void global_forward(const AvgPool& p, Exec& exec) {
  const int64_t size = p.d.H * p.d.W;
  const float divisor = p.divisor(p.rows[0], p.columns[0]);
  for_planes(p.d, exec, [&](int64_t plane, int64_t planes) {
    ops_ukernels().avg_pool.plane_means({p.x() + plane * size, planes, size, divisor, p.y_out() + plane});
  });
}

void global_backward(const AvgPool& p, Exec& exec) {
  const int64_t size = p.d.H * p.d.W;
  const float divisor = p.divisor(p.rows[0], p.columns[0]);
  for_planes(p.d, exec, [&](int64_t plane, int64_t planes) {
    ops_ukernels().avg_pool.plane_spread({p.y() + plane, planes, size, divisor, p.x_out() + plane * size});
  });
}

void planes_adaptive_forward(const AvgPool& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const int64_t planes = d.N * d.C, group = std::max<int64_t>(1, kAvgTaskFloats / (d.H * d.W));
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

// Each row of the gradient is spread over its windows' columns; a row of the image is the sum of those that
// hold it.
void planes_backward(const AvgPool& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const AvgCovers rows(p.rows, d.P, d.H, exec);
  const int64_t planes = d.N * d.C, group = std::max<int64_t>(1, kAvgTaskFloats / (d.H * d.W));
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
  const bool bands = d.stride_h == 1 && avg_pool_takes_bands(d);
  if (d.format == Format::kNCHW && !adaptive && d.stride_w > kAvgMaxStride) return Ran::kUnsupported;
  const AvgPool problem(d, adaptive, exec);
  if (d.format == Format::kNHWC)
    pixels_forward(problem, exec);
  else if (is_global(problem))
    global_forward(problem, exec);
  else if (adaptive)
    planes_adaptive_forward(problem, exec);
  else
    bands ? avg_pool_bands_forward(problem, exec) : avg_pool_rows_forward(problem, exec);
  exec.ran(name);
  return Ran::kDone;
}

Ran backward(const Pool2dDesc& d, bool adaptive, const char* name, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || numel(d.x) == 0 || numel(d.y) == 0) return Ran::kUnsupported;
  // Far more rows out than in: what they are spread to would be larger than both images.
  const bool apart = adaptive || (d.R <= d.stride_h && d.S <= d.stride_w);
  if (d.format == Format::kNCHW && (apart ? d.P > 4 * d.H : !avg_pool_takes_bands(d)))
    return Ran::kUnsupported;
  const AvgPool problem(d, adaptive, exec);
  if (d.format == Format::kNHWC)
    pixels_backward(problem, exec);
  else if (is_global(problem))
    global_backward(problem, exec);
  else if (apart)
    planes_backward(problem, exec);
  else
    avg_pool_bands_backward(problem, exec);
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
