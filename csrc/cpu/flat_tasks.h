// Flat runs cut into tasks.
#pragma once

#include <algorithm>

#include "core/exec.h"

namespace cnnext {

// A task's elements by what one of them costs: enough that waking a thread pays. Multiples of 64 bytes, so
// that tasks share no cache line of an aligned array.
constexpr int64_t kCheapChunk = 65536;  // bound by memory
constexpr int64_t kMathChunk = 8192;    // an exponential or so an element

// body(begin, end) over [0, count).
template <class Body>
void for_chunks(Exec& exec, int64_t count, int64_t chunk, const Body& body) {
  if (count <= 0) return;
  // Whole chunks only make the last task small; even ones end together.
  const int64_t tasks = (count + chunk - 1) / chunk;
  const int64_t even = ((count + tasks - 1) / tasks + 63) / 64 * 64;
  exec.parallel_for(tasks, [&](int64_t task) {
    const int64_t begin = task * even, end = std::min(count, begin + even);
    if (begin < end) body(begin, end);
  });
}

// Outputs of so many bytes leave the caches before anyone reads them: they are written past them.
constexpr int64_t kStreamBytes = int64_t{16} << 20;

}  // namespace cnnext
