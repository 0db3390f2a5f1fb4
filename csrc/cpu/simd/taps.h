// Taps: as many one-byte tap numbers as the native Vec has lanes, compared with one tap to Vec's masks; all
// ones is no tap. Include it after ivec.h.
#pragma once

#include <stdint.h>

namespace cnnext {
namespace {

#if defined(__AVX512BW__) && defined(__AVX512VL__)

struct Taps {
  __m128i v;
  static inline Taps set1(uint8_t tap) { return {_mm_set1_epi8(static_cast<char>(tap))}; }
  static inline Taps load(const uint8_t* p) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
  static inline Taps load_tail(const uint8_t* p, int n) {
    return {_mm_mask_loadu_epi8(_mm_set1_epi8(-1), Vec16::tail_mask(n), p)};
  }
  inline void store(uint8_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
};
inline __mmask16 eq(Taps a, Taps b) { return _mm_cmpeq_epi8_mask(a.v, b.v); }

#else

// In the lanes of an IVec, so that a comparison gives Vec's masks.
struct Taps {
  IVec v;
  static inline Taps set1(uint8_t tap) { return {IVec::set1(tap)}; }
  static inline Taps load(const uint8_t* p) {
#if defined(__AVX2__)
    return {{_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))}};
#else
    return {{IVec::Raw{p[0], p[1], p[2], p[3]}}};
#endif
  }
  static inline Taps load_tail(const uint8_t* p, int n) {
    // Two parts that overlap, or one byte.
    uint64_t taps = 0;
    if (n >= 4) {
      taps = part<uint32_t>(p) | part<uint32_t>(p + n - 4) << 8 * (n - 4);
    } else if (n >= 2) {
      taps = part<uint16_t>(p) | part<uint16_t>(p + n - 2) << 8 * (n - 2);
    } else if (n == 1) {
      taps = *p;
    }
    if (n < 8) taps |= ~uint64_t{0} << 8 * n;
    uint8_t lanes[8];
    __builtin_memcpy(lanes, &taps, sizeof lanes);
    return load(lanes);
  }
  template <class Part>
  static inline uint64_t part(const uint8_t* p) {
    Part value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
  }
  inline void store(uint8_t* p) const {
    int32_t lanes[Vec::kLanes];
    v.store(lanes);
    for (int i = 0; i < Vec::kLanes; ++i) p[i] = static_cast<uint8_t>(lanes[i]);
  }
};
inline Vec::Mask eq(Taps a, Taps b) { return eq(a.v, b.v); }

#endif

}  // namespace
}  // namespace cnnext
