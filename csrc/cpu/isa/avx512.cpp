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
#include "cpu/kernels/conv_pack-inl.h"
#include "cpu/kernels/conv_weights-inl.h"
#include "cpu/kernels/depthwise-inl.h"
#include "cpu/kernels/inner_product-inl.h"

namespace cnnext {
namespace {
constexpr ConvKTile kConvKTiles[] = {
    {12, 16, ConvK12<Vec, 1>::run, "cpu/avx512/conv2d_k_12x16"},
    {12, 32, ConvK12<Vec, 2>::run, "cpu/avx512/conv2d_k_12x32"},
    {8, 48, ConvK8<Vec, 3>::run, "cpu/avx512/conv2d_k_8x48"},
    {6, 64, ConvK6<Vec, 4>::run, "cpu/avx512/conv2d_k_6x64"},
};
constexpr ConvKTile kConvKNarrow = {12, 8, ConvK12<HalfVec, 1>::run, "cpu/avx512/conv2d_k_12x8"};
constexpr UkernelTable kTable = {
    kIsaName,
    Vec::kLanes,
    {Vec::kLanes, 4, kConvKTiles, &kConvKNarrow},
    kConvPackUkernels,
    {activate},
    {dot_product, axpy_product, "cpu/avx512/inner_product", "cpu/avx512/inner_product_transposed"},
    conv_weights_ukernels_32<Vec>("cpu/avx512/conv2d_weights_6x64"),
    depthwise_ukernels<Vec>("cpu/avx512/depthwise_channels", "cpu/avx512/depthwise_columns")};
}  // namespace

const UkernelTable* ukernels_avx512() { return &kTable; }

}  // namespace cnnext

#else

const cnnext::UkernelTable* cnnext::ukernels_avx512() { return nullptr; }

#endif
