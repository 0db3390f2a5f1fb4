// Depthwise on planes: vectors over columns. A task takes planes, or bands of their rows, one after another:
// the input goes into a strip in L1 with zeros where the padding is (columns apart by the stride in runs of
// their own), so that every output row is one run. Where a weight is not finite, zeros would not do, and the
// strip is read in rectangles that leave the padding out.
#include <algorithm>
#include <cstring>

#include "cpu/conv2d_k.h"
#include "cpu/depthwise_engines.h"
#include "cpu/depthwise_regions.h"
#include "cpu/depthwise_strip.h"
#include "cpu/strands.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kTasks = 64;              // aimed at, where the work is enough
constexpr int64_t kTaskFlops = 200000;      // some 5 us
constexpr int64_t kStripFloats = 6 * 1024;  // most of L1 is left to the output
constexpr int64_t kCols = 1024;             // longer rows are cut

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

class ColumnsDriver {
 public:
  ColumnsDriver(const ConvProblem& problem, Exec& exec)
      : p_(problem),
        kernels_(ukernels().depthwise),
        phases_(depthwise_phases(
            problem, exec.planning() || kernels_.finite(problem.weight, problem.groups * problem.num_taps))) {
    for (const DepthwisePhase& phase : phases_) {
      rows_ = std::max(rows_, phase.phase->rows);
      cols_ = std::max(cols_, phase.phase->cols);
      for (int64_t t = 0; t < phase.phase->num_taps; ++t) {
        min_dh_ = std::min(min_dh_, phase.phase->taps[t].dh);
        max_dh_ = std::max(max_dh_, phase.phase->taps[t].dh);
        min_dw_ = std::min(min_dw_, phase.phase->taps[t].dw);
        max_dw_ = std::max(max_dw_, phase.phase->taps[t].dw);
      }
    }
    if (min_dh_ > max_dh_) min_dh_ = max_dh_ = min_dw_ = max_dw_ = 0;  // no taps at all
    chunk_ = ceil_div(cols_, ceil_div(cols_, kCols));
    strip_ = DepthwiseStrip(chunk_, p_.step_w, max_dw_ - min_dw_ + 1);
    const int64_t fit = kStripFloats / strip_.row_floats - (max_dh_ - min_dh_);
    band_ = std::clamp<int64_t>(fit / p_.step_h, std::min<int64_t>(rows_, 8), rows_);
    band_ = ceil_div(rows_, ceil_div(rows_, band_));
    units_per_row_ = ceil_div(cols_, chunk_);
    units_ = p_.N * p_.groups * ceil_div(rows_, band_) * units_per_row_;
    exec.ran(kernels_.name_columns);
    set_taps();
  }

  int64_t units() const { return units_; }
  int64_t tasks() const {
    const int64_t wanted = static_cast<int64_t>(p_.flops / kTaskFlops);
    return std::min(units_, std::clamp<int64_t>(wanted, 1, kTasks));
  }
  int64_t strip_floats() const {
    const int64_t rows = (band_ - 1) * p_.step_h + max_dh_ - min_dh_ + 1;
    return ceil_div(rows * strip_.row_floats, 16) * 16;
  }
  int64_t scratch_floats() const {
    return strip_floats() + (p_.out_step_w > 1 ? p_.out_step_w * band_ * chunk_ : 0);
  }

  void unit(int64_t index, float* scratch) const {
    const int64_t col = index % units_per_row_ * chunk_, cols = std::min(chunk_, cols_ - col);
    index /= units_per_row_;
    const int64_t bands = ceil_div(rows_, band_);
    const int64_t row = index % bands * band_, rows = std::min(band_, rows_ - row), plane = index / bands;
    const float* in = p_.in + plane * p_.in_h * p_.in_w;
    strip_.fill(kernels_, in, p_.in_h, p_.in_w, row * p_.step_h + min_dh_,
                (rows - 1) * p_.step_h + max_dh_ - min_dh_ + 1, col * p_.step_w + min_dw_, scratch);
    float* out = scratch + strip_floats();
    for (size_t i = 0; i < phases_.size(); ++i) {
      run_phase(phases_[i], plane, row, rows, col, cols, scratch, out);
      const int64_t h0 = phases_[i].phase->h0;
      const bool rows_complete = i + 1 == phases_.size() || phases_[i + 1].phase->h0 != h0;
      if (p_.out_step_w > 1 && rows_complete) store_interleaved(plane, h0, row, rows, col, cols, out);
    }
    if (conv_activation_is_slow(p_.activation)) activate(plane, row, rows, col, cols);
  }

 private:
  void set_taps() {
    std::vector<int64_t> tap_at(static_cast<size_t>(p_.num_taps));
    for (int64_t t = 0; t < p_.num_taps; ++t) tap_at[static_cast<size_t>(p_.tap_place[t])] = t;
    for (DepthwisePhase& phase : phases_) {
      for (int64_t t = 0; t < phase.phase->num_taps; ++t) {
        const ConvTap& tap = phase.phase->taps[t];
        phase.tap_x.push_back((tap.dh - min_dh_) * strip_.row_floats + strip_.at(tap.dw - min_dw_));
        phase.tap_w.push_back(tap_at[static_cast<size_t>(tap.row)]);
      }
    }
  }

