// Keeps the pool's workers off the caller's processor.
//
// Kernels that pack threads (virtual machines that leave processors to others, power-saving ones) wake a
// worker on the processor of the busy thread that wakes it, and leave it there for many milliseconds: two
// threads then have the speed of one. Once that has been seen, workers may run anywhere but where the caller
// of the job is.
#pragma once

#if defined(__linux__)
#include <sched.h>
#endif

#include <atomic>

namespace cnnext {

inline int current_processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

class Placement {
 public:
  // By a worker: it is there; it was woken by a caller on that processor.
  void started(int worker);
  void woke(int callers_processor) {
    if (callers_processor >= 0 && current_processor() == callers_processor) none_came();
  }
  // By a caller: of the workers that it woke none came while it ran the whole job.
  void none_came() { shared_.store(true, std::memory_order_relaxed); }
  bool shared() const { return shared_.load(std::memory_order_relaxed); }

  // By the one caller that has the pool, before it wakes sleeping workers. processor: its own, or -1 to let
  // them run anywhere again. What others have set for a thread since (taskset, a cpuset) is respected.
  void keep_off(int processor, int workers);

  // In the child of a fork there are no workers.
  void reset() { *this = Placement(); }

  constexpr Placement() = default;
  Placement& operator=(const Placement& other);

 private:
  static constexpr int kMaxPlaced = 16;  // with more workers one that shares a processor matters less

#if defined(__linux__)
  struct Placed {
    cpu_set_t free, set;  // where it might run without us, and where we let it
  };
  Placed placed_[kMaxPlaced]{};
#endif
  std::atomic<int> tids_[kMaxPlaced]{};
  std::atomic<bool> shared_{false};
  int kept_off_ = -1, kept_ = 0;  // the processor, and how many workers
};

}  // namespace cnnext
