// How the reference loops are cut into tasks. Each output is written by one task in one order, so the cut
// never reaches a result.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/exec.h"

namespace cnnext {

// Enough tasks to share, none so small that waking a thread costs more than it brings. work: roughly how many
// operations an item takes.
inline int64_t task_count(int64_t count, int64_t work) {
  constexpr int64_t kMostTasks = 64, kLeastWork = 16384;
  const int64_t items = kLeastWork / std::clamp<int64_t>(work, 1, kLeastWork);  // to a task
  return std::clamp<int64_t>(count / items, 1, kMostTasks);
}

// body(i) for each i in [0, count).
template <class Body>
void for_each_item(Exec& exec, int64_t count, int64_t work, const Body& body) {
  const int64_t tasks = task_count(count, work);
  exec.parallel_for(tasks, [&](int64_t task) {
    const int64_t end = task + 1 == tasks ? count : count / tasks * (task + 1);
    for (int64_t i = count / tasks * task; i < end; ++i) body(i);
  });
}

// body(i, sums) for each i in [0, count), sums being `width` zeroed doubles. At most max_tasks of them exist.
template <class Body>
void for_each_sum(Exec& exec, int64_t count, int64_t work, int64_t width, int64_t max_tasks,
                  const Body& body) {
  const int64_t tasks = std::min(task_count(count, work), std::max<int64_t>(max_tasks, 1));
  double* sums = exec.scratch_array<double>(tasks * width);
  exec.parallel_for(tasks, [&](int64_t task) {
    double* mine = sums + task * width;
    const int64_t end = task + 1 == tasks ? count : count / tasks * (task + 1);
    for (int64_t i = count / tasks * task; i < end; ++i) {
      std::fill(mine, mine + width, 0.0);
      body(i, mine);
    }
  });
}

}  // namespace cnnext
