// A matrix product in float32 by FFMA, for operands that are not matrices in memory: the Problem says where
// an element is. A block computes 64 x 64 results, a thread 4 x 4; the next strip of 16 terms is on its way
// from memory while one is multiplied.
//
// A Problem has rows(), columns(), batches() (independent products), terms(batch) (the range of k that is
// summed); walk, which says where terms lie; and
//   Line row(batch, m), column(batch, n): what the index alone decides, worked out once a tile;
//   a(), b(): what lines and terms are offsets into; H, W: a position below them is inside (all other
//   elements are 0); kPaddedA: whether it is a that may lie outside, or b; Result result(batch, m),
//   put<V>(Result, n, sums of V columns); kAAlongDepth, kBAlongDepth: whether neighbours in memory are
//   neighbouring terms.
// Terms of one sum are added in order, so the bits follow from the shape.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/terms.cuh"

namespace cnnext::cuda {

constexpr int kGemmTile = 64, kGemmDepth = 16;
constexpr int kGemmPitch = kGemmTile + 4;  // keeps 16-byte reads aligned, and stores of one column apart
constexpr int kGemmLoads = kGemmTile * kGemmDepth / kBlock;
constexpr int kGemmTermStep = kBlock / kGemmTile;  // between a thread's loads, where they are of one line
constexpr int kGemmBlocks = 2;  // on one SM at least: what registers are for (tools/check_cuda_registers.py)

// The row of a or the column of b: where it begins, and the position in the image.
struct alignas(16) Line {
  int64_t offset;
  uint32_t h, w;
};

// Which element of a tile a thread loads, in step i.
struct GemmPlace {
  int line, term;  // line: row of a, column of b
};
template <bool kAlongDepth>
CNNEXT_HOST_DEVICE constexpr GemmPlace gemm_place(int thread, int i) {
  if (kAlongDepth) return {thread / kGemmDepth + i * (kBlock / kGemmDepth), thread % kGemmDepth};
  return {thread % kGemmTile, thread / kGemmTile + i * kGemmTermStep};
}

template <class Problem>
CNNEXT_DEVICE bool is_inside(const Problem& problem, const Line& line, const Offsets& term) {
  return line.h + term.h < problem.H && line.w + term.w < problem.W;
}

// A padding tap contributes nothing, but as a 0 under an infinite weight it makes a NaN. So NaN is summed up
// again without what is not inside.
template <class Problem>
CNNEXT_DEVICE_CALL float sum_inside(const Problem& problem, int64_t batch, int64_t m, int64_t n) {
  const Line row = problem.row(batch, m), column = problem.column(batch, n);
  const Range terms = problem.terms(batch);
  float sum = 0;
  for (int64_t k = terms.begin; k < terms.end; ++k) {
    const Offsets at = problem.walk.start(k).at;
    if (!is_inside(problem, Problem::kPaddedA ? row : column, at)) continue;
    sum += to_float(problem.a()[row.offset + at.a]) * to_float(problem.b()[column.offset + at.b]);
  }
  return sum;
}

// A thread's part in bringing one operand's tiles into shared memory.
template <class Problem, bool kIsA>
class GemmLoader {
 public:
  static constexpr bool kAlongDepth = kIsA ? Problem::kAAlongDepth : Problem::kBAlongDepth;

