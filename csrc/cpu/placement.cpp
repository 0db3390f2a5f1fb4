#include "cpu/placement.h"

#include <algorithm>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cnnext {

Placement& Placement::operator=(const Placement&) {
  for (std::atomic<int>& tid : tids_) tid.store(0, std::memory_order_relaxed);
  missed_.store(0, std::memory_order_relaxed);
  patience_ = 1, in_vain_ = 0;
  kept_off_ = -1, kept_ = 0;
  return *this;
}

#if defined(__linux__)

void Placement::started(int worker) {
  if (worker >= kMaxPlaced) return;
  tids_[worker].store(static_cast<int>(syscall(SYS_gettid)), std::memory_order_release);
}

void Placement::keep_off(int processor, int workers) {
  workers = std::min(workers, kMaxPlaced);
  if (processor == kept_off_ && workers == kept_) return;
  kept_off_ = processor;
  kept_ = 0;
  for (int i = 0; i < workers; ++i) {
    const int tid = tids_[i].load(std::memory_order_acquire);
    cpu_set_t now;
    // Not started yet, or more processors than the mask has: as the kernel likes.
    if (tid == 0 || sched_getaffinity(tid, sizeof(now), &now) != 0) continue;
    Placed& placed = placed_[i];
    if (!CPU_EQUAL(&now, &placed.set)) placed.free = now;
    placed.set = placed.free;
    if (processor >= 0 && processor < CPU_SETSIZE) CPU_CLR(processor, &placed.set);
    if (CPU_COUNT(&placed.set) == 0) placed.set = placed.free;
    if (!CPU_EQUAL(&now, &placed.set) && sched_setaffinity(tid, sizeof(now), &placed.set) != 0) {
      placed.set = now;
    }
    ++kept_;
  }
}

#else

void Placement::started(int) {}
void Placement::keep_off(int, int) {}

#endif

}  // namespace cnnext
