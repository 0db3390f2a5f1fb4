// Backward-weights: the tiles and the movers of conv_weights.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/conv_k-inl.h"
#include "cpu/kernels/conv_weights.h"

namespace cnnext {
namespace {

template <class V, int M, int NV>
inline void conv_weights_put(const ConvWeightsTile& tile, bool accumulate, V (&acc)[M][NV]) {
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    float* out = tile.out[m];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      V sum = acc[m][v];
      if (accumulate) sum = V::load(out + v * V::kLanes) + sum;
      sum.store(out + v * V::kLanes);
      acc[m][v] = V::zero();
    }
  }
}

// M x NV accumulators. A is broadcast from M pointers that share one index, so that M addresses cost M
// registers and no additions; B is read once a pixel. Runs of pixels are summed by themselves and then added
// to `out`: the rounding errors of long sums stay small.
template <class V, class Term, int M, int NV>
void conv_weights_tile(const ConvWeightsPixels& pixels, const ConvWeightsTile& tile) {
  V acc[M][NV];
  const float* a[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    a[m] = tile.a[m];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[m][v] = V::zero();
  }
  bool accumulate = tile.accumulate;
  int64_t room = pixels.run;  // pixels that the run still takes
  const int64_t a_col = pixels.a_col, b_col = pixels.b_col;
  for (int64_t i = 0; i < pixels.images; ++i) {
    for (int64_t r = 0; r < pixels.rows; ++r) {
      int64_t at = i * pixels.a_image + r * pixels.a_row;
      const float* b = tile.b + i * pixels.b_image + r * pixels.b_row;
      for (int64_t left = pixels.cols; left > 0;) {
        if (room == 0) {
          conv_weights_put<V, M, NV>(tile, accumulate, acc);
          accumulate = true;
          room = pixels.run;
        }
        const int64_t run = left < room ? left : room;
        left -= run;
        room -= run;
#pragma GCC unroll 1
        for (int64_t c = run; c > 0; --c, at += a_col, b += b_col) {
          V row[NV];
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) {
            row[v] = V::load(b + v * V::kLanes);
            if (M > 1) pin(row[v]);
          }
#pragma GCC unroll 8
          for (int m = 0; m < M; ++m) {
            V x = V::broadcast(a[m] + at);
            if (NV > 1) pin(x);
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[m][v] = Term::add(x, row[v], acc[m][v]);
          }
        }
      }
    }
  }
  conv_weights_put<V, M, NV>(tile, accumulate, acc);
}

// One block of up to kLanes x kLanes. Rows from `rows` on are taken as zero.
template <class V, bool kPadded>
inline void conv_weights_transpose_block(int rows, int cols, const float* in, int64_t in_step, float* out,
                                         int64_t out_step) {
  constexpr int kLanes = V::kLanes;
  V block[kLanes];
  if (cols == kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) block[i] = i < rows ? V::load(in + i * in_step) : V::zero();
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) block[i] = i < rows ? V::load_tail(in + i * in_step, cols) : V::zero();
  }
  transpose(block);
  const bool whole = kPadded || rows == kLanes;
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) {
    if (j >= cols) break;
    if (whole)
      block[j].store(out + j * out_step);
    else
      block[j].store_tail(out + j * out_step, rows);
  }
}

template <class V, bool kPadded>
void conv_weights_transpose(int64_t rows, int64_t cols, const float* in, int64_t in_step, float* out,
                            int64_t out_step) {
  constexpr int kLanes = V::kLanes;
  for (int64_t j = 0; j < cols; j += kLanes) {
    const int block_cols = cols - j < kLanes ? static_cast<int>(cols - j) : kLanes;
    for (int64_t i = 0; i < rows; i += kLanes) {
      const int block_rows = rows - i < kLanes ? static_cast<int>(rows - i) : kLanes;
      conv_weights_transpose_block<V, kPadded>(block_rows, block_cols, in + i * in_step + j, in_step,
                                               out + j * out_step + i, out_step);
    }
  }
}

template <class V>
void conv_weights_copy_rows(int64_t rows, int64_t cols, const float* in, int64_t in_step, float* out,
                            int64_t out_step) {
  constexpr int kLanes = V::kLanes;
  const int64_t whole = cols / kLanes * kLanes;
  const int tail = static_cast<int>(cols - whole);
  for (int64_t i = 0; i < rows; ++i, in += in_step, out += out_step) {
    for (int64_t j = 0; j < whole; j += kLanes) V::load(in + j).store(out + j);
    if (tail) V::load_tail(in + whole, tail).store(out + whole);
  }
}

template <class V>
void conv_weights_add(int64_t n, int64_t count, const float* parts, int64_t step, float* sum) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) {
    V s = V::load(sum + i);
    for (int64_t j = 0; j < count; ++j) s = s + V::load(parts + j * step + i);
    s.store(sum + i);
  }
  for (; i < n; ++i) {
    float s = sum[i];
    for (int64_t j = 0; j < count; ++j) s += parts[j * step + i];
    sum[i] = s;
  }
}

#define CNNEXT_CONV_WEIGHTS_ROWS_6(V, Term, NV)                                  \
  nullptr, conv_weights_tile<V, Term, 1, NV>, conv_weights_tile<V, Term, 2, NV>, \
      conv_weights_tile<V, Term, 3, NV>, conv_weights_tile<V, Term, 4, NV>,      \
      conv_weights_tile<V, Term, 5, NV>, conv_weights_tile<V, Term, 6, NV>
#define CNNEXT_CONV_WEIGHTS_ROWS_8(V, Term, NV)                               \
  CNNEXT_CONV_WEIGHTS_ROWS_6(V, Term, NV), conv_weights_tile<V, Term, 7, NV>, \
      conv_weights_tile<V, Term, 8, NV>
#define CNNEXT_CONV_WEIGHTS_MOVERS(V)                                                           \
  conv_weights_transpose<V, false>, conv_weights_transpose<V, true>, conv_weights_copy_rows<V>, \
      conv_weights_add<V>

// 16 registers: 6x2 accumulators, two vectors of B, one broadcast.
template <class V>
constexpr ConvWeightsUkernels conv_weights_ukernels_16(const char* name) {
  using Term = Product<V>;
  return {V::kLanes,
          2,
          {0, 8, 6, 0, 0},
          true,
          {{}, {CNNEXT_CONV_WEIGHTS_ROWS_8(V, Term, 1)}, {CNNEXT_CONV_WEIGHTS_ROWS_6(V, Term, 2)}, {}, {}},
          CNNEXT_CONV_WEIGHTS_MOVERS(V),
          name};
}
// 32 registers: 6x4 or 8x3.
template <class V, class Term = Product<V>>
constexpr ConvWeightsUkernels conv_weights_ukernels_32(const char* name) {
  return {V::kLanes,
          4,
          {0, 8, 8, 8, 6},
          false,
          {{},
           {CNNEXT_CONV_WEIGHTS_ROWS_8(V, Term, 1)},
           {CNNEXT_CONV_WEIGHTS_ROWS_8(V, Term, 2)},
           {CNNEXT_CONV_WEIGHTS_ROWS_8(V, Term, 3)},
           {CNNEXT_CONV_WEIGHTS_ROWS_6(V, Term, 4)}},
          CNNEXT_CONV_WEIGHTS_MOVERS(V),
          name};
}

}  // namespace
}  // namespace cnnext
