// Keeps the pool's workers off the caller's processor.
//
// Kernels that pack threads (virtual machines that leave processors to others, power-saving ones) wake a
// worker on the processor of the busy thread that wakes it, and leave it there for many milliseconds: two
// threads then have the speed of one. Once that has been seen, workers may run anywhere but where the caller
// of the job is. Where they do not come then either, because something else is busy there, they are let go,
// and it takes more to hold them again.
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
    if (callers_processor >= 0 && current_processor() == callers_processor) {
      missed_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  // The rest is for the one caller that has the pool.
  // After a job: some of the workers that it woke came, or none while it ran the whole job.
  void some_came() { in_vain_ = 0; }
  void none_came() {
    if (kept_off_ < 0) {
      missed_.fetch_add(1, std::memory_order_relaxed);
    } else if (++in_vain_ >= kInVain) {
      in_vain_ = 0;
      patience_ = patience_ < kMostPatience ? 4 * patience_ : patience_;
      missed_.store(0, std::memory_order_relaxed);
    }
  }
  // Are workers to be kept off? If not, let them go.
  bool shared() const { return missed_.load(std::memory_order_relaxed) >= patience_; }
  bool keeps() const { return kept_off_ >= 0; }

  // Before it wakes sleeping workers. processor: its own, or -1 to let them run anywhere again. What others
  // have set for a thread since (taskset, a cpuset) is respected.
  void keep_off(int processor, int workers);

  // In the child of a fork there are no workers.
  void reset() { *this = Placement(); }

  constexpr Placement() = default;
  Placement& operator=(const Placement& other);

 private:
  static constexpr int kMaxPlaced = 16;  // with more workers one that shares a processor matters less
  static constexpr int kInVain = 3, kMostPatience = 256;

#if defined(__linux__)
  struct Placed {
    cpu_set_t free, set;  // where it might run without us, and where we let it
  };
  Placed placed_[kMaxPlaced]{};
#endif
  std::atomic<int> tids_[kMaxPlaced]{};
  std::atomic<int> missed_{0};  // wakings on the caller's processor since workers were last let go
  int patience_ = 1, in_vain_ = 0;
  int kept_off_ = -1, kept_ = 0;  // the processor, and how many workers
};

}  // namespace cnnext
