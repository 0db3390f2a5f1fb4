// Max-pool's backward by gathering: each element of grad_x sums the windows whose argmax it is, in row-major
// order, so nothing is scattered and every element is written once, by its owner.
//
// Codes come from outside. A code that names an element of its window is met exactly once; so where fewer are
// met than there are, some are wrong or (plane indices only) name an element beyond their window, and ref,
// which scatters and checks each, takes the call.
#include <atomic>

#include "cpu/cpu.h"
#include "cpu/max_pool_tiles.h"
#include "cpu/ops_ukernels.h"
#include "cpu/pool_tables.h"
#include "cpu/ref/ref.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 131072;  // elements of grad_x in a task

struct Counts {
  std::atomic<int64_t> named{0}, met{0};
};

// What both layouts need of a descriptor.
class Problem {
 public:
  Problem(const Pool2dDesc& desc, Exec& exec)
      : d(desc),
        kernels(ops_ukernels().max_pool),
        plane_codes(desc.index_kind == CNNEXT_INDEX_PLANE),
        code_bytes(dtype_size(desc.index_dtype)),
        windows(window_table(height(), exec)),
        rows(height(), exec),
        columns({d.W, d.Q, d.S, d.stride_w, d.pad_left, d.dilation_w}, exec),
        ring(std::min(desc.P, rows.most())) {}

  // The same windows over other planes.
  Problem(const Pool2dDesc& desc, const Problem& like)
      : d(desc),
        kernels(like.kernels),
        plane_codes(like.plane_codes),
        code_bytes(like.code_bytes),
        windows(like.windows),
        rows(like.rows),
        columns(like.columns),
        ring(like.ring) {}

  const Pool2dDesc& d;
  const MaxPoolUkernels& kernels;
  bool plane_codes;
  int64_t code_bytes;
  const WindowTaps* windows;  // by p
  CoverTable rows, columns;   // by h and by w
  int64_t ring;               // windows' rows that one image row can meet: so many are held at a time

  PoolAxis height() const { return {d.H, d.P, d.R, d.stride_h, d.pad_top, d.dilation_h}; }
  float* grad_x() const { return static_cast<float*>(d.x.data); }
  const float* grad_y() const { return static_cast<const float*>(d.y.data); }
  const void* codes(int64_t at) const { return static_cast<const char*>(d.indices.data) + at * code_bytes; }

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
    const int64_t first = windows[p].at(windows[p].begin);
    return first >= begin && first < end;
  }
  // Whether some window row has no tap in the image: its codes are met by nobody, and ref must see them.
  bool has_empty_rows() const {
    for (int64_t p = 0; p < d.P; ++p) {
      if (windows[p].begin == windows[p].end) return true;
    }
    return false;
  }
};

// ---- channels-last ----

class Pixels {
 public:
  // all_codes: the whole image's in their 32-bit form, or nullptr to bring rows into it as they are needed.
  Pixels(const Problem& problem, const int32_t* all_codes, void* scratch)
      : p_(problem), d_(problem.d), all_codes_(all_codes) {
    ScratchParts parts(scratch);
    row_ = d_.Q * d_.C;
    codes_ = parts.take<int32_t>(all_codes ? 0 : p_.ring * row_);
    held_ = parts.take<int64_t>(p_.ring);
    terms_ = parts.take<PoolTerm>(p_.rows.most() * p_.columns.most());
    floats_ = parts.floats();
  }
  int64_t scratch_floats() const { return floats_; }

  void run(int64_t n, int64_t begin, int64_t end, Counts* counts) {
    std::fill_n(held_, p_.ring, int64_t{-1});
    named_ = met_ = 0;
    for (int64_t h = begin; h < end; ++h) {
      for (const PoolCover& row : p_.rows.at(h)) hold(n, row.window, begin, end);
      for (int64_t k = 0; k < std::min(d_.stride_w, d_.W); ++k) residue(n, h, k);
    }
    counts->named += named_;
    counts->met += met_;
  }

