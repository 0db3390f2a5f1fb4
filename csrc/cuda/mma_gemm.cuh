// A matrix product on tensor cores, of the same Problems as gemm.cuh, which are read from memory as they lie:
// a strip of both operands is multiplied while cp.async brings the next ones. Of a Problem this takes, beside
// what gemm.cuh does:
//   Value; kResultsAlongColumns: whether results of neighbouring columns are neighbours in memory.
// Terms of one sum are added in order, so the bits do not depend on the tile.
#pragma once

#include "cuda/mma_loader.cuh"

namespace cnnext::cuda {

// A launch's arguments.
template <class Problem>
struct MmaJob {
  Problem problem;
  TermWalk::Step step_a, step_b;
  int64_t row_tiles, column_tiles;
  bool whole_results;  // 16 bytes of them at a time
};

// A warp's results on their way from its sums to memory, through 16 rows of shared memory at a time.
template <class Problem, class Tile>
class MmaStore {
  static constexpr bool kVectors = Problem::kResultsAlongColumns;
  static constexpr int kWidth = kVectors ? Tile::kChunk : 1;
  static constexpr int kItems = 16 * Tile::kWarpColumns / kWidth / 32;  // a lane's in a slab
  static constexpr int kSlabs = Tile::kWarpRows / 16 * Tile::kSlabsAcross, kPitch = Tile::kSlabPitch;
  static constexpr int kUnrolled = kVectors ? 2 : 4;  // an item's code is long
  static_assert(kItems * kSlabs <= 64, "mend has so many bits");

 public:
  // A warp's, which begin there; they go through shared memory from byte `slab` on.
  CNNEXT_DEVICE MmaStore(const Problem& problem, bool whole_results, int64_t batch, int64_t row0,
                         int64_t column0, int slab)
      : problem_(problem),
        whole_results_(whole_results),
        batch_(batch),
        row0_(row0),
        column0_(column0),
        slab_(slab) {}

  CNNEXT_DEVICE void operator()(const float (&sums)[kSlabs][Tile::kWarpColumns / 8][4]) const {
    const Shared<float> slab = dynamic_shared<float>(slab_, 16 * kPitch);
    uint64_t mend = 0;
#pragma unroll 1  // a slab's code is long
    for (int s = 0; s < kSlabs; ++s) {
      warp_barrier();  // the slab before is read
#pragma unroll
      for (int of = 0; of < kSlabs; ++of) {
        if (of == s) fill(slab, sums[of]);
      }
      warp_barrier();
#pragma unroll(kUnrolled)
      for (int i = 0; i < kItems; ++i) {
        const Item item = item_of(s, i);
        if (!item.wanted) continue;
        const Vec<float, kWidth> values = read(slab, item.slab);
        bool is_nan = false;
#pragma unroll
        for (int j = 0; j < kWidth; ++j) is_nan = is_nan || values[j] != values[j];
        if (is_nan) {
          mend |= uint64_t{1} << (s * kItems + i);
        } else {
          put(item, values);
        }
      }
    }
    if (mend != 0) sum_again(mend);
  }

 private:
  struct Item {
    int64_t m, n;
    int slab;  // where in it
    bool wanted;
  };
  CNNEXT_DEVICE static void fill(const Shared<float>& slab, const float (&sums)[Tile::kWarpColumns / 8][4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int j = 0; j < Tile::kWarpColumns / 8; ++j) {
      const int at = Tile::sum_in_slab(lane, j);
      slab.template set_vec<2>(at, {{sums[j][0], sums[j][1]}});
      slab.template set_vec<2>(at + 8 * kPitch, {{sums[j][2], sums[j][3]}});
    }
  }
  CNNEXT_DEVICE static Vec<float, kWidth> read(const Shared<float>& slab, int at) {
    if constexpr (kWidth < 8) {
      return slab.template get_vec<kWidth>(at);
    } else {
      const bool late = Tile::is_late(static_cast<int>(threadIdx.x));
      const Vec<float, 4> one = slab.template get_vec<4>(at + (late ? 4 : 0));
      const Vec<float, 4> other = slab.template get_vec<4>(at + (late ? 0 : 4));
      Vec<float, 8> values;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        values[j] = late ? other[j] : one[j];
        values[j + 4] = late ? one[j] : other[j];
      }
      return values;
    }
  }
  CNNEXT_DEVICE Item item_of(int s, int i) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = kVectors ? Tile::item_row(lane, i) : lane % 16;
    const int column = kVectors ? Tile::item_column(lane) : lane / 16 + i * 2;
    const int64_t m = row0_ + s / Tile::kSlabsAcross * 16 + row,
                  n = column0_ + s % Tile::kSlabsAcross * Tile::kWarpColumns + column;
    return {m, n, row * kPitch + column, m < problem_.rows() && n < problem_.columns()};
  }
  CNNEXT_DEVICE void put(const Item& item, const Vec<float, kWidth>& values) const {
    const typename Problem::Result result = problem_.result(batch_, item.m);
    if (kWidth == 1 || whole_results_) {
      problem_.template put<kWidth>(result, item.n, values);
    } else if constexpr (kWidth > 1) {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        if (item.n + j < problem_.columns()) {
          problem_.template put<1>(result, item.n + j, {{values[j]}});
        }
      }
    }
  }
  // Padding under an infinite weight made a NaN (sum_inside), or there is one to be had.
  CNNEXT_DEVICE void sum_again(uint64_t mend) const {
#pragma unroll 1
    for (int number = 0; mend != 0; ++number, mend >>= 1) {
      if (!(mend & 1)) continue;
      const Item item = item_of(number / kItems, number % kItems);
      const typename Problem::Result result = problem_.result(batch_, item.m);
#pragma unroll 1
      for (int64_t n = item.n; n < least(item.n + kWidth, problem_.columns()); ++n) {
        problem_.template put<1>(result, n, {{sum_inside(problem_, batch_, item.m, n)}});
      }
    }
  }

  const Problem& problem_;
  bool whole_results_;
  int64_t batch_, row0_, column0_;
  int slab_;
};

