// 16-bit images on their way into float scratch and out of it: matrices of rows, as they lie or transposed.
// Planes go through a block that stays in L1.
#pragma once

#include "core/exec.h"
#include "core/tensor.h"
#include "cpu/ukernels.h"

namespace cnnext {

const HalfConverter& half_converter(int32_t dtype);  // of the active instruction set; dtype is 16-bit

// out[r * out_step + c] = in[r * in_step + c]
void widen_rows(const HalfConverter& half, int64_t rows, int64_t cols, const uint16_t* in, int64_t in_step,
                float* out, int64_t out_step);
void narrow_rows(const HalfConverter& half, int64_t rows, int64_t cols, const float* in, int64_t in_step,
                 uint16_t* out, int64_t out_step);
// out[c * out_step + r] = in[r * in_step + c]: planes (rows) to pixels.
void widen_transposed(const HalfConverter& half, int64_t rows, int64_t cols, const uint16_t* in,
                      int64_t in_step, float* out, int64_t out_step);

// All of a (small) tensor, in scratch, in its order of memory.
const float* widened(const Tensor& t, Exec& exec);
void narrow_all(const float* in, const Tensor& t, Exec& exec);

// body(first row, rows, first column, columns, block) for a cut of a rows x cols matrix into blocks of at
// most kHalfBlockRows x kHalfBlockCols, which all of a block's values fit.
constexpr int64_t kHalfBlockRows = 16, kHalfBlockCols = 256;
template <class Body>
void for_half_blocks(int64_t rows, int64_t cols, const Body& body) {
  alignas(64) float block[kHalfBlockRows * kHalfBlockCols];
  for (int64_t r = 0; r < rows; r += kHalfBlockRows) {
    const int64_t count = rows - r < kHalfBlockRows ? rows - r : kHalfBlockRows;
    for (int64_t c = 0; c < cols; c += kHalfBlockCols) {
      body(r, count, c, cols - c < kHalfBlockCols ? cols - c : kHalfBlockCols, block);
    }
  }
}

}  // namespace cnnext
