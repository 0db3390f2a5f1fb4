// Max-pool's backward by gathering: each element of grad_x sums the windows whose argmax it is, in row-major
// order, so nothing is scattered and every element is written once, by its owner.
//
// Codes come from outside. A code that names an element of its window is met exactly once; so where fewer are
// met than there are, some are wrong or (plane indices only) name an element beyond their window, and ref,
// which scatters and checks each, takes the call.
#include <atomic>

#include "cpu/cpu.h"
#include "cpu/ops_ukernels.h"
#include "cpu/ref/ref.h"
#include "cpu/ref/window.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 131072;  // elements of grad_x in a task

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One window along an axis that covers an element, and by which of its taps.
struct Cover {
  int64_t window, tap;
};

// The windows along one axis that have a tap at `place`, in order. At most limit(...) of them.
int covers(int64_t place, int64_t stride, int64_t pad, int64_t dilation, int64_t kernel, int64_t windows,
           Cover* out) {
  const int64_t reach = (kernel - 1) * dilation, at = place + pad;
  int count = 0;
  for (int64_t w = at > reach ? ceil_div(at - reach, stride) : 0; w <= at / stride && w < windows; ++w) {
    const int64_t offset = at - w * stride;
    if (offset % dilation == 0) out[count++] = {w, offset / dilation};
  }
  return count;
}
int64_t most_covers(int64_t stride, int64_t dilation, int64_t kernel) {
  return (kernel - 1) * dilation / stride + 1;
}

struct Counts {
  std::atomic<int64_t> named{0}, met{0};
};

// Rows of the pooled side in a ring: the codes in 32 bits, and what else a layout keeps of them.
class Problem {
 public:
  explicit Problem(const Pool2dDesc& desc)
      : d(desc),
        kernels(ops_ukernels().max_pool),
        plane_codes(desc.index_kind == CNNEXT_INDEX_PLANE),
        code_bytes(dtype_size(desc.index_dtype)),
        row_covers(most_covers(desc.stride_h, desc.dilation_h, desc.R)),
        column_covers(most_covers(desc.stride_w, desc.dilation_w, desc.S)),
        ring(std::min(desc.P, row_covers)) {}

  const Pool2dDesc& d;
  const MaxPoolUkernels& kernels;
  bool plane_codes;
  int64_t code_bytes;
  int64_t row_covers, column_covers;
  int64_t ring;  // windows' rows that one image row can meet

  float* grad_x() const { return static_cast<float*>(d.x.data); }
  const float* grad_y() const { return static_cast<const float*>(d.y.data); }
  const void* codes(int64_t at) const { return static_cast<const char*>(d.indices.data) + at * code_bytes; }

  int rows_at(int64_t h, Cover* out) const {
    return covers(h, d.stride_h, d.pad_top, d.dilation_h, d.R, d.P, out);
  }
  int columns_at(int64_t w, Cover* out) const {
    return covers(w, d.stride_w, d.pad_left, d.dilation_w, d.S, d.Q, out);
  }
  // What widen gives for a tap.
  int32_t tap(int64_t r, int64_t s) const {
    const int64_t code = plane_codes ? r * d.dilation_h * d.W + s * d.dilation_w : r * d.S + s;
    return static_cast<int32_t>(code + 1);
  }
  // The plane index of the window's corner, which may lie in the padding; 0 where codes are taps.
  int64_t corner(int64_t p, int64_t q) const {
    if (!plane_codes) return 0;
    return (p * d.stride_h - d.pad_top) * d.W + q * d.stride_w - d.pad_left;
  }
  // The codes of window row p are counted by the task that has its first row in the image.
  bool counts_here(int64_t p, int64_t begin, int64_t end) const {
    const WindowTaps rows = window_taps(p, d.stride_h, d.pad_top, d.dilation_h, d.R, d.H);
    const int64_t first = rows.begin < rows.end ? rows.at(rows.begin) : 0;
    return first >= begin && first < end;
  }
  // Whether some window row has no tap in the image: its codes are met by nobody, and ref must see them.
  bool has_empty_rows() const {
    for (int64_t p = 0; p < d.P; ++p) {
      const WindowTaps rows = window_taps(p, d.stride_h, d.pad_top, d.dilation_h, d.R, d.H);
      if (rows.begin == rows.end) return true;
    }
    return false;
  }
};

