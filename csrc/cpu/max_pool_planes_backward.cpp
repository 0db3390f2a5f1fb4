// Planes, windows of stride 1: vectors along rows. All elements have their windows at the same distances, so
// that many rows are one long run beside a run of windows. A vector may reach into the next row, or the next
// plane: as every code names an element of its own window's plane, it matches nothing there. See
// max_pool_grad.h.
#include <atomic>
#include <cstring>

#include "cpu/max_pool_grad.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 65536;   // elements of grad_x in a task
constexpr int64_t kBlockWindows = 4096;  // of a block, which stay in cache
constexpr int64_t kSlack = 64;           // what whole vectors may read beyond a run

// Planes lie behind one another: where each has as many rows of windows as of elements, all of them are one
// tall plane.
struct Problem {
  const Pool2dDesc& d;
  TapRules rules;
  const MaxPoolGradUkernels& kernels;
  int64_t planes, H, P;  // after joining planes
  int64_t pitch;         // from one row of windows to the next, in a strip
  int64_t block;         // rows at a time
  int64_t above, below;  // rows of windows that a block reads beyond its own
  int64_t back, ahead;   // how far its run of windows begins early and ends late
  bool in_place;         // windows may be read where they are

  Problem(const Pool2dDesc& desc, Exec& exec)
      : d(desc), rules(desc, exec), kernels(ops_ukernels().max_pool_grad) {
    const bool join = d.P == d.H;
    planes = join ? 1 : d.N * d.C;
    H = join ? d.N * d.C * d.H : d.H;
    P = join ? d.N * d.C * d.P : d.P;
    pitch = std::max(d.Q, d.W);
    block = std::clamp<int64_t>(kBlockWindows / pitch, 1, H);
    above = std::max<int64_t>((d.R - 1) * d.dilation_h - d.pad_top, 0);
    below = d.pad_top;
    back = above * pitch + std::max<int64_t>((d.S - 1) * d.dilation_w - d.pad_left, 0);
    ahead = below * pitch + d.pad_left + kSlack;
    in_place = pitch == d.Q && d.H <= d.P;
  }
  int64_t blocks() const { return ceil_div(H, block); }
};

class Planes {
 public:
  Planes(const Problem& problem, void* scratch) : p_(problem), d_(problem.d) {
    const int64_t strip = p_.back + p_.block * p_.pitch + p_.ahead + kSlack;
    ScratchParts parts(scratch);
    strip_grad_ = parts.take<float>(strip);
    strip_taps_ = parts.take<uint8_t>(strip);
    run_ = parts.take<float>(p_.block * p_.pitch);
    terms_ = parts.take<PoolTerm>(d_.R * d_.S);
    floats_ = parts.floats();
    if (scratch) std::fill_n(strip_grad_, strip, 0.f);
  }
  int64_t scratch_floats() const { return floats_; }

  // Block b of a plane's rows. False where a code is bad.
  bool run(int64_t plane, int64_t b) {
    const int64_t first = b * p_.block, count = std::min(p_.block, p_.H - first);
    if (!find_windows(plane, first, count)) return false;
    int64_t terms = 0;
    for (int64_t r = d_.R - 1; r >= 0; --r) {  // in the order of the windows
      for (int64_t s = d_.S - 1; s >= 0; --s) {
        const int64_t at = (d_.pad_top - r * d_.dilation_h) * p_.pitch + d_.pad_left - s * d_.dilation_w;
        terms_[terms++] = {grad_ + at, taps_ + at, static_cast<uint8_t>(r * d_.S + s)};
      }
    }
    float* const out = static_cast<float*>(d_.x.data) + (plane * p_.H + first) * d_.W;
    const bool dense = d_.W == p_.pitch;
    p_.kernels.row({terms_, terms, count * p_.pitch, dense ? out : run_});
    for (int64_t i = 0; i < count && !dense; ++i) std::copy_n(run_ + i * p_.pitch, d_.W, out + i * d_.W);
    return true;
  }

 private:
  const uint8_t* stored_taps() const { return static_cast<const uint8_t*>(d_.indices.data); }

  // Checks the windows of rows [from, to) of a plane, or of all joined ones.
  bool check(int64_t plane, int64_t from, int64_t to) const {
    while (from < to) {
      const int64_t p = from % d_.P, rows = std::min(to - from, p_.rules.planes_once() * d_.P - p);
      if (!p_.rules.plane_rows(stored_taps() + (plane * p_.P + from) * d_.Q, p, rows)) return false;
      from += rows;
    }
    return true;
  }

  // Points grad_ and taps_ to row `first` of the plane's windows: in place, or in a strip.
  bool find_windows(int64_t plane, int64_t first, int64_t count) {
    if (!check(plane, first, first + count == p_.H ? p_.P : std::min(p_.P, first + count))) return false;
    const float* grad = static_cast<const float*>(d_.y.data);
    const int64_t at = (plane * p_.P + first) * d_.Q, end = at + count * p_.pitch + p_.ahead;
    if (p_.in_place && at >= p_.back && end <= d_.N * d_.C * d_.P * d_.Q) {
      grad_ = grad + at;
      taps_ = stored_taps() + at;
      return true;
    }
    std::memset(strip_taps_, kNoTapByte, p_.back + p_.block * p_.pitch + p_.ahead + kSlack);
    grad_ = strip_grad_ + p_.back;
    taps_ = strip_taps_ + p_.back;
    const int64_t from = std::max<int64_t>(first - p_.above, 0),
                  to = std::min(p_.P, first + count + p_.below);
    if (to <= from) return true;
    const int64_t source = (plane * p_.P + from) * d_.Q, place = p_.back + (from - first) * p_.pitch;
    p_.kernels.strip({grad + source, stored_taps() + source, to - from, d_.Q, p_.pitch, strip_grad_ + place,
                      strip_taps_ + place});
    return true;
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  int64_t floats_;
  const float* grad_ = nullptr;  // of the block's first row of windows
  const uint8_t* taps_ = nullptr;
  float *strip_grad_, *run_;
  uint8_t* strip_taps_;
  PoolTerm* terms_;
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
