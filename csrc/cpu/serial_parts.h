// Parts of a fused operation as tasks, each on one thread.
#pragma once

#include <atomic>
#include <new>

#include "cpu/exec_part.h"
#include "cpu/strands.h"

namespace cnnext {

// body(index, scratch) runs part `index` and says what it took; scratch holds `floats` floats. Throws
// std::bad_alloc where one of them did. The kernel is the first part's.
template <class Body>
PartReport run_serial_parts(Exec& exec, int64_t parts, int64_t floats, const Body& body) {
  PartReport report;
  std::atomic<size_t> most{0};
  std::atomic<bool> out_of_memory{false};
  parallel_strands(exec, parts, floats, [&](int64_t index, float* scratch) {
    try {
      const PartReport part = body(index, scratch);
      if (index == 0) report.kernel = part.kernel;
      size_t seen = most.load();
      while (seen < part.scratch_bytes && !most.compare_exchange_weak(seen, part.scratch_bytes)) {
      }
    } catch (const std::bad_alloc&) {
      out_of_memory.store(true);
    }
  });
  if (out_of_memory.load()) throw std::bad_alloc();
  report.scratch_bytes = most.load();
  return report;
}

}  // namespace cnnext