template <class Problem, class Tile, bool kWholeA, bool kWholeB>
__global__ void __launch_bounds__(kMmaThreads, Tile::kBlocks)
    mma_gemm(const __grid_constant__ MmaJob<Problem> job) {
  using LoaderA = MmaLoader<Problem, Tile, true, kWholeA>;
  using LoaderB = MmaLoader<Problem, Tile, false, kWholeB>;
  using T = typename Problem::Value;
  constexpr int kSize = static_cast<int>(sizeof(T));
  const Problem& problem = job.problem;
  const Shared<T> tiles = dynamic_shared<T>(0, Tile::kStages * Tile::kStageValues);
  const int64_t count = job.row_tiles * job.column_tiles * problem.batches();
  for (int64_t tile = blockIdx.x; tile < count; tile += gridDim.x) {
    // Neighbours share rows, which are the larger operand but for the gradient of weights.
    const int column = static_cast<int>(tile % job.column_tiles);
    const int row = static_cast<int>(tile / job.column_tiles % job.row_tiles);
    const int batch = static_cast<int>(tile / job.column_tiles / job.row_tiles);
    const Range terms = problem.terms(batch);
    LoaderA a(problem, batch, int64_t{row} * Tile::kRows, terms.begin, Tile::kBytes);
    LoaderB b(problem, batch, int64_t{column} * Tile::kColumns, terms.begin,
              Tile::kBytes + LoaderA::kTableBytes);
    if (LoaderA::kTabled || LoaderB::kTabled) block_barrier();
    const int strips = static_cast<int>(ceil_div(terms.end - terms.begin, Tile::kDepth));
    const int in_last = static_cast<int>(terms.end - terms.begin - int64_t{strips - 1} * Tile::kDepth);
    const auto fetch = [&](int strip, int stage) {
      if (strip < strips) {
        const int left = strip + 1 < strips ? Tile::kDepth : in_last;
        a.fetch(problem, job.step_a, tiles, stage, left);
        b.fetch(problem, job.step_b, tiles, stage + LoaderA::Operand::kValues, left);
      }
      cp_async_commit();
    };
    const auto put = [&](int strip, int stage) {
      if (strip < strips) {
        a.put(tiles, stage);
        b.put(tiles, stage + LoaderA::Operand::kValues);
      }
    };
    constexpr int kAhead = Tile::kStages - 1;
#pragma unroll 1
    for (int strip = 0; strip < kAhead; ++strip) {
      fetch(strip, strip * Tile::kStageValues);
      put(strip, strip * Tile::kStageValues);
    }
    float sums[Tile::kWarpRows / 16][Tile::kWarpColumns / 8][4] = {};
    int stage = 0, into = kAhead * Tile::kStageValues;
#pragma unroll 1
    for (int strip = 0; strip < strips; ++strip) {
      cp_async_wait<kAhead - 1>();
      block_barrier();  // all see this strip, and are done with the one that the next fetch overwrites
      fetch(strip + kAhead, into);
      multiply_strip<Tile, typename LoaderA::Operand, typename LoaderB::Operand>(
          sums, dynamic_shared<T>(stage * kSize, LoaderA::Operand::kValues),
          dynamic_shared<T>((stage + LoaderA::Operand::kValues) * kSize, LoaderB::Operand::kValues));
      put(strip + kAhead, into);
      into = stage;
      stage = stage == kAhead * Tile::kStageValues ? 0 : stage + Tile::kStageValues;
    }
    block_barrier();  // the results take the strips' place
    const int warp = static_cast<int>(threadIdx.x) / 32;
    MmaStore<Problem, Tile>(
        problem, job.whole_results, batch, (row * int64_t{2} + warp / 2) * Tile::kWarpRows,
        (column * int64_t{2} + warp % 2) * Tile::kWarpColumns, warp * Tile::kSlabBytes)(sums);
    block_barrier();  // and the next tile's strips theirs
  }
}

template <class Tile, bool kWholeA, bool kWholeB, class Problem>
void run_mma(const Op& op, const Problem& problem, bool whole_results) {
  using LoaderA = MmaLoader<Problem, Tile, true, kWholeA>;
  using LoaderB = MmaLoader<Problem, Tile, false, kWholeB>;
  const int64_t row_tiles = ceil_div(problem.rows(), Tile::kRows),
                column_tiles = ceil_div(problem.columns(), Tile::kColumns);
  const int64_t tiles = row_tiles * column_tiles * problem.batches();
  if (tiles == 0) return;
  const MmaJob<Problem> job{problem,
                            problem.walk.step(LoaderA::kStep),
                            problem.walk.step(LoaderB::kStep),
                            row_tiles,
                            column_tiles,
                            whole_results};
  launch(op, mma_gemm<Problem, Tile, kWholeA, kWholeB>,
         dim3(static_cast<unsigned>(least(tiles, kMostBlocks))), kMmaThreads,
         Tile::kBytes + LoaderA::kTableBytes + LoaderB::kTableBytes, job);
}

}  // namespace cnnext::cuda
