// IVec: the 32-bit integer vector beside the native Vec of the file's instruction set, and what mixes the
// two. Include it after the Vec header. Lanes are as in Vec; loads and stores need no alignment.
#pragma once

#include <stdint.h>

namespace cnnext {
namespace {

#if defined(__AVX512F__)

struct IVec {
  __m512i v;
  static inline IVec set1(int32_t s) { return {_mm512_set1_epi32(s)}; }
  static inline IVec load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  static inline IVec load_tail(const int32_t* p, int n) {
    return {_mm512_maskz_loadu_epi32(Vec16::tail_mask(n), p)};
  }
  inline void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
  inline void store_tail(int32_t* p, int n) const { _mm512_mask_storeu_epi32(p, Vec16::tail_mask(n), v); }
};
inline IVec operator+(IVec a, IVec b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline IVec operator-(IVec a, IVec b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline __mmask16 eq(IVec a, IVec b) { return _mm512_cmpeq_epi32_mask(a.v, b.v); }
inline __mmask16 gt(IVec a, IVec b) { return _mm512_cmpgt_epi32_mask(a.v, b.v); }
inline IVec select(__mmask16 m, IVec a, IVec b) { return {_mm512_mask_blend_epi32(m, b.v, a.v)}; }
inline __mmask16 either(__mmask16 a, __mmask16 b) { return a | b; }
// acc + a where m is set.
inline Vec16 add_where(__mmask16 m, Vec16 acc, Vec16 a) { return {_mm512_mask_add_ps(acc.v, m, acc.v, a.v)}; }
// a[0], a[1], ... a[L-1], b[0], ... as those at even and those at odd places; and back.
inline void deinterleave(Vec16 a, Vec16 b, Vec16* even, Vec16* odd) {
  const __m512i e = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  even->v = _mm512_permutex2var_ps(a.v, e, b.v);
  odd->v = _mm512_permutex2var_ps(a.v, _mm512_add_epi32(e, _mm512_set1_epi32(1)), b.v);
}
inline void interleave(Vec16 even, Vec16 odd, Vec16* a, Vec16* b) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  a->v = _mm512_permutex2var_ps(even.v, low, odd.v);
  b->v = _mm512_permutex2var_ps(even.v, _mm512_add_epi32(low, _mm512_set1_epi32(8)), odd.v);
}

#elif defined(__AVX2__)

struct IVec {
  __m256i v;
  static inline IVec set1(int32_t s) { return {_mm256_set1_epi32(s)}; }
  static inline IVec load(const int32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  static inline IVec load_tail(const int32_t* p, int n) {
    return {_mm256_maskload_epi32(p, Vec8::tail_mask(n))};
  }
  inline void store(int32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  inline void store_tail(int32_t* p, int n) const { _mm256_maskstore_epi32(p, Vec8::tail_mask(n), v); }
};
inline IVec operator+(IVec a, IVec b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline IVec operator-(IVec a, IVec b) { return {_mm256_sub_epi32(a.v, b.v)}; }
inline __m256 eq(IVec a, IVec b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.v, b.v)); }
inline __m256 gt(IVec a, IVec b) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v, b.v)); }
inline IVec select(__m256 m, IVec a, IVec b) {
  return {_mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(b.v), _mm256_castsi256_ps(a.v), m))};
}
inline __m256 either(__m256 a, __m256 b) { return _mm256_or_ps(a, b); }
inline Vec8 add_where(__m256 m, Vec8 acc, Vec8 a) { return {_mm256_add_ps(acc.v, _mm256_and_ps(m, a.v))}; }
inline void deinterleave(Vec8 a, Vec8 b, Vec8* even, Vec8* odd) {
  const __m256 e = _mm256_shuffle_ps(a.v, b.v, 0x88), o = _mm256_shuffle_ps(a.v, b.v, 0xdd);
  even->v = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(e), 0xd8));
  odd->v = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(o), 0xd8));
}
inline void interleave(Vec8 even, Vec8 odd, Vec8* a, Vec8* b) {
  const __m256 low = _mm256_unpacklo_ps(even.v, odd.v), high = _mm256_unpackhi_ps(even.v, odd.v);
  a->v = _mm256_permute2f128_ps(low, high, 0x20);
  b->v = _mm256_permute2f128_ps(low, high, 0x31);
}

#else

struct IVec {
  typedef int32_t Raw __attribute__((vector_size(16)));
  typedef int32_t Unaligned __attribute__((vector_size(16), aligned(4), may_alias));
  Raw v;
  static inline IVec set1(int32_t s) { return {Raw{s, s, s, s}}; }
  static inline IVec load(const int32_t* p) { return {*reinterpret_cast<const Unaligned*>(p)}; }
  static inline IVec load_tail(const int32_t* p, int n) {
    Raw r = {0, 0, 0, 0};
    for (int i = 0; i < 4; ++i)
      if (i < n) r[i] = p[i];
    return {r};
  }
  inline void store(int32_t* p) const { *reinterpret_cast<Unaligned*>(p) = v; }
  inline void store_tail(int32_t* p, int n) const {
    for (int i = 0; i < 4; ++i)
      if (i < n) p[i] = v[i];
  }
};
inline IVec operator+(IVec a, IVec b) { return {a.v + b.v}; }
inline IVec operator-(IVec a, IVec b) { return {a.v - b.v}; }
inline Vec4::Mask eq(IVec a, IVec b) { return a.v == b.v; }
inline Vec4::Mask gt(IVec a, IVec b) { return a.v > b.v; }
inline IVec select(Vec4::Mask m, IVec a, IVec b) { return {(m & a.v) | (~m & b.v)}; }
inline Vec4::Mask either(Vec4::Mask a, Vec4::Mask b) { return a | b; }
inline Vec4 add_where(Vec4::Mask m, Vec4 acc, Vec4 a) { return {acc.v + (Vec4::Raw)(m & (Vec4::Mask)a.v)}; }
#if defined(__clang__)
#define CNNEXT_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define CNNEXT_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, (Vec4::Mask{i, j, k, l}))
#endif
inline void deinterleave(Vec4 a, Vec4 b, Vec4* even, Vec4* odd) {
  even->v = CNNEXT_SHUFFLE4(a.v, b.v, 0, 2, 4, 6);
  odd->v = CNNEXT_SHUFFLE4(a.v, b.v, 1, 3, 5, 7);
}
inline void interleave(Vec4 even, Vec4 odd, Vec4* a, Vec4* b) {
  a->v = CNNEXT_SHUFFLE4(even.v, odd.v, 0, 4, 1, 5);
  b->v = CNNEXT_SHUFFLE4(even.v, odd.v, 2, 6, 3, 7);
}
#undef CNNEXT_SHUFFLE4

#endif

// After non-temporal stores: other threads see them once they see what this thread writes next.
inline void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace cnnext
