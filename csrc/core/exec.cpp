#include "core/exec.h"

#include <new>

#include "core/memory.h"
#include "core/threads.h"

namespace cnnext {
namespace {

constexpr size_t kAlign = 64;

struct ModedTask {
  cnnext_task task;
  void* arg;
};

void run_moded(void* arg, int64_t i) {
  const ModedTask& moded = *static_cast<const ModedTask*>(arg);
  FloatModeScope modes;
  moded.task(moded.arg, i);
}

}  // namespace

Exec::Exec(const cnnext_context* context) : context_(CNNEXT_CONTEXT_INIT) {
  if (!context) return;
  context_ = *context;
  if (context_.workspace) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(context_.workspace);
    const size_t skip = (kAlign - begin % kAlign) % kAlign;
    if (context_.workspace_bytes > skip) {
      workspace_ = static_cast<char*>(context_.workspace) + skip;
      workspace_left_ = context_.workspace_bytes - skip;
    }
  }
}

Exec::~Exec() {
  while (blocks_) {
    Block* next = blocks_->next;
    pool_free(blocks_);
    blocks_ = next;
  }
}

void* Exec::scratch(size_t bytes) {
  const size_t rounded = (bytes + kAlign - 1) / kAlign * kAlign;
  if (rounded < bytes) throw std::bad_alloc();
  scratch_bytes_ += rounded;
  if (workspace_left_ && rounded <= workspace_left_) {
    void* result = workspace_;
    workspace_ += rounded;
    workspace_left_ -= rounded;
    return result;
  }
  // The block's first cache line links it to the others.
  if (rounded + kAlign < rounded) throw std::bad_alloc();
  Block* block = static_cast<Block*>(pool_alloc(rounded + kAlign));
  if (!block) throw std::bad_alloc();
  block->next = blocks_;
  blocks_ = block;
  return reinterpret_cast<char*>(block) + kAlign;
}

int Exec::num_threads() const {
  if (context_.parallel_for) return context_.num_threads > 0 ? context_.num_threads : 1;
  return pool_num_threads();
}

void Exec::run(int64_t count, cnnext_task task, void* arg) {
  if (count <= 0) return;
  if (count == 1) {
    FloatModeScope modes;
    task(arg, 0);
    return;
  }
  ModedTask moded{task, arg};
  if (context_.parallel_for) {
    context_.parallel_for(context_.parallel_for_user, count, run_moded, &moded);
  } else {
    pool_parallel_for(count, run_moded, &moded);
  }
}

}  // namespace cnnext
