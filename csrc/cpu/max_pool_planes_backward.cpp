// Planes: vectors along rows. Elements with equal remainders by the strides, a phase, have their windows at
// the same distances, so that a phase of many rows is one long run beside a run of windows. A vector may reach
// into the next row, or the next plane: as every code names an element of its own window's plane, it matches
// nothing there. See max_pool_grad.h.
#include <atomic>
#include <cstring>

#include "cpu/max_pool_grad.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 65536;  // elements of grad_x in a task
constexpr int64_t kBlockWindows = 4096;  // of a block, which stay in cache
constexpr int64_t kSlack = 64;          // what whole vectors may read beyond a run
constexpr int64_t kWideRow = 64;        // rows that fill vectors are written to grad_x at once

// A tap that meets the elements k, k + stride, ... along an axis: element i of them lies in window i + shift.
struct PhaseTap {
  int64_t tap, shift;
};

// The taps of each phase k of an axis, in the order of their windows.
class PhaseTable {
 public:
  PhaseTable(const PoolAxis& axis, Exec& exec)
      : phases(std::min(axis.stride, axis.size)),
        taps_(exec.scratch_array<PhaseTap>(axis.kernel)),
        first_(exec.scratch_array<int64_t>(phases + 1)) {
    int64_t count = 0;
    for (int64_t k = 0; k < phases; ++k) {
      first_[k] = count;
      const int64_t last = (axis.size - 1 - k) / axis.stride;
      for (int64_t t = axis.kernel - 1; t >= 0; --t) {
        const int64_t offset = k + axis.pad - t * axis.dilation, shift = offset / axis.stride;
        if (offset % axis.stride != 0 || shift >= axis.windows || shift + last < 0) continue;
        taps_[count++] = {t, shift};
        least = std::min(least, shift);
        most = std::max(most, shift);
      }
      most_taps = std::max(most_taps, count - first_[k]);
    }
    first_[phases] = count;
  }
  struct Range {
    const PhaseTap *begin_, *end_;
    const PhaseTap* begin() const { return begin_; }
    const PhaseTap* end() const { return end_; }
  };
  Range at(int64_t k) const { return {taps_ + first_[k], taps_ + first_[k + 1]}; }

  int64_t phases;
  int64_t least = 0, most = 0;  // shifts, and 0
  int64_t most_taps = 0;        // of a phase

 private:
  PhaseTap* taps_;
  int64_t* first_;
};

// Planes lie behind one another, and where each has as many rows of windows as rows of a phase, all of them
// are one tall plane.
struct Problem {
  const Pool2dDesc& d;
  TapSource source;
  TapRules rules;
  const MaxPoolGradUkernels& kernels;
  PhaseTable rows, columns;
  int64_t phase_rows;              // of a plane
  int64_t planes, plane_rows, P;   // after planes were joined: rows of a phase, rows of windows
  int64_t pitch;                   // from one row of windows to the next, in a strip at least
  int64_t block;                   // rows of a phase at a time
  bool in_place;                   // windows may be read where they are
  bool wide;

  Problem(const Pool2dDesc& desc, Exec& exec)
      : d(desc),
        source(desc),
        rules(desc, exec),
        kernels(ops_ukernels().max_pool_grad),
        rows({d.H, d.P, d.R, d.stride_h, d.pad_top, d.dilation_h}, exec),
        columns({d.W, d.Q, d.S, d.stride_w, d.pad_left, d.dilation_w}, exec),
        phase_rows(ceil_div(d.H, d.stride_h)) {
    const int64_t phase_columns = ceil_div(d.W, d.stride_w);
    const bool join = phase_rows == d.P && d.H == d.P * d.stride_h;
    planes = join ? 1 : d.N * d.C;
    plane_rows = join ? d.N * d.C * phase_rows : phase_rows;
    P = join ? d.N * d.C * d.P : d.P;
    pitch = std::max(d.Q, phase_columns);
    block = std::clamp<int64_t>(kBlockWindows / pitch, 1, plane_rows);
    in_place = source.stored() && pitch == d.Q && phase_rows <= d.P;
    wide = d.W >= kWideRow && d.stride_w <= 2;
  }

