// How a block's threads bring the operands of mma_gemm.cuh into shared memory, strip by strip.
//
// An operand is whole where 16 bytes of neighbouring terms (kAAlongDepth, kBAlongDepth; else lines) are
// neighbours in memory, aligned, and all of them inside the image or none: cp.async copies them. Where a's
// terms lie a_step() values apart instead (kASteps: channels in NCHW), but are all inside or none, a warp
// reads them one by one along lines, which lie side by side, and they are turned round on their way. All else
// is gathered one by one, a warp along what lies side by side.
#pragma once

#include "cuda/gemm.cuh"
#include "cuda/mma_tile.cuh"

namespace cnnext::cuda {

// A thread's part in one operand's strips.
template <class Problem, class Tile, bool kIsA, bool kWhole>
class MmaLoader {
  using T = typename Problem::Value;
  static constexpr int kTileLines = kIsA ? Tile::kRows : Tile::kColumns;
  static constexpr bool kAlongDepth = kIsA ? Problem::kAAlongDepth : Problem::kBAlongDepth;
  static constexpr bool kTurned = kIsA && kWhole && Problem::kASteps;
  static constexpr bool kCopied = kWhole && !kTurned;
  static constexpr int kAtOnce = kTurned ? kWidest<T> : 1;  // terms that go to shared memory together

 public:
  using Operand = MmaOperand<T, kTileLines, kAlongDepth>;
  // A warp that gathers along depth goes from line to line, so that they lie in shared memory.
  static constexpr bool kTabled = !kWhole && kAlongDepth;
  static constexpr int kTableBytes = kTabled ? kTileLines * static_cast<int>(sizeof(Line)) : 0;
  // The step of the walk over terms: to the next strip, or to the next terms that the thread reads.
  static constexpr int kStep = kCopied || kTabled ? Operand::kDepth : kMmaThreads / kTileLines * kAtOnce;

  // The table begins at that byte of shared memory; others see it after a barrier.
  CNNEXT_DEVICE MmaLoader(const Problem& problem, int64_t batch, int64_t line0, int64_t first, int table)
      : table_(dynamic_shared<Line>(table, kTabled ? kTileLines : 0)) {
    const int64_t count = kIsA ? problem.rows() : problem.columns();
    // Past the last line, that one again: its results are not stored.
    const int64_t last =
        kCopied && !kAlongDepth ? (count - 1) / Operand::kChunk * Operand::kChunk : count - 1;
    const auto line_at = [&](int of_tile) {
      const int64_t line = least(line0 + of_tile, last);
      return kIsA ? problem.row(batch, line) : problem.column(batch, line);
    };
    if constexpr (kTabled) {
      const int me = static_cast<int>(threadIdx.x);
      if (me < kTileLines) table_.set(me, line_at(me));
    } else {
#pragma unroll
      for (int i = 0; i < kLines; ++i) lines_[i] = line_at(place(i).line);
    }
    term_ = problem.walk.start(first + place(0).term);
  }
  // Asks for the next strip, of which `left` terms are there. It goes to values `stage` and on.
  CNNEXT_DEVICE void fetch(const Problem& problem, const TermWalk::Step& step, const Shared<T>& tiles,
                           int stage, int left) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const typename Operand::Place p = place(i);
      const Line line = kTabled ? table_.get(p.line) : lines_[kCopied ? i : 0];
      bool wanted = p.term < left;
      if (kIsA == Problem::kPaddedA) wanted = wanted && is_inside(problem, line, term_.at);
      const T* const from =
          kIsA ? problem.a() + (line.offset + term_.at.a) : problem.b() + (line.offset + term_.at.b);
      if constexpr (kCopied) {
        cp_async16(tiles, stage + Operand::at(p.line, p.term), from, wanted);
      } else {
        bits_[i * kAtOnce] = load_bits_if(from, wanted);
        if constexpr (kTurned) {
#pragma unroll
          for (int j = 1; j < kAtOnce; ++j) {
            bits_[i * kAtOnce + j] = load_bits_if(from + j * problem.a_step(), wanted);
          }
        }
        if (!kTabled) problem.walk.advance(&term_, step);
      }
    }
    if (kCopied || kTabled) problem.walk.advance(&term_, step);
  }
  // What was read by the last fetch.
  CNNEXT_DEVICE void put(const Shared<T>& tiles, int stage) const {
    if constexpr (!kCopied) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const typename Operand::Place p = place(i);
        const int at = stage + Operand::at(p.line, p.term);
        if constexpr (kTurned) {
          tiles.template set_vec<kAtOnce>(at, joined<T>(bits_ + i * kAtOnce));
        } else if constexpr (sizeof(T) == 2) {
          tiles.set(at, bits_as<T>(static_cast<uint16_t>(bits_[i])));
        } else {
          tiles.set(at, bits_as<T>(bits_[i]));
        }
      }
    }
  }

 private:
  static constexpr int kLoads = kCopied ? Operand::kCopies : Operand::kValues / kMmaThreads / kAtOnce;
  static constexpr int kLines = kTabled ? 1 : kCopied ? kLoads : 1;
  static_assert(kTileLines <= kMmaThreads, "a thread writes a line of the table");
  CNNEXT_DEVICE static typename Operand::Place place(int i) {
    const int me = static_cast<int>(threadIdx.x);
    if constexpr (kCopied) return Operand::copied(me, i);
    if constexpr (kTabled) return Operand::gathered(me, i);
    return {me % kTileLines, me / kTileLines * kAtOnce + i * kStep};  // a warp reads along lines
  }
  Shared<Line> table_;
  Line lines_[kLines];
  TermWalk::Term term_;
  uint32_t bits_[kCopied ? 1 : kLoads * kAtOnce];  // what was read, until it is put
};

}  // namespace cnnext::cuda
