// Which tile a matrix product on tensor cores takes, and into how many slices its sums are cut: from its
// shape and the device's number of multiprocessors alone.
#pragma once

#include "cuda/mma_tile.cuh"

namespace cnnext::cuda {

// clocks: what a strip of a tile keeps an SM busy for. That is what its bytes take through shared memory, 128
// a clock (written once, read by two warps each), or mma.sync itself: 413 clocks for the largest on an H100.
struct MmaShape {
  int rows, columns, stages, blocks, clocks;
};
constexpr MmaShape kMmaShapes[] = {{128, 128, 3, 2, 413}, {128, 64, 3, 2, 288}, {64, 64, 4, 3, 192}};
constexpr int kMmaShapeCount = 3;

template <class T, int kShape>
using MmaTileOf = MmaTile<T, kMmaShapes[kShape].rows, kMmaShapes[kShape].columns, kMmaShapes[kShape].stages,
                          kMmaShapes[kShape].blocks>;

// TF32 has no registers for the sums of the largest tile and its fragments, which it converts; what is
// gathered has none for more than the smallest.
template <class T, bool kWhole>
constexpr int kFirstShape = kWhole ? (sizeof(T) == 2 ? 0 : 1) : 2;

// For what is gathered: the smallest tile, with registers for what is on its way.
template <class T>
using MmaGatherTile = MmaTile<T, kMmaShapes[2].rows, kMmaShapes[2].columns, kMmaShapes[2].stages, 2>;

struct MmaWork {
  int64_t rows, columns, batches, strips;
  int first_shape;      // the largest tile that there are registers for
  int64_t most_slices;  // 1: the sums stay whole
};
struct MmaChoice {
  int shape;
  int64_t slices;
};

// In clocks: the tiles of the SM that has most of them, one after another, and the slices' way through
// memory.
constexpr int64_t mma_clocks(const MmaWork& work, const MmaShape& shape, int64_t slices, int64_t sms) {
  constexpr int64_t kAround = 1500;       // before a tile's first strip is there, and to store its results
  constexpr int64_t kBytesPerClock = 16;  // of an SM, from and to memory
  const int64_t tiles =
      ceil_div(work.rows, shape.rows) * ceil_div(work.columns, shape.columns) * work.batches;
  const int64_t busiest = ceil_div(tiles * slices, sms);
  const int64_t multiplying = busiest * (ceil_div(work.strips, slices) * shape.clocks + kAround);
  if (work.most_slices == 1) return multiplying;
  return multiplying + slices * work.rows * work.columns * work.batches * 8 / (sms * kBytesPerClock);
}

constexpr MmaChoice choose_mma(const MmaWork& work, int64_t sms) {
  constexpr int64_t kMostTilesEach = 8;
  MmaChoice best{kMmaShapeCount - 1, 1};
  int64_t least_clocks = mma_clocks(work, kMmaShapes[best.shape], 1, sms);
  for (int shape = work.first_shape; shape < kMmaShapeCount; ++shape) {
    const MmaShape& tile = kMmaShapes[shape];
    const int64_t strips = greatest(work.strips, 1);
    const int64_t tiles =
        ceil_div(work.rows, tile.rows) * ceil_div(work.columns, tile.columns) * work.batches;
    // As many slices as give every SM so many tiles, but none that shorten no sum.
    for (int64_t each = 1; each <= (work.most_slices == 1 ? 1 : kMostTilesEach); ++each) {
      const int64_t fit = greatest(1, least(each * sms / greatest(tiles, 1), work.most_slices));
      const int64_t slices = ceil_div(strips, ceil_div(strips, fit));
      const int64_t clocks = mma_clocks(work, tile, slices, sms);
      if (clocks >= least_clocks) continue;
      least_clocks = clocks;
      best = {shape, slices};
    }
  }
  return best;
}

// The tile of wgmma_gemm.cuh, with the clocks of half of a strip, which is twice as deep as the others'.
// wgmma takes 512 for a whole one, and shared memory 640: 32 KiB are written, 48 KiB read.
constexpr MmaShape kWgmmaShape = {128, 128, 4, 1, 320};

// Whether it is done sooner than the best tile of mma.sync.
constexpr bool prefers_wgmma(const MmaWork& work, int64_t sms) {
  const MmaChoice other = choose_mma(work, sms);
  return mma_clocks(work, kWgmmaShape, 1, sms) <=
         mma_clocks(work, kMmaShapes[other.shape], other.slices, sms);
}

}  // namespace cnnext::cuda
