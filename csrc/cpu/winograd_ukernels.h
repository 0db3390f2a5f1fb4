// Winograd's microkernels, a table an instruction set: see ukernels.h, whose pattern this follows. There are
// none for the compiler's baseline: four lanes leave it to the direct kernels.
#pragma once

#include "cpu/kernels/winograd.h"

namespace cnnext {

// nullptr where this build has no such kernels (another processor family).
const WinogradUkernels* winograd_ukernels_avx2();
const WinogradUkernels* winograd_ukernels_avx512();

// The table of active_isa(), or nullptr.
const WinogradUkernels* winograd_ukernels();

}  // namespace cnnext
