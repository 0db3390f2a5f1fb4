// Tiles of a matrix product on tensor cores: how they lie in shared memory, so that neither cp.async, which
// writes them, nor ldmatrix, which reads them, meets a bank twice; and a warp's fragments of them.
//
// A strip is 64 bytes of terms: 32 of 16 bits, 16 of TF32. An operand's tile is its lines (rows of a, columns
// of b) by a strip, in chunks of 16 bytes, which hold neighbouring terms of a line (along depth) or
// neighbouring lines of a term, as they lie in global memory.
#pragma once

#include "cuda/device_utils.cuh"
#include "cuda/index.cuh"

namespace cnnext::cuda {

constexpr int kMmaThreads = 128;  // four warps, two by two
constexpr int kStripBytes = 64;

template <class T, int kLines_, bool kAlongDepth_>
struct MmaOperand {
  static constexpr int kLines = kLines_;
  static constexpr bool kAlongDepth = kAlongDepth_;
  static constexpr int kSize = static_cast<int>(sizeof(T)), kChunk = kWidest<T>;
  static constexpr int kDepth = kStripBytes / kSize, kValues = kLines * kDepth;
  static constexpr int kCopies = kValues / kChunk / kMmaThreads;  // a thread's chunks, at one term
  static constexpr int kAcross = kAlongDepth ? kDepth / kChunk : kMmaThreads / kDepth;  // chunks side by side

  // Where an element lies. The place of a chunk is changed so that eight lines (along depth: at one term) or
  // eight terms (at one line) lie in different banks; of TF32, which is read word by word, four terms.
  CNNEXT_INDEX static int at(int line, int term) {
    if (kAlongDepth) return line * kDepth + ((term / kChunk) ^ (line / 2 % 4)) * kChunk + term % kChunk;
    const int spread = kSize == 2 ? term / 2 % 4 + term % 2 * 4 : term % 4 * 2;
    return term * kLines + ((line / kChunk) ^ spread) * kChunk + line % kChunk;
  }

  struct Place {
    int line, term;
  };
  // The chunk that a thread copies in step i.
  CNNEXT_INDEX static Place copied(int thread, int i) {
    const int across = thread % kAcross, down = thread / kAcross;
    if (kAlongDepth) return {down + i * (kMmaThreads / kAcross), across * kChunk};
    return {(across + i * kAcross) * kChunk, down};
  }
  // The element that a thread gathers along depth in step i.
  CNNEXT_INDEX static Place gathered(int thread, int i) {
    return {thread / kDepth + i * (kMmaThreads / kDepth), thread % kDepth};
  }
  // Which row of four 8 x 8 matrices a lane points ldmatrix at. The matrices lie two by two: a's first two
  // below each other, b's beside each other in depth.
  template <bool kIsA>
  CNNEXT_INDEX static int matrix_row(int lane, int line0, int term0) {
    const int matrix = lane / 8, row = lane % 8;
    const int line = line0 + (kIsA ? matrix % 2 : matrix / 2) * 8;
    const int term = term0 + (kIsA ? matrix / 2 : matrix % 2) * kChunk;
    return kAlongDepth ? at(line + row, term) : at(line, term + row);
  }
  // The same for one word of TF32 that lies along lines.
  template <bool kIsA>
  CNNEXT_INDEX static int matrix_word(int lane, int matrix, int line0, int term0) {
    return at(line0 + (kIsA ? matrix % 2 : matrix / 2) * 8 + lane / 4,
              term0 + (kIsA ? matrix / 2 : matrix % 2) * kChunk + lane % 4);
  }
};

// 16 lines by two chunks of terms, as mma.sync wants them.
template <bool kIsA, class Operand, class T>
CNNEXT_DEVICE void load_fragments(uint32_t (&out)[4], const Shared<T>& tile, int line0, int term0) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if constexpr (Operand::kAlongDepth) {
    ldmatrix_x4(out, tile, Operand::template matrix_row<kIsA>(lane, line0, term0));
  } else if constexpr (sizeof(T) == 2) {
    ldmatrix_x4_transposed(out, tile, Operand::template matrix_row<kIsA>(lane, line0, term0));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[i] = bits_as<uint32_t>(tile.get(Operand::template matrix_word<kIsA>(lane, i, line0, term0)));
    }
  }
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = to_tf32(bits_as<float>(out[i]));
  }
}

