// Channels-last: vectors over the channels of one pixel after the other. See max_pool_grad.h.
#include <atomic>

#include "cpu/max_pool_grad.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskInputs = 131072;  // elements of grad_x in a task

struct Problem {
  const Pool2dDesc& d;
  TapSource source;
  TapRules rules;
  CoverTable rows, columns;  // by h and by w
  int64_t ring;              // windows' rows that one image row can meet: so many are held at a time

  Problem(const Pool2dDesc& desc, Exec& exec)
      : d(desc),
        source(desc),
        rules(desc, exec),
        rows({d.H, d.P, d.R, d.stride_h, d.pad_top, d.dilation_h}, exec),
        columns({d.W, d.Q, d.S, d.stride_w, d.pad_left, d.dilation_w}, exec),
        ring(std::min(desc.P, rows.most())) {}
};

class Pixels {
 public:
  Pixels(const Problem& problem, void* scratch)
      : p_(problem), d_(problem.d), kernels_(ops_ukernels().max_pool_grad), row_(d_.Q * d_.C) {
    ScratchParts parts(scratch);
    taps_ = parts.take<uint8_t>(p_.source.stored() ? 0 : p_.ring * row_);
    rows_ = parts.take<const uint8_t*>(p_.ring);
    held_ = parts.take<int64_t>(p_.ring);
    terms_ = parts.take<PoolTerm>(p_.rows.most() * p_.columns.most());
    floats_ = parts.floats();
  }
  int64_t scratch_floats() const { return floats_; }

  // False where a code is bad.
  bool run(int64_t n, int64_t begin, int64_t end) {
    std::fill_n(held_, p_.ring, int64_t{-1});
    good_ = true;
    for (int64_t h = begin; h < end; ++h) {
      for (const PoolCover& row : p_.rows.at(h)) hold(n, row.window);
      for (int64_t k = 0; k < std::min(d_.stride_w, d_.W); ++k) residue(n, h, k);
    }
    return good_;
  }

 private:
  void hold(int64_t n, int64_t p) {
    const int64_t slot = p % p_.ring;
    if (held_[slot] == p) return;
    held_[slot] = p;
    rows_[slot] = p_.source.pixel_row(n, p, taps_ + slot * row_);
    good_ &= p_.rules.pixel_row(rows_[slot], p);
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
      const float* grad = static_cast<const float*>(d_.y.data) + (n * d_.P + row.window) * row_;
      const uint8_t* taps = rows_[row.window % p_.ring];
      for (const PoolCover& column : p_.columns.at(w)) {
        const int64_t at = column.window * d_.C;
        terms_[terms++] = {grad + at, taps + at, static_cast<uint8_t>(row.tap * d_.S + column.tap)};
      }
    }
    float* out = static_cast<float*>(d_.x.data) + ((n * d_.H + h) * d_.W + w) * d_.C;
    kernels_.pixels({terms_, terms, count, d_.C, out, d_.stride_w * d_.C});
  }

  const Problem& p_;
  const Pool2dDesc& d_;
  const MaxPoolGradUkernels& kernels_;
  int64_t row_, floats_;
  bool good_ = true;
  uint8_t* taps_;
  const uint8_t** rows_;  // by slot of the ring
  int64_t* held_;
  PoolTerm* terms_;
};

}  // namespace

bool max_pool_pixels_backward(const Pool2dDesc& d, Exec& exec) {
  const Problem problem(d, exec);
  const int64_t rows_per_task = std::clamp<int64_t>(kTaskInputs / (d.W * d.C), 1, d.H);
  const int64_t blocks = ceil_div(d.H, rows_per_task);
  const int64_t floats = Pixels(problem, nullptr).scratch_floats();
  std::atomic<bool> good{true};
  parallel_strands(exec, d.N * blocks, floats, [&](int64_t task, float* scratch) {
    const int64_t begin = task % blocks * rows_per_task;
    Pixels pixels(problem, scratch);
    if (!pixels.run(task / blocks, begin, std::min(d.H, begin + rows_per_task))) good = false;
  });
  return good;
}

}  // namespace cnnext
