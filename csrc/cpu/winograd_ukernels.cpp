#include "cpu/winograd_ukernels.h"

#include "cpu/cpuid.h"

namespace cnnext {
namespace {

const WinogradUkernels* pick() {
  const Isa isa = base_isa(active_isa());
  if (isa == Isa::kAvx512) return winograd_ukernels_avx512();
  return isa == Isa::kAvx2 ? winograd_ukernels_avx2() : nullptr;
}

}  // namespace

const WinogradUkernels* winograd_ukernels() {
  static const WinogradUkernels* const table = pick();
  return table;
}

}  // namespace cnnext
