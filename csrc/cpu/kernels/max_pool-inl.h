// See max_pool.h. The including file has chosen Vec.
#pragma once

#include "cnnext/cnnext.h"
#include "cpu/kernels/max_pool.h"
#include "cpu/simd/ivec.h"

namespace cnnext {
namespace {

template <bool kTail>
inline Vec load_part(const float* p, int n) {
  return kTail ? Vec::load_tail(p, n) : Vec::load(p);
}
template <bool kTail>
inline void store_part(Vec v, float* p, int n) {
  kTail ? v.store_tail(p, n) : v.store(p);
}
template <bool kTail>
inline void store_part(IVec v, int32_t* p, int n) {
  kTail ? v.store_tail(p, n) : v.store(p);
}

// One step of the exact rule: a larger value or NaN takes over.
inline void take_exact(Vec v, int32_t code, Vec* best, IVec* best_code) {
  const Vec::Mask m = either(lt(*best, v), is_nan(v));
  *best = select(m, v, *best);
  *best_code = select(m, IVec::set1(code), *best_code);
}

// The same where nothing is NaN. max returns its second operand for equal ones, so a zero keeps its sign.
template <bool kCodes>
inline void take_finite(Vec v, int32_t code, Vec* best, IVec* best_code) {
  if (kCodes) *best_code = select(lt(*best, v), IVec::set1(code), *best_code);
  *best = max(v, *best);
}

// kTaps 0: as many as the list says.
template <int kTaps, bool kCodes, bool kTail>
inline void max_pool_vector(const MaxPoolPixels& a, int64_t at, int n, int32_t code_base, int64_t out) {
  const int64_t taps = kTaps ? kTaps : a.num_taps;
  Vec best = load_part<kTail>(a.taps[0] + at, n), sum = best;
  IVec code = IVec::set1(a.tap_codes[0]);
#pragma GCC unroll 16
  for (int64_t t = 1; t < taps; ++t) {
    const Vec v = load_part<kTail>(a.taps[t] + at, n);
    sum = sum + v;  // NaN where any tap is
    take_finite<kCodes>(v, a.tap_codes[t], &best, &code);
  }
  if (__builtin_expect(any(is_nan(sum)), 0)) {
    best = load_part<kTail>(a.taps[0] + at, n);
    code = IVec::set1(a.tap_codes[0]);
    for (int64_t t = 1; t < taps; ++t) {
      take_exact(load_part<kTail>(a.taps[t] + at, n), a.tap_codes[t], &best, &code);
    }
  }
  store_part<kTail>(best, a.y + out, n);
  if (kCodes) store_part<kTail>(code + IVec::set1(code_base), a.codes + out, n);
}

template <int kTaps, bool kCodes>
void max_pool_pixels_as(const MaxPoolPixels& a) {
  constexpr int L = Vec::kLanes;
  for (int64_t i = 0; i < a.pixels; ++i) {
    const int64_t at = i * a.pixel_step, out = i * a.channels;
    const int32_t code_base = static_cast<int32_t>(i) * a.code_step;
    int64_t c = 0;
    for (; c + L <= a.channels; c += L) {
      max_pool_vector<kTaps, kCodes, false>(a, at + c, L, code_base, out + c);
    }
    if (c < a.channels) {
      max_pool_vector<kTaps, kCodes, true>(a, at + c, static_cast<int>(a.channels - c), code_base, out + c);
    }
  }
}

template <bool kCodes>
void max_pool_pixels_of(const MaxPoolPixels& a) {
  if (a.num_taps == 4) return max_pool_pixels_as<4, kCodes>(a);
  if (a.num_taps == 9) return max_pool_pixels_as<9, kCodes>(a);
  max_pool_pixels_as<0, kCodes>(a);
}

void max_pool_pixels(const MaxPoolPixels& a) {
  a.codes ? max_pool_pixels_of<true>(a) : max_pool_pixels_of<false>(a);
}

template <int kTaps, bool kCodes, bool kFinite, bool kTail>
inline void max_pool_row_vector(const MaxPoolRow& a, int64_t i, int n) {
  const int64_t taps = kTaps ? kTaps : a.num_taps;
  Vec best = Vec::set1(-__builtin_inff());
  IVec code = kCodes ? IVec::load(a.first_codes + i) + IVec::set1(a.first_base) : IVec::set1(0);
#pragma GCC unroll 16
  for (int64_t t = 0; t < taps; ++t) {
    const Vec v = Vec::load(a.taps[t] + i);
    kFinite ? take_finite<kCodes>(v, a.tap_codes[t], &best, &code)
            : take_exact(v, a.tap_codes[t], &best, &code);
  }
  store_part<kTail>(best, a.y + i, n);
  if (kCodes) store_part<kTail>(code + IVec::load(a.ramp + i), a.codes + i, n);
}

template <int kTaps, bool kCodes, bool kFinite>
void max_pool_row_as(const MaxPoolRow& a) {
  constexpr int L = Vec::kLanes;
  int64_t i = 0;
  for (; i + L <= a.count; i += L) max_pool_row_vector<kTaps, kCodes, kFinite, false>(a, i, L);
  if (i < a.count) {
    max_pool_row_vector<kTaps, kCodes, kFinite, true>(a, i, static_cast<int>(a.count - i));
  }
}

template <bool kCodes>
void max_pool_row_of(const MaxPoolRow& a) {
  if (!a.finite) return max_pool_row_as<0, kCodes, false>(a);
  if (a.num_taps == 4) return max_pool_row_as<4, kCodes, true>(a);
  if (a.num_taps == 9) return max_pool_row_as<9, kCodes, true>(a);
  max_pool_row_as<0, kCodes, true>(a);
}

void max_pool_row(const MaxPoolRow& a) { a.codes ? max_pool_row_of<true>(a) : max_pool_row_of<false>(a); }

bool pool_strip(const PoolStrip& a) {
  constexpr int L = Vec::kLanes;
  Vec sum = Vec::zero();
  int64_t w = 0;
  if (a.stride == 1) {
    float* out = a.out + a.pad;
    for (; w + L <= a.width; w += L) {
      const Vec v = Vec::load(a.row + w);
      sum = sum + v;
      v.store(out + w);
    }
    if (w < a.width) {
      const int n = static_cast<int>(a.width - w);
      const Vec v = Vec::load_tail(a.row + w, n);
      sum = sum + v;
      v.store_tail(out + w, n);
    }
  } else {
    if (a.stride == 2) {
      float* even_out = a.out + a.pad % 2 * a.phase_step + a.pad / 2;
      float* odd_out = a.out + (a.pad + 1) % 2 * a.phase_step + (a.pad + 1) / 2;
      for (; w + 2 * L <= a.width; w += 2 * L) {
        const Vec lower = Vec::load(a.row + w), upper = Vec::load(a.row + w + L);
        Vec even, odd;
        deinterleave(lower, upper, &even, &odd);
        sum = sum + (even + odd);
        even.store(even_out + w / 2);
        odd.store(odd_out + w / 2);
      }
    }
    int64_t phase = (w + a.pad) % a.stride, place = (w + a.pad) / a.stride;
    float rest = 0;
    for (; w < a.width; ++w) {
      const float v = a.row[w];
      rest += v;
      a.out[phase * a.phase_step + place] = v;
      if (++phase == a.stride) phase = 0, ++place;
    }
    sum = sum + Vec::set1(rest);
  }
  if (!any(is_nan(sum))) return false;
  for (w = 0; w < a.width; ++w) {  // infinities of both signs sum up to NaN too
    if (a.row[w] != a.row[w]) return true;
  }
  return false;
}

// ---- backward ----

// sum += grad where the code is the term's; missing lanes of a tail hold code 0, which is no tap.
template <bool kTail>
inline void add_term(const PoolTerm& term, int64_t at, int n, Vec* sum, IVec* matched) {
  const IVec code = kTail ? IVec::load_tail(term.codes + at, n) : IVec::load(term.codes + at);
  const Vec::Mask m = eq(code, IVec::set1(term.tap));
  *sum = add_where(m, *sum, load_part<kTail>(term.grad + at, n));
  *matched = count_where(m, *matched);
}

// kTerms 0: as many as the list says.
template <int kTerms, bool kTail>
inline Vec sum_terms(const PoolTerm* terms, int64_t num_terms, int64_t at, int n, IVec* matched) {
  Vec sum = Vec::zero();
#pragma GCC unroll 4
  for (int64_t t = 0; t < (kTerms ? kTerms : num_terms); ++t) {
    add_term<kTail>(terms[t], at, n, &sum, matched);
  }
  return sum;
}

// out[i] = the terms' sum, for i < count.
template <int kTerms>
inline void grad_run_as(const PoolTerm* terms, int64_t num_terms, int64_t at, int64_t count, float* out,
                        IVec* matched) {
  constexpr int L = Vec::kLanes;
  int64_t i = 0;
  for (; i + L <= count; i += L)
    sum_terms<kTerms, false>(terms, num_terms, at + i, L, matched).store(out + i);
  if (i < count) {
    const int n = static_cast<int>(count - i);
    sum_terms<kTerms, true>(terms, num_terms, at + i, n, matched).store_tail(out + i, n);
  }
}

template <int kTerms>
void max_pool_grad_pixels_as(const MaxPoolGradPixels& a, IVec* matched) {
  PoolTerm terms[kTerms ? kTerms : 1];
  for (int t = 0; t < kTerms; ++t) terms[t] = a.terms[t];
  for (int64_t i = 0; i < a.pixels; ++i) {
    grad_run_as<kTerms>(kTerms ? terms : a.terms, a.num_terms, i * a.channels, a.channels,
                        a.grad_x + i * a.out_step, matched);
  }
}

int64_t max_pool_grad_pixels(const MaxPoolGradPixels& a) {
  IVec matched = IVec::set1(0);
  if (a.num_terms == 1) {
    max_pool_grad_pixels_as<1>(a, &matched);
  } else if (a.num_terms == 2) {
    max_pool_grad_pixels_as<2>(a, &matched);
  } else if (a.num_terms == 4) {
    max_pool_grad_pixels_as<4>(a, &matched);
  } else {
    max_pool_grad_pixels_as<0>(a, &matched);
  }
  return sum_lanes(matched);
}

int64_t max_pool_grad_row(const MaxPoolGradRow& a) {
  constexpr int L = Vec::kLanes;
  IVec matched = IVec::set1(0);
  if (a.stride == 1) {
    grad_run_as<0>(a.terms[0], a.num_terms[0], 0, a.width, a.grad_x, &matched);
    return sum_lanes(matched);
  }
  int64_t w = 0;
  for (; w + 2 * L <= a.width; w += 2 * L) {
    const Vec even = sum_terms<0, false>(a.terms[0], a.num_terms[0], w / 2, L, &matched);
    const Vec odd = sum_terms<0, false>(a.terms[1], a.num_terms[1], w / 2, L, &matched);
    Vec lower, upper;
    interleave(even, odd, &lower, &upper);
    lower.store(a.grad_x + w);
    upper.store(a.grad_x + w + L);
  }
  if (w < a.width) {
    const int n = static_cast<int>(a.width - w), evens = (n + 1) / 2, odds = n / 2;
    const Vec even = sum_terms<0, true>(a.terms[0], a.num_terms[0], w / 2, evens, &matched);
    const Vec odd = sum_terms<0, true>(a.terms[1], a.num_terms[1], w / 2, odds, &matched);
    Vec lower, upper;
    interleave(even, odd, &lower, &upper);
    if (n >= L) {
      lower.store(a.grad_x + w);
      if (n > L) upper.store_tail(a.grad_x + w + L, n - L);
    } else {
      lower.store_tail(a.grad_x + w, n);
    }
  }
  return sum_lanes(matched);
}

// n gradients, spread over the first `width` of 2 n columns from grad_x on, in each of the window's rows.
template <bool kTail>
inline void grad_tile_vector(const MaxPoolGradTiles& a, int64_t at, int n, float* grad_x, int64_t width,
                             int64_t height, IVec* matched) {
  constexpr int L = Vec::kLanes;
  const Vec grad = load_part<kTail>(a.grad + at, n);
  const IVec code = kTail ? IVec::load_tail(a.codes + at, n) : IVec::load(a.codes + at);
  for (int64_t r = 0; r < a.stride_h && r < height; ++r, grad_x += a.width) {
    const auto even_here = eq(code, IVec::set1(a.even[r])), odd_here = eq(code, IVec::set1(a.odd[r]));
    *matched = count_where(odd_here, count_where(even_here, *matched));
    Vec lower, upper;
    interleave(add_where(even_here, Vec::zero(), grad), add_where(odd_here, Vec::zero(), grad), &lower,
               &upper);
    if (width >= 2 * L) {
      lower.store(grad_x);
      upper.store(grad_x + L);
    } else if (width >= L) {
      lower.store(grad_x);
      if (width > L) upper.store_tail(grad_x + L, static_cast<int>(width - L));
    } else {
      lower.store_tail(grad_x, static_cast<int>(width));
    }
  }
}

int64_t max_pool_grad_tiles(const MaxPoolGradTiles& a) {
  constexpr int L = Vec::kLanes;
  IVec matched = IVec::set1(0);
  float* rows = a.grad_x;
  for (int64_t p = 0; p < a.rows; ++p, rows += a.stride_h * a.width) {
    const int64_t height = a.height - p * a.stride_h;
    for (int64_t q = 0; q < a.columns; q += L) {
      const int64_t at = p * a.columns + q, width = a.width - 2 * q;
      const int n = a.columns - q < L ? static_cast<int>(a.columns - q) : L;
      if (n == L)
        grad_tile_vector<false>(a, at, n, rows + 2 * q, width, height, &matched);
      else
        grad_tile_vector<true>(a, at, n, rows + 2 * q, width < 2 * n ? width : 2 * n, height, &matched);
    }
    for (int64_t r = 0; r < a.stride_h && r < height; ++r) {
      for (int64_t w = 2 * a.columns; w < a.width; ++w) rows[r * a.width + w] = 0.f;
    }
  }
  float* const end = a.grad_x + a.height * a.width;
  for (; rows < end; ++rows) *rows = 0.f;
  return sum_lanes(matched);
}

// ---- codes as they are stored ----

template <class T>
void narrow_as(const int32_t* codes, int64_t count, void* out) {
  T* to = static_cast<T*>(out);
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(codes[i]);
}

void pool_narrow(const int32_t* codes, int64_t count, int32_t dtype, void* out) {
  switch (dtype) {
    case CNNEXT_UINT8:
      return narrow_as<uint8_t>(codes, count, out);
    case CNNEXT_UINT16:
      return narrow_as<uint16_t>(codes, count, out);
    case CNNEXT_INT32:
      return narrow_as<int32_t>(codes, count, out);
    default:
      return narrow_as<int64_t>(codes, count, out);
  }
}

// T(-1) is all ones: no tap.
template <class T>
int64_t widen_taps(const void* codes, int64_t count, int32_t* out) {
  const T* from = static_cast<const T*>(codes);
  int32_t named = 0;
  for (int64_t i = 0; i < count; ++i) {
    const bool none = from[i] == static_cast<T>(-1);
    out[i] = none ? 0 : static_cast<int32_t>(from[i]) + 1;
    named += !none;
  }
  return named;
}

int64_t widen_planes(const int64_t* from, int64_t count, int64_t base, int64_t step, int32_t* out) {
  int32_t named = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t code = from[i] - base - i * step + 1;
    const bool none = from[i] == -1;
    out[i] = none || code < 0 || code > INT32_MAX ? 0 : static_cast<int32_t>(code);
    named += !none;
  }
  return named;
}

int64_t pool_widen(const void* codes, int32_t dtype, int64_t count, int64_t base, int64_t step,
                   int32_t* out) {
  switch (dtype) {
    case CNNEXT_UINT8:
      return widen_taps<uint8_t>(codes, count, out);
    case CNNEXT_UINT16:
      return widen_taps<uint16_t>(codes, count, out);
    case CNNEXT_INT32:
      return widen_taps<int32_t>(codes, count, out);
    default:
      return widen_planes(static_cast<const int64_t*>(codes), count, base, step, out);
  }
}

constexpr MaxPoolUkernels kMaxPoolUkernels = {max_pool_pixels,      max_pool_row,      pool_strip,
                                              max_pool_grad_pixels, max_pool_grad_row, max_pool_grad_tiles,
                                              pool_narrow,          pool_widen};

}  // namespace
}  // namespace cnnext
