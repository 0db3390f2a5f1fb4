// The pool behind parallel_for.
//
// A job has `seats`: how many workers may join it. A worker takes a seat by one compare-and-swap on
// `state` (job number and free seats in one word), claims indices from a counter until none is left, and
// signs off. The caller claims indices as well; when none is left it closes the job, which tells it how many
// seats were taken, and waits for as many to sign off. A worker that wakes up too late finds no seat and
// never looks at the job, so the caller does not wait for sleepers.
//
// Idle workers spin for some microseconds and then sleep in the kernel. One caller at a time has the pool;
// the jobs of others, and jobs inside a task, run on the thread that asks.
#include "core/threads.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <optional>

#include "core/error.h"
#include "core/host_limits.h"
#include "cpu/futex.h"
#include "cpu/placement.h"

namespace cnnext {
namespace {

constexpr int kMaxThreads = 1024;
constexpr uint64_t kSeatBits = 16, kSeatMask = (uint64_t{1} << kSeatBits) - 1;
constexpr auto kSpin = std::chrono::microseconds(200);
constexpr auto kLateWaking = std::chrono::microseconds(200);  // a worker that is free to run is there by then

struct Job {
  cnnext_task task;
  void* arg;
  int64_t count;
};

// Constant-initialised and never destroyed.
struct Pool {
  // Shared with workers. `state` orders everything: the job is written before it is published there, and
  // nobody without a seat reads it.
  alignas(64) std::atomic<uint64_t> state{0};  // job number << 16 | free seats
  std::atomic<uint32_t> published{0};          // what idle workers sleep on: counts jobs
  std::atomic<int> sleepers{0};
  std::atomic<bool> stopping{false};
  Job job{};
  alignas(64) std::atomic<int64_t> next{0};         // the next index to claim
  alignas(64) std::atomic<uint32_t> signed_off{0};  // workers that left the job; the caller sleeps on it
  std::atomic<uint32_t> awaited{0};                 // the count it sleeps for; 0: it does not sleep
  std::atomic<int> callers_processor{-1};           // where the last job was published
  std::atomic<int> started{0};                      // numbers the workers
  Placement placement;

  alignas(64) std::atomic<bool> busy{false};  // held by the caller that has the pool
  // Written by whoever holds busy.
  int workers = 0;
  pthread_t handles[kMaxThreads];

  std::atomic<bool> spawn_failed{false};  // do not try again for every job

