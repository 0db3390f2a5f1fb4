#include "core/exec.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>

#include "core/device.h"
#include "core/memory.h"
#include "core/threads.h"

namespace cnnext {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kReserveBytes = 1 << 16;                 // a plan's larger blocks are address space alone
constexpr uintptr_t kPlannedMemory = uintptr_t{1} << 55;  // its scratch on a device, which nobody touches

void* reserve(size_t bytes) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#if defined(MAP_NORESERVE)
  flags |= MAP_NORESERVE;
#endif
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

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

void Exec::take_context(const cnnext_context* context) {
  std::memcpy(&context_, context, std::min(context->size, sizeof(context_)));
  context_.size = sizeof(context_);
  if (context_.workspace) take_workspace();
}

void Exec::take_workspace() {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(context_.workspace);
  const size_t skip = (align_ - begin % align_) % align_;
  if (context_.workspace_bytes <= skip) {
    workspace_left_ = 0;
    return;
  }
  workspace_ = static_cast<char*>(context_.workspace) + skip;
  workspace_left_ = context_.workspace_bytes - skip;
}

void Exec::use_device(const DeviceTable& device) {
  device_ = &device;
  align_ = kDeviceAlign;
  if (context_.workspace) take_workspace();
}

void Exec::free_blocks() {
  while (blocks_) {
    Block* next = blocks_->next;
    if (blocks_->reserved && device_) {
      device_->free(blocks_->reserved, stream());  // where that fails, the next call says so
    } else if (blocks_->reserved) {
      munmap(blocks_->reserved, blocks_->bytes);
    }
    pool_free(blocks_);
    blocks_ = next;
  }
}

void* Exec::scratch(size_t bytes) {
  const size_t rounded = (bytes + align_ - 1) & ~(align_ - 1);
  if (rounded < bytes) throw std::bad_alloc();
  scratch_bytes_ += rounded;
  if (workspace_left_ && rounded <= workspace_left_) {
    void* result = workspace_;
    workspace_ += rounded;
    workspace_left_ -= rounded;
    return result;
  }
  if (!device_) return allocate(rounded);
  if (planning()) return reinterpret_cast<void*>(kPlannedMemory + scratch_bytes_ - rounded);
  return allocate_on_device(std::max(rounded, align_));
}

// The list of blocks stays on the host.
void* Exec::allocate_on_device(size_t bytes) {
  Block* block = static_cast<Block*>(pool_alloc(sizeof(Block)));
  if (!block) throw std::bad_alloc();
  *block = {blocks_, nullptr, bytes};
  blocks_ = block;
  block->reserved = device_alloc(*device_, bytes, stream(), "scratch");
  return block->reserved;
}

// The first cache line of a block links it to the others.
void* Exec::allocate(size_t bytes) {
  if (bytes + kAlign < bytes) throw std::bad_alloc();
  const bool apart = planning() && bytes >= kReserveBytes;
  Block* block = static_cast<Block*>(pool_alloc(apart ? kAlign : bytes + kAlign));
  if (!block) throw std::bad_alloc();
  *block = {blocks_, nullptr, bytes};
  blocks_ = block;
  if (!apart) return reinterpret_cast<char*>(block) + kAlign;
  block->reserved = reserve(bytes);
  if (!block->reserved) throw std::bad_alloc();
  return block->reserved;
}

void Exec::write_plan() const {
  const cnnext_plan plan = {sizeof(cnnext_plan), kernel_,       scratch_bytes_,
                            packed_bytes_,       tasks_,        choice_,
                            num_threads(),       strip_images_, strip_rows_};
  const size_t size = context_.plan->size;
  std::memcpy(context_.plan, &plan, std::min(size, sizeof(plan)));
  context_.plan->size = size;
}

int Exec::num_threads() const {
  if (context_.parallel_for) return context_.num_threads > 0 ? context_.num_threads : 1;
  return pool_num_threads();
}

void Exec::run(int64_t count, cnnext_task task, void* arg) {
  if (count <= 0) return;
  shares(count);
  if (planning()) return;
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