 private:
  const int32_t* codes(int64_t p) const {
    return all_codes_ ? all_codes_ + p * row_ : codes_ + p % p_.ring * row_;
  }

  void hold(int64_t n, int64_t p, int64_t begin, int64_t end) {
    const int64_t slot = p % p_.ring;
    if (all_codes_ || held_[slot] == p) return;
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
    int64_t terms = 0;
    for (const PoolCover& row : p_.rows.at(h)) {
      const float* grad = p_.grad_y() + (n * d_.P + row.window) * row_;
      const int32_t* row_codes = codes(row.window);
      for (const PoolCover& column : p_.columns.at(w)) {
        const int64_t at = column.window * d_.C;
        terms_[terms++] = {grad + at, row_codes + at, p_.tap(row.tap, column.tap)};
      }
    }
    float* out = p_.grad_x() + ((n * d_.H + h) * d_.W + w) * d_.C;
    met_ += p_.kernels.grad_pixels({terms_, terms, count, d_.C, out, d_.stride_w * d_.C});
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  int64_t row_, floats_;
  int64_t named_ = 0, met_ = 0;
  const int32_t* all_codes_;
  int32_t* codes_;
  int64_t* held_;
  PoolTerm* terms_;
};

void run_pixels(const Problem& problem, Exec& exec, Counts* counts) {
  const Pool2dDesc& d = problem.d;
  const int64_t rows_per_task = std::clamp<int64_t>(kTaskInputs / (d.W * d.C), 1, d.H);
  const int64_t blocks = ceil_div(d.H, rows_per_task);
  const int64_t floats = Pixels(problem, nullptr, nullptr).scratch_floats();
  parallel_strands(exec, d.N * blocks, floats, [&](int64_t task, float* scratch) {
    const int64_t begin = task % blocks * rows_per_task;
    Pixels(problem, nullptr, scratch).run(task / blocks, begin, std::min(d.H, begin + rows_per_task), counts);
  });
}

// ---- small planes: a group of them as the channels of one image ----

constexpr int64_t kGroupFloats = 65536;  // of a group's image, which stays in L2
constexpr int64_t kGroupVectors = 4;     // at most

// How many planes make a group; 0 where planes are too large.
int64_t group_planes(const Pool2dDesc& d) {
  const int64_t lanes = ops_ukernels().lanes;
  const int64_t vectors = kGroupFloats / (std::max(d.H * d.W, d.P * d.Q) * lanes);
  return std::min(std::clamp<int64_t>(vectors, 0, kGroupVectors) * lanes, d.N * d.C);
}

class Group {
 public:
  Group(const Problem& problem, int64_t planes, void* scratch) : p_(problem), d_(problem.d), planes_(planes) {
    const int64_t out = d_.P * d_.Q * planes;
    ScratchParts parts(scratch);
    grad_x_ = parts.take<float>(d_.H * d_.W * planes);
    grad_y_ = parts.take<float>(out);
    plane_codes_ = parts.take<int32_t>(out);
    codes_ = parts.take<int32_t>(out);
    pixels_ = scratch ? static_cast<char*>(scratch) + parts.bytes() : nullptr;
    Pool2dDesc d = d_;
    d.C = planes;
    const int32_t no_codes = 0;
    floats_ = parts.floats() + Pixels(Problem(d, problem), &no_codes, nullptr).scratch_floats();
  }
  int64_t scratch_floats() const { return floats_; }

  void run(int64_t first, Counts* counts) const {
    const int64_t count = std::min(planes_, d_.N * d_.C - first), in = d_.H * d_.W, out = d_.P * d_.Q;
    const auto transpose = ukernels().conv_pack.transpose;
    counts->named += widen(first, count);
    // Moved as floats: loads, shuffles and stores leave the bits alone.
    transpose(
        {reinterpret_cast<float*>(plane_codes_), out, count, out, reinterpret_cast<float*>(codes_), count});
    transpose({p_.grad_y() + first * out, out, count, out, grad_y_, count});
    Pool2dDesc d = d_;
    d.N = 1;
    d.C = count;
    d.x.data = grad_x_;
    d.y.data = grad_y_;
    Pixels(Problem(d, p_), codes_, pixels_).run(0, 0, d.H, counts);
    transpose({grad_x_, count, in, count, p_.grad_x() + first * in, in});
  }