  std::atomic<int> num_threads{0};  // 0: not decided yet
  std::atomic<bool> oversubscribed{false};
};
Pool pool;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

// Spins until done() or for some microseconds; not at all where threads outnumber processors, because then
// the spinner keeps the awaited thread from running. Returns done().
template <class Done>
bool spin_until(const Done& done) {
  if (done()) return true;
  if (pool.oversubscribed.load(std::memory_order_relaxed)) return false;
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

void run_serially(int64_t count, cnnext_task task, void* arg) {
  for (int64_t i = 0; i < count; ++i) task(arg, i);
}

void claim_and_run(const Job& job) {
  for (;;) {
    const int64_t i = pool.next.fetch_add(1, std::memory_order_relaxed);
    if (i >= job.count) return;
    job.task(job.arg, i);
  }
}

// ---- workers ----
bool take_seat() {
  uint64_t state = pool.state.load(std::memory_order_acquire);
  while (state & kSeatMask) {
    if (pool.state.compare_exchange_weak(state, state - 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
      return true;
    }
  }
  return false;
}

void wait_for_seat_or_stop() {
  const auto ready = [] {
    return (pool.state.load(std::memory_order_relaxed) & kSeatMask) != 0 ||
           pool.stopping.load(std::memory_order_relaxed);
  };
  if (spin_until(ready)) return;
  const uint32_t seen = pool.published.load(std::memory_order_seq_cst);
  pool.sleepers.fetch_add(1, std::memory_order_seq_cst);
  // Published before we counted as a sleeper: the state shows it. After: the publisher sees the sleeper, and
  // the kernel sees that `published` has moved.
  if (!ready()) futex_wait(&pool.published, seen);
  pool.sleepers.fetch_sub(1, std::memory_order_seq_cst);
  pool.placement.woke(pool.callers_processor.load(std::memory_order_relaxed));
}

void* worker_main(void*) {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "cnnext");
#endif
  pool.placement.started(pool.started.fetch_add(1, std::memory_order_relaxed));
  while (!pool.stopping.load(std::memory_order_acquire)) {
    if (!take_seat()) {
      wait_for_seat_or_stop();
      continue;
    }
    claim_and_run(pool.job);
    const uint32_t left = pool.signed_off.fetch_add(1, std::memory_order_seq_cst) + 1;
    if (pool.awaited.load(std::memory_order_seq_cst) == left) futex_wake(&pool.signed_off, 1);
  }
  return nullptr;
}

// ---- the pool's life ----
// In the child of a fork there are no workers, and nobody who holds the pool.
void reset_after_fork() {
  futex_after_fork();
  pool.state.store(pool.state.load(std::memory_order_relaxed) & ~kSeatMask, std::memory_order_relaxed);
  pool.sleepers.store(0, std::memory_order_relaxed);
  pool.awaited.store(0, std::memory_order_relaxed);
  pool.placement.reset();
  pool.started.store(0, std::memory_order_relaxed);
  pool.workers = 0;
  pool.spawn_failed.store(false, std::memory_order_relaxed);
  pool.busy.store(false, std::memory_order_relaxed);
}

// Starts workers up to `wanted`; the caller holds the pool. Where the system gives no more threads, the pool
// goes on with those that it has.
void spawn_workers(int wanted) {
  if (pool.workers >= wanted || pool.spawn_failed.load(std::memory_order_relaxed)) return;
  static const int at_fork = pthread_atfork(nullptr, nullptr, reset_after_fork);
  (void)at_fork;
  // Signals are for the program's own threads; those that a fault raises stay with the faulting one.
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&blocked, fault);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  while (pool.workers < wanted) {
    if (pthread_create(&pool.handles[pool.workers], nullptr, worker_main, nullptr) != 0) {
      pool.spawn_failed.store(true, std::memory_order_relaxed);
      break;
    }
    ++pool.workers;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// At exit or dlclose: workers must not wake up in code that is gone. Keeps the pool, so that what still runs
// afterwards runs serially. Where another thread has the pool, the process is ending under it: leave it.
__attribute__((destructor)) void stop_workers() {
  if (pool.busy.exchange(true, std::memory_order_acquire)) return;
  pool.stopping.store(true, std::memory_order_release);
  pool.published.fetch_add(1, std::memory_order_seq_cst);
  futex_wake(&pool.published, kMaxThreads);
  for (int i = 0; i < pool.workers; ++i) pthread_join(pool.handles[i], nullptr);
}

// ---- one job ----
// Whether it woke workers.
bool publish(int seats) {
  const int processor = current_processor();
  pool.callers_processor.store(processor, std::memory_order_relaxed);
  const bool shared = pool.placement.shared() && !pool.oversubscribed.load(std::memory_order_relaxed);
  if ((shared || pool.placement.keeps()) && pool.sleepers.load(std::memory_order_relaxed) > 0) {
    pool.placement.keep_off(shared ? processor : -1, pool.workers);
  }
  const uint64_t number = (pool.state.load(std::memory_order_relaxed) >> kSeatBits) + 1;
  pool.state.store(number << kSeatBits | static_cast<uint64_t>(seats), std::memory_order_release);
  pool.published.fetch_add(1, std::memory_order_seq_cst);
  const int sleepers = pool.sleepers.load(std::memory_order_seq_cst);
  if (sleepers == 0) return false;
  futex_wake(&pool.published, std::min(sleepers, seats));
  return true;
}

// late: workers were woken long ago.
void close_and_wait(int seats, bool late) {
  const uint64_t left = pool.state.fetch_and(~kSeatMask, std::memory_order_acq_rel) & kSeatMask;
  if (left < static_cast<uint64_t>(seats)) {
    pool.placement.some_came();
  } else if (late) {
    pool.placement.none_came();
  }
  const uint32_t taken = static_cast<uint32_t>(static_cast<uint64_t>(seats) - left);
  if (spin_until([taken] { return pool.signed_off.load(std::memory_order_acquire) == taken; })) return;
  pool.awaited.store(taken, std::memory_order_seq_cst);
  for (;;) {
    const uint32_t seen = pool.signed_off.load(std::memory_order_seq_cst);
    if (seen == taken) break;
    futex_wait(&pool.signed_off, seen);
  }
  pool.awaited.store(0, std::memory_order_relaxed);
}

// ---- settings ----
const char* threads_setting() {
  const char* text = std::getenv("CNNEXT_NUM_THREADS");
  return text && *text ? text : nullptr;
}
std::optional<int64_t> parse_threads_setting(const char* text) { return parse_int(text, 1, kMaxThreads); }

int processors() {
  static const int count = usable_cpus();
  return count;
}

void note_oversubscription(int n) { pool.oversubscribed.store(n > processors(), std::memory_order_relaxed); }

}  // namespace

void pool_parallel_for(int64_t count, cnnext_task task, void* arg) {
  if (count <= 0) return;
  const int threads = pool_num_threads();
  if (count == 1 || threads == 1 || pool.busy.load(std::memory_order_relaxed) ||
      pool.busy.exchange(true, std::memory_order_acquire)) {
    run_serially(count, task, arg);
    return;
  }
  spawn_workers(threads - 1);
  const int seats = static_cast<int>(std::min<int64_t>({count - 1, threads - 1, pool.workers}));
  if (seats == 0) {
    run_serially(count, task, arg);
  } else {
    pool.job = {task, arg, count};
    pool.next.store(0, std::memory_order_relaxed);
    pool.signed_off.store(0, std::memory_order_relaxed);
    using clock = std::chrono::steady_clock;
    const auto begin = publish(seats) ? clock::now() : clock::time_point::max();
    claim_and_run(pool.job);
    close_and_wait(seats, begin != clock::time_point::max() && clock::now() - begin > kLateWaking);
  }
  pool.busy.store(false, std::memory_order_release);
}

int pool_num_threads() {
  const int n = pool.num_threads.load(std::memory_order_relaxed);
  if (n != 0) return n;
  const auto set = parse_threads_setting(threads_setting());
  int expected = 0;
  const int decided = set ? static_cast<int>(*set) : std::min(processors(), kMaxThreads);
  if (!pool.num_threads.compare_exchange_strong(expected, decided)) return expected;  // set meanwhile
  note_oversubscription(decided);
  return decided;
}

void pool_set_num_threads(int n) {
  const int clamped = std::clamp(n, 1, kMaxThreads);
  pool.num_threads.store(clamped, std::memory_order_relaxed);
  note_oversubscription(clamped);
  pool.spawn_failed.store(false, std::memory_order_relaxed);
}

void check_thread_settings() {
  const char* text = threads_setting();
  if (text && !parse_threads_setting(text)) {
    fail_value("CNNEXT_NUM_THREADS is \"", text, "\"; it must be a whole number from 1 to ", kMaxThreads);
  }
}

}  // namespace cnnext