  void run_phase(const DepthwisePhase& phase, int64_t plane, int64_t row, int64_t rows, int64_t col,
                 int64_t cols, const float* strip, float* out) const {
    for (const DepthwiseSegment& all_rows : phase.rows) {
      const DepthwiseSegment r = clip(all_rows, row, row + rows);
      if (r.begin >= r.end) continue;
      for (const DepthwiseSegment& all_cols : phase.cols) {
        const DepthwiseSegment c = clip(all_cols, col, col + cols);
        if (c.begin < c.end) region(phase, r, c, plane, row, col, strip, out);
      }
    }
  }

  void region(const DepthwisePhase& phase, const DepthwiseSegment& rows, const DepthwiseSegment& cols,
              int64_t plane, int64_t row, int64_t col, const float* strip, float* out) const {
    DepthwiseArgs<float> args{};
    const int64_t first_tap = rows.tap_begin * phase.col_taps + cols.tap_begin, channel = plane % p_.groups;
    args.tap_rows = rows.tap_end - rows.tap_begin;
    args.tap_cols = cols.tap_end - cols.tap_begin;
    args.tap_step = phase.col_taps;
    args.tap_x = phase.tap_x.data() + first_tap;
    args.tap_w = phase.tap_w.data() + first_tap;
    args.lanes = cols.end - cols.begin;
    args.outer = 1;
    args.positions = rows.end - rows.begin;
    args.x = strip + (rows.begin - row) * p_.step_h * strip_.row_floats + cols.begin - col;
    args.x_step = p_.step_h * strip_.row_floats;
    if (p_.out_step_w > 1) {
      args.y = out + ((rows.begin - row) * p_.out_step_w + phase.phase->w0) * chunk_ + cols.begin - col;
      args.y_step = p_.out_step_w * chunk_;
    } else {
      args.y =
          p_.out + (plane * p_.out_h + phase.phase->h0 + rows.begin * p_.out_step_h) * p_.out_w + cols.begin;
      args.y_step = p_.out_step_h * p_.out_w;
    }
    args.w = p_.weight + channel * p_.group_stride;
    args.bias = p_.bias ? p_.bias + channel : nullptr;
    args.residual = p_.residual ? p_.residual - p_.out : 0;
    args.flags = conv_activation_flags(p_.activation);
    args.alpha = p_.alpha;
    kernels_.columns(args);
  }

  // Rows h0 + i * out_step_h, whose columns lie apart by their remainder, into the output.
  void store_interleaved(int64_t plane, int64_t h0, int64_t row, int64_t rows, int64_t col, int64_t cols,
                         const float* runs) const {
    const int64_t step = p_.out_step_w, first = col * step, n = std::min(cols * step, p_.out_w - first);
    for (int64_t i = 0; i < rows; ++i, runs += step * chunk_) {
      const int64_t h = h0 + (row + i) * p_.out_step_h;
      if (h >= p_.out_h) break;
      float* out = p_.out + (plane * p_.out_h + h) * p_.out_w + first;
      int64_t done = 0;
      if (step == 2) {
        kernels_.interleave(n / 2, runs, runs + chunk_, out);
        done = n / 2 * 2;
      }
      for (int64_t j = done; j < n; ++j) out[j] = runs[j % step * chunk_ + j / step];
    }
  }

  void activate(int64_t plane, int64_t row, int64_t rows, int64_t col, int64_t cols) const {
    const int64_t first = col * p_.out_step_w, n = std::min(cols * p_.out_step_w, p_.out_w - first);
    const int64_t end = std::min((row + rows) * p_.out_step_h, p_.out_h);
    for (int64_t h = row * p_.out_step_h; h < end; ++h) {
      conv_activate(p_.activation, p_.alpha, p_.out + (plane * p_.out_h + h) * p_.out_w + first, n);
    }
  }

  const ConvProblem& p_;
  const DepthwiseUkernels& kernels_;
  std::vector<DepthwisePhase> phases_;
  DepthwiseStrip strip_;
  int64_t rows_ = 0, cols_ = 0;  // of the longest phase
  int64_t min_dh_ = INT64_MAX, max_dh_ = INT64_MIN, min_dw_ = INT64_MAX, max_dw_ = INT64_MIN;
  int64_t band_, chunk_, units_per_row_, units_;
};

}  // namespace

void depthwise_columns_run(const ConvProblem& problem, Exec& exec) {
  const ColumnsDriver driver(problem, exec);
  const int64_t units = driver.units(), tasks = driver.tasks();
  parallel_strands(exec, tasks, driver.scratch_floats(), [&](int64_t task, float* scratch) {
    const int64_t end = units * (task + 1) / tasks;
    for (int64_t i = units * task / tasks; i < end; ++i) driver.unit(i, scratch);
  });
}

}  // namespace cnnext
