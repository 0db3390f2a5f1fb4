#include "cpu/ukernels.h"

#include "cpu/cpuid.h"

namespace cnnext {
namespace {

const UkernelTable* pick() {
  const Isa isa = base_isa(active_isa());
  const UkernelTable* table = nullptr;
  if (isa == Isa::kAvx512) table = ukernels_avx512();
  if (isa == Isa::kAvx2) table = ukernels_avx2();
  return table ? table : ukernels_scalar();
}

}  // namespace

const UkernelTable& ukernels() {
  static const UkernelTable* const table = pick();
  return *table;
}

const DepthwiseHalfUkernels* depthwise_half_ukernels() {
  const Isa isa = base_isa(active_isa());
  return isa == Isa::kAvx512 ? depthwise_half_ukernels_avx512()
         : isa == Isa::kAvx2 ? depthwise_half_ukernels_avx2()
                             : nullptr;
}

const Bf16Ukernels* bf16_ukernels() {
  return active_isa() == Isa::kAvx512Bf16 ? bf16_ukernels_avx512() : nullptr;
}

}  // namespace cnnext
