#include "mbarrier.h"

#include <array>
#include <vector>

#include "hopper_host.h"

namespace cuda_host {
namespace {

struct Barrier {
  size_t address;
  int arrivals, missing;
  int64_t bytes;    // that are still to come
  uint32_t phases;  // that have ended
  Moment made;
  bool published;
};
struct State {
  std::vector<Barrier> barriers;
  std::vector<std::array<uint32_t, 1024>> seen;  // of each barrier, how many phases a thread has seen end
};
State& state() {
  static State* const the_state = new State;
  return *the_state;
}

int number_at(size_t address) {
  std::vector<Barrier>& all = state().barriers;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].address != address) continue;
    const Moment m = now();
    if (m.thread != all[i].made.thread && (!all[i].published || m.barriers == all[i].made.barriers)) {
      report("an mbarrier that thread %d made, with no fence or barrier behind it", all[i].made.thread);
    }
    return static_cast<int>(i);
  }
  report("no mbarrier at address %zu of shared memory", address);
}
Barrier& at(size_t address) { return state().barriers[static_cast<size_t>(number_at(address))]; }

void end_phase_if_due(Barrier* b) {
  if (b->missing > 0 || b->bytes != 0) return;
  b->missing = b->arrivals;
  ++b->phases;
}

struct Wait {
  const Barrier* barrier;
  uint32_t parity;
};

}  // namespace

void start_mbarriers() {
  state().barriers.clear();
  state().seen.clear();
  state().barriers.reserve(256);  // waiting threads point at them
}

void init_mbarrier(size_t address, int arrivals) {
  if (address % 8 != 0 || arrivals < 1) report("mbarrier.init at %zu for %d arrivals", address, arrivals);
  state().barriers.push_back({address, arrivals, arrivals, 0, 0, now(), false});
  state().seen.push_back({});
}

void publish_mbarriers() {
  for (Barrier& b : state().barriers) b.published = b.published || b.made.thread == now().thread;
}

void arrive_at(size_t address, int64_t bytes) {
  Barrier& b = at(address);
  if (b.missing == 0) report("more arrivals at an mbarrier than its phase has, %d", b.arrivals);
  --b.missing;
  b.bytes += bytes;
  end_phase_if_due(&b);
}

void wait_for_phase(size_t address, uint32_t parity, Where where) {
  const int number = number_at(address);
  Barrier& b = state().barriers[static_cast<size_t>(number)];
  if (is_skipped(where)) return;
  Wait wait{&b, parity};
  wait_until(
      "waiting at an mbarrier", where,
      [](void* argument) {
        const Wait& w = *static_cast<Wait*>(argument);
        return w.barrier->phases % 2 != w.parity;
      },
      &wait);
  state().seen[static_cast<size_t>(number)][static_cast<size_t>(now().thread)] = b.phases;
}

Phase phase_of(size_t address) {
  const int number = number_at(address);
  return {number, state().barriers[static_cast<size_t>(number)].phases};
}

void bytes_came(const Phase& phase, int64_t bytes) {
  Barrier& b = state().barriers[static_cast<size_t>(phase.barrier)];
  b.bytes -= bytes;
  end_phase_if_due(&b);
}

bool has_waited_for(int thread, const Phase& phase) {
  return state().seen[static_cast<size_t>(phase.barrier)][static_cast<size_t>(thread)] > phase.number;
}

}  // namespace cuda_host

namespace cnnext::cuda {

void mbarrier_init(const Shared<uint64_t>& barriers, int which, int arrivals) {
  ::cuda_host::init_mbarrier(barriers.address(which), arrivals);
}
void mbarrier_init_fence(const char* file, int line) {
  if (!::cuda_host::is_skipped({file, line})) ::cuda_host::publish_mbarriers();
}
void mbarrier_arrive(const Shared<uint64_t>& barriers, int which) {
  ::cuda_host::arrive_at(barriers.address(which), 0);
  ::cuda_host::let_others_run();  // as if this thread were slow with all that it should have done before
}
void mbarrier_expect(const Shared<uint64_t>& barriers, int which, int bytes) {
  ::cuda_host::arrive_at(barriers.address(which), bytes);
}
void mbarrier_wait(const Shared<uint64_t>& barriers, int which, uint32_t parity, const char* file, int line) {
  ::cuda_host::wait_for_phase(barriers.address(which), parity, {file, line});
}

}  // namespace cnnext::cuda
