// Four floats by the compiler's vector extension: SSE2 on x86-64's baseline, NEON on aarch64, and the
// half-width vector of AVX2. The three Vec headers share one interface, which the kernels are templates over:
//
// - V::kLanes, V::zero(), V::set1(s), V::broadcast(p), V::load(p)
// - V::load_tail(p, n): lanes from n on are 0 and not read
// - V::broadcast_group<G>(p): G floats from p on, over and over; broadcast_group_tail<G>(p, n): only n < G of
// them
// - a.store(p), a.store_tail(p, n), a.store_first<W>(p): W lanes; a.stream(p): non-temporal, p aligned
// - + - * /, fma(a, b, c) = a*b + c, min, max, sqrt, abs, lt, le, eq, is_nan, any, select(m, a, b) = m ? a :
// b
// - round_even(a), times_pow2(a, n) = a * 2^n (n whole, |n| <= 252)
// - reduce_add(a), fold_groups<G>(a): lane i is the sum of lanes i*G .. i*G + G-1
// - pin(a), transpose(rows), deinterleave(a, b), interleave(a, b)
//
// min and max return b where either operand is NaN (x86's rule), so max(zero, x) keeps a NaN x.
// Loads and stores need no alignment. Everything is in an anonymous namespace: each ISA's file has its own
// copy.
#pragma once

#include <stdint.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace cnnext {
namespace {

struct Vec4 {
  typedef float Raw __attribute__((vector_size(16)));
  typedef float Unaligned __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int32_t Mask __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;
  Raw v;

