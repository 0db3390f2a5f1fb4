// Sixteen floats: AVX-512 F/DQ. See vec4.h for the interface.
#pragma once

// gcc 12 takes its own _mm512_undefined_ps() for a mistake (gcc bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>
#include <stdint.h>

namespace cnnext {
namespace {

struct Vec16 {
  using Mask = __mmask16;
  static constexpr int kLanes = 16;
  __m512 v;

  static inline __mmask16 tail_mask(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static inline Vec16 zero() { return {_mm512_setzero_ps()}; }
  static inline Vec16 set1(float s) { return {_mm512_set1_ps(s)}; }
  static inline Vec16 broadcast(const float* p) { return {_mm512_set1_ps(*p)}; }
  static inline Vec16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static inline Vec16 load_tail(const float* p, int n) { return {_mm512_maskz_loadu_ps(tail_mask(n), p)}; }
  template <int G>
  static inline Vec16 broadcast_group(const float* p) {
    typedef double Pair __attribute__((aligned(4), may_alias));
    if constexpr (G == 1) return broadcast(p);
    if constexpr (G == 2) return {_mm512_castpd_ps(_mm512_set1_pd(*reinterpret_cast<const Pair*>(p)))};
    if constexpr (G == 4) return {_mm512_broadcast_f32x4(_mm_loadu_ps(p))};
    if constexpr (G == 8) return {_mm512_broadcast_f32x8(_mm256_loadu_ps(p))};
    return load(p);
  }
  template <int G>
  static inline Vec16 broadcast_group_tail(const float* p, int n) {
    const __m512 x = load_tail(p, n).v;
    if constexpr (G == 2)
      return {_mm512_castpd_ps(_mm512_broadcastsd_pd(_mm512_castpd512_pd128(_mm512_castps_pd(x))))};
    if constexpr (G == 4) return {_mm512_broadcast_f32x4(_mm512_castps512_ps128(x))};
    if constexpr (G == 8) return {_mm512_broadcast_f32x8(_mm512_castps512_ps256(x))};
    return {x};
  }
  inline void store(float* p) const { _mm512_storeu_ps(p, v); }
  inline void store_tail(float* p, int n) const { _mm512_mask_storeu_ps(p, tail_mask(n), v); }
  template <int W>
  inline void store_first(float* p) const {
    if constexpr (W == 16) store(p);
    if constexpr (W == 8) _mm256_storeu_ps(p, _mm512_castps512_ps256(v));
    if constexpr (W == 4) _mm_storeu_ps(p, _mm512_castps512_ps128(v));
    if constexpr (W == 2) _mm_storel_pi(reinterpret_cast<__m64*>(p), _mm512_castps512_ps128(v));
    if constexpr (W == 1) _mm_store_ss(p, _mm512_castps512_ps128(v));
  }
  inline void stream(float* p) const { _mm512_stream_ps(p, v); }
};

inline Vec16 operator+(Vec16 a, Vec16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec16 operator-(Vec16 a, Vec16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec16 operator*(Vec16 a, Vec16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec16 operator/(Vec16 a, Vec16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec16 fma(Vec16 a, Vec16 b, Vec16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec16 min(Vec16 a, Vec16 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec16 max(Vec16 a, Vec16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec16 sqrt(Vec16 a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec16 abs(Vec16 a) { return {_mm512_abs_ps(a.v)}; }
inline __mmask16 lt(Vec16 a, Vec16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline __mmask16 le(Vec16 a, Vec16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ); }
inline __mmask16 eq(Vec16 a, Vec16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }
inline __mmask16 is_nan(Vec16 a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q); }
inline bool any(__mmask16 m) { return m != 0; }
inline Vec16 select(__mmask16 m, Vec16 a, Vec16 b) { return {_mm512_mask_blend_ps(m, b.v, a.v)}; }
inline float reduce_add(Vec16 a) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
template <int G>
inline Vec16 fold_groups(Vec16 a) {
  __m512 s = a.v;
  if constexpr (G >= 2) s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
  if constexpr (G >= 4) s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
  if constexpr (G >= 8) s = _mm512_add_ps(s, _mm512_shuffle_f32x4(s, s, 0xb1));
  if constexpr (G >= 16) s = _mm512_add_ps(s, _mm512_shuffle_f32x4(s, s, 0x4e));
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm512_permutexvar_ps(_mm512_mullo_epi32(lane, _mm512_set1_epi32(G)), s)};
}
inline Vec16 round_even(Vec16 a) { return {_mm512_roundscale_ps(a.v, 0x08)}; }
inline Vec16 times_pow2(Vec16 a, Vec16 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline void pin(Vec16& a) { asm volatile("" : "+v"(a.v)); }

// The even and the odd lanes of a, b as one sequence; and back.
inline void deinterleave(Vec16& a, Vec16& b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  const __m512 e = _mm512_permutex2var_ps(a.v, even, b.v);
  b.v = _mm512_permutex2var_ps(a.v, odd, b.v);
  a.v = e;
}
inline void interleave(Vec16& a, Vec16& b) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const __m512 l = _mm512_permutex2var_ps(a.v, low, b.v);
  b.v = _mm512_permutex2var_ps(a.v, high, b.v);
  a.v = l;
}

inline void transpose(Vec16 (&r)[16]) {
  __m512 t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v);
  }
  __m512 u[16];  // u[4q + j]: rows 4q..4q+3, column j of each 128-bit lane
  for (int q = 0; q < 4; ++q) {
    u[4 * q] = _mm512_shuffle_ps(t[4 * q], t[4 * q + 2], 0x44);
    u[4 * q + 1] = _mm512_shuffle_ps(t[4 * q], t[4 * q + 2], 0xee);
    u[4 * q + 2] = _mm512_shuffle_ps(t[4 * q + 1], t[4 * q + 3], 0x44);
    u[4 * q + 3] = _mm512_shuffle_ps(t[4 * q + 1], t[4 * q + 3], 0xee);
  }
  for (int j = 0; j < 4; ++j) {
    const __m512 a = _mm512_shuffle_f32x4(u[j], u[4 + j], 0x88);       // lanes 0, 2 of rows 0-3, 4-7
    const __m512 b = _mm512_shuffle_f32x4(u[j], u[4 + j], 0xdd);       // lanes 1, 3
    const __m512 c = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0x88);  // the same of rows 8-11, 12-15
    const __m512 d = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0xdd);
    r[j].v = _mm512_shuffle_f32x4(a, c, 0x88);
    r[4 + j].v = _mm512_shuffle_f32x4(b, d, 0x88);
    r[8 + j].v = _mm512_shuffle_f32x4(a, c, 0xdd);
    r[12 + j].v = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

}  // namespace
}  // namespace cnnext
