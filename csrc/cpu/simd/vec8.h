// Eight floats: AVX2 + FMA. See vec4.h for the interface.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace cnnext {
namespace {

// Tail masks: eight set lanes, then eight clear ones; read from 8 - n on.
alignas(64) const int32_t kTailMask8[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct Vec8 {
  using Mask = __m256;
  static constexpr int kLanes = 8;
  __m256 v;

  static inline __m256i tail_mask(int n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kTailMask8 + (8 - n)));
  }
  static inline Vec8 zero() { return {_mm256_setzero_ps()}; }
  static inline Vec8 set1(float s) { return {_mm256_set1_ps(s)}; }
  static inline Vec8 broadcast(const float* p) { return {_mm256_broadcast_ss(p)}; }
  static inline Vec8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static inline Vec8 load_tail(const float* p, int n) { return {_mm256_maskload_ps(p, tail_mask(n))}; }
  template <int G>
  static inline Vec8 broadcast_group(const float* p) {
    typedef double Pair __attribute__((aligned(4), may_alias));
    if constexpr (G == 1) return broadcast(p);
    if constexpr (G == 2) return {_mm256_castpd_ps(_mm256_set1_pd(*reinterpret_cast<const Pair*>(p)))};
    if constexpr (G == 4) return {_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p))};
    return load(p);
  }
  template <int G>
  static inline Vec8 broadcast_group_tail(const float* p, int n) {
    const __m256 x = load_tail(p, n).v;
    if constexpr (G == 2)
      return {_mm256_castpd_ps(_mm256_broadcastsd_pd(_mm256_castpd256_pd128(_mm256_castps_pd(x))))};
    if constexpr (G == 4) return {_mm256_permute2f128_ps(x, x, 0)};
    return {x};
  }
  inline void store(float* p) const { _mm256_storeu_ps(p, v); }
  // In pieces: a masked store takes tens of cycles on AMD's processors before AVX-512.
  inline void store_tail(float* p, int n) const {
    __m128 rest = _mm256_castps256_ps128(v);
    if (n >= 8) return store(p);
    if (n & 4) {
      _mm_storeu_ps(p, rest);
      rest = _mm256_extractf128_ps(v, 1);
      p += 4;
    }
    if (n & 2) {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
      rest = _mm_movehl_ps(rest, rest);
      p += 2;
    }
    if (n & 1) _mm_store_ss(p, rest);
  }
  template <int W>
  inline void store_first(float* p) const {
    if constexpr (W == 8) store(p);
    if constexpr (W == 4) _mm_storeu_ps(p, _mm256_castps256_ps128(v));
    if constexpr (W == 2) _mm_storel_pi(reinterpret_cast<__m64*>(p), _mm256_castps256_ps128(v));
    if constexpr (W == 1) _mm_store_ss(p, _mm256_castps256_ps128(v));
  }
  inline void stream(float* p) const { _mm256_stream_ps(p, v); }
};

inline Vec8 operator+(Vec8 a, Vec8 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec8 operator-(Vec8 a, Vec8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec8 operator*(Vec8 a, Vec8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec8 operator/(Vec8 a, Vec8 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec8 fma(Vec8 a, Vec8 b, Vec8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec8 min(Vec8 a, Vec8 b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec8 max(Vec8 a, Vec8 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec8 sqrt(Vec8 a) { return {_mm256_sqrt_ps(a.v)}; }
inline Vec8 abs(Vec8 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.f), a.v)}; }
inline __m256 lt(Vec8 a, Vec8 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ); }
inline __m256 le(Vec8 a, Vec8 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ); }
inline __m256 eq(Vec8 a, Vec8 b) { return _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ); }
inline __m256 is_nan(Vec8 a) { return _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q); }
inline bool any(__m256 m) { return _mm256_movemask_ps(m) != 0; }
inline Vec8 select(__m256 m, Vec8 a, Vec8 b) { return {_mm256_blendv_ps(b.v, a.v, m)}; }
inline float reduce_add(Vec8 a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
template <int G>
inline Vec8 fold_groups(Vec8 a) {
  __m256 s = a.v;
  if constexpr (G >= 2) s = _mm256_add_ps(s, _mm256_permute_ps(s, 0xb1));
  if constexpr (G >= 4) s = _mm256_add_ps(s, _mm256_permute_ps(s, 0x4e));
  if constexpr (G >= 8) s = _mm256_add_ps(s, _mm256_permute2f128_ps(s, s, 1));
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_permutevar8x32_ps(s, _mm256_mullo_epi32(lane, _mm256_set1_epi32(G)))};
}
inline Vec8 round_even(Vec8 a) { return {_mm256_round_ps(a.v, 0x08)}; }
inline Vec8 times_pow2(Vec8 a, Vec8 n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
  const __m256 x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, x), y)};
}
inline void pin(Vec8& a) { asm volatile("" : "+x"(a.v)); }

inline void deinterleave(Vec8& a, Vec8& b) {
  const __m256 low = _mm256_permute2f128_ps(a.v, b.v, 0x20), high = _mm256_permute2f128_ps(a.v, b.v, 0x31);
  const __m256 even = _mm256_shuffle_ps(low, high, 0x88), odd = _mm256_shuffle_ps(low, high, 0xdd);
  a.v = even;
  b.v = odd;
}
inline void interleave(Vec8& a, Vec8& b) {
  const __m256 low = _mm256_unpacklo_ps(a.v, b.v), high = _mm256_unpackhi_ps(a.v, b.v);
  a.v = _mm256_permute2f128_ps(low, high, 0x20);
  b.v = _mm256_permute2f128_ps(low, high, 0x31);
}

inline void transpose(Vec8 (&r)[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v);
  }
  for (int h = 0; h < 2; ++h) {
    u[4 * h] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0x44);
    u[4 * h + 1] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0xee);
    u[4 * h + 2] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0x44);
    u[4 * h + 3] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i].v = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4].v = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

}  // namespace
}  // namespace cnnext