  int64_t blocks() const { return ceil_div(plane_rows, block); }
  int64_t strip_rows() const { return block + rows.most - rows.least; }
  // The lowest and the highest window that a run may read, from its first one on.
  int64_t reach_back() const { return rows.least * pitch + columns.least; }
  int64_t reach(int64_t count) const { return (count + rows.most) * pitch + columns.most + kSlack; }
};

class Planes {
 public:
  Planes(const Problem& problem, void* scratch) : p_(problem), d_(problem.d) {
    const int64_t strip = 2 * kSlack - p_.reach_back() + p_.reach(p_.block);
    const int64_t phases = p_.rows.phases * p_.columns.phases;
    most_terms_ = p_.rows.most_taps * p_.columns.most_taps;
    ScratchParts parts(scratch);
    strip_grad_ = parts.take<float>(strip);
    strip_taps_ = parts.take<uint8_t>(strip);
    converted_ = parts.take<uint8_t>(p_.source.stored() ? 0 : p_.strip_rows() * d_.Q);
    run_ = parts.take<float>(p_.block * p_.pitch * std::min<int64_t>(2, d_.stride_w));
    terms_ = parts.take<PoolTerm>(phases * most_terms_);
    num_terms_ = parts.take<int64_t>(phases);
    floats_ = parts.floats();
    if (!scratch) return;
    std::fill_n(strip_grad_, strip, 0.f);
    std::fill_n(strip_taps_, strip, kNoTapByte);
  }
  int64_t scratch_floats() const { return floats_; }

  // Block b of a plane's rows. False where a code is bad.
  bool run(int64_t plane, int64_t b) {
    const int64_t first = b * p_.block, count = std::min(p_.block, p_.plane_rows - first);
    if (!find_windows(plane, first, count)) return false;
    for (int64_t a = 0; a < p_.rows.phases; ++a) {
      for (int64_t k = 0; k < p_.columns.phases; ++k) list_terms(a, k);
      // Only the last row of a plane, which is the last of its block, may end before phase a.
      const int64_t begin = first * d_.stride_h + a, height = p_.planes == 1 ? d_.N * d_.C * d_.H : d_.H;
      const int64_t here = std::min(count, ceil_div(height - begin, d_.stride_h));
      phase(a, here, static_cast<float*>(d_.x.data) + (plane * d_.H + begin) * d_.W);
    }
    return true;
  }

 private:
  int64_t place(int64_t a, int64_t k) const { return a * p_.columns.phases + k; }

  void list_terms(int64_t a, int64_t k) {
    PoolTerm* out = terms_ + place(a, k) * most_terms_;
    int64_t count = 0;
    for (const PhaseTap& row : p_.rows.at(a)) {
      for (const PhaseTap& column : p_.columns.at(k)) {
        const int64_t at = row.shift * p_.pitch + column.shift;
        out[count++] = {grad_ + at, taps_ + at, static_cast<uint8_t>(row.tap * d_.S + column.tap)};
      }
    }
    num_terms_[place(a, k)] = count;
  }

  // Checks the windows of rows [from, to) of a plane, or of all joined ones.
  bool check(const uint8_t* taps, int64_t from, int64_t to) const {
    while (from < to) {
      const int64_t p = from % d_.P, rows = std::min(to - from, d_.P - p);
      if (!p_.rules.plane_rows(taps, p, rows)) return false;
      taps += rows * d_.Q;
      from += rows;
    }
    return true;
  }

