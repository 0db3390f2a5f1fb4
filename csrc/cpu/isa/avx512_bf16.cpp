// What AVX512_BF16 adds to AVX-512's kernels; compiled with that extension's flag. See scalar.cpp.
#include "cpu/ukernels.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

#include "cpu/simd/vec16.h"

namespace cnnext {
namespace {
using Vec = Vec16;

// acc + the two products of each lane's pairs.
struct PairProduct {
  static inline Vec16 add(Vec16 x, Vec16 w, Vec16 acc) {
    return {_mm512_dpbf16_ps(acc.v, (__m512bh)x.v, (__m512bh)w.v)};
  }
};
}  // namespace
}  // namespace cnnext

#include "cpu/kernels/conv_k-inl.h"
#include "cpu/kernels/conv_weights-inl.h"
#include "cpu/kernels/depthwise_half-inl.h"

namespace cnnext {
namespace {

__mmask16 mask_of(int64_t left) { return static_cast<__mmask16>(left < 16 ? (1u << left) - 1u : 0xffffu); }

inline __m512i load_pairs(__mmask16 mask, const uint16_t* first, const uint16_t* second) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, first));
  if (!second) return low;
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, second));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

void pair(int64_t n, const uint16_t* even, const uint16_t* odd, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = mask_of(n - i);
    _mm512_mask_storeu_epi32(out + i, mask, load_pairs(mask, even + i, odd ? odd + i : nullptr));
  }
}

void pair_rows(const Bf16Pairs& in, float* out, int64_t out_step) {
  const uint16_t *first = in.first, *second = in.second;
  for (int64_t r = 0; r < in.rows; ++r, first += in.in_step, out += out_step) {
    for (int64_t c = 0; c < in.cols; c += 16) {
      const __m512i pairs = load_pairs(mask_of(in.cols - c), first + c, second ? second + c : nullptr);
      _mm512_storeu_si512(out + c, pairs);
    }
    if (second) second += in.in_step;
  }
}

void pair_transposed(const Bf16Pairs& in, float* out, int64_t out_step) {
  for (int64_t r = 0; r < in.rows; r += 16) {
    const int64_t at = r * in.in_step;
    const uint16_t *first = in.first + at, *second = in.second ? in.second + at : nullptr;
    for (int64_t c = 0; c < in.cols; c += 16) {
      const __mmask16 mask = mask_of(in.cols - c);
      Vec block[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        const int64_t from = i * in.in_step + c;
        block[i] = Vec::zero();
        if (r + i < in.rows)
          block[i].v = _mm512_castsi512_ps(load_pairs(mask, first + from, second ? second + from : nullptr));
      }
      transpose(block);
#pragma GCC unroll 16
      for (int j = 0; j < 16; ++j) {
        if (c + j >= in.cols) break;
        block[j].store(out + (c + j) * out_step + r);
      }
    }
  }
}

template <int NV, int G, int... Ms>
using PairRows = ConvKRows<Vec, PairProduct, NV, G, Ms...>;
template <int NV, int G>
using Pair8 = PairRows<NV, G, 1, 2, 3, 4, 5, 6, 7, 8>;

constexpr ConvKTile kConvKTiles[] = {
    {12, 16, 1, PairRows<1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>::run, "cpu/avx512_bf16/conv2d_k_12x16"},
    {12, 32, 1, PairRows<2, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>::run, "cpu/avx512_bf16/conv2d_k_12x32"},
    {8, 48, 1, Pair8<3, 1>::run, "cpu/avx512_bf16/conv2d_k_8x48"},
    {6, 64, 1, PairRows<4, 1, 1, 2, 3, 4, 5, 6>::run, "cpu/avx512_bf16/conv2d_k_6x64"},
};
constexpr ConvKTile kConvKSplitTiles[] = {
    {8, 24, 2, Pair8<3, 2>::run, "cpu/avx512_bf16/conv2d_k_8x24x2"},
    {8, 8, 2, Pair8<1, 2>::run, "cpu/avx512_bf16/conv2d_k_8x8x2"},
    {8, 8, 4, Pair8<2, 4>::run, "cpu/avx512_bf16/conv2d_k_8x8x4"},
    {8, 4, 4, Pair8<1, 4>::run, "cpu/avx512_bf16/conv2d_k_8x4x4"},
    {8, 2, 16, Pair8<2, 16>::run, "cpu/avx512_bf16/conv2d_k_8x2x16"},
    {8, 1, 16, Pair8<1, 16>::run, "cpu/avx512_bf16/conv2d_k_8x1x16"},
};
constexpr Bf16Ukernels kTable = {
    {Vec::kLanes, 4, kConvKTiles, 6, kConvKSplitTiles},
    conv_weights_ukernels_32<Vec, PairProduct>("cpu/avx512_bf16/conv2d_weights_6x64"),
    pair,
    pair_rows,
    pair_transposed,
    depthwise_half_kernels<Vec, Bfloat16Bits>()};
}  // namespace

const Bf16Ukernels* bf16_ukernels_avx512() { return &kTable; }

}  // namespace cnnext

#else

const cnnext::Bf16Ukernels* cnnext::bf16_ukernels_avx512() { return nullptr; }

#endif
