// Which tile a matrix product on tensor cores takes, and into how many slices its sums are cut: from its
// shape and the device's number of multiprocessors alone.
#pragma once

#include "cuda/mma_tile.cuh"

namespace cnnext::cuda {

// clocks: what a strip of a tile keeps an SM busy for. That is what its bytes take through shared memory, 128
// a clock (written once, read by two warps each), or mma.sync itself: 413 clocks for the largest on an H100.
// around: the clocks before a tile's first strip is there, and to store its results.
struct MmaShape {
  int rows, columns, stages, blocks, clocks, around = 1500;
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
  constexpr int64_t kBytesPerClock = 16;  // of an SM, from and to memory
  const int64_t tiles =
      ceil_div(work.rows, shape.rows) * ceil_div(work.columns, shape.columns) * work.batches;
  const int64_t busiest = ceil_div(tiles * slices, sms);
  const int64_t multiplying = busiest * (ceil_div(work.strips, slices) * shape.clocks + shape.around);
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

// The tiles of wgmma_gemm.cuh, with the clocks of half of a strip, which is twice as deep as the others'. For
// a whole one of 128 x 128 wgmma takes 512, and shared memory 640: 32 KiB are written, 48 KiB read. For 128 x
// 256, whose results take twice as long to store, both take 1,024: 48 KiB are written, 80 KiB read.
constexpr MmaShape kWgmmaShapes[] = {{128, 128, 4, 1, 320}, {128, 256, 4, 1, 512, 3000}};
// TF32 has the first of them only.
template <class T>
constexpr int kWgmmaShapeCount = sizeof(T) == 2 ? 2 : 1;
constexpr int kByMma = -1;
// In one row with mma.sync's, they are numbered from here on.
constexpr int kFirstWgmma = kMmaShapeCount;
constexpr int kShapeCount = kFirstWgmma + kWgmmaShapeCount<uint16_t>;

// Which of the first `count` is done soonest, or kByMma: the best tile of mma.sync is sooner.
constexpr int choose_wgmma(const MmaWork& work, int count, int64_t sms) {
  const MmaChoice other = choose_mma(work, sms);
  int best = kByMma;
  int64_t least_clocks = mma_clocks(work, kMmaShapes[other.shape], other.slices, sms);
  for (int shape = 0; shape < count; ++shape) {
    const int64_t clocks = mma_clocks(work, kWgmmaShapes[shape], 1, sms);
    if (clocks > least_clocks || (clocks == least_clocks && best != kByMma)) continue;
    least_clocks = clocks;
    best = shape;
  }
  return best;
}

}  // namespace cnnext::cuda
