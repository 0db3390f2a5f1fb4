// A matrix product by wgmma on Hopper (sm_90a), of the Problems that mma_gemm.cuh takes: a block stays on its
// multiprocessor and goes from tile to tile. One thread of the first warp group has TMA bring strips of both
// operands, as far ahead as there are stages; the other two multiply them, 64 rows of the tile each, and
// store what they have summed up while the next tile's strips are on their way. Terms of one sum are added in
// order, 32 bytes of them at a time, so the bits do not depend on the tile.
#pragma once

#include "cuda/hopper_utils.cuh"
#include "cuda/mma_choice.cuh"
#include "cuda/mma_gemm.cuh"

namespace cnnext::cuda {

constexpr int kWgmmaConsumers = 2, kWgmmaThreads = (kWgmmaConsumers + 1) * kWarpgroup;
constexpr int kSwizzleBytes = 128, kSwizzleAlignment = 1024;
constexpr int kSwizzledLines = 64;  // where lines lie side by side, of 16 bits

// How many columns of results leave at a time: beside four stages of the wider tile there is no room for
// more.
constexpr int wgmma_slab_columns(int columns) { return columns == 128 ? 128 : 32; }

// A strip is 128 bytes of terms, so that a line of it is a row of the swizzle.
template <class T, int kColumns_, int kStages_>
struct WgmmaTile : MmaSlab<T, wgmma_slab_columns(kColumns_)> {
  using Slab = MmaSlab<T, wgmma_slab_columns(kColumns_)>;
  static constexpr int kRows = kWgmmaConsumers * 64, kColumns = kColumns_, kStages = kStages_, kWarpRows = 16;
  static constexpr int kSlabsAcross = kColumns / Slab::kWarpColumns;
  static constexpr int kDepth = kSwizzleBytes / static_cast<int>(sizeof(T));
  static constexpr int kBytesA = kRows * kSwizzleBytes, kBytesB = kColumns * kSwizzleBytes;
  static constexpr int kStageBytes = kBytesA + kBytesB;
  static constexpr int kSlabs = kStages * kStageBytes;  // where they begin
  static constexpr int kBytes = kSwizzleAlignment + kSlabs + kWgmmaConsumers * 4 * Slab::kSlabBytes;
  static_assert(kBytes + 1024 <= 227 << 10);
};
template <class T, int kShape>
using WgmmaTileOf = WgmmaTile<T, kWgmmaShapes[kShape].columns, kWgmmaShapes[kShape].stages>;

// Which pixels and channels of `a` a strip takes: its blocks of channels run fastest, then the columns of
// taps, then their rows. Of b it takes terms strip * kDepth and on where they lie side by side, else the
// weights of the same taps and channels.
struct WgmmaTaps {
  int count;
  int first_offset, offset;  // of the pixels, from tap to tap
  int first, step;           // of the weights
};
struct WgmmaWindows {
  FastDivisor count;
  int first, step;  // their positions
};
struct WgmmaWalk {
  int blocks;
  int64_t group_channels;
  WgmmaTaps rows, columns;
  WgmmaWindows down, right;
};

// A launch's arguments.
template <class Problem>
struct WgmmaJob {
  TensorMap a, b;
  Problem problem;
  WgmmaWalk walk;
  int strips;
  int64_t row_tiles, column_tiles;
  bool whole_results;
};

// The stage that comes next, and the parity of its phase.
template <int kStages>
struct WgmmaStage {
  int number = 0;
  uint32_t parity = 0;
  CNNEXT_DEVICE void advance() {
    if (++number < kStages) return;
    number = 0;
    parity ^= 1;
  }
};

// Every block's tiles: neighbours share rows.
template <class Problem, class Body>
CNNEXT_DEVICE void for_each_wgmma_tile(const WgmmaJob<Problem>& job, const Body& body) {
  const int64_t count = job.row_tiles * job.column_tiles * job.problem.batches();
  for (int64_t tile = blockIdx.x; tile < count; tile += gridDim.x) {
    body(tile / job.column_tiles / job.row_tiles, tile / job.column_tiles % job.row_tiles,
         tile % job.column_tiles);
  }
}

// Barriers: first those that say that a stage is full, then those that say that it is empty.
template <class Tile, bool kPixels, class Problem>
CNNEXT_DEVICE void bring_strips(const WgmmaJob<Problem>& job, const Shared<typename Problem::Value>& tiles,
                                const Shared<uint64_t>& barriers) {
  constexpr int kSize = static_cast<int>(sizeof(typename Problem::Value));
  const WgmmaWalk& walk = job.walk;
  WgmmaStage<Tile::kStages> stage;
  for_each_wgmma_tile(job, [&](int64_t batch, int64_t row, int64_t column) {
    const int64_t m = row * Tile::kRows;
    int64_t q = m, rest = walk.right.count.split(&q);
    const int64_t image = walk.down.count.split(&rest);
    const int channel0 = static_cast<int>(batch * walk.group_channels);
    const int x = static_cast<int>(q) * walk.right.step + walk.right.first,
              y = static_cast<int>(rest) * walk.down.step + walk.down.first;
    const int column0 = static_cast<int>(column * Tile::kColumns);
    [[maybe_unused]] const int line_b = static_cast<int>(batch * job.problem.columns()) + column0;
    int block = 0, tap_column = 0, tap_row = 0;
#pragma unroll 1
    for (int strip = 0; strip < job.strips; ++strip) {
      mbarrier_wait(barriers, Tile::kStages + stage.number, stage.parity ^ 1);  // empty
      mbarrier_expect(barriers, stage.number, Tile::kStageBytes);
      const int at = stage.number * (Tile::kStageBytes / kSize), channel = channel0 + block * Tile::kDepth;
      if constexpr (kPixels) {
        load_pixels(job.a, tiles, at, barriers, stage.number, {channel, x, y, static_cast<int>(image)},
                    walk.columns.first_offset + tap_column * walk.columns.offset,
                    walk.rows.first_offset + tap_row * walk.rows.offset);
      } else {
        load_box(job.a, tiles, at, barriers, stage.number, {channel, static_cast<int>(m)});
      }
      const int at_b = at + Tile::kBytesA / kSize;
      if constexpr (Problem::kBAlongDepth) {
        load_box(job.b, tiles, at_b, barriers, stage.number, {strip * Tile::kDepth, line_b});
      } else {
#pragma unroll
        for (int part = 0; part < Tile::kColumns; part += kSwizzledLines) {
          load_box(job.b, tiles, at_b + part * Tile::kDepth, barriers, stage.number,
                   {column0 + part, walk.columns.first + tap_column * walk.columns.step,
                    walk.rows.first + tap_row * walk.rows.step, channel});
        }
      }
      stage.advance();
      if (++block < walk.blocks) continue;
      block = 0;
      if (++tap_column < walk.columns.count) continue;
      tap_column = 0;
      ++tap_row;
    }
  });
}

// A warp group's 64 rows of the block's tiles.
template <class Tile, class Problem>
CNNEXT_DEVICE void multiply_strips(const WgmmaJob<Problem>& job, int base, uint32_t address,
                                   const Shared<uint64_t>& barriers) {
  const int me = static_cast<int>(threadIdx.x) - kWarpgroup, warp = me / 32;
  const bool is_first = me % 32 == 0;
  constexpr bool kAcrossB = !Problem::kBAlongDepth;
  constexpr int kStep = 32;                  // bytes of terms that a product takes
  constexpr int kEight = kSwizzleBytes * 8;  // to the next eight lines, or terms
  constexpr int kStepB = kAcrossB ? kEight * 2 : kStep, kNextLines = kSwizzleBytes * Tile::kDepth;
  const uint32_t rows = address + static_cast<uint32_t>(warp / 4 * 64 * kSwizzleBytes);
  WgmmaStage<Tile::kStages> stage;
  for_each_wgmma_tile(job, [&](int64_t batch, int64_t row, int64_t column) {
    float sums[Tile::kSlabsAcross][Tile::kWarpColumns / 8][4];
    int before = 0;  // the stage of the strip before
#pragma unroll 1
    for (int strip = 0; strip < job.strips; ++strip) {
      const auto offset = static_cast<uint32_t>(stage.number * Tile::kStageBytes);
      const uint64_t a = wgmma_descriptor(rows + offset, 0, kEight),
                     b = wgmma_descriptor(address + offset + Tile::kBytesA, kNextLines, kEight);
      mbarrier_wait(barriers, stage.number, stage.parity);
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < kSwizzleBytes / kStep; ++i) {
        wgmma<typename Problem::Value, false, kAcrossB>(sums, advanced(a, i * kStep), advanced(b, i * kStepB),
                                                        strip > 0 || i > 0);
      }
      wgmma_commit();
      wgmma_wait<1>();  // the strip before is multiplied
      if (is_first && strip > 0) mbarrier_arrive(barriers, Tile::kStages + before);
      before = stage.number;
      stage.advance();
    }
    wgmma_wait<0>();
    if (is_first) mbarrier_arrive(barriers, Tile::kStages + before);
    MmaStore<Problem, Tile>(job.problem, job.whole_results, batch, row * Tile::kRows + warp * 16,
                            column * Tile::kColumns, base + Tile::kSlabs + warp * Tile::kSlabBytes)(sums);
  });
}