 private:
  int64_t widen(int64_t first, int64_t count) const {
    const int64_t out = d_.P * d_.Q, at = first * out;
    if (!p_.plane_codes) {
      return p_.kernels.widen(p_.codes(at), d_.index_dtype, count * out, 0, 0, plane_codes_);
    }
    int64_t named = 0;
    for (int64_t row = 0; row < count * d_.P; ++row) {
      named += p_.kernels.widen(p_.codes(at + row * d_.Q), d_.index_dtype, d_.Q, p_.corner(row % d_.P, 0),
                                d_.stride_w, plane_codes_ + row * d_.Q);
    }
    return named;
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  int64_t planes_, floats_;
  float *grad_x_, *grad_y_;
  int32_t *plane_codes_, *codes_;
  void* pixels_;
};

void run_groups(const Problem& problem, int64_t planes, Exec& exec, Counts* counts) {
  const int64_t floats = Group(problem, planes, nullptr).scratch_floats();
  parallel_strands(
      exec, ceil_div(problem.d.N * problem.d.C, planes), floats,
      [&](int64_t task, float* scratch) { Group(problem, planes, scratch).run(task * planes, counts); });
}

// ---- planes ----

// A tap that meets the elements k, k + stride, ... of a row: element i of them lies in window i + shift.
struct PhaseTap {
  int64_t tap, shift;
};

// The taps of each phase k, in the order of their windows.
class PhaseTable {
 public:
  PhaseTable(const Problem& problem, Exec& exec)
      : taps_(exec.scratch_array<PhaseTap>(problem.d.S)),
        first_(exec.scratch_array<int64_t>(std::min(problem.d.stride_w, problem.d.W) + 1)) {
    const Pool2dDesc& d = problem.d;
    int64_t count = 0;
    phases_ = std::min(d.stride_w, d.W);
    for (int64_t k = 0; k < phases_; ++k) {
      first_[k] = count;
      for (int64_t s = d.S - 1; s >= 0; --s) {
        const int64_t offset = k + d.pad_left - s * d.dilation_w;
        if (offset % d.stride_w == 0 && offset / d.stride_w < d.Q) taps_[count++] = {s, offset / d.stride_w};
      }
    }
    first_[phases_] = count;
  }
  int64_t phases() const { return phases_; }
  const PhaseTap* begin(int64_t k) const { return taps_ + first_[k]; }
  const PhaseTap* end(int64_t k) const { return taps_ + first_[k + 1]; }

