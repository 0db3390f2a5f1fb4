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
#include "cpu/kernels/conv_pack-inl.h"
#include "cpu/kernels/conv_weights-inl.h"
#include "cpu/kernels/depthwise-inl.h"
#include "cpu/kernels/inner_product-inl.h"

namespace cnnext {
namespace {
constexpr ConvKTile kConvKTiles[] = {
    {12, 8, ConvK12<Vec, 1>::run, "cpu/avx2/conv2d_k_12x8"},
    {6, 16, ConvK6<Vec, 2>::run, "cpu/avx2/conv2d_k_6x16"},
};
constexpr ConvKTile kConvKNarrow = {12, 4, ConvK12<HalfVec, 1>::run, "cpu/avx2/conv2d_k_12x4"};
constexpr UkernelTable kTable = {
    kIsaName,
    Vec::kLanes,
    {Vec::kLanes, 2, kConvKTiles, &kConvKNarrow},
    kConvPackUkernels,
    {activate},
    {dot_product, axpy_product, "cpu/avx2/inner_product", "cpu/avx2/inner_product_transposed"},
    conv_weights_ukernels_16<Vec>("cpu/avx2/conv2d_weights_6x16"),
    depthwise_ukernels<Vec>("cpu/avx2/depthwise_channels", "cpu/avx2/depthwise_columns")};
}  // namespace

const UkernelTable* ukernels_avx2() { return &kTable; }

}  // namespace cnnext

#else

const cnnext::UkernelTable* cnnext::ukernels_avx2() { return nullptr; }

#endif