  // Points grad_ and taps_ to row `first` of the plane's windows: in place, or in a strip.
  bool find_windows(int64_t plane, int64_t first, int64_t count) {
    const int64_t checked = first + count == p_.plane_rows ? p_.P : first + count;
    const float* grad = static_cast<const float*>(d_.y.data);
    const int64_t at = (plane * p_.P + first) * d_.Q;
    if (p_.in_place && at + p_.reach_back() >= 0 && at + p_.reach(count) <= d_.N * d_.C * d_.P * d_.Q) {
      grad_ = grad + at;
      taps_ = p_.source.plane_rows(plane, first, 0, nullptr);
      return check(taps_, first, checked);
    }
    const int64_t top = first + p_.rows.least, bottom = first + count + p_.rows.most;
    const int64_t from = std::max<int64_t>(top, 0), to = std::min(p_.P, bottom);
    grad_ = strip_grad_ + kSlack - p_.reach_back();
    taps_ = strip_taps_ + kSlack - p_.reach_back();
    const auto clear = [&](int64_t begin, int64_t end) {
      std::memset(strip_at(begin - first), kNoTapByte, (end - begin) * p_.pitch);
    };
    if (to <= from) {
      clear(top, bottom);
      return true;
    }
    const uint8_t* taps = p_.source.plane_rows(plane, from, to - from, converted_);
    clear(top, from);
    const int64_t to_strip = (from - first) * p_.pitch;
    p_.kernels.strip({grad + (plane * p_.P + from) * d_.Q, taps, to - from, d_.Q, p_.pitch,
                      strip_grad_ + kSlack - p_.reach_back() + to_strip, strip_at(from - first)});
    clear(to, bottom);
    const int64_t check_from = std::max(first, from);
    return check(taps + (check_from - from) * d_.Q, check_from, std::min(checked, to));
  }
  uint8_t* strip_at(int64_t row) const {
    return strip_taps_ + kSlack - p_.reach_back() + row * p_.pitch;
  }

  MaxPoolGradRow row_of(int64_t a, int64_t k, int64_t stride) const {
    MaxPoolGradRow row{};
    row.stride = stride;
    for (int64_t i = 0; i < stride && k + i < p_.columns.phases; ++i) {
      row.terms[i] = terms_ + place(a, k + i) * most_terms_;
      row.num_terms[i] = num_terms_[place(a, k + i)];
    }
    return row;
  }

  // Rows a, a + stride_h, ... of the block.
  void phase(int64_t a, int64_t rows, float* grad_x) const {
    const int64_t step = d_.stride_h * d_.W, together = d_.stride_w <= 2 ? d_.stride_w : 1;
    if (together == d_.stride_w && d_.stride_h == 1 && d_.W == p_.pitch * together) {  // rows follow one another
      run_row(row_of(a, 0, together), 0, rows * step, grad_x);
      return;
    }
    if (p_.wide) {
      for (int64_t i = 0; i < rows; ++i) run_row(row_of(a, 0, together), i, d_.W, grad_x + i * step);
      return;
    }
    for (int64_t k = 0; k < p_.columns.phases; k += together) {
      run_row(row_of(a, k, together), 0, rows * p_.pitch * together, run_);
      for (int64_t i = 0; i < rows; ++i) {
        const float* from = run_ + i * p_.pitch * together;
        float* to = grad_x + i * step;
        if (together == d_.stride_w) {
          std::copy_n(from, d_.W, to);
        } else {
          for (int64_t w = k; w < d_.W; w += d_.stride_w) to[w] = *from++;
        }
      }
    }
  }

  void run_row(MaxPoolGradRow row, int64_t i, int64_t width, float* grad_x) const {
    row.at = i * p_.pitch;
    row.width = width;
    row.grad_x = grad_x;
    p_.kernels.row(row);
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  int64_t most_terms_, floats_;
  const float* grad_ = nullptr;  // of the block's first row of windows
  const uint8_t* taps_ = nullptr;
  float *strip_grad_, *run_;
  uint8_t *strip_taps_, *converted_;
  PoolTerm* terms_;  // by phase of rows and of columns
  int64_t* num_terms_;
};

}  // namespace

bool max_pool_planes_backward(const Pool2dDesc& d, Exec& exec) {
  const Problem problem(d, exec);
  const int64_t items = problem.planes * problem.blocks();
  const int64_t per_task = std::max<int64_t>(1, kTaskInputs * items / (d.N * d.C * d.H * d.W));
  const int64_t floats = Planes(problem, nullptr).scratch_floats();
  std::atomic<bool> good{true};
  parallel_strands(exec, ceil_div(items, per_task), floats, [&](int64_t task, float* scratch) {
    Planes planes(problem, scratch);
    for (int64_t i = task * per_task; i < std::min(items, (task + 1) * per_task); ++i) {
      if (!planes.run(i / problem.blocks(), i % problem.blocks())) good = false;
    }
  });
  return good;
}

}  // namespace cnnext
