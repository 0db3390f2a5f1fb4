// Tasks that need scratch of their own: as many strands as threads would run, each with its scratch, pull
// tasks from one counter. A task sees the same whichever strand it is on, so the result does not depend on
// their number.
#pragma once

#include <algorithm>
#include <atomic>

#include "core/exec.h"

namespace cnnext {

// task(index, scratch) for each index in [0, tasks); scratch holds `floats` floats, uninitialised.
template <class Task>
void parallel_strands(Exec& exec, int64_t tasks, int64_t floats, const Task& task) {
  if (tasks <= 0) return;
  exec.shares(tasks);
  const int64_t strands = std::min<int64_t>(tasks, std::max(exec.num_threads(), 1));
  const int64_t step = (floats + 15) / 16 * 16;
  float* const scratch = step ? exec.scratch_array<float>(strands * step) : nullptr;
  std::atomic<int64_t> next{0};
  exec.parallel_for(strands, [&](int64_t strand) {
    float* const mine = scratch + strand * step;
    for (int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < tasks;
         i = next.fetch_add(1, std::memory_order_relaxed)) {
      task(i, mine);
    }
  });
}

}  // namespace cnnext
