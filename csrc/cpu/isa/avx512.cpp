// Kernels for AVX-512 F, BW, DQ, VL; compiled with that ISA's flags. See scalar.cpp.
#include "cpu/ukernels.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

#include "cpu/simd/vec16.h"
#include "cpu/simd/vec4.h"
#include "cpu/simd/vec8.h"

namespace cnnext {
namespace {
using Vec = Vec16;
using HalfVec = Vec8;
constexpr const char* kIsaName = "avx512";
}  // namespace
}  // namespace cnnext

#include "cpu/kernels/activation-inl.h"
#include "cpu/kernels/conv_k-inl.h"
#include "cpu/kernels/conv_p-inl.h"
#include "cpu/kernels/conv_pack-inl.h"
#include "cpu/kernels/conv_weights-inl.h"
#include "cpu/kernels/depthwise-inl.h"
#include "cpu/kernels/half-inl.h"
#include "cpu/kernels/inner_product-inl.h"

namespace cnnext {
namespace {
constexpr ConvKTile kConvKTiles[] = {
    {12, 16, 1, ConvK12<Vec, 1>::run, "cpu/avx512/conv2d_k_12x16"},
    {12, 32, 1, ConvK12<Vec, 2>::run, "cpu/avx512/conv2d_k_12x32"},
    {8, 48, 1, ConvK8<Vec, 3>::run, "cpu/avx512/conv2d_k_8x48"},
    {6, 64, 1, ConvK6<Vec, 4>::run, "cpu/avx512/conv2d_k_6x64"},
};
constexpr ConvKTile kConvKSplitTiles[] = {
    {8, 24, 2, ConvK8<Vec, 3, 2>::run, "cpu/avx512/conv2d_k_8x24x2"},
    {8, 12, 4, ConvK8<Vec, 3, 4>::run, "cpu/avx512/conv2d_k_8x12x4"},
    {8, 8, 2, ConvK8<Vec, 1, 2>::run, "cpu/avx512/conv2d_k_8x8x2"},
    {8, 8, 4, ConvK8<Vec, 2, 4>::run, "cpu/avx512/conv2d_k_8x8x4"},
    {8, 6, 8, ConvK8<Vec, 3, 8>::run, "cpu/avx512/conv2d_k_8x6x8"},
    {8, 4, 4, ConvK8<Vec, 1, 4>::run, "cpu/avx512/conv2d_k_8x4x4"},
    {8, 4, 8, ConvK8<Vec, 2, 8>::run, "cpu/avx512/conv2d_k_8x4x8"},
    {8, 3, 16, ConvK8<Vec, 3, 16>::run, "cpu/avx512/conv2d_k_8x3x16"},
    {8, 2, 16, ConvK8<Vec, 2, 16>::run, "cpu/avx512/conv2d_k_8x2x16"},
    {8, 1, 16, ConvK8<Vec, 1, 16>::run, "cpu/avx512/conv2d_k_8x1x16"},
};
constexpr UkernelTable kTable = {
    kIsaName,
    Vec::kLanes,
    {Vec::kLanes, 4, kConvKTiles, 10, kConvKSplitTiles},
    conv_p_ukernels_32<Vec>("cpu/avx512/conv2d_p_8x48", "cpu/avx512/conv2d_weights_p_8x3"),
    kConvPackUkernels,
    {activate},
    {dot_product, axpy_product, "cpu/avx512/inner_product", "cpu/avx512/inner_product_transposed"},
    conv_weights_ukernels_32<Vec>("cpu/avx512/conv2d_weights_6x64"),
    depthwise_ukernels<Vec>("cpu/avx512/depthwise_channels", "cpu/avx512/depthwise_columns"),
    kHalfUkernels};
}  // namespace

const UkernelTable* ukernels_avx512() { return &kTable; }

}  // namespace cnnext

#else

const cnnext::UkernelTable* cnnext::ukernels_avx512() { return nullptr; }

#endif
