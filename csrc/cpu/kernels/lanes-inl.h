// Vectors of values from memory and back, whatever they are there. 16 bits: AVX2 and AVX-512.
#pragma once

#include "cpu/kernels/half-inl.h"

namespace cnnext {
namespace {

template <class V>
inline V load_lanes(const float* p) {
  return V::load(p);
}
template <class V>
inline V load_lanes_tail(const float* p, int n) {
  return V::load_tail(p, n);
}
template <class V>
inline void store_lanes(V x, float* p) {
  x.store(p);
}
template <class V>
inline void store_lanes_tail(V x, float* p, int n) {
  x.store_tail(p, n);
}

#if defined(__AVX512BW__)

inline Vec16 widened(__m256i x, const Bfloat16Bits*) {
  // One permutation puts word i into the upper half of lane i; widening and shifting would be two.
  const __m512i words = _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6, 0, 5,
                                         0, 4, 0, 3, 0, 2, 0, 1, 0, 0, 0);
  return {_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, words, _mm512_castsi256_si512(x)))};
}
inline Vec16 widened(__m256i x, const Float16Bits*) { return {_mm512_cvtph_ps(x)}; }
#if defined(__AVX512BF16__)
inline __m256i narrowed(Vec16 x, const Bfloat16Bits*) { return (__m256i)_mm512_cvtneps_pbh(x.v); }
#else
inline __m256i narrowed(Vec16 x, const Bfloat16Bits*) { return to_bfloat16(x.v); }
#endif
inline __m256i narrowed(Vec16 x, const Float16Bits*) { return to_float16(x.v); }

template <class V, class E>
inline V load_lanes(const E* p) {
  return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), p);
}
template <class V, class E>
inline V load_lanes_tail(const E* p, int n) {
  return widened(_mm256_maskz_loadu_epi16(V::tail_mask(n), p), p);
}
template <class V, class E>
inline void store_lanes(V x, E* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrowed(x, p));
}
template <class V, class E>
inline void store_lanes_tail(V x, E* p, int n) {
  _mm256_mask_storeu_epi16(p, V::tail_mask(n), narrowed(x, p));
}

#elif defined(__AVX2__)

inline Vec8 widened(__m128i x, const Bfloat16Bits*) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16))};
}
inline Vec8 widened(__m128i x, const Float16Bits*) { return {_mm256_cvtph_ps(x)}; }
inline __m128i narrowed(Vec8 x, const Bfloat16Bits*) {
  const __m256i b = _mm256_castps_si256(x.v), high = _mm256_srli_epi32(b, 16);
  const __m256i up =
      _mm256_add_epi32(_mm256_and_si256(high, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(b, up), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
  const __m256i y = _mm256_blendv_epi8(rounded, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
  const __m256i halves = _mm256_packus_epi32(y, y);  // of each 128 bits
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08));
}
inline __m128i narrowed(Vec8 x, const Float16Bits*) {
  return _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT);
}

template <class V, class E>
inline V load_lanes(const E* p) {
  return widened(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), p);
}
template <class V, class E>
inline V load_lanes_tail(const E* p, int n) {
  E values[V::kLanes] = {};
  __builtin_memcpy(values, p, static_cast<size_t>(n) * sizeof(E));
  return load_lanes<V>(values);
}
template <class V, class E>
inline void store_lanes(V x, E* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrowed(x, p));
}
template <class V, class E>
inline void store_lanes_tail(V x, E* p, int n) {
  E values[V::kLanes];
  store_lanes(x, values);
  __builtin_memcpy(p, values, static_cast<size_t>(n) * sizeof(E));
}

#endif

}  // namespace
}  // namespace cnnext
