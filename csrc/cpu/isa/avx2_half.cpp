// Depthwise kernels on images of 16 bits for AVX2 + FMA + F16C; compiled with that ISA's flags. See
// scalar.cpp.
#include "cpu/ukernels.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include "cpu/simd/vec8.h"

namespace cnnext {
namespace {
using Vec = Vec8;
}  // namespace
}  // namespace cnnext

#include "cpu/kernels/depthwise_half-inl.h"

namespace cnnext {
namespace {
constexpr DepthwiseHalfUkernels kKernels = {depthwise_half_kernels<Vec, Float16Bits>(),
                                            depthwise_half_kernels<Vec, Bfloat16Bits>()};
}  // namespace

const DepthwiseHalfUkernels* depthwise_half_ukernels_avx2() { return &kKernels; }

}  // namespace cnnext

#else

const cnnext::DepthwiseHalfUkernels* cnnext::depthwise_half_ukernels_avx2() { return nullptr; }

#endif
