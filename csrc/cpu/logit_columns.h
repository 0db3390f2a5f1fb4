// Logits whose classes are not innermost: class c of position i at x[c * inner + i]. A block of positions is
// worked on in vectors along them, class by class, from a copy that stays in cache.
#pragma once

#include <algorithm>

#include "cpu/ops_ukernels.h"
#include "cpu/pool_tables.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {

class LogitColumns {
 public:
  static constexpr int64_t kCopyFloats = 16384;  // of a block
  static constexpr int64_t kLeastPositions = 32;

  // Where few positions lie side by side, or a block would not stay in cache, transposing serves better.
  static bool suits(int64_t dim, int64_t inner) {
    return inner >= kLeastPositions && dim > 0 && dim <= kCopyFloats / kLeastPositions * 8;
  }
  static int64_t block(int64_t dim, int64_t inner) {
    return std::min(inner, round_up(std::clamp<int64_t>(kCopyFloats / dim, kLeastPositions, 1024), 16));
  }

  LogitColumns(int64_t dim, int64_t inner, int64_t copies, void* scratch) : dim_(dim), inner_(inner) {
    const int64_t count = block(dim, inner);
    ScratchParts parts(scratch);
    for (int64_t i = 0; i < copies; ++i) copy_[i] = parts.take<float>(dim * count);
    most = parts.take<float>(count);
    sum = parts.take<float>(count);
    run_ = parts.take<float>(count);
    floats_ = parts.floats();
  }
  int64_t scratch_floats() const { return floats_; }

  // Brings `count` positions into a copy.
  void copy_from(const float* x, int64_t count, int64_t which) {
    count_ = count;
    for (int64_t c = 0; c < dim_; ++c) std::copy_n(x + c * inner_, count, copy(c, which));
  }
  // And their largest logits into `most`; NaN is passed over.
  void load(const float* x, int64_t count) {
    count_ = count;
    std::fill_n(most, count, -__builtin_inff());
    for (int64_t c = 0; c < dim_; ++c) kernels_.column_most(x + c * inner_, count, copy(c), most);
  }
  // sum = the sum over classes of exp(logit - most), and NaN where a logit is. kept: in place of the copy.
  void sum_exponentials(bool kept) {
    add_up([&](int64_t c, float* sums) {
      kernels_.column_exponentials(copy(c), most, count_, kept ? copy(c) : nullptr, sums);
    });
  }
  // sum = the sum over classes of add(c, sums), which adds class c's terms; long sums go in runs.
  template <class Add>
  void add_up(const Add& add) {
    std::fill_n(sum, count_, 0.f);
    for (int64_t begin = 0; begin < dim_; begin += 32) {
      std::fill_n(run_, count_, 0.f);
      for (int64_t c = begin; c < std::min(dim_, begin + 32); ++c) add(c, run_);
      for (int64_t i = 0; i < count_; ++i) sum[i] += run_[i];
    }
  }
  float* copy(int64_t c, int64_t which = 0) const { return copy_[which] + c * count_; }

  float *most, *sum;

 private:
  const SoftmaxUkernels& kernels_ = ops_ukernels().softmax;
  int64_t dim_, inner_, count_ = 0, floats_;
  float *copy_[2] = {}, *run_;
};

// task(block, offset of its class 0, first position, positions, scratch) for blocks of every outer index's
// positions.
template <class Task>
void for_logit_columns(int64_t outer, int64_t dim, int64_t inner, int64_t copies, Exec& exec,
                       const Task& task) {
  const int64_t block = LogitColumns::block(dim, inner), blocks = ceil_div(inner, block);
  const int64_t floats = LogitColumns(dim, inner, copies, nullptr).scratch_floats();
  parallel_strands(exec, outer * blocks, floats, [&](int64_t i, float* scratch) {
    LogitColumns columns(dim, inner, copies, scratch);
    const int64_t begin = i % blocks * block, o = i / blocks;
    task(i, o * dim * inner + begin, o * inner + begin, std::min(block, inner - begin), columns);
  });
}

}  // namespace cnnext
