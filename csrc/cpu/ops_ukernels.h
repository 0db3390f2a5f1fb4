// The microkernels of everything but convolution, a table an instruction set: see ukernels.h, whose pattern
// this follows. The files are isa/<isa>_ops.cpp.
#pragma once

#include "cpu/kernels/avg_pool.h"
#include "cpu/kernels/channel.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/max_pool.h"
#include "cpu/kernels/max_pool_bytes.h"
#include "cpu/kernels/max_pool_grad.h"
#include "cpu/kernels/softmax.h"

namespace cnnext {

struct OpsUkernelTable {
  const char* isa;  // "scalar", "avx2", "avx512"
  int lanes;        // floats in a vector
  MaxPoolUkernels max_pool;
  ElementwiseUkernels elementwise;
  ChannelUkernels channel;
  SoftmaxUkernels softmax;
  AvgPoolUkernels avg_pool;
  MaxPoolGradUkernels max_pool_grad;
  MaxPoolBytesUkernels max_pool_bytes;
  // Window codes (uint8, uint16 or int32) become all ones where y is 0 or less; not where it is NaN.
  void (*drop_codes)(const float* y, int64_t count, int32_t code_dtype, void* codes);
};

// nullptr where this build has no such kernels (another processor family).
const OpsUkernelTable* ops_ukernels_scalar();
const OpsUkernelTable* ops_ukernels_avx2();
const OpsUkernelTable* ops_ukernels_avx512();

// The table of active_isa().
const OpsUkernelTable& ops_ukernels();

// The name of what ran, for Exec::ran: CNNEXT_KERNEL_NAME("relu") is "cpu/<active isa>/relu".
struct KernelName {
  const char *scalar, *avx2, *avx512;
};
const char* of_active_isa(const KernelName& name);
#define CNNEXT_KERNEL_NAMES(op) \
  ::cnnext::KernelName { "cpu/scalar/" op, "cpu/avx2/" op, "cpu/avx512/" op }
#define CNNEXT_KERNEL_NAME(op) ::cnnext::of_active_isa(CNNEXT_KERNEL_NAMES(op))

}  // namespace cnnext
