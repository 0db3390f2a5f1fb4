// Depthwise kernels on images of 16 bits for AVX-512 F, BW, DQ, VL; compiled with that ISA's flags. See
// scalar.cpp.
#include "cpu/ukernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

#include "cpu/simd/vec16.h"

namespace cnnext {
namespace {
using Vec = Vec16;
}  // namespace
}  // namespace cnnext

#include "cpu/kernels/depthwise_half-inl.h"

namespace cnnext {
namespace {
constexpr DepthwiseHalfUkernels kKernels = {depthwise_half_kernels<Vec, Float16Bits>(),
                                            depthwise_half_kernels<Vec, Bfloat16Bits>()};
}  // namespace

const DepthwiseHalfUkernels* depthwise_half_ukernels_avx512() { return &kKernels; }

}  // namespace cnnext

#else

const cnnext::DepthwiseHalfUkernels* cnnext::depthwise_half_ukernels_avx512() { return nullptr; }

#endif