// ---- channels-last ----

class Pixels {
 public:
  Pixels(const Problem& problem, void* scratch) : p_(problem), d_(problem.d) {
    ScratchParts parts(scratch);
    row_ = d_.Q * d_.C;
    codes_ = parts.take<int32_t>(p_.ring * row_);
    held_ = parts.take<int64_t>(p_.ring);
    rows_ = parts.take<Cover>(p_.row_covers);
    columns_ = parts.take<Cover>(p_.column_covers);
    terms_ = parts.take<PoolTerm>(p_.row_covers * p_.column_covers);
    floats_ = parts.floats();
  }
  int64_t scratch_floats() const { return floats_; }

  void run(int64_t n, int64_t begin, int64_t end, Counts* counts) {
    std::fill_n(held_, p_.ring, int64_t{-1});
    named_ = met_ = 0;
    for (int64_t h = begin; h < end; ++h) {
      num_rows_ = p_.rows_at(h, rows_);
      for (int i = 0; i < num_rows_; ++i) hold(n, rows_[i].window, begin, end);
      for (int64_t k = 0; k < std::min(d_.stride_w, d_.W); ++k) residue(n, h, k);
    }
    counts->named += named_;
    counts->met += met_;
  }

 private:
  void hold(int64_t n, int64_t p, int64_t begin, int64_t end) {
    const int64_t slot = p % p_.ring;
    if (held_[slot] == p) return;
    held_[slot] = p;
    const int64_t at = (n * d_.P + p) * row_;
    int32_t* out = codes_ + slot * row_;
    int64_t named = 0;
    if (p_.plane_codes) {
      for (int64_t q = 0; q < d_.Q; ++q) {
        named += p_.kernels.widen(p_.codes(at + q * d_.C), d_.index_dtype, d_.C, p_.corner(p, q), 0,
                                  out + q * d_.C);
      }
    } else {
      named = p_.kernels.widen(p_.codes(at), d_.index_dtype, row_, 0, 0, out);
    }
    if (p_.counts_here(p, begin, end)) named_ += named;
  }

  // The pixels k, k + stride, ... of row h. Between the first and the last that all their windows cover they
  // share their terms.
  void residue(int64_t n, int64_t h, int64_t k) {
    const int64_t sw = d_.stride_w, count = (d_.W - 1 - k) / sw + 1;
    const int64_t most = (d_.S - 1) * d_.dilation_w;
    const int64_t begin = std::min(count, ceil_div(std::max<int64_t>(most - k - d_.pad_left, 0), sw));
    const int64_t last = (d_.Q - 1) * sw - k - d_.pad_left;  // in pixels of the row
    const int64_t end = std::clamp(last < 0 ? 0 : last / sw + 1, begin, count);
    for (int64_t i = 0; i < begin; ++i) pixels(n, h, k + i * sw, 1);
    if (end > begin) pixels(n, h, k + begin * sw, end - begin);
    for (int64_t i = end; i < count; ++i) pixels(n, h, k + i * sw, 1);
  }

