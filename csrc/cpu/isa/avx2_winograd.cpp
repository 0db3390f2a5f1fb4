// Winograd's transforms for AVX2 + FMA; compiled with that ISA's flags. See scalar.cpp.
#include "cpu/winograd_ukernels.h"

#if defined(__AVX2__) && defined(__FMA__)

#include "cpu/simd/vec8.h"

namespace cnnext {
namespace {
using Vec = Vec8;
}  // namespace
}  // namespace cnnext

#include "cpu/kernels/winograd_grad-inl.h"

namespace cnnext {
namespace {
constexpr WinogradUkernels kKernels = winograd_ukernels(
    "cpu/avx2/conv2d_winograd_4x4", "cpu/avx2/conv2d_winograd_2x2", "cpu/avx2/conv2d_weights_winograd_4x4");
}  // namespace

const WinogradUkernels* winograd_ukernels_avx2() { return &kKernels; }

}  // namespace cnnext

#else

const cnnext::WinogradUkernels* cnnext::winograd_ukernels_avx2() { return nullptr; }

#endif
