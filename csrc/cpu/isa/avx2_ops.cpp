// Kernels other than convolution's for AVX2 + FMA; compiled with that ISA's flags. See scalar.cpp.
#include "cpu/ops_ukernels.h"

#if defined(__AVX2__) && defined(__FMA__)

#include "cpu/simd/vec8.h"

namespace cnnext {
namespace {
using Vec = Vec8;
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

namespace cnnext {
namespace {
constexpr OpsUkernelTable kTable = {
    "avx2",           Vec::kLanes,      kMaxPoolUkernels,     kElementwiseUkernels,  kChannelUkernels,
    kSoftmaxUkernels, kAvgPoolUkernels, kMaxPoolGradUkernels, kMaxPoolBytesUkernels, drop_codes};
}  // namespace

const OpsUkernelTable* ops_ukernels_avx2() { return &kTable; }

}  // namespace cnnext

#else

const cnnext::OpsUkernelTable* cnnext::ops_ukernels_avx2() { return nullptr; }

#endif
