// cnnext's own thread pool. core declares it, cpu/threads.cpp implements it.
#pragma once

#include <cstdint>

#include "cnnext/cnnext.h"

namespace cnnext {

// Runs task(arg, i) for each i in [0, count) on the pool; the caller takes part. Serial inside a task (no
// nesting).
void pool_parallel_for(int64_t count, cnnext_task task, void* arg);
int pool_num_threads();
void pool_set_num_threads(int n);
// Throws Error where CNNEXT_NUM_THREADS holds no valid value; the pool itself then takes its default.
void check_thread_settings();

// Sets round-to-nearest and cnnext's flush mode for the scope of one task; restores the caller's on exit.
class FloatModeScope {
 public:
  FloatModeScope();
  ~FloatModeScope();

 private:
  uint64_t saved_;
};
void set_flush_denormal(bool on);
bool get_flush_denormal();

}  // namespace cnnext
