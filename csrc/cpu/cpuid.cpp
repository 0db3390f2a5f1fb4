#include "cpu/cpuid.h"

#include <cstdlib>
#include <cstring>

#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace cnnext {
namespace {

// Feature bits of cpuid and of XCR0, the register in which the operating system says which vector registers
// it saves when it switches threads. A processor may well have AVX-512 that the system does not keep.
constexpr uint32_t kLeaf1Fma = 1u << 12, kLeaf1Osxsave = 1u << 27, kLeaf1Avx = 1u << 28,
                   kLeaf1F16c = 1u << 29;
constexpr uint32_t kLeaf7Bmi1 = 1u << 3, kLeaf7Avx2 = 1u << 5, kLeaf7Bmi2 = 1u << 8;
constexpr uint32_t kLeaf7Avx512F = 1u << 16, kLeaf7Avx512Dq = 1u << 17, kLeaf7Avx512Bw = 1u << 30,
                   kLeaf7Avx512Vl = 1u << 31;
constexpr uint32_t kLeaf71Avx512Bf16 = 1u << 5;
constexpr uint64_t kXcr0Ymm = 0x06, kXcr0Zmm = 0xe6;  // XMM and YMM; with opmask and both halves of ZMM

struct IsaInfo {
  Isa isa;
  const char* name;
  const char* description;
  uint32_t leaf1_ecx, leaf7_ebx, leaf7_1_eax;  // required bits
  uint64_t xcr0;
};

constexpr uint32_t kAvx2Leaf1 = kLeaf1Osxsave | kLeaf1Avx | kLeaf1Fma | kLeaf1F16c;
constexpr uint32_t kAvx2Leaf7 = kLeaf7Avx2 | kLeaf7Bmi1 | kLeaf7Bmi2;
constexpr uint32_t kAvx512Leaf7 =
    kAvx2Leaf7 | kLeaf7Avx512F | kLeaf7Avx512Dq | kLeaf7Avx512Bw | kLeaf7Avx512Vl;

constexpr IsaInfo kIsas[kNumIsas] = {
    {Isa::kScalar, "scalar", "the compiler's baseline (SSE2 on x86-64)", 0, 0, 0, 0},
    {Isa::kAvx2, "avx2", "AVX2, FMA, F16C, BMI", kAvx2Leaf1, kAvx2Leaf7, 0, kXcr0Ymm},
    {Isa::kAvx512, "avx512", "AVX-512 F, BW, DQ, VL", kAvx2Leaf1, kAvx512Leaf7, 0, kXcr0Zmm},
    {Isa::kAvx512Bf16, "avx512_bf16", "AVX-512 F, BW, DQ, VL, BF16", kAvx2Leaf1, kAvx512Leaf7,
     kLeaf71Avx512Bf16, kXcr0Zmm},
};

struct CpuFeatures {
  uint32_t leaf1_ecx = 0, leaf7_ebx = 0, leaf7_1_eax = 0;
  uint64_t xcr0 = 0;
};

#if defined(__x86_64__)
CpuFeatures detect_features() {
  CpuFeatures features;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) features.leaf1_ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) features.leaf7_ebx = ebx;
  // Leaf 7's eax is the number of its last subleaf.
  if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) features.leaf7_1_eax = eax;
  if (features.leaf1_ecx & kLeaf1Osxsave) {  // without it xgetbv is an illegal instruction
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    features.xcr0 = (static_cast<uint64_t>(high) << 32) | low;
  }
  return features;
}
#else
CpuFeatures detect_features() { return {}; }
#endif

const IsaInfo& info(Isa isa) { return kIsas[static_cast<int>(isa)]; }

std::string supported_names() {
  std::string names;
  for (const IsaInfo& isa : kIsas) {
    if (!isa_supported(isa.isa)) continue;
    if (!names.empty()) names += ",";
    names += isa.name;
  }
  return names;
}

struct Choice {
  Isa isa;
  std::string error, available;
};

// The only look at the environment; later changes of it change nothing. Never destroyed: calls may still come
// while the process ends.
const Choice& choice() {
  static const Choice* const made = [] {
    auto* c = new Choice;
    c->isa = choose_isa(std::getenv("CNNEXT_CPU_ISA"), &c->error);
    c->available = supported_names();
    return c;
  }();
  return *made;
}

}  // namespace

const char* isa_name(Isa isa) { return info(isa).name; }
const char* isa_description(Isa isa) { return info(isa).description; }
Isa base_isa(Isa isa) { return isa == Isa::kAvx512Bf16 ? Isa::kAvx512 : isa; }

bool isa_supported(Isa isa) {
  static const CpuFeatures features = detect_features();
  const IsaInfo& need = info(isa);
  return (features.leaf1_ecx & need.leaf1_ecx) == need.leaf1_ecx &&
         (features.leaf7_ebx & need.leaf7_ebx) == need.leaf7_ebx &&
         (features.leaf7_1_eax & need.leaf7_1_eax) == need.leaf7_1_eax &&
         (features.xcr0 & need.xcr0) == need.xcr0;
}

Isa choose_isa(const char* forced, std::string* error) {
  error->clear();
  Isa best = Isa::kScalar;
  for (const IsaInfo& isa : kIsas) {
    if (isa_supported(isa.isa)) best = isa.isa;
  }
  if (!forced || !*forced) return best;
  for (const IsaInfo& isa : kIsas) {
    if (std::strcmp(isa.name, forced) != 0) continue;
    if (isa_supported(isa.isa)) return isa.isa;
    *error = concat("CNNEXT_CPU_ISA is \"", forced, "\" (", isa.description,
                    "), which this processor or operating system does not support; it must be one of ",
                    supported_names());
    return best;
  }
  *error = concat("CNNEXT_CPU_ISA is \"", forced, "\"; it must be one of ", supported_names());
  return best;
}

const char* isa_available() { return choice().available.c_str(); }
Isa active_isa() { return choice().isa; }
const char* isa_error() { return choice().error.c_str(); }

}  // namespace cnnext