  void pixels(int64_t n, int64_t h, int64_t w, int64_t count) {
    const int num_columns = p_.columns_at(w, columns_);
    int64_t terms = 0;
    for (int i = 0; i < num_rows_; ++i) {
      const float* grad = p_.grad_y() + (n * d_.P + rows_[i].window) * row_;
      const int32_t* codes = codes_ + rows_[i].window % p_.ring * row_;
      for (int j = 0; j < num_columns; ++j) {
        const int64_t at = columns_[j].window * d_.C;
        terms_[terms++] = {grad + at, codes + at, p_.tap(rows_[i].tap, columns_[j].tap)};
      }
    }
    float* out = p_.grad_x() + ((n * d_.H + h) * d_.W + w) * d_.C;
    met_ += p_.kernels.grad_pixels({terms_, terms, count, d_.C, out, d_.stride_w * d_.C});
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  int64_t row_, floats_;
  int64_t named_ = 0, met_ = 0;
  int num_rows_ = 0;
  int32_t* codes_;
  int64_t* held_;
  Cover *rows_, *columns_;
  PoolTerm* terms_;
};

void run_pixels(const Problem& problem, Exec& exec, Counts* counts) {
  const Pool2dDesc& d = problem.d;
  const int64_t rows_per_task = std::clamp<int64_t>(kTaskInputs / (d.W * d.C), 1, d.H);
  const int64_t blocks = ceil_div(d.H, rows_per_task);
  const int64_t floats = Pixels(problem, nullptr).scratch_floats();
  parallel_strands(exec, d.N * blocks, floats, [&](int64_t task, float* scratch) {
    const int64_t begin = task % blocks * rows_per_task;
    Pixels(problem, scratch).run(task / blocks, begin, std::min(d.H, begin + rows_per_task), counts);
  });
}

// ---- planes ----

// A tap of the windows that start at one phase of the image's columns: element i of the phase meets window
// i + shift.
struct PhaseTap {
  int64_t tap, shift;
};

class Planes {
 public:
  Planes(const Problem& problem, void* scratch) : p_(problem), d_(problem.d) {
    // Elements left of the first window and right of the last one find codes 0 there.
    front_ = round_up((d_.S - 1) * d_.dilation_w / d_.stride_w + 1, 16);
    strip_ = round_up(front_ + std::max(d_.Q, (d_.W - 1 + d_.pad_left) / d_.stride_w + 1), 16);
    ScratchParts parts(scratch);
    codes_ = parts.take<int32_t>(p_.ring * strip_);
    grads_ = parts.take<float>(p_.ring * strip_);
    row_ = parts.take<float>(d_.W);
    held_ = parts.take<int64_t>(p_.ring);
    rows_ = parts.take<Cover>(p_.row_covers);
    phase_taps_ = parts.take<PhaseTap>(d_.S);
    for (auto& terms : terms_) terms = parts.take<PoolTerm>(p_.row_covers * d_.S);
    floats_ = parts.floats();
    if (!scratch) return;
    std::fill_n(codes_, p_.ring * strip_, 0);
    std::fill_n(grads_, p_.ring * strip_, 0.f);
  }
  int64_t scratch_floats() const { return floats_; }

  void run(int64_t plane, int64_t begin, int64_t end, Counts* counts) {
    std::fill_n(held_, p_.ring, int64_t{-1});
    named_ = met_ = 0;
    for (int64_t h = begin; h < end; ++h) {
      num_rows_ = p_.rows_at(h, rows_);
      for (int i = 0; i < num_rows_; ++i) hold(plane, rows_[i].window, begin, end);
      float* out = p_.grad_x() + (plane * d_.H + h) * d_.W;
      if (d_.stride_w > 2) {
        phases(out);
        continue;
      }
      MaxPoolGradRow row{{terms_[0], terms_[1]}, {0, 0}, d_.stride_w, d_.W, out};
      for (int64_t k = 0; k < d_.stride_w; ++k) row.num_terms[k] = list_terms(k, terms_[k]);
      met_ += p_.kernels.grad_row(row);
    }
    counts->named += named_;
    counts->met += met_;
  }

