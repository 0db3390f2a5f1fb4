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

namespace cnnext {
namespace {

void pair_channels(int64_t n, const uint16_t* even, const uint16_t* odd, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const auto mask = static_cast<__mmask16>(n - i < 16 ? (1u << (n - i)) - 1u : 0xffffu);
    __m512i pair = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, even + i));
    if (odd) {
      const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, odd + i));
      pair = _mm512_or_si512(pair, _mm512_slli_epi32(high, 16));
    }
    _mm512_mask_storeu_epi32(out + i, mask, pair);
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
constexpr Bf16Ukernels kTable = {{Vec::kLanes, 4, kConvKTiles, 6, kConvKSplitTiles}, pair_channels};
}  // namespace

const Bf16Ukernels* bf16_ukernels_avx512() { return &kTable; }

}  // namespace cnnext

#else

const cnnext::Bf16Ukernels* cnnext::bf16_ukernels_avx512() { return nullptr; }

#endif
