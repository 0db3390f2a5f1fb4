// Philox4x32-10 (see cpu/philox.h) by vectors of 64-bit lanes, a block each: the product of two 32-bit
// numbers fills its lane, and what a lane's upper half holds besides is ignored.
#pragma once

#include <stdint.h>

#include "cpu/kernels/philox_constants.h"

namespace cnnext {
namespace {

#if defined(__AVX512F__)
struct Lanes64 {
  static constexpr int kLanes = 8;
  __m512i v;
  static inline Lanes64 set1(uint64_t s) { return {_mm512_set1_epi64(static_cast<int64_t>(s))}; }
  static inline Lanes64 load(const uint64_t* p) { return {_mm512_loadu_si512(p)}; }
  inline void store(uint32_t* p) const { _mm512_storeu_si512(p, v); }
};
inline Lanes64 operator+(Lanes64 a, Lanes64 b) { return {_mm512_add_epi64(a.v, b.v)}; }
inline Lanes64 operator&(Lanes64 a, Lanes64 b) { return {_mm512_and_si512(a.v, b.v)}; }
inline Lanes64 operator|(Lanes64 a, Lanes64 b) { return {_mm512_or_si512(a.v, b.v)}; }
inline Lanes64 operator^(Lanes64 a, Lanes64 b) { return {_mm512_xor_si512(a.v, b.v)}; }
inline Lanes64 multiply_low(Lanes64 a, Lanes64 b) { return {_mm512_mul_epu32(a.v, b.v)}; }
inline Lanes64 upper(Lanes64 a) { return {_mm512_srli_epi64(a.v, 32)}; }
inline Lanes64 to_upper(Lanes64 a) { return {_mm512_slli_epi64(a.v, 32)}; }
inline Lanes64 even_pairs(Lanes64 a, Lanes64 b) { return {_mm512_unpacklo_epi64(a.v, b.v)}; }
inline Lanes64 odd_pairs(Lanes64 a, Lanes64 b) { return {_mm512_unpackhi_epi64(a.v, b.v)}; }
#elif defined(__AVX2__)
struct Lanes64 {
  static constexpr int kLanes = 4;
  __m256i v;
  static inline Lanes64 set1(uint64_t s) { return {_mm256_set1_epi64x(static_cast<int64_t>(s))}; }
  static inline Lanes64 load(const uint64_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  inline void store(uint32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
};
inline Lanes64 operator+(Lanes64 a, Lanes64 b) { return {_mm256_add_epi64(a.v, b.v)}; }
inline Lanes64 operator&(Lanes64 a, Lanes64 b) { return {_mm256_and_si256(a.v, b.v)}; }
inline Lanes64 operator|(Lanes64 a, Lanes64 b) { return {_mm256_or_si256(a.v, b.v)}; }
inline Lanes64 operator^(Lanes64 a, Lanes64 b) { return {_mm256_xor_si256(a.v, b.v)}; }
inline Lanes64 multiply_low(Lanes64 a, Lanes64 b) { return {_mm256_mul_epu32(a.v, b.v)}; }
inline Lanes64 upper(Lanes64 a) { return {_mm256_srli_epi64(a.v, 32)}; }
inline Lanes64 to_upper(Lanes64 a) { return {_mm256_slli_epi64(a.v, 32)}; }
inline Lanes64 even_pairs(Lanes64 a, Lanes64 b) { return {_mm256_unpacklo_epi64(a.v, b.v)}; }
inline Lanes64 odd_pairs(Lanes64 a, Lanes64 b) { return {_mm256_unpackhi_epi64(a.v, b.v)}; }
#else
struct Lanes64 {
  typedef uint64_t Raw __attribute__((vector_size(16)));
  typedef uint64_t Unaligned __attribute__((vector_size(16), aligned(4), may_alias));
  static constexpr int kLanes = 2;
  Raw v;
  static inline Lanes64 set1(uint64_t s) { return {Raw{s, s}}; }
  static inline Lanes64 load(const uint64_t* p) { return {*reinterpret_cast<const Unaligned*>(p)}; }
  inline void store(uint32_t* p) const { *reinterpret_cast<Unaligned*>(p) = v; }
};
inline Lanes64 operator+(Lanes64 a, Lanes64 b) { return {a.v + b.v}; }
inline Lanes64 operator&(Lanes64 a, Lanes64 b) { return {a.v & b.v}; }
inline Lanes64 operator|(Lanes64 a, Lanes64 b) { return {a.v | b.v}; }
inline Lanes64 operator^(Lanes64 a, Lanes64 b) { return {a.v ^ b.v}; }
inline Lanes64 multiply_low(Lanes64 a, Lanes64 b) {
#if defined(__SSE2__)
  return {(Lanes64::Raw)_mm_mul_epu32((__m128i)a.v, (__m128i)b.v)};
#else
  return {(a.v & 0xffffffffu) * (b.v & 0xffffffffu)};
#endif
}
inline Lanes64 upper(Lanes64 a) { return {a.v >> 32}; }
inline Lanes64 to_upper(Lanes64 a) { return {a.v << 32}; }
inline Lanes64 even_pairs(Lanes64 a, Lanes64 b) { return {Lanes64::Raw{a.v[0], b.v[0]}}; }
inline Lanes64 odd_pairs(Lanes64 a, Lanes64 b) { return {Lanes64::Raw{a.v[1], b.v[1]}}; }
#endif

// Each group is 8 blocks, 32 words. Lane 2g has the vector's block g and lane 2g + 1 block g + kLanes / 2, so
// that pairing even and odd lanes leaves the words in order.
void philox_words(uint64_t block, uint64_t seed, int64_t groups, uint32_t* words) {
  constexpr int L = Lanes64::kLanes;
  uint64_t order[L];
  for (int i = 0; i < L; ++i) order[i] = static_cast<uint64_t>(i / 2 + i % 2 * (L / 2));
  const Lanes64 lanes = Lanes64::load(order), low = Lanes64::set1(0xffffffffu);
  const Lanes64 wrap = Lanes64::set1((uint64_t{1} << 62) - 1);  // block numbers are element numbers / 4
  const Lanes64 m0 = Lanes64::set1(kPhiloxM0), m1 = Lanes64::set1(kPhiloxM1);
  for (int64_t i = 0; i < groups * (8 / L); ++i) {
    const Lanes64 number = (Lanes64::set1(block + static_cast<uint64_t>(i * L)) + lanes) & wrap;
    Lanes64 c0 = number, c1 = upper(number), c2 = Lanes64::set1(0), c3 = c2;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
      const Lanes64 p0 = multiply_low(c0, m0), p1 = multiply_low(c2, m1);
      c0 = upper(p1) ^ c1 ^ Lanes64::set1(k0);
      c1 = p1;
      c2 = upper(p0) ^ c3 ^ Lanes64::set1(k1);
      c3 = p0;
      k0 += kPhiloxW0;
      k1 += kPhiloxW1;
    }
    const Lanes64 front = (c0 & low) | to_upper(c1), back = (c2 & low) | to_upper(c3);
    even_pairs(front, back).store(words + i * 4 * L);
    odd_pairs(front, back).store(words + i * 4 * L + 2 * L);
  }
}

}  // namespace
}  // namespace cnnext
