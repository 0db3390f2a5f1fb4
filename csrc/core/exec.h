// What a running op may use: threads and scratch. One Exec lives for one call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cnnext/cnnext.h"

namespace cnnext {

struct DeviceTable;

class Exec {
 public:
  // Inline as far as a small call on the host goes.
  explicit Exec(const cnnext_context* context) : context_(CNNEXT_CONTEXT_INIT) {
    if (context) take_context(context);
  }
  ~Exec() {
    if (blocks_) free_blocks();
  }
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;

  // task(i) for each i in [0, count): on the caller's parallel_for if there is one, else on cnnext's pool.
  // Serial where count is 1. Every task runs with round-to-nearest and the flush mode of
  // cnnext_set_flush_denormal, and restores what it found. Tasks must not throw. Which thread runs which task
  // must not matter to the result.
  template <class Task>
  void parallel_for(int64_t count, const Task& task) {
    run(count, [](void* arg, int64_t i) { (*static_cast<const Task*>(arg))(i); }, const_cast<Task*>(&task));
  }

  // Scratch from now on is that device's (which stays current until the Exec ends), in the stream's order.
  void use_device(const DeviceTable& device);
  const DeviceTable* device() const { return device_; }

  // 64-byte-aligned scratch (a device's: 256) until the Exec ends; from the caller's workspace while it
  // lasts. Throws std::bad_alloc, or an Error on a device. Call it from the calling thread only, before
  // parallel_for.
  void* scratch(size_t bytes);
  template <class T>
  T* scratch_array(int64_t count) {
    return static_cast<T*>(scratch(static_cast<size_t>(count) * sizeof(T)));
  }
  size_t scratch_bytes() const { return scratch_bytes_; }

  // Whether the call only decides (cnnext_context's plan): parallel_for then runs no task, large scratch
  // costs no memory as long as nobody writes it, and what a driver does with data outside of tasks it leaves
  // out.
  bool planning() const { return context_.plan != nullptr; }
  // For the plan: how many tasks strands share (parallel_for counts its own), and the size of weights that
  // were brought into the kernels' order for this call.
  void shares(int64_t tasks) {
    if (tasks > tasks_) tasks_ = tasks;
  }
  void packs(int64_t floats) { packed_bytes_ = static_cast<size_t>(floats) * sizeof(float); }
  // Scratch that parts of the call took for themselves (cpu/exec_part.h).
  void borrows(size_t bytes) { scratch_bytes_ += bytes; }
  // What a fused operation computes at a time of the result between its parts.
  void strips(int64_t images, int64_t rows) { strip_images_ = images, strip_rows_ = rows; }
  // Where the choice comes from, a literal; "table" if nobody says.
  void chose(const char* by) { choice_ = by; }
  void write_plan() const;

  // For autotune: a variant that would run differently from what runs.
  template <class Variant>
  void offers(Variant variant) {
    offered_ |= 1u << static_cast<int>(variant);
  }
  uint32_t offered() const { return offered_; }
  const cnnext_context& context() const { return context_; }

  // How many threads would run; for choosing nothing that reaches a result.
  int num_threads() const;
  int32_t backend() const { return context_.backend; }
  void* stream() const { return context_.stream; }

  // The implementation that runs, a string literal or otherwise immortal: "cpu/avx512/conv2d_k_6x64".
  void ran(const char* kernel) { kernel_ = kernel; }
  const char* kernel() const { return kernel_; }

 private:
  void run(int64_t count, cnnext_task task, void* arg);
  void* allocate(size_t bytes);
  void* allocate_on_device(size_t bytes);
  void take_context(const cnnext_context* context);
  void take_workspace();
  void free_blocks();

  struct Block {
    Block* next;
    void* reserved;  // a mapping or device memory apart, or nullptr: the memory is behind the block
    size_t bytes;    // of the mapping
  };
  cnnext_context context_;
  const DeviceTable* device_ = nullptr;
  size_t align_ = 64;
  Block* blocks_ = nullptr;
  char* workspace_ = nullptr;
  size_t workspace_left_ = 0;
  size_t scratch_bytes_ = 0, packed_bytes_ = 0;
  int64_t tasks_ = 0, strip_images_ = 0, strip_rows_ = 0;
  uint32_t offered_ = 0;
  const char *kernel_ = "", *choice_ = "table";
};

}  // namespace cnnext
