// Which instruction set the CPU kernels use. Chosen once per process: the best that processor and operating
// system support, or the one that the environment variable CNNEXT_CPU_ISA names.
#pragma once

#include <cstdint>
#include <string>

namespace cnnext {

// In order of preference, best last. The values index the list in cpuid.cpp.
enum class Isa : int32_t { kScalar = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3 };
inline constexpr int kNumIsas = 4;

const char* isa_name(Isa isa);         // "scalar", "avx2", "avx512", "avx512_bf16": what CNNEXT_CPU_ISA takes
const char* isa_description(Isa isa);  // the extensions that it stands for
bool isa_supported(Isa isa);           // by this build, this processor and this operating system
const char* isa_available();           // the names of the supported ones, comma-separated, best last

// The choice. Where CNNEXT_CPU_ISA is wrong, the best supported one, and isa_error() says what is wrong.
Isa active_isa();
const char* isa_error();  // "" where all is well; cnnext_init() reports it

// The one whose tables of kernels are used: an extension of an instruction set only adds to them.
Isa base_isa(Isa isa);

// Decides as active_isa() would if CNNEXT_CPU_ISA were `forced` (nullptr or "": not set); error becomes "" or
// the message. For tests, and for active_isa() itself.
Isa choose_isa(const char* forced, std::string* error);

}  // namespace cnnext