 private:
  PhaseTap* taps_;
  int64_t* first_;
  int64_t phases_;
};

class Planes {
 public:
  Planes(const Problem& problem, const PhaseTable& phases, void* scratch)
      : p_(problem), d_(problem.d), phase_table_(phases) {
    // Elements left of the first window and right of the last one find codes 0 there.
    front_ = round_up((d_.S - 1) * d_.dilation_w / d_.stride_w + 1, 16);
    strip_ = round_up(front_ + std::max(d_.Q, (d_.W - 1 + d_.pad_left) / d_.stride_w + 1), 16);
    ScratchParts parts(scratch);
    codes_ = parts.take<int32_t>(p_.ring * strip_);
    grads_ = parts.take<float>(p_.ring * strip_);
    row_ = parts.take<float>(d_.W);
    held_ = parts.take<int64_t>(p_.ring);
    for (auto& terms : terms_) terms = parts.take<PoolTerm>(p_.rows.most() * d_.S);
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
      for (const PoolCover& row : p_.rows.at(h)) hold(plane, row.window, begin, end);
      float* out = p_.grad_x() + (plane * d_.H + h) * d_.W;
      if (d_.stride_w > 2) {
        phases(h, out);
        continue;
      }
      MaxPoolGradRow row{{terms_[0], terms_[1]}, {0, 0}, d_.stride_w, d_.W, out};
      for (int64_t k = 0; k < phase_table_.phases(); ++k) row.num_terms[k] = list_terms(h, k, terms_[k]);
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

  // The terms of elements k, k + stride, ... of row h, in the order of their windows.
  int64_t list_terms(int64_t h, int64_t k, PoolTerm* out) {
    int64_t terms = 0;
    for (const PoolCover& row : p_.rows.at(h)) {
      const int64_t base = row.window % p_.ring * strip_ + front_;
      for (const PhaseTap* tap = phase_table_.begin(k); tap != phase_table_.end(k); ++tap) {
        const int64_t at = base + tap->shift;
        out[terms++] = {grads_ + at, codes_ + at, p_.tap(row.tap, tap->tap)};
      }
    }
    return terms;
  }

  // Strides above 2: phase by phase through a row of scratch.
  void phases(int64_t h, float* out) {
    for (int64_t k = 0; k < phase_table_.phases(); ++k) {
      const int64_t count = (d_.W - 1 - k) / d_.stride_w + 1;
      const MaxPoolGradRow row{{terms_[0], nullptr}, {list_terms(h, k, terms_[0]), 0}, 1, count, row_};
      met_ += p_.kernels.grad_row(row);
      for (int64_t i = 0; i < count; ++i) out[k + i * d_.stride_w] = row_[i];
    }
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  const PhaseTable& phase_table_;
  int64_t front_, strip_, floats_;
  int64_t named_ = 0, met_ = 0;
  int32_t* codes_;
  float *grads_, *row_;
  int64_t* held_;
  PoolTerm* terms_[2];
};

void run_planes(const Problem& problem, Exec& exec, Counts* counts) {
  const Pool2dDesc& d = problem.d;
  const int64_t planes = d.N * d.C;
  const int64_t planes_per_task = std::clamp<int64_t>(kTaskInputs / (d.H * d.W), 1, planes);
  const int64_t rows_per_task = std::clamp<int64_t>(kTaskInputs / d.W, 1, d.H);
  const int64_t groups = ceil_div(planes, planes_per_task), blocks = ceil_div(d.H, rows_per_task);
  const PhaseTable phases(problem, exec);
  const int64_t floats = Planes(problem, phases, nullptr).scratch_floats();
  parallel_strands(exec, groups * blocks, floats, [&](int64_t task, float* scratch) {
    Planes part(problem, phases, scratch);
    const int64_t first = task / blocks * planes_per_task, begin = task % blocks * rows_per_task;
    for (int64_t plane = first; plane < std::min(planes, first + planes_per_task); ++plane) {
      part.run(plane, begin, std::min(d.H, begin + rows_per_task), counts);
    }
  });
}

}  // namespace

Ran cpu_max_pool2d_backward(const Pool2dDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.H * d.W >= INT32_MAX || d.R * d.S >= INT32_MAX) return Ran::kUnsupported;
  if (max_pool_is_tiled(d)) {
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_tiles"));
    return max_pool_tiles_backward(d, exec) ? Ran::kDone : ref_max_pool2d_backward(d, exec);
  }
  const Problem problem(d, exec);
  if (problem.has_empty_rows()) return Ran::kUnsupported;
  Counts counts;
  if (d.format == Format::kNHWC) {
    run_pixels(problem, exec, &counts);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_pixels"));
  } else if (const int64_t planes = group_planes(d)) {
    run_groups(problem, planes, exec, &counts);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_groups"));
  } else {
    run_planes(problem, exec, &counts);
    exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_grad_planes"));
  }
  return counts.named == counts.met ? Ran::kDone : ref_max_pool2d_backward(d, exec);
}

}  // namespace cnnext
