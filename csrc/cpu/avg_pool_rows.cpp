// Average pools of planes whose windows are more than a row apart: the rows of a window are summed first,
// then, with the row split by stride, its columns for many outputs at once.
#include "cpu/avg_pool.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

// A strand's row of sums, split by stride and padded with zeros, and the divisors of its outputs.
class PlaneRows {
 public:
  explicit PlaneRows(const AvgPool& problem)
      : p_(problem), d_(problem.d), taps_(AvgPool::taps_in_image(problem.rows, d_.P)) {
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
    sum_terms({column_terms_, nullptr, d_.S, d_.Q, 1.f, divisors_.of(row), y});
  }

 private:
  int64_t cut(float* scratch) {
    ScratchParts parts(scratch);
    row_terms_ = parts.take<const float*>(taps_);
    column_terms_ = parts.take<const float*>(d_.S);
    line_ = parts.take<float>(d_.W);
    divisors_.at(parts.take<float>(d_.Q));
    phases_ = parts.take<float>(d_.stride_w * phase_step_);
    return parts.floats();
  }

  const AvgPool& p_;
  const Pool2dDesc& d_;
  const int64_t taps_;
  int64_t phase_step_;
  const float **row_terms_, **column_terms_;
  float *line_, *phases_;
  AvgDivisors divisors_{p_};
};

}  // namespace

void avg_pool_rows_forward(const AvgPool& p, Exec& exec) {
  const Pool2dDesc& d = p.d;
  const int64_t rows = d.N * d.C * d.P;
  const int64_t group = std::clamp<int64_t>(kAvgTaskFloats * d.P / (d.H * d.W), 1, ceil_div(rows, 4));
  parallel_strands(exec, ceil_div(rows, group), PlaneRows(p).scratch_floats(),
                   [&](int64_t task, float* scratch) {
                     PlaneRows strip(p);
                     strip.start(scratch);
                     for (int64_t i = task * group; i < std::min(rows, (task + 1) * group); ++i) {
                       strip.row(p.x() + i / d.P * d.H * d.W, i % d.P, p.y_out() + i * d.Q);
                     }
                   });
}

}  // namespace cnnext
