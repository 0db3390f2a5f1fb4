// Rows of logits from tensors whose classes are not innermost: blocks of positions are transposed into
// scratch, and back.
#pragma once

#include <algorithm>

#include "cpu/scratch_parts.h"
#include "cpu/strands.h"
#include "cpu/ukernels.h"

namespace cnnext {

// Element (o, d, i) at (o * dim + d) * inner + i; row o * inner + i. A block is some rows.
struct RowBlocks {
  int64_t outer, dim, inner;

  int64_t rows() const { return outer * inner; }
  bool dense() const { return inner == 1; }
  // Enough to share among threads, and a block stays in L2.
  int64_t block() const { return std::clamp<int64_t>(8192 / std::max<int64_t>(dim, 1), 16, 1024); }
  int64_t tasks() const { return (rows() + block() - 1) / block(); }

  void gather(const float* x, int64_t begin, int64_t end, float* out) const {
    for_parts(begin, end, [&](int64_t at, int64_t first, int64_t count) {
      ukernels().conv_pack.transpose({x + at, inner, dim, count, out + first * dim, dim});
    });
  }
  void scatter(const float* in, int64_t begin, int64_t end, float* y) const {
    for_parts(begin, end, [&](int64_t at, int64_t first, int64_t count) {
      ukernels().conv_pack.transpose({in + first * dim, dim, count, dim, y + at, inner});
    });
  }

 private:
  // body(offset of class 0, first row of the block, rows) for the parts that share an outer index.
  template <class Body>
  void for_parts(int64_t begin, int64_t end, const Body& body) const {
    for (int64_t row = begin; row < end;) {
      const int64_t o = row / inner, i = row % inner, count = std::min(end - row, inner - i);
      body(o * dim * inner + i, row - begin, count);
      row += count;
    }
  }
};

}  // namespace cnnext
