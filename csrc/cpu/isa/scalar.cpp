// Kernels for the compiler's baseline: SSE2 on x86-64, NEON on aarch64. Vec is the native vector, HalfVec the
// next narrower one (where there is one). No std:: templates and no static initialisers here: the linker
// might otherwise keep this file's copy of an inline function for everyone.
#include "cpu/simd/vec4.h"

namespace cnnext {
namespace {
using Vec = Vec4;
using HalfVec = Vec4;
constexpr const char* kIsaName = "scalar";
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
#include "cpu/ukernels.h"

namespace cnnext {
namespace {
constexpr ConvKTile kConvKTiles[] = {
    {8, 4, 1, ConvK8<Vec, 1>::run, "cpu/scalar/conv2d_k_8x4"},
    {6, 8, 1, ConvK6<Vec, 2>::run, "cpu/scalar/conv2d_k_6x8"},
};
constexpr ConvKTile kConvKSplitTiles[] = {
    {6, 4, 2, ConvK6<Vec, 2, 2>::run, "cpu/scalar/conv2d_k_6x4x2"},
    {8, 2, 2, ConvK8<Vec, 1, 2>::run, "cpu/scalar/conv2d_k_8x2x2"},
    {6, 2, 4, ConvK6<Vec, 2, 4>::run, "cpu/scalar/conv2d_k_6x2x4"},
    {8, 1, 4, ConvK8<Vec, 1, 4>::run, "cpu/scalar/conv2d_k_8x1x4"},
};
constexpr UkernelTable kTable = {
    kIsaName,
    Vec::kLanes,
    {Vec::kLanes, 2, kConvKTiles, 4, kConvKSplitTiles},
    conv_p_ukernels_16<Vec>("cpu/scalar/conv2d_p_4x12", "cpu/scalar/conv2d_weights_p_4x3"),
    kConvPackUkernels,
    {activate},
    {dot_product, axpy_product, "cpu/scalar/inner_product", "cpu/scalar/inner_product_transposed"},
    conv_weights_ukernels_16<Vec>("cpu/scalar/conv2d_weights_6x8"),
    depthwise_ukernels<Vec>("cpu/scalar/depthwise_channels", "cpu/scalar/depthwise_columns"),
    kHalfUkernels};
}  // namespace

const UkernelTable* ukernels_scalar() { return &kTable; }

}  // namespace cnnext