 private:
  void hold(int64_t plane, int64_t p, int64_t begin, int64_t end) {
    const int64_t slot = p % p_.ring;
    if (held_[slot] == p) return;
    held_[slot] = p;
    const int64_t at = (plane * d_.P + p) * d_.Q, to = slot * strip_ + front_;
    const int64_t named =
        p_.kernels.widen(p_.codes(at), d_.index_dtype, d_.Q, p_.corner(p, 0), d_.stride_w, codes_ + to);
    std::copy_n(p_.grad_y() + at, d_.Q, grads_ + to);
    if (p_.counts_here(p, begin, end)) named_ += named;
  }

  // The terms of elements k, k + stride, ... of the row, in the order of their windows.
  int64_t list_terms(int64_t k, PoolTerm* out) {
    int64_t taps = 0, terms = 0;
    for (int64_t s = d_.S - 1; s >= 0; --s) {
      const int64_t offset = k + d_.pad_left - s * d_.dilation_w;
      if (offset % d_.stride_w != 0) continue;
      const int64_t shift = offset / d_.stride_w;
      if (shift < d_.Q) phase_taps_[taps++] = {s, shift};
    }
    for (int i = 0; i < num_rows_; ++i) {
      const int64_t base = rows_[i].window % p_.ring * strip_ + front_;
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t at = base + phase_taps_[t].shift;
        out[terms++] = {grads_ + at, codes_ + at, p_.tap(rows_[i].tap, phase_taps_[t].tap)};
      }
    }
    return terms;
  }

  // Strides above 2: phase by phase through a row of scratch.
  void phases(float* out) {
    for (int64_t k = 0; k < std::min(d_.stride_w, d_.W); ++k) {
      const int64_t count = (d_.W - 1 - k) / d_.stride_w + 1;
      const MaxPoolGradRow row{{terms_[0], nullptr}, {list_terms(k, terms_[0]), 0}, 1, count, row_};
      met_ += p_.kernels.grad_row(row);
      for (int64_t i = 0; i < count; ++i) out[k + i * d_.stride_w] = row_[i];
    }
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  int64_t front_, strip_, floats_;
  int64_t named_ = 0, met_ = 0;
  int num_rows_ = 0;
  int32_t* codes_;
  float *grads_, *row_;
  int64_t* held_;
  Cover* rows_;
  PhaseTap* phase_taps_;
  PoolTerm* terms_[2];
};

void run_planes(const Problem& problem, Exec& exec, Counts* counts) {
  const Pool2dDesc& d = problem.d;
  const int64_t planes = d.N * d.C;
  const int64_t planes_per_task = std::clamp<int64_t>(kTaskInputs / (d.H * d.W), 1, planes);
  const int64_t rows_per_task = std::clamp<int64_t>(kTaskInputs / d.W, 1, d.H);
  const int64_t groups = ceil_div(planes, planes_per_task), blocks = ceil_div(d.H, rows_per_task);
  const int64_t floats = Planes(problem, nullptr).scratch_floats();
  parallel_strands(exec, groups * blocks, floats, [&](int64_t task, float* scratch) {
    Planes part(problem, scratch);
    const int64_t first = task / blocks * planes_per_task, begin = task % blocks * rows_per_task;
    for (int64_t plane = first; plane < std::min(planes, first + planes_per_task); ++plane) {
      part.run(plane, begin, std::min(d.H, begin + rows_per_task), counts);
    }
  });
}

}  // namespace

Ran cpu_max_pool2d_backward(const Pool2dDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.H * d.W >= INT32_MAX || d.R * d.S >= INT32_MAX) return Ran::kUnsupported;
  const Problem problem(d);
  if (problem.has_empty_rows()) return Ran::kUnsupported;
  Counts counts;
  if (d.format == Format::kNHWC) {
    run_pixels(problem, exec, &counts);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_pixels"));
  } else {
    run_planes(problem, exec, &counts);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_planes"));
  }
  return counts.named == counts.met ? Ran::kDone : ref_max_pool2d_backward(d, exec);
}

}  // namespace cnnext
