// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter in, four
// 32-bit words out, so that any element's bits are had without the others'.
//
// Dropout's definition. Element `position` (in memory order) has the 64-bit number n = offset + position
// (wrapping). Its word is word n % 4 of philox(counter = (low and high half of n / 4, 0, 0), key = (low and
// high half of seed)). It is kept where word >= ceil(p * 2^32), and multiplied by 1/(1-p); else multiplied by
// 0. The CUDA kernels use this very function, so that a seed means the same mask everywhere.
#pragma once

#include <cmath>
#include <cstdint>

#include "cpu/kernels/philox_constants.h"

#ifdef __CUDACC__
#define CNNEXT_PHILOX __host__ __device__ inline
#else
#define CNNEXT_PHILOX inline
#endif

namespace cnnext {

CNNEXT_PHILOX void philox4x32(uint64_t block, uint64_t seed, uint32_t out[4]) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxM0) * c0, p1 = static_cast<uint64_t>(kPhiloxM1) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// In [0, 2^32]: p = 1 drops everything.
inline uint64_t dropout_threshold(double p) { return static_cast<uint64_t>(std::ceil(p * 4294967296.0)); }

inline double dropout_scale(double p) { return p < 1.0 ? 1.0 / (1.0 - p) : 0.0; }

}  // namespace cnnext
