// A matrix product in float32 by FFMA, for operands that are not matrices in memory: the Problem says what an
// element is. A block computes 64 x 64 results, a thread 4 x 4; the next strip of 16 terms is on its way from
// memory while one is multiplied.
//
// A Problem has rows(), columns(), batches() (independent products), terms(batch) (the range of k that is
// summed);
//   Row row(batch, m), Column column(batch, n), Term term(batch, k): what the index alone decides, worked out
//   once; float a(Row, Term, &inside), b(Term, Column, &inside): operands, of indices that lie inside; one
//   that stands for padding is 0, and inside false; void put(batch, m, n, sum); kAAlongDepth, kBAlongDepth:
//   whether neighbours in memory are neighbouring terms.
// Terms of one sum are added in order, so the bits follow from the shape.
#pragma once

#include "cuda/launch.cuh"

namespace cnnext::cuda {

constexpr int kGemmTile = 64, kGemmDepth = 16;
constexpr int kGemmPitch = kGemmTile + 4;  // keeps 16-byte reads aligned, and stores of one column apart
constexpr int kGemmLoads = kGemmTile * kGemmDepth / kBlock;

// Which element of a tile a thread loads, in step i.
struct GemmPlace {
  int line, term;  // line: row of a, column of b
};
template <bool kAlongDepth>
CNNEXT_HOST_DEVICE constexpr GemmPlace gemm_place(int thread, int i) {
  if (kAlongDepth) return {thread / kGemmDepth + i * (kBlock / kGemmDepth), thread % kGemmDepth};
  return {thread % kGemmTile, thread / kGemmTile + i * (kBlock / kGemmTile)};
}

// A padding tap contributes nothing, but as a 0 under an infinite weight it makes a NaN. So NaN is summed up
// again without what is not inside.
template <class Problem>
CNNEXT_DEVICE_CALL float sum_inside(const Problem& problem, int64_t batch, int64_t m, int64_t n) {
  const typename Problem::Row row = problem.row(batch, m);
  const typename Problem::Column column = problem.column(batch, n);
  const Range terms = problem.terms(batch);
  float sum = 0;
  for (int64_t k = terms.begin; k < terms.end; ++k) {
    const typename Problem::Term term = problem.term(batch, k);
    bool inside = true;
    const float a = problem.a(row, term, &inside), b = problem.b(term, column, &inside);
    if (inside) sum += a * b;
  }
  return sum;
}

template <class Problem>
__global__ void __launch_bounds__(kBlock)
    gemm(const __grid_constant__ Problem problem, int64_t row_tiles, int64_t column_tiles) {
  CNNEXT_SHARED(float, tile_a, kGemmDepth* kGemmPitch);
  CNNEXT_SHARED(float, tile_b, kGemmDepth* kGemmPitch);
  const int me = static_cast<int>(threadIdx.x), my_row = me / 16 * 4, my_column = me % 16 * 4;
  const int64_t tiles = row_tiles * column_tiles * problem.batches();
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t row0 = tile % row_tiles * kGemmTile, rest = tile / row_tiles;
    const int64_t column0 = rest % column_tiles * kGemmTile, batch = rest / column_tiles;
    const Range terms = problem.terms(batch);
    typename Problem::Row rows[kGemmLoads];
    typename Problem::Column columns[kGemmLoads];
    bool row_inside[kGemmLoads], column_inside[kGemmLoads];
#pragma unroll
    for (int i = 0; i < kGemmLoads; ++i) {
      const int64_t m = row0 + gemm_place<Problem::kAAlongDepth>(me, i).line;
      const int64_t n = column0 + gemm_place<Problem::kBAlongDepth>(me, i).line;
      row_inside[i] = m < problem.rows();
      column_inside[i] = n < problem.columns();
      if (row_inside[i]) rows[i] = problem.row(batch, m);
      if (column_inside[i]) columns[i] = problem.column(batch, n);
    }
    float a[kGemmLoads], b[kGemmLoads], sums[4][4] = {};
    const auto fetch = [&](int64_t first) {
#pragma unroll
      for (int i = 0; i < kGemmLoads; ++i) {
        const int64_t ka = first + gemm_place<Problem::kAAlongDepth>(me, i).term;
        const int64_t kb = first + gemm_place<Problem::kBAlongDepth>(me, i).term;
        bool inside = true;
        a[i] = row_inside[i] && ka < terms.end ? problem.a(rows[i], problem.term(batch, ka), &inside) : 0;
        b[i] =
            column_inside[i] && kb < terms.end ? problem.b(problem.term(batch, kb), columns[i], &inside) : 0;
      }
    };
    fetch(terms.begin);
    for (int64_t first = terms.begin; first < terms.end; first += kGemmDepth) {
#pragma unroll
      for (int i = 0; i < kGemmLoads; ++i) {
        const GemmPlace pa = gemm_place<Problem::kAAlongDepth>(me, i),
                        pb = gemm_place<Problem::kBAlongDepth>(me, i);
        tile_a.set(pa.term * kGemmPitch + pa.line, a[i]);
        tile_b.set(pb.term * kGemmPitch + pb.line, b[i]);
      }
      block_barrier();
      if (first + kGemmDepth < terms.end) fetch(first + kGemmDepth);
#pragma unroll
      for (int k = 0; k < kGemmDepth; ++k) {
        const Vec<float, 4> left = tile_a.template get_vec<4>(k * kGemmPitch + my_row);
        const Vec<float, 4> right = tile_b.template get_vec<4>(k * kGemmPitch + my_column);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[i][j] += left[i] * right[j];
        }
      }
      block_barrier();  // the next strip overwrites this one
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int64_t m = row0 + my_row + i, n = column0 + my_column + j;
        if (m >= problem.rows() || n >= problem.columns()) continue;
        const float sum = sums[i][j];
        problem.put(batch, m, n, sum == sum ? sum : sum_inside(problem, batch, m, n));
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
