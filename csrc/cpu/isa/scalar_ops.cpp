// Kernels other than convolution's for the compiler's baseline. See scalar.cpp.
#include "cpu/simd/vec4.h"

namespace cnnext {
namespace {
using Vec = Vec4;
}  // namespace
}  // namespace cnnext

#include "cpu/kernels/avg_pool-inl.h"
#include "cpu/kernels/channel-inl.h"
#include "cpu/kernels/drop_codes-inl.h"
#include "cpu/kernels/elementwise-inl.h"
#include "cpu/kernels/max_pool-inl.h"
#include "cpu/kernels/max_pool_bytes-inl.h"
#include "cpu/kernels/max_pool_grad-inl.h"
#include "cpu/kernels/softmax-inl.h"
#include "cpu/ops_ukernels.h"

namespace cnnext {
namespace {
constexpr OpsUkernelTable kTable = {
    "scalar",         Vec::kLanes,      kMaxPoolUkernels,     kElementwiseUkernels,  kChannelUkernels,
    kSoftmaxUkernels, kAvgPoolUkernels, kMaxPoolGradUkernels, kMaxPoolBytesUkernels, drop_codes};
}  // namespace

const OpsUkernelTable* ops_ukernels_scalar() { return &kTable; }

}  // namespace cnnext
