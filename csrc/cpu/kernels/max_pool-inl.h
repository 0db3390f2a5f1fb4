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

constexpr MaxPoolUkernels kMaxPoolUkernels = {max_pool_pixels, max_pool_row, pool_strip, pool_narrow};

}  // namespace
}  // namespace cnnext
