// Proves that the tiles of mma_tile.cuh meet no bank of shared memory twice: there are 32 of them, four bytes
// wide, and threads that are served at once wait for each other where they want different words of one.
#pragma once

#include "cuda/mma_choice.cuh"

namespace cnnext::cuda {

// Whether accesses of `bytes` at these byte offsets can be served at once.
template <int kCount>
constexpr bool meet_no_bank_twice(const int (&offsets)[kCount], int bytes) {
  int word_in[32] = {};  // from 1 on
  for (const int offset : offsets) {
    for (int word = offset / 4; word * 4 < offset + bytes; ++word) {
      int& taken = word_in[word % 32];
      if (taken != 0 && taken != word + 1) return false;
      taken = word + 1;
    }
  }
  return true;
}

// cp.async's writes, eight threads of 16 bytes at once.
template <class Operand>
constexpr bool copies_are_free() {
  for (int i = 0; i < Operand::kCopies; ++i) {
    for (int thread = 0; thread < kMmaThreads; thread += 8) {
      int offsets[8] = {};
      for (int t = 0; t < 8; ++t) {
        const auto place = Operand::copied(thread + t, i);
        offsets[t] = Operand::at(place.line, place.term) * Operand::kSize;
      }
      if (!meet_no_bank_twice(offsets, 16)) return false;
    }
  }
  return true;
}

// What is gathered: a warp's neighbouring lines at one term, or terms of its lines.
template <class Operand>
constexpr bool gathers_are_free() {
  for (int thread = 0; thread < kMmaThreads; thread += 32) {
    for (int i = 0; i < Operand::kValues / kMmaThreads; ++i) {
      int offsets[32] = {};
      for (int t = 0; t < 32; ++t) {
        const auto place = Operand::kAlongDepth ? Operand::gathered(thread + t, i)
                                                : typename Operand::Place{(thread + t) % Operand::kLines,
                                                                          i * kMmaThreads / Operand::kLines};
        offsets[t] = Operand::at(place.line, place.term) * Operand::kSize;
      }
      if (!meet_no_bank_twice(offsets, Operand::kSize)) return false;
    }
  }
  return true;
}

// Chunks that are turned round: eight neighbouring lines at one term.
template <class Operand>
constexpr bool turns_are_free() {
  for (int line = 0; line < Operand::kLines; line += 8) {
    for (int term = 0; term < Operand::kDepth; term += Operand::kChunk) {
      int offsets[8] = {};
      for (int t = 0; t < 8; ++t) offsets[t] = Operand::at(line + t, term) * Operand::kSize;
      if (!meet_no_bank_twice(offsets, 16)) return false;
    }
  }
  return true;
}

// ldmatrix's reads, eight rows of 16 bytes at once, or a warp's words.
template <class Operand, bool kIsA>
constexpr bool fragments_are_free() {
  for (int line = 0; line < Operand::kLines; line += 16) {
    for (int term = 0; term < Operand::kDepth; term += 2 * Operand::kChunk) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        int rows[8] = {}, words[32] = {};
        for (int lane = 0; lane < 32; ++lane) {
          words[lane] = Operand::template matrix_word<kIsA>(lane, matrix, line, term) * Operand::kSize;
          if (lane / 8 != matrix) continue;
          rows[lane % 8] = Operand::template matrix_row<kIsA>(lane, line, term) * Operand::kSize;
        }
        const bool by_words = Operand::kSize == 4 && !Operand::kAlongDepth;
        if (by_words ? !meet_no_bank_twice(words, 4) : !meet_no_bank_twice(rows, 16)) return false;
      }
    }
  }
  return true;
}

// Sums on their way out: pairs are written by 16 lanes at once, fours read by eight.
template <class Tile>
constexpr bool slab_is_free() {
  for (int lane0 = 0; lane0 < 32; lane0 += 16) {
    for (int j = 0; j < Tile::kWarpColumns / 8; ++j) {
      int offsets[16] = {};
      for (int t = 0; t < 16; ++t) offsets[t] = Tile::sum_in_slab(lane0 + t, j) * 4;
      if (!meet_no_bank_twice(offsets, 8)) return false;
    }
  }
  for (int lane0 = 0; lane0 < 32; lane0 += 8) {
    int offsets[8] = {};
    for (int t = 0; t < 8; ++t) {
      const int lane = lane0 + t, late = Tile::kChunk == 8 && Tile::is_late(lane) ? 4 : 0;
      offsets[t] = (Tile::item_row(lane, 0) * Tile::kSlabPitch + Tile::item_column(lane) + late) * 4;
    }
    if (!meet_no_bank_twice(offsets, 16)) return false;
  }
  return true;
}

template <class T, int kLines>
constexpr bool operand_is_free() {
  using Deep = MmaOperand<T, kLines, true>;
  using Wide = MmaOperand<T, kLines, false>;
  return copies_are_free<Deep>() && copies_are_free<Wide>() && gathers_are_free<Wide>() &&
         gathers_are_free<Deep>() && turns_are_free<Deep>() && fragments_are_free<Deep, true>() &&
         fragments_are_free<Deep, false>() && fragments_are_free<Wide, true>() &&
         fragments_are_free<Wide, false>();
}
template <class T>
constexpr bool tiles_are_free() {
  return operand_is_free<T, 64>() && operand_is_free<T, 128>() && slab_is_free<MmaTileOf<T, 0>>() &&
         slab_is_free<MmaTileOf<T, 1>>() && slab_is_free<MmaTileOf<T, 2>>();
}

}  // namespace cnnext::cuda
