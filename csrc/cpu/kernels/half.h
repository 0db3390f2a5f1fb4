// float16 and bfloat16 to float and back, run by run.
#pragma once

#include <stdint.h>

namespace cnnext {

// Values as they lie in memory: types of their own, by which kernels know how to widen them.
struct Float16Bits {
  uint16_t bits;
};
struct Bfloat16Bits {
  uint16_t bits;
};

struct HalfConverter {
  void (*widen)(int64_t n, const uint16_t* in, float* out);
  // Rounds to the nearest, ties to even; NaN stays NaN, what is too large becomes infinite.
  void (*narrow)(int64_t n, const float* in, uint16_t* out);
  // The same past the caches where whole cache lines are written; needs a fence like kConvKStream.
  void (*narrow_stream)(int64_t n, const float* in, uint16_t* out);
};

struct HalfUkernels {
  HalfConverter float16, bfloat16;
};

}  // namespace cnnext
