#include "cpu/ops_ukernels.h"

#include "cpu/cpuid.h"

namespace cnnext {
namespace {

const OpsUkernelTable* pick() {
  const Isa isa = base_isa(active_isa());
  const OpsUkernelTable* table = nullptr;
  if (isa == Isa::kAvx512) table = ops_ukernels_avx512();
  if (isa == Isa::kAvx2) table = ops_ukernels_avx2();
  return table ? table : ops_ukernels_scalar();
}

}  // namespace

const OpsUkernelTable& ops_ukernels() {
  static const OpsUkernelTable* const table = pick();
  return *table;
}

const char* of_active_isa(const KernelName& name) {
  const OpsUkernelTable* table = &ops_ukernels();
  if (table == ops_ukernels_avx512()) return name.avx512;
  return table == ops_ukernels_avx2() ? name.avx2 : name.scalar;
}

}  // namespace cnnext