// kPixels: `a` are windows' pixels, else a matrix.
template <class Problem, class Tile, bool kPixels>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    wgmma_gemm([[maybe_unused]] const __grid_constant__ WgmmaJob<Problem> job) {
#if CNNEXT_HOPPER
  using T = typename Problem::Value;
  CNNEXT_SHARED(uint64_t, barriers, 2 * Tile::kStages);
  const uint32_t start = dynamic_shared<T>(0, 16).address(0);
  const int base = static_cast<int>((0u - start) % kSwizzleAlignment);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      mbarrier_init(barriers, i, 1);
      mbarrier_init(barriers, Tile::kStages + i, kWgmmaConsumers * 4);  // a warp's first lane arrives
    }
    mbarrier_init_fence();
  }
  block_barrier();
  if (threadIdx.x < kWarpgroup) {
    fewer_registers<40>();
    if (threadIdx.x == 0) {
      bring_strips<Tile, kPixels>(job, dynamic_shared<T>(base, Tile::kSlabs / static_cast<int>(sizeof(T))),
                                  barriers);
    }
  } else {
    more_registers<232>();
    multiply_strips<Tile>(job, base, start + static_cast<uint32_t>(base), barriers);
  }
#else
  __trap();  // never launched there
#endif
}

// By that tile of kWgmmaShapes.
template <bool kPixels, int kShape = 0, class Problem>
void run_wgmma(const Op& op, WgmmaJob<Problem> job, int shape, int64_t sms) {
  using T = typename Problem::Value;
  if constexpr (kShape + 1 < kWgmmaShapeCount<T>) {
    if (shape > kShape) return run_wgmma<kPixels, kShape + 1>(op, job, shape, sms);
  }
  using Tile = WgmmaTileOf<T, kShape>;
  job.row_tiles = ceil_div(job.problem.rows(), Tile::kRows);
  job.column_tiles = ceil_div(job.problem.columns(), Tile::kColumns);
  const int64_t tiles = job.row_tiles * job.column_tiles * job.problem.batches();
  if (tiles == 0) return;
  launch(op, wgmma_gemm<Problem, Tile, kPixels>,
         dim3(static_cast<unsigned>(least(least(tiles, sms), kMostBlocks))), kWgmmaThreads, Tile::kBytes,
         job);
}

}  // namespace cnnext::cuda
