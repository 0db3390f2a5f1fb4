// Conversions of 16-bit floats. bfloat16 is a float's upper half: shifts, which the compiler vectorises.
// float16 has instructions from AVX2's machines on (F16C), integer arithmetic before.
#pragma once

#include <stdint.h>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "cpu/kernels/half.h"

namespace cnnext {
namespace {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

void widen_bfloat16(int64_t n, const uint16_t* in, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = float_of(static_cast<uint32_t>(in[i]) << 16);
}

#if defined(__AVX512BW__)

// The upper 16 bits of each lane.
inline __m256i high_halves(__m512i x) {
  const __m512i words = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27, 25, 23,
                                         21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_castsi512_si256(_mm512_permutexvar_epi16(words, x));
}

inline __m256i to_bfloat16(__m512 x) {
  const __m512i b = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
  const __mmask16 odd = _mm512_test_epi32_mask(b, _mm512_set1_epi32(0x10000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  __m512i rounded = _mm512_add_epi32(b, _mm512_set1_epi32(0x7fff));
  rounded = _mm512_mask_add_epi32(rounded, odd, rounded, one);
  rounded = _mm512_mask_or_epi32(rounded, nan, b, _mm512_set1_epi32(0x400000));
  return high_halves(rounded);
}
inline __m256i to_float16(__m512 x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT); }

template <__m256i (*kConvert)(__m512)>
void narrow_run(int64_t n, const float* in, uint16_t* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const auto mask = static_cast<__mmask16>(n - i < 16 ? (1u << (n - i)) - 1u : 0xffffu);
    _mm256_mask_storeu_epi16(out + i, mask, kConvert(_mm512_maskz_loadu_ps(mask, in + i)));
  }
}

template <__m256i (*kConvert)(__m512)>
void narrow_run_stream(int64_t n, const float* in, uint16_t* out) {
  if (reinterpret_cast<uintptr_t>(out) % 64 || n % 32) return narrow_run<kConvert>(n, in, out);
  for (int64_t i = 0; i < n; i += 32) {
    const __m256i low = kConvert(_mm512_loadu_ps(in + i)), high = kConvert(_mm512_loadu_ps(in + i + 16));
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i),
                        _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
  }
}

#else

void narrow_bfloat16(int64_t n, const float* in, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t b = bits_of(in[i]);
    const uint32_t rounded = (b + 0x7fffu + (b >> 16 & 1u)) >> 16;
    out[i] = static_cast<uint16_t>((b & 0x7fffffffu) > 0x7f800000u ? b >> 16 | 0x40u : rounded);
  }
}

#endif

#if defined(__AVX512BW__)

void widen_float16(int64_t n, const uint16_t* in, float* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i))));
  }
  for (; i < n; ++i) out[i] = _cvtsh_ss(in[i]);
}

#elif defined(__F16C__)

void widen_float16(int64_t n, const uint16_t* in, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
  }
  for (; i < n; ++i) out[i] = _cvtsh_ss(in[i]);
}

void narrow_float16(int64_t n, const float* in, uint16_t* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), h);
  }
  for (; i < n; ++i) out[i] = _cvtss_sh(in[i], _MM_FROUND_TO_NEAREST_INT);
}

#else

// A subnormal's value is its bits times 2^-24; adding 0.5 rounds to such multiples, in the lowest bits.
void widen_float16(int64_t n, const uint16_t* in, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = in[i] & 0x7fffu, sign = static_cast<uint32_t>(in[i] & 0x8000u) << 16;
    const uint32_t normal = (magnitude << 13) + (112u << 23),
                   small = bits_of(static_cast<float>(magnitude) * 0x1p-24f);
    const uint32_t special = 0x7f800000u | (magnitude & 0x3ffu) << 13;
    out[i] = float_of(sign | (magnitude >= 0x7c00u ? special : magnitude >= 0x400u ? normal : small));
  }
}

void narrow_float16(int64_t n, const float* in, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t b = bits_of(in[i]), sign = b >> 16 & 0x8000u, magnitude = b & 0x7fffffffu;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    const uint32_t small = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u | (magnitude >> 13 & 0x3ffu) : 0x7c00u;
    out[i] = static_cast<uint16_t>(sign | (magnitude >= 0x47800000u  ? large
                                           : magnitude < 0x38800000u ? small
                                                                     : normal));
  }
}

#endif

#if defined(__AVX512BW__)
constexpr HalfUkernels kHalfUkernels = {
    {widen_float16, narrow_run<to_float16>, narrow_run_stream<to_float16>},
    {widen_bfloat16, narrow_run<to_bfloat16>, narrow_run_stream<to_bfloat16>}};
#else
constexpr HalfUkernels kHalfUkernels = {{widen_float16, narrow_float16, narrow_float16},
                                        {widen_bfloat16, narrow_bfloat16, narrow_bfloat16}};
#endif

}  // namespace
}  // namespace cnnext
