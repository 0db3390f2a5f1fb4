// See max_pool_grad.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/max_pool_grad.h"
#include "cpu/simd/ivec.h"
#include "cpu/simd/taps.h"

namespace cnnext {
namespace {

// sum[u] = the terms' sum at vector u from `at` on; a tail's missing lanes hold no tap.
// kTerms 0: as many as the list says.
template <int U, bool kTail, int kTerms = 0>
inline void gather_terms(const PoolTerm* terms, int64_t num_terms, int64_t at, int n, Vec (&sum)[U]) {
  for (Vec& s : sum) s = Vec::zero();
#pragma GCC unroll 4
  for (int64_t t = 0; t < (kTerms ? kTerms : num_terms); ++t) {
    const Taps tap = Taps::set1(terms[t].tap);
    const uint8_t* taps = terms[t].taps + at;
    const float* grad = terms[t].grad + at;
    for (int u = 0; u < U; ++u) {
      const int64_t i = u * Vec::kLanes;
      const auto here = eq(kTail ? Taps::load_tail(taps + i, n) : Taps::load(taps + i), tap);
      sum[u] = add_where(here, sum[u], kTail ? Vec::load_tail(grad + i, n) : Vec::load(grad + i));
    }
  }
}

template <int kTerms, int U>
inline void gather_pixels(const PoolTerm* terms, int64_t num_terms, int64_t at, float* out) {
  Vec sum[U];
  gather_terms<U, false, kTerms>(terms, num_terms, at, 0, sum);
  for (int u = 0; u < U; ++u) sum[u].store(out + u * Vec::kLanes);
}

template <int kTerms>
void max_pool_grad_pixels_as(const MaxPoolGradPixels& a) {
  constexpr int L = Vec::kLanes;
  PoolTerm few[kTerms ? kTerms : 1];
  for (int t = 0; t < kTerms; ++t) few[t] = a.terms[t];
  const PoolTerm* terms = kTerms ? few : a.terms;
  for (int64_t i = 0; i < a.pixels; ++i) {
    float* out = a.grad_x + i * a.out_step;
    const int64_t at = i * a.channels;
    int64_t c = 0;
    for (; c + 4 * L <= a.channels; c += 4 * L) {
      gather_pixels<kTerms, 4>(terms, a.num_terms, at + c, out + c);
    }
    for (; c + L <= a.channels; c += L) gather_pixels<kTerms, 1>(terms, a.num_terms, at + c, out + c);
    if (c < a.channels) {
      const int n = static_cast<int>(a.channels - c);
      Vec sum[1];
      gather_terms<1, true, kTerms>(terms, a.num_terms, at + c, n, sum);
      sum[0].store_tail(out + c, n);
    }
  }
}

void max_pool_grad_pixels(const MaxPoolGradPixels& a) {
  if (a.num_terms == 1) return max_pool_grad_pixels_as<1>(a);
  if (a.num_terms == 2) return max_pool_grad_pixels_as<2>(a);
  if (a.num_terms == 4) return max_pool_grad_pixels_as<4>(a);
  max_pool_grad_pixels_as<0>(a);
}

inline void store_up_to(Vec v, float* p, int64_t n) {
  if (n >= Vec::kLanes)
    v.store(p);
  else if (n > 0)
    v.store_tail(p, static_cast<int>(n));
}

template <int U>
inline void gather_row(const MaxPoolGradRow& a, int64_t i) {
  Vec sum[U];
  gather_terms<U, false>(a.terms, a.num_terms, i, 0, sum);
  for (int u = 0; u < U; ++u) {
    if (U > 1)
      sum[u].store(a.grad_x + i + u * Vec::kLanes);
    else
      store_up_to(sum[u], a.grad_x + i, a.width - i);
  }
}

void max_pool_grad_row(const MaxPoolGradRow& a) {
  constexpr int L = Vec::kLanes;
  int64_t i = 0;
  for (; i + 4 * L <= a.width; i += 4 * L) gather_row<4>(a, i);
  for (; i < a.width; i += L) gather_row<1>(a, i);
}

void max_pool_grad_strip(const MaxPoolGradStrip& a) {
  constexpr int L = Vec::kLanes;
  const float* grad = a.grad;
  const uint8_t* taps = a.taps;
  for (int64_t row = 0; row < a.rows; ++row, grad += a.columns, taps += a.columns) {
    float* grad_out = a.grad_out + row * a.pitch;
    uint8_t* taps_out = a.taps_out + row * a.pitch;
    int64_t q = 0;
    for (; q + L <= a.columns; q += L) {
      Vec::load(grad + q).store(grad_out + q);
      Taps::load(taps + q).store(taps_out + q);
    }
    if (q < a.columns) {
      const int n = static_cast<int>(a.columns - q);
      Vec::load_tail(grad + q, n).store(grad_out + q);
      Taps::load_tail(taps + q, n).store(taps_out + q);
      q += L;
    }
    for (; q < a.pitch; q += L) Taps::set1(kNoTapByte).store(taps_out + q);
  }
}

// n gradients, spread over the first `width` of 2 n columns from grad_x on, in each of the window's rows.
template <bool kTail>
inline void grad_tile_vector(const MaxPoolGradTiles& a, int64_t at, int n, float* grad_x, int64_t width,
                             int64_t height) {
  const Vec grad = kTail ? Vec::load_tail(a.grad + at, n) : Vec::load(a.grad + at);
  const Taps taps = kTail ? Taps::load_tail(a.taps + at, n) : Taps::load(a.taps + at);
  for (int64_t r = 0; r < a.stride_h && r < height; ++r, grad_x += a.width) {
    Vec even = Vec::zero(), odd = even;
    if (r < a.R) {
      const uint8_t tap = static_cast<uint8_t>(r * a.S);
      even = add_where(eq(taps, Taps::set1(tap)), even, grad);
      if (a.S > 1) odd = add_where(eq(taps, Taps::set1(tap + 1)), odd, grad);
    }
    Vec lower, upper;
    interleave(even, odd, &lower, &upper);
    store_up_to(lower, grad_x, width);
    store_up_to(upper, grad_x + Vec::kLanes, width - Vec::kLanes);
  }
}

void max_pool_grad_tiles(const MaxPoolGradTiles& a) {
  constexpr int L = Vec::kLanes;
  float* rows = a.grad_x;
  for (int64_t p = 0; p < a.rows; ++p, rows += a.stride_h * a.width) {
    const int64_t height = a.height - p * a.stride_h;
    for (int64_t q = 0; q < a.columns; q += L) {
      const int64_t at = p * a.columns + q, width = a.width - 2 * q;
      const int n = a.columns - q < L ? static_cast<int>(a.columns - q) : L;
      if (n == L)
        grad_tile_vector<false>(a, at, n, rows + 2 * q, width, height);
      else
        grad_tile_vector<true>(a, at, n, rows + 2 * q, width < 2 * n ? width : 2 * n, height);
    }
    for (int64_t r = 0; r < a.stride_h && r < height; ++r) {
      for (int64_t w = 2 * a.columns; w < a.width; ++w) rows[r * a.width + w] = 0.f;
    }
  }
  float* const end = a.grad_x + a.height * a.width;
  for (; rows < end; ++rows) *rows = 0.f;
}

// ---- taps ----

constexpr int kTapBlock = 32;

// Loops of constant length, which compilers vectorise. run(i) over blocks from i on; the last one overlaps
// the one before. Fewer than a block: few(count).
template <class Run, class Few>
inline void for_tap_blocks(int64_t count, const Run& run, const Few& few) {
  if (count < kTapBlock) return few(static_cast<int>(count));
  int64_t i = 0;
  for (; i + kTapBlock <= count; i += kTapBlock) run(i);
  if (i < count) run(count - kTapBlock);
}
template <class T>
inline void copy_few(const T* from, int count, T fill, T* to) {
  for (int i = 0; i < kTapBlock; ++i) to[i] = fill;
  for (int i = 0; i < count; ++i) to[i] = from[i];
}

// An offset in the plane is split into rows and columns by comparisons: windows have few of both.
inline void taps_of_block(const PlaneTaps& a, const int64_t* planes, const int32_t* corners, uint8_t* taps) {
  const int32_t line = static_cast<int32_t>(a.width * a.dilation_h),
                step = static_cast<int32_t>(a.dilation_w);
  const int32_t S = static_cast<int32_t>(a.S), rows = static_cast<int32_t>(a.R);
  int32_t offset[kTapBlock], row[kTapBlock], column[kTapBlock];
  for (int i = 0; i < kTapBlock; ++i) {
    const int64_t corner = a.corner + (corners ? corners[i] : 0);
    const uint64_t wide = static_cast<uint64_t>(planes[i]) - static_cast<uint64_t>(corner);
    offset[i] = wide < INT32_MAX ? static_cast<int32_t>(wide) : -1;
    row[i] = column[i] = 0;
  }
  for (int32_t r = 1; r < rows; ++r) {
    for (int i = 0; i < kTapBlock; ++i) row[i] += offset[i] >= r * line;
  }
  for (int i = 0; i < kTapBlock; ++i) offset[i] -= row[i] * line;
  for (int32_t s = 1; s < S; ++s) {
    for (int i = 0; i < kTapBlock; ++i) column[i] += offset[i] >= s * step;
  }
  for (int i = 0; i < kTapBlock; ++i) {
    const int32_t tap = offset[i] == column[i] * step ? row[i] * S + column[i] : kBadTapByte;
    taps[i] = static_cast<uint8_t>(planes[i] == -1 ? kNoTapByte : tap);
  }
}

void taps_of_planes(const PlaneTaps& a) {
  for_tap_blocks(
      a.count,
      [&](int64_t i) { taps_of_block(a, a.planes + i, a.corners ? a.corners + i : nullptr, a.taps + i); },
      [&](int count) {
        int64_t planes[kTapBlock];
        int32_t corners[kTapBlock] = {};
        uint8_t taps[kTapBlock];
        copy_few<int64_t>(a.planes, count, -1, planes);
        if (a.corners) copy_few(a.corners, count, 0, corners);
        taps_of_block(a, planes, corners, taps);
        for (int i = 0; i < count; ++i) a.taps[i] = taps[i];
      });
}

void places_of_taps(const TapPlaces& a) {
  const uint32_t corner = a.corner, line = a.line, step = a.step;
  const uint32_t S = static_cast<uint32_t>(a.S), by_S = 65536 / S + 1;  // exact: taps are below 256
  const auto block = [=](const uint8_t* taps, const int32_t* corners, int32_t* places) {
    for (int i = 0; i < kTapBlock; ++i) {
      const uint32_t tap = taps[i], r = tap * by_S >> 16;
      const uint32_t place = corner + static_cast<uint32_t>(corners[i]) + r * line + (tap - r * S) * step;
      places[i] = tap == kNoTapByte ? -1 : static_cast<int32_t>(place);
    }
  };
  for_tap_blocks(
      a.count, [&](int64_t i) { block(a.taps + i, a.corners + i, a.places + i); },
      [&](int count) {
        uint8_t taps[kTapBlock];
        int32_t corners[kTapBlock], places[kTapBlock];
        copy_few(a.taps, count, kNoTapByte, taps);
        copy_few(a.corners, count, 0, corners);
        block(taps, corners, places);
        for (int i = 0; i < count; ++i) a.places[i] = places[i];
      });
}

template <class Mask>
inline bool check_block(const uint8_t* taps, const Mask& mask) {
  uint32_t good = 1;
  for (int i = 0; i < kTapBlock; ++i) {
    const uint32_t tap = taps[i];
    good &= ((mask(i) >> (tap & 31)) & (tap < 32)) | (tap == kNoTapByte);
  }
  return good & 1;
}

bool check_taps(const TapCheck& a) {
  const uint32_t mask = a.mask;
  bool good = true;
  for_tap_blocks(
      a.count,
      [&](int64_t i) {
        if (const uint32_t* masks = a.masks ? a.masks + i : nullptr)
          good &= check_block(a.taps + i, [=](int k) { return masks[k] & mask; });
        else
          good &= check_block(a.taps + i, [=](int) { return mask; });
      },
      [&](int count) {
        uint8_t taps[kTapBlock];
        uint32_t masks[kTapBlock];
        copy_few(a.taps, count, kNoTapByte, taps);
        for (int i = 0; i < kTapBlock; ++i) masks[i] = mask;
        for (int i = 0; i < count && a.masks; ++i) masks[i] &= a.masks[i];
        good = check_block(taps, [&](int k) { return masks[k]; });
      });
  return good;
}

constexpr MaxPoolGradUkernels kMaxPoolGradUkernels = {
    max_pool_grad_pixels, max_pool_grad_row, max_pool_grad_tiles, max_pool_grad_strip,
    taps_of_planes,       places_of_taps,    check_taps};

}  // namespace
}  // namespace cnnext
