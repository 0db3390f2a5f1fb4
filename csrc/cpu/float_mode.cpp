// The floating-point modes of a task: round to nearest, no traps, denormals as cnnext_set_flush_denormal
// says.
#include <atomic>

#include "core/threads.h"

namespace cnnext {
namespace {

std::atomic<bool> flush_denormal{false};

#if defined(__x86_64__)
constexpr uint32_t kMasked = 0x1f80;          // all exceptions masked, round to nearest
constexpr uint32_t kFlush = 0x8000 | 0x0040;  // FTZ | DAZ
uint64_t read_modes() { return __builtin_ia32_stmxcsr(); }
void write_modes(uint64_t modes) { __builtin_ia32_ldmxcsr(static_cast<uint32_t>(modes)); }
uint64_t wanted_modes(uint64_t, bool flush) { return flush ? kMasked | kFlush : kMasked; }
#elif defined(__aarch64__)
constexpr uint64_t kFlush = uint64_t{1} << 24;  // FZ
constexpr uint64_t kTraps = 0x9f00, kRounding = uint64_t{3} << 22, kFlushHalf = uint64_t{1} << 19;
uint64_t read_modes() {
  uint64_t fpcr = 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
  return fpcr;
}
void write_modes(uint64_t fpcr) { __asm__ volatile("msr fpcr, %0" : : "r"(fpcr) : "memory"); }
uint64_t wanted_modes(uint64_t found, bool flush) {
  found &= ~(kTraps | kRounding | kFlush | kFlushHalf);
  return flush ? found | kFlush : found;
}
#else
uint64_t read_modes() { return 0; }
void write_modes(uint64_t) {}
uint64_t wanted_modes(uint64_t, bool) { return 0; }
#endif

}  // namespace

FloatModeScope::FloatModeScope() : saved_(read_modes()) {
  write_modes(wanted_modes(saved_, flush_denormal.load(std::memory_order_relaxed)));
}

FloatModeScope::~FloatModeScope() { write_modes(saved_); }

void set_flush_denormal(bool on) { flush_denormal.store(on, std::memory_order_relaxed); }
bool get_flush_denormal() { return flush_denormal.load(std::memory_order_relaxed); }

}  // namespace cnnext
