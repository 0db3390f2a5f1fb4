// Packing and transposing by blocks of kLanes x kLanes in registers. The including file has chosen Vec and
// HalfVec.
#pragma once

#include "cpu/kernels/conv_k-inl.h"
#include "cpu/kernels/conv_pack.h"

namespace cnnext {
namespace {

// A vector's worth of rows, `n` columns of each, transposed in registers. Missing rows are 0.
template <class V>
inline void load_block(const float* src, int64_t stride, int64_t rows, int64_t cols, V (&block)[V::kLanes]) {
  constexpr int L = V::kLanes;
  if (cols >= L) {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) block[i] = i < rows ? V::load(src + i * stride) : V::zero();
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      block[i] = i < rows ? V::load_tail(src + i * stride, static_cast<int>(cols)) : V::zero();
  }
  transpose(block);
}

// x * 0 is NaN for what is not finite and 0 otherwise.
template <class V>
inline V not_finite(V sum, V x) {
  return fma(x, V::zero(), sum);
}

// Lanes lie apart and the columns (channel and tap) are contiguous in runs: transpose blocks. The column
// index is split as (outer, inner) = (channel, tap) where taps are contiguous, else (tap, channel).
template <class V, bool kTapInner>
bool pack_transposed(const ConvPackArgs& a) {
  constexpr int L = V::kLanes;
  const int64_t inner = kTapInner ? a.taps : a.channels;
  const int64_t outer = kTapInner ? a.channels : a.taps;
  const int64_t outer_stride = kTapInner ? a.channel_stride : a.tap_stride;
  // Where one outer index follows the other in memory the columns are one run.
  const bool one_run = outer_stride == inner;
  const int64_t runs = one_run ? 1 : outer, columns = one_run ? outer * inner : inner;
  V bad = V::zero();
  for (int64_t l = 0; l < a.nr; l += L) {
    const int64_t lanes = a.lanes - l;
    for (int64_t run = 0; run < runs; ++run) {
      const float* src = a.src + l * a.lane_stride + run * outer_stride;
      int64_t o = run, i = 0;
      for (int64_t column = 0; column < columns; column += L) {
        V block[L];
        load_block<V>(src + column, a.lane_stride, lanes, columns - column, block);
        const int64_t left = columns - column < L ? columns - column : L;
#pragma GCC unroll 16
        for (int j = 0; j < L; ++j) {
          if (j >= left) break;
          bad = not_finite(bad, block[j]);
          const int64_t tap = kTapInner ? i : o, channel = kTapInner ? o : i;
          block[j].store(a.dst + a.tap_dst[tap] + channel * a.nr + l);
          if (++i == inner) i = 0, ++o;
        }
      }
    }
  }
  return !any(is_nan(bad));
}

// Lanes are contiguous: copy vectors.
template <class V>
bool pack_contiguous(const ConvPackArgs& a) {
  constexpr int L = V::kLanes;
  V bad = V::zero();
  for (int64_t t = 0; t < a.taps; ++t) {
    for (int64_t c = 0; c < a.channels; ++c) {
      const float* src = a.src + t * a.tap_stride + c * a.channel_stride;
      float* dst = a.dst + a.tap_dst[t] + c * a.nr;
      for (int64_t l = 0; l < a.nr; l += L) {
        const int64_t left = a.lanes - l;
        const V x = left >= L   ? V::load(src + l)
                    : left <= 0 ? V::zero()
                                : V::load_tail(src + l, static_cast<int>(left));
        bad = not_finite(bad, x);
        x.store(dst + l);
      }
    }
  }
  return !any(is_nan(bad));
}

template <class V>
bool pack_as(const ConvPackArgs& a) {
  if (a.lane_stride == 1) return pack_contiguous<V>(a);
  if (a.tap_stride == 1) return pack_transposed<V, true>(a);
  return pack_transposed<V, false>(a);
}

bool conv_pack(const ConvPackArgs& a) {
  return a.nr % Vec::kLanes == 0 ? pack_as<Vec>(a) : pack_as<HalfVec>(a);
}

template <class V>
void transpose_as(const TransposeArgs& a) {
  constexpr int L = V::kLanes;
  // A single block of channels in a dense dst: a whole vector may be stored where the next pixels, which come
  // later, overwrite what is too much.
  const int64_t overrun = a.rows < L && a.dst_stride == a.rows ? a.cols - (L + a.rows - 1) / a.rows : -1;
  for (int64_t r = 0; r < a.rows; r += L) {
    const int64_t rows = a.rows - r;
    for (int64_t c = 0; c < a.cols; c += L) {
      const int64_t cols = a.cols - c;
      V block[L];
      load_block<V>(a.src + r * a.src_stride + c, a.src_stride, rows, cols, block);
      float* dst = a.dst + c * a.dst_stride + r;
      if (cols >= L && (rows >= L || c + L <= overrun)) {
#pragma GCC unroll 16
        for (int j = 0; j < L; ++j) block[j].store(dst + j * a.dst_stride);
      } else {
        for (int j = 0; j < L && j < cols; ++j) {
          if (rows >= L)
            block[j].store(dst + j * a.dst_stride);
          else
            block[j].store_tail(dst + j * a.dst_stride, static_cast<int>(rows));
        }
      }
    }
  }
}

void transpose_matrix(const TransposeArgs& a) {
  if (a.rows == 1 && a.dst_stride == 1) {
    __builtin_memcpy(a.dst, a.src, static_cast<size_t>(a.cols) * sizeof(float));
    return;
  }
  if (a.rows <= Vec4::kLanes) return transpose_as<Vec4>(a);
  if (a.rows <= HalfVec::kLanes) return transpose_as<HalfVec>(a);
  transpose_as<Vec>(a);
}

template <class V>
void copy_rows_as(const CopyRowsArgs& a) {
  constexpr int L = V::kLanes;
  const int tail = static_cast<int>(a.cols % L);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* src = a.src + r * a.src_stride;
    float* dst = a.dst + r * a.dst_stride;
    int64_t c = 0;
    for (; c + L <= a.cols; c += L) V::load(src + c).store(dst + c);
    if (tail) V::load_tail(src + c, tail).store_tail(dst + c, tail);
  }
}