  CNNEXT_DEVICE GemmLoader(const Problem& problem, int64_t batch, int64_t line0, int64_t first) {
    const int me = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      // Past the last line, that one again: its results are not stored.
      const int64_t line = line0 + gemm_place<kAlongDepth>(me, i).line;
      lines_[i] = kIsA ? problem.row(batch, least(line, problem.rows() - 1))
                       : problem.column(batch, least(line, problem.columns() - 1));
    }
    term_ = problem.walk.start(first + gemm_place<kAlongDepth>(me, 0).term);
  }
  // The elements of the next strip, of which `left` terms are there.
  CNNEXT_DEVICE void fetch(const Problem& problem, int left) {
    const int me = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kGemmLoads; ++i) {
      const Line& line = lines_[kAlongDepth ? i : 0];
      bool wanted = gemm_place<kAlongDepth>(me, i).term < left;
      if (kIsA == Problem::kPaddedA) wanted = wanted && is_inside(problem, line, term_.at);
      values_[i] = 0;
      if (wanted) {
        values_[i] =
            to_float(kIsA ? problem.a()[line.offset + term_.at.a] : problem.b()[line.offset + term_.at.b]);
      }
      if (!kAlongDepth) problem.walk.advance(&term_, problem.near);
    }
    if (kAlongDepth) problem.walk.advance(&term_, problem.strip);
  }
  CNNEXT_DEVICE void put(const Shared<float>& tile) const {
    const int me = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kGemmLoads; ++i) {
      const GemmPlace place = gemm_place<kAlongDepth>(me, i);
      tile.set(place.term * kGemmPitch + place.line, values_[i]);
    }
  }

 private:
  static constexpr int kLines = kAlongDepth ? kGemmLoads : 1;
  Line lines_[kLines];
  TermWalk::Term term_;
  float values_[kGemmLoads];
};

template <class Problem>
__global__ void __launch_bounds__(kBlock, kGemmBlocks)
    gemm(const __grid_constant__ Problem problem, int64_t row_tiles, int64_t column_tiles) {
  CNNEXT_SHARED(float, tile_a, kGemmDepth* kGemmPitch);
  CNNEXT_SHARED(float, tile_b, kGemmDepth* kGemmPitch);
  const int me = static_cast<int>(threadIdx.x), my_row = me / 16 * 4, my_column = me % 16 * 4;
  const int64_t tiles = row_tiles * column_tiles * problem.batches();
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t row0 = tile % row_tiles * kGemmTile, rest = tile / row_tiles;
    const int64_t column0 = rest % column_tiles * kGemmTile, batch = rest / column_tiles;
    const Range terms = problem.terms(batch);
    GemmLoader<Problem, true> a(problem, batch, row0, terms.begin);
    GemmLoader<Problem, false> b(problem, batch, column0, terms.begin);
    float sums[4][4] = {};
    int64_t left = terms.end - terms.begin;
    const auto fetch = [&] {
      const int in_strip = static_cast<int>(least(left, kGemmDepth));
      a.fetch(problem, in_strip);
      b.fetch(problem, in_strip);
    };
    fetch();
    while (left > 0) {
      a.put(tile_a);
      b.put(tile_b);
      block_barrier();
      left -= kGemmDepth;
      if (left > 0) fetch();
#pragma unroll
      for (int k = 0; k < kGemmDepth; ++k) {
        const Vec<float, 4> x = tile_a.template get_vec<4>(k * kGemmPitch + my_row);
        const Vec<float, 4> y = tile_b.template get_vec<4>(k * kGemmPitch + my_column);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[i][j] += x[i] * y[j];
        }
      }
      block_barrier();  // the next strip overwrites this one
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t m = row0 + my_row + i;
      if (m >= problem.rows()) continue;
      const typename Problem::Result result = problem.result(batch, m);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int64_t n = column0 + my_column + j;
        if (n >= problem.columns()) continue;
        const float sum = sums[i][j];
        problem.template put<1>(result, n, {{sum == sum ? sum : sum_inside(problem, batch, m, n)}});
      }
    }
  }
}

template <class Problem>
void run_gemm(const Op& op, const Problem& problem) {
  const int64_t row_tiles = ceil_div(problem.rows(), kGemmTile),
                column_tiles = ceil_div(problem.columns(), kGemmTile);
  const int64_t tiles = row_tiles * column_tiles * problem.batches();
  if (tiles > 0) launch_flat(op, gemm<Problem>, least(tiles, kMostBlocks), problem, row_tiles, column_tiles);
}

}  // namespace cnnext::cuda
