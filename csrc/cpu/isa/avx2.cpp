// Kernels for AVX2 + FMA; compiled with that ISA's flags. See scalar.cpp.
#include "cpu/ukernels.h"

#if defined(__AVX2__) && defined(__FMA__)

#include "cpu/simd/vec4.h"
#include "cpu/simd/vec8.h"

namespace cnnext {
namespace {
using Vec = Vec8;
using HalfVec = Vec4;
constexpr const char* kIsaName = "avx2";
}  // namespace
}  // namespace cnnext

#include "cpu/kernels/conv_k-inl.h"
#include "cpu/kernels/conv_weights-inl.h"

namespace cnnext {
namespace {
constexpr UkernelTable kTable = {kIsaName, Vec::kLanes, kConvKUkernels,
                                 conv_weights_ukernels_16<Vec>("cpu/avx2/conv2d_weights_6x16")};
}  // namespace

const UkernelTable* ukernels_avx2() { return &kTable; }

}  // namespace cnnext

#else

const cnnext::UkernelTable* cnnext::ukernels_avx2() { return nullptr; }

#endif
