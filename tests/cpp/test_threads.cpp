// The pool: every index exactly once whatever the number of threads, the callers and the nesting.
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/threads.h"
#include "cpu/placement.h"

using namespace cnnext;

namespace {

template <class Task>
void parallel(int64_t count, const Task& task) {
  pool_parallel_for(
      count, [](void* arg, int64_t i) { (*static_cast<const Task*>(arg))(i); }, const_cast<Task*>(&task));
}

bool each_index_once(int64_t count) {
  std::vector<std::atomic<int>> ran(static_cast<size_t>(count));
  parallel(count, [&](int64_t i) { ran[static_cast<size_t>(i)].fetch_add(1); });
  for (const auto& times : ran) {
    if (times != 1) return false;
  }
  return true;
}

// How many threads meet inside one job: each task waits until `wanted` are there (or gives up).
int threads_that_meet(int wanted) {
  std::atomic<int> inside{0};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  parallel(wanted, [&](int64_t) {
    inside.fetch_add(1);
    while (inside < wanted && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  });
  return inside;
}

void every_count_of_threads() {
  for (int threads : {1, 2, 3, 8}) {
    pool_set_num_threads(threads);
    CHECK_EQ(pool_num_threads(), threads);
    for (int64_t count = 0; count <= 70; ++count) CHECK(each_index_once(count));
    CHECK(each_index_once(100000));
  }
}

void more_threads_than_processors_run_at_once() {
  for (int threads : {2, 3, 8}) {
    pool_set_num_threads(threads);
    const auto begin = std::chrono::steady_clock::now();
    CHECK_EQ(threads_that_meet(threads), threads);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(9));
  }
}

void no_more_threads_than_asked() {
  pool_set_num_threads(8);
  CHECK_EQ(threads_that_meet(8), 8);
  pool_set_num_threads(2);  // six workers stay asleep
  std::atomic<int> inside{0}, most{0};
  parallel(200, [&](int64_t) {
    const int now = inside.fetch_add(1) + 1;
    int seen = most;
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    inside.fetch_sub(1);
  });
  CHECK(most <= 2);
}

void out_of_range_is_clamped() {
  pool_set_num_threads(0);
  CHECK_EQ(pool_num_threads(), 1);
  pool_set_num_threads(-5);
  CHECK_EQ(pool_num_threads(), 1);
  pool_set_num_threads(1 << 30);
  CHECK_EQ(pool_num_threads(), 1024);
  pool_set_num_threads(2);
}

void negative_count_runs_nothing() {
  bool ran = false;
  parallel(-3, [&](int64_t) { ran = true; });
  CHECK(!ran);
}

void nested_runs_serially() {
  pool_set_num_threads(3);
  std::vector<std::atomic<int>> ran(30 * 40);
  std::atomic<bool> moved{false};
  parallel(30, [&](int64_t outer) {
    const auto thread = std::this_thread::get_id();
    parallel(40, [&](int64_t inner) {
      if (std::this_thread::get_id() != thread) moved = true;
      ran[static_cast<size_t>(outer * 40 + inner)].fetch_add(1);
    });
  });
  CHECK(!moved);
  for (const auto& times : ran) CHECK_EQ(times.load(), 1);
}

void concurrent_callers() {
  pool_set_num_threads(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&wrong] {
      for (int64_t round = 0; round < 500; ++round) {
        if (!each_index_once(round % 37)) wrong.fetch_add(1);
      }
    });
  }
  std::thread changer([] {
    for (int n = 1; n < 200; ++n) pool_set_num_threads(1 + n % 8);
  });
  for (std::thread& caller : callers) caller.join();
  changer.join();
  CHECK_EQ(wrong.load(), 0);
}

void idle_workers_sleep() {
  pool_set_num_threads(2);
  CHECK(each_index_once(100));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far beyond the spin
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  getrusage(RUSAGE_SELF, &after);
  const auto micros = [](const timeval& t) { return t.tv_sec * 1000000LL + t.tv_usec; };
  const long long used =
      micros(after.ru_utime) + micros(after.ru_stime) - micros(before.ru_utime) - micros(before.ru_stime);
  CHECK(used < 30000);  // a spinning worker would take 300,000
}

// What a thread may run on follows the caller about, and gives way to what others set for it.
void workers_are_kept_off_the_callers_processor() {
  static Placement placement;
  std::atomic<int> tid{0};
  std::atomic<bool> done{false};
  std::thread worker([&] {
    placement.started(0);
    tid = static_cast<int>(gettid());
    while (!done) std::this_thread::yield();
  });
  while (!tid) std::this_thread::yield();
  const auto allowed = [&] {
    cpu_set_t mask;
    CHECK_EQ(sched_getaffinity(tid, sizeof(mask), &mask), 0);
    return mask;
  };
  const cpu_set_t all = allowed();
  int first = 0;
  while (!CPU_ISSET(first, &all)) ++first;
  CHECK(!placement.shared());
  placement.woke(-1);
  CHECK(!placement.shared());
  placement.none_came();
  CHECK(placement.shared());
  if (CPU_COUNT(&all) > 1) {
    placement.keep_off(first, 1);
    cpu_set_t others = all;
    CPU_CLR(first, &others);
    cpu_set_t now = allowed();
    CHECK(CPU_EQUAL(&now, &others));
    placement.none_came();
    placement.none_came();
    placement.some_came();
    for (int i = 0; i < 3; ++i) {
      CHECK(placement.shared());
      placement.none_came();
    }
    CHECK(!placement.shared());  // in vain
    placement.keep_off(-1, 1);
    CHECK(!placement.keeps());
    now = allowed();
    CHECK(CPU_EQUAL(&now, &all));
    for (int i = 0; i < 4; ++i) {
      CHECK(!placement.shared());
      placement.none_came();
    }
    CHECK(placement.shared());
  }
  // Set from outside: one processor, from which it cannot be kept off, and which it is left.
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  CHECK_EQ(sched_setaffinity(tid, sizeof(one), &one), 0);
  placement.keep_off(first, 1);
  cpu_set_t now = allowed();
  CHECK(CPU_EQUAL(&now, &one));
  placement.keep_off(-1, 1);
  now = allowed();
  CHECK(CPU_EQUAL(&now, &one));
  done = true;
  worker.join();
  placement.keep_off(first, 1);  // a thread that has ended is no error
}