// A slab of 16 rows of a warp's results on its way out; its pitch keeps the fragments' rows apart.
template <class T, int kColumns>
struct MmaSlab {
  static constexpr int kChunk = kWidest<T>, kWarpColumns = kColumns;
  static constexpr int kSlabsAcross = 1;  // of the warp's columns
  static constexpr int kSlabPitch = kColumns + 8, kSlabBytes = 16 * kSlabPitch * 4;
  // Where a lane puts its first two sums of eight columns; the others are eight rows further down.
  CNNEXT_INDEX static int sum_in_slab(int lane, int j) {
    return lane / 4 * kSlabPitch + j * 8 + lane % 4 * 2;
  }
  // The chunk of results that a lane reads in step i. Of eight values every other four lanes begin with the
  // upper four.
  static constexpr int kAcross = kColumns / kChunk;
  CNNEXT_INDEX static int item_row(int lane, int i) { return (lane + i * 32) / kAcross; }
  CNNEXT_INDEX static int item_column(int lane) { return lane % kAcross * kChunk; }
  CNNEXT_INDEX static bool is_late(int lane) { return lane / 4 % 2 != 0; }
};

template <class T, int kRows_, int kColumns_, int kStages_, int kBlocks_>
struct MmaTile : MmaSlab<T, kColumns_ / 2> {
  using Value = T;
  static constexpr int kRows = kRows_, kColumns = kColumns_, kStages = kStages_;
  static constexpr int kBlocks = kBlocks_;  // on one SM: what registers are for
  static constexpr int kDepth = kStripBytes / static_cast<int>(sizeof(T));
  static constexpr int kWarpRows = kRows / 2, kWarpColumns = kColumns / 2;
  static constexpr int kStageValues = (kRows + kColumns) * kDepth;
  static constexpr int kBytes = kStages * kStageValues * static_cast<int>(sizeof(T));
  // No kernel has to ask for more than 48 KiB, and the blocks fit beside each other on the smallest SMs.
  static_assert(kBytes <= 48 << 10 && kBlocks * (kBytes + 1024) <= 100 << 10);

  static_assert(kMmaThreads / 32 * MmaSlab<T, kWarpColumns>::kSlabBytes <= kBytes);
};

// sums (a warp's) += a strip of a times a strip of b.
template <class Tile, class OperandA, class OperandB, class T>
CNNEXT_DEVICE void multiply_strip(float (&sums)[Tile::kWarpRows / 16][Tile::kWarpColumns / 8][4],
                                  const Shared<T>& a, const Shared<T>& b) {
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int row0 = warp / 2 * Tile::kWarpRows, column0 = warp % 2 * Tile::kWarpColumns;
#pragma unroll
  for (int term = 0; term < Tile::kDepth; term += 2 * Tile::kChunk) {
    uint32_t rows[Tile::kWarpRows / 16][4], columns[Tile::kWarpColumns / 16][4];
#pragma unroll
    for (int i = 0; i < Tile::kWarpRows / 16; ++i) {
      load_fragments<true, OperandA>(rows[i], a, row0 + i * 16, term);
    }
#pragma unroll
    for (int j = 0; j < Tile::kWarpColumns / 16; ++j) {
      load_fragments<false, OperandB>(columns[j], b, column0 + j * 16, term);
    }
#pragma unroll
    for (int i = 0; i < Tile::kWarpRows / 16; ++i) {
#pragma unroll
      for (int j = 0; j < Tile::kWarpColumns / 8; ++j) {
        const uint32_t column[2] = {columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1]};
        if constexpr (sizeof(T) == 2) {
          mma_16x8x16<T>(sums[i][j], rows[i], column);
        } else {
          mma_16x8x8_tf32(sums[i][j], rows[i], column);
        }
      }
    }
  }
}

}  // namespace cnnext::cuda