  static inline Vec4 zero() { return {Raw{0.f, 0.f, 0.f, 0.f}}; }
  static inline Vec4 set1(float s) { return {Raw{s, s, s, s}}; }
  static inline Vec4 broadcast(const float* p) { return set1(*p); }
  static inline Vec4 load(const float* p) { return {*reinterpret_cast<const Unaligned*>(p)}; }
  static inline Vec4 load_tail(const float* p, int n) {
    Raw r = {0.f, 0.f, 0.f, 0.f};
    for (int i = 0; i < 4; ++i)
      if (i < n) r[i] = p[i];
    return {r};
  }
  template <int G>
  static inline Vec4 broadcast_group(const float* p) {
    if constexpr (G == 1) return broadcast(p);
    if constexpr (G == 2) return {Raw{p[0], p[1], p[0], p[1]}};
    return load(p);
  }
  template <int G>
  static inline Vec4 broadcast_group_tail(const float* p, int n) {
    if constexpr (G == 2) return {Raw{p[0], 0.f, p[0], 0.f}};
    return load_tail(p, n);
  }
  inline void store(float* p) const { *reinterpret_cast<Unaligned*>(p) = v; }
  inline void store_tail(float* p, int n) const {
    for (int i = 0; i < 4; ++i)
      if (i < n) p[i] = v[i];
  }
  template <int W>
  inline void store_first(float* p) const {
    if constexpr (W == 4) return store(p);
    for (int i = 0; i < W; ++i) p[i] = v[i];
  }
  inline void stream(float* p) const {
#if defined(__SSE2__)
    _mm_stream_ps(p, v);
#else
    store(p);
#endif
  }
};

inline Vec4 operator+(Vec4 a, Vec4 b) { return {a.v + b.v}; }
inline Vec4 operator-(Vec4 a, Vec4 b) { return {a.v - b.v}; }
inline Vec4 operator*(Vec4 a, Vec4 b) { return {a.v * b.v}; }
inline Vec4 operator/(Vec4 a, Vec4 b) { return {a.v / b.v}; }
inline Vec4::Mask lt(Vec4 a, Vec4 b) { return a.v < b.v; }
inline Vec4::Mask le(Vec4 a, Vec4 b) { return a.v <= b.v; }
inline Vec4::Mask eq(Vec4 a, Vec4 b) { return a.v == b.v; }
inline Vec4::Mask is_nan(Vec4 a) { return a.v != a.v; }
inline bool any(Vec4::Mask m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
inline Vec4 select(Vec4::Mask m, Vec4 a, Vec4 b) {
  return {(Vec4::Raw)((m & (Vec4::Mask)a.v) | (~m & (Vec4::Mask)b.v))};
}
inline Vec4 abs(Vec4 a) { return {(Vec4::Raw)((Vec4::Mask)a.v & (int32_t)0x7fffffff)}; }
inline float reduce_add(Vec4 a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }

inline Vec4 fma(Vec4 a, Vec4 b, Vec4 c) {
#if defined(__FMA__)
  return {_mm_fmadd_ps(a.v, b.v, c.v)};
#else
  return {a.v * b.v + c.v};
#endif
}

template <int G>
inline Vec4 fold_groups(Vec4 a) {
  if constexpr (G == 2) return {Vec4::Raw{a.v[0] + a.v[1], a.v[2] + a.v[3], 0.f, 0.f}};
  if constexpr (G == 4) return {Vec4::Raw{reduce_add(a), 0.f, 0.f, 0.f}};
  return a;
}

// |a| < 2^22.
inline Vec4 round_even(Vec4 a) {
  const Vec4::Raw magic = {12582912.f, 12582912.f, 12582912.f, 12582912.f};
  return {(a.v + magic) - magic};
}
inline Vec4 times_pow2(Vec4 a, Vec4 n) {
  const Vec4::Mask whole = {(int32_t)n.v[0], (int32_t)n.v[1], (int32_t)n.v[2], (int32_t)n.v[3]};
  const Vec4::Mask half = whole >> 1, rest = whole - half;
  return {a.v * (Vec4::Raw)((half + 127) << 23) * (Vec4::Raw)((rest + 127) << 23)};
}

#if defined(__SSE2__)
inline Vec4 min(Vec4 a, Vec4 b) { return {_mm_min_ps(a.v, b.v)}; }
inline Vec4 max(Vec4 a, Vec4 b) { return {_mm_max_ps(a.v, b.v)}; }
inline Vec4 sqrt(Vec4 a) { return {_mm_sqrt_ps(a.v)}; }
// Keeps a value in a register: without it gcc folds the load into each use and reads memory again.
inline void pin(Vec4& a) { asm volatile("" : "+x"(a.v)); }
#else
inline Vec4 min(Vec4 a, Vec4 b) { return select(lt(a, b), a, b); }
inline Vec4 max(Vec4 a, Vec4 b) { return select(lt(b, a), a, b); }
inline Vec4 sqrt(Vec4 a) {
  for (int i = 0; i < 4; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
inline void pin(Vec4&) {}
#endif

inline void deinterleave(Vec4& a, Vec4& b) {
  const Vec4::Raw even = {a.v[0], a.v[2], b.v[0], b.v[2]}, odd = {a.v[1], a.v[3], b.v[1], b.v[3]};
  a.v = even;
  b.v = odd;
}
inline void interleave(Vec4& a, Vec4& b) {
  const Vec4::Raw low = {a.v[0], b.v[0], a.v[1], b.v[1]}, high = {a.v[2], b.v[2], a.v[3], b.v[3]};
  a.v = low;
  b.v = high;
}

// rows[i][j] <-> rows[j][i].
inline void transpose(Vec4 (&r)[4]) {
#if defined(__clang__)
  const Vec4::Raw t0 = __builtin_shufflevector(r[0].v, r[1].v, 0, 4, 1, 5);
  const Vec4::Raw t1 = __builtin_shufflevector(r[2].v, r[3].v, 0, 4, 1, 5);
  const Vec4::Raw t2 = __builtin_shufflevector(r[0].v, r[1].v, 2, 6, 3, 7);
  const Vec4::Raw t3 = __builtin_shufflevector(r[2].v, r[3].v, 2, 6, 3, 7);
  r[0].v = __builtin_shufflevector(t0, t1, 0, 1, 4, 5);
  r[1].v = __builtin_shufflevector(t0, t1, 2, 3, 6, 7);
  r[2].v = __builtin_shufflevector(t2, t3, 0, 1, 4, 5);
  r[3].v = __builtin_shufflevector(t2, t3, 2, 3, 6, 7);
#else
  const Vec4::Mask interleave_low = {0, 4, 1, 5}, interleave_high = {2, 6, 3, 7};
  const Vec4::Mask low = {0, 1, 4, 5}, high = {2, 3, 6, 7};
  const Vec4::Raw t0 = __builtin_shuffle(r[0].v, r[1].v, interleave_low);
  const Vec4::Raw t1 = __builtin_shuffle(r[2].v, r[3].v, interleave_low);
  const Vec4::Raw t2 = __builtin_shuffle(r[0].v, r[1].v, interleave_high);
  const Vec4::Raw t3 = __builtin_shuffle(r[2].v, r[3].v, interleave_high);
  r[0].v = __builtin_shuffle(t0, t1, low);
  r[1].v = __builtin_shuffle(t0, t1, high);
  r[2].v = __builtin_shuffle(t2, t3, low);
  r[3].v = __builtin_shuffle(t2, t3, high);
#endif
}

}  // namespace
}  // namespace cnnext
