// A part of a fused operation: an op that runs with scratch of its own, which goes back when the part ends.
#pragma once

#include <algorithm>

#include "core/op_table.h"

namespace cnnext {

// What a part says of itself; of several, the most that any took.
struct PartReport {
  const char* kernel = "";
  size_t scratch_bytes = 0;

  void include(const PartReport& other) { scratch_bytes = std::max(scratch_bytes, other.scratch_bytes); }
};

inline void run_serially(void*, int64_t count, cnnext_task task, void* arg) {
  for (int64_t i = 0; i < count; ++i) task(arg, i);
}

// body(exec). serial: on the calling thread alone, which may then be a task's; it may throw std::bad_alloc.
template <class Body>
PartReport run_part(const Exec& whole, bool serial, const Body& body) {
  cnnext_context context = whole.context();
  context.workspace = nullptr;  // of the whole
  context.workspace_bytes = 0;
  if (serial) {
    context.parallel_for = run_serially;
    context.num_threads = 1;
  }
  Exec part(&context);
  body(part);
  return {part.kernel(), part.scratch_bytes()};
}

// The vectorised op, or the reference where that declines.
template <class Desc>
void run_or_ref(Ran (*fast)(const Desc&, Exec&), Ran (*ref)(const Desc&, Exec&), const Desc& desc,
                Exec& exec) {
  if (fast(desc, exec) == Ran::kUnsupported) ref(desc, exec);
}

}  // namespace cnnext