void copy_rows(const CopyRowsArgs& a) {
  if (a.cols % HalfVec::kLanes == 0) return copy_rows_as<HalfVec>(a);
  copy_rows_as<Vec4>(a);
}

// The finished block from row r, column c on.
template <class V>
inline void transpose_out_block(const TransposeOutArgs& a, int64_t r, int64_t c, V (&block)[1][V::kLanes]) {
  constexpr int L = V::kLanes;
  const TransposeArgs& m = a.matrix;
  const int64_t rows = m.rows - r, cols = m.cols - c;
  load_block<V>(m.src + r * m.src_stride + c, m.src_stride, rows, cols, block[0]);
  if (a.residual) {
    const float* residual = a.residual + c * m.dst_stride + r;
    for (int j = 0; j < L && j < cols; ++j) {
      const V x = rows >= L ? V::load(residual + j * m.dst_stride)
                            : V::load_tail(residual + j * m.dst_stride, static_cast<int>(rows));
      block[0][j] = block[0][j] + x;
    }
  }
  conv_k_activate<V, 1, L>(block, a.flags, a.alpha);
}

template <class V>
void transpose_out_as(const TransposeOutArgs& a) {
  constexpr int L = V::kLanes, kLine = 16;
  const TransposeArgs& m = a.matrix;
  for (int64_t c = 0; c < m.cols; c += L) {
    const int64_t cols = m.cols - c;
    float* dst = m.dst + c * m.dst_stride;
    int64_t r = 0;
    if (cols >= L && (a.flags & kConvKStream)) {
      // Whole lines: parts of one that are written apart cost more than streaming spares.
      for (; r + kLine <= m.rows; r += kLine) {
        V blocks[kLine / L][1][L];
#pragma GCC unroll 4
        for (int i = 0; i < kLine / L; ++i) transpose_out_block<V>(a, r + i * L, c, blocks[i]);
#pragma GCC unroll 16
        for (int j = 0; j < L; ++j) {
#pragma GCC unroll 4
          for (int i = 0; i < kLine / L; ++i) blocks[i][0][j].stream(dst + j * m.dst_stride + r + i * L);
        }
      }
    }
    for (; r < m.rows; r += L) {
      const int64_t rows = m.rows - r;
      V block[1][L];
      transpose_out_block<V>(a, r, c, block);
      if (cols >= L && rows >= L) {
#pragma GCC unroll 16
        for (int j = 0; j < L; ++j) block[0][j].store(dst + j * m.dst_stride + r);
      } else {
        for (int j = 0; j < L && j < cols; ++j) {
          if (rows >= L)
            block[0][j].store(dst + j * m.dst_stride + r);
          else
            block[0][j].store_tail(dst + j * m.dst_stride + r, static_cast<int>(rows));
        }
      }
    }
  }
}

void transpose_out(const TransposeOutArgs& a) {
  if (a.matrix.cols <= Vec4::kLanes) return transpose_out_as<Vec4>(a);
  if (a.matrix.cols <= HalfVec::kLanes) return transpose_out_as<HalfVec>(a);
  transpose_out_as<Vec>(a);
}

constexpr ConvPackUkernels kConvPackUkernels = {conv_pack, transpose_matrix, copy_rows, transpose_out};

}  // namespace
}  // namespace cnnext
