// Winograd's transforms for AVX-512 F, BW, DQ, VL; compiled with that ISA's flags. See scalar.cpp.
#include "cpu/winograd_ukernels.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

#include "cpu/simd/vec16.h"

namespace cnnext {
namespace {
using Vec = Vec16;
}  // namespace
}  // namespace cnnext

#include "cpu/kernels/winograd_grad-inl.h"

namespace cnnext {
namespace {
constexpr WinogradUkernels kKernels =
    winograd_ukernels("cpu/avx512/conv2d_winograd_4x4", "cpu/avx512/conv2d_winograd_2x2",
                      "cpu/avx512/conv2d_weights_winograd_4x4");
}  // namespace

const WinogradUkernels* winograd_ukernels_avx512() { return &kKernels; }

}  // namespace cnnext

#else

const cnnext::WinogradUkernels* cnnext::winograd_ukernels_avx512() { return nullptr; }

#endif
