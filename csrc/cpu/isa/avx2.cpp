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
    {12, 8, 1, ConvK12<Vec, 1>::run, "cpu/avx2/conv2d_k_12x8"},
    {6, 16, 1, ConvK6<Vec, 2>::run, "cpu/avx2/conv2d_k_6x16"},
};
constexpr ConvKTile kConvKSplitTiles[] = {
    {4, 12, 2, ConvK4<Vec, 3, 2>::run, "cpu/avx2/conv2d_k_4x12x2"},
    {6, 8, 2, ConvK6<Vec, 2, 2>::run, "cpu/avx2/conv2d_k_6x8x2"},
    {10, 4, 2, ConvK10<Vec, 1, 2>::run, "cpu/avx2/conv2d_k_10x4x2"},
    {4, 6, 4, ConvK4<Vec, 3, 4>::run, "cpu/avx2/conv2d_k_4x6x4"},
    {6, 4, 4, ConvK6<Vec, 2, 4>::run, "cpu/avx2/conv2d_k_6x4x4"},
    {4, 3, 8, ConvK4<Vec, 3, 8>::run, "cpu/avx2/conv2d_k_4x3x8"},
    {6, 2, 8, ConvK6<Vec, 2, 8>::run, "cpu/avx2/conv2d_k_6x2x8"},
    {10, 1, 8, ConvK10<Vec, 1, 8>::run, "cpu/avx2/conv2d_k_10x1x8"},
};
constexpr UkernelTable kTable = {
    kIsaName,
    Vec::kLanes,
    {Vec::kLanes, 2, kConvKTiles, 8, kConvKSplitTiles},
    conv_p_ukernels_16<Vec>("cpu/avx2/conv2d_p_4x24", "cpu/avx2/conv2d_weights_p_4x3"),
    kConvPackUkernels,
    {activate},
    {dot_product, axpy_product, "cpu/avx2/inner_product", "cpu/avx2/inner_product_transposed"},
    conv_weights_ukernels_16<Vec>("cpu/avx2/conv2d_weights_6x16"),
    depthwise_ukernels<Vec>("cpu/avx2/depthwise_channels", "cpu/avx2/depthwise_columns"),
    kHalfUkernels};
}  // namespace

const UkernelTable* ukernels_avx2() { return &kTable; }

}  // namespace cnnext

#else

const cnnext::UkernelTable* cnnext::ukernels_avx2() { return nullptr; }

#endif