void works_after_fork() {
  if (CHECK_TSAN) return;  // its run time allows no threads in a forked child
  pool_set_num_threads(3);
  CHECK_EQ(threads_that_meet(3), 3);
  for (int round = 0; round < 5; ++round) {
    CHECK_EQ(check::in_child([] {
               CHECK_EQ(threads_that_meet(3), 3);
               CHECK(each_index_once(1000));
               CHECK_EQ(check::in_child([] { CHECK_EQ(threads_that_meet(3), 3); }), 0);
             }),
             0);
    CHECK(each_index_once(1000));
  }
}

void fork_while_another_thread_computes() {
  if (CHECK_TSAN) return;
  pool_set_num_threads(3);
  std::atomic<bool> stop{false};
  std::thread busy([&stop] {
    while (!stop) each_index_once(50);
  });
  for (int round = 0; round < 20; ++round) {
    CHECK_EQ(check::in_child([] { CHECK_EQ(threads_that_meet(3), 3); }), 0);
  }
  stop = true;
  busy.join();
}

void child_ends_by_exit() {
  if (CHECK_TSAN) return;
  CHECK_EQ(check::in_child([] {
             CHECK(each_index_once(100));
             std::exit(check::result() == 0 ? 7 : 8);  // runs destructors: the pool's workers are joined
           }),
           7);
}

void too_few_threads_to_be_had() {
  if (CHECK_TSAN || CHECK_ASAN) return;  // the sanitizers end the program when a thread cannot be made
  CHECK_EQ(check::in_child([] {
             // Addresses for a few stacks at most: thread creation fails with EAGAIN.
             const rlimit small = {rlim_t{200} << 20, rlim_t{200} << 20};
             CHECK_EQ(setrlimit(RLIMIT_AS, &small), 0);
             pool_set_num_threads(500);
             CHECK(each_index_once(2000));
             CHECK(each_index_once(2000));
             CHECK_EQ(pool_num_threads(), 500);
           }),
           0);
}

void environment_sets_the_count() {
  if (CHECK_TSAN) return;
  const struct {
    const char* text;
    bool valid;
    int threads;  // 0: the default
  } cases[] = {{"1", true, 1},
               {" 5 ", true, 5},
               {"1024", true, 1024},
               {"", true, 0},
               {"0", false, 0},
               {"-2", false, 0},
               {"two", false, 0},
               {"3x", false, 0},
               {"1e3", false, 0},
               {"1025", false, 0},
               {"99999999999999999999", false, 0}};
  for (const auto& c : cases) {
    CHECK_EQ(check::in_child([&c] {
               execl("/proc/self/exe", "test_threads", "--setting", c.text, c.valid ? "valid" : "invalid",
                     std::to_string(c.threads).c_str(), nullptr);
               CHECK(!"execl");
               CHECK(!"execl");
             }),
             0);
  }
}

// In a fresh process, because the setting is read once.
int check_setting(const char* text, bool valid, int threads) {
  const int by_default = [] {
    cpu_set_t mask;
    return sched_getaffinity(0, sizeof(mask), &mask) == 0 ? CPU_COUNT(&mask) : 1;
  }();
  setenv("CNNEXT_NUM_THREADS", text, 1);
  std::string message;
  try {
    check_thread_settings();
  } catch (const Error& e) {
    message = e.what();
  }
  CHECK_EQ(message.empty(), valid);
  if (!valid) CHECK(message.find(std::string("\"") + text + "\"") != std::string::npos);
  if (threads) {
    CHECK_EQ(pool_num_threads(), threads);
  } else {
    CHECK(pool_num_threads() >= 1 && pool_num_threads() <= by_default);
  }
  return check::result();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5) return check_setting(argv[2], std::string(argv[3]) == "valid", std::atoi(argv[4]));
  RUN(every_count_of_threads);
  RUN(more_threads_than_processors_run_at_once);
  RUN(no_more_threads_than_asked);
  RUN(out_of_range_is_clamped);
  RUN(negative_count_runs_nothing);
  RUN(nested_runs_serially);
  RUN(concurrent_callers);
  RUN(idle_workers_sleep);
  RUN(workers_are_kept_off_the_callers_processor);
  RUN(works_after_fork);
  RUN(fork_while_another_thread_computes);
  RUN(child_ends_by_exit);
  RUN(too_few_threads_to_be_had);
  RUN(environment_sets_the_count);
  return check::result();
}
