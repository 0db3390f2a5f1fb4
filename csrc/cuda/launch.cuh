// How an operation of this library runs: what it was given, scratch, and launches that say what went wrong.
#pragma once

#include <vector>

#include "core/host_services.h"
#include "cuda/device_utils.cuh"
#include "cuda/index.cuh"

namespace cnnext::cuda {

extern const HostServices* services;  // what libcnnext.so handed over

class ReusedScratch;

// One running operation. `about` is the tensor whose shape an error names.
struct Op {
  const char* name;
  Exec& exec;
  const Tensor& about;
  ReusedScratch* reused = nullptr;  // where scratch comes from in a part of the operation

  cudaStream_t stream() const { return static_cast<cudaStream_t>(services->stream(exec)); }
  // Device memory until the call's work on the stream is done; in a part, until the part's is.
  void* scratch_bytes(size_t bytes) const;
  template <class T>
  T* scratch(int64_t count) const {
    return static_cast<T*>(scratch_bytes(static_cast<size_t>(count) * sizeof(T)));
  }
  Ran done(const char* kernel) const {
    services->ran(exec, kernel);
    return Ran::kDone;
  }
  // Whether the call only decides what it would do.
  bool planning() const { return services->planning(exec); }
};

// The scratch of an operation's parts: they run one after another on the stream, so each takes the blocks of
// the one before it. A part asks for as much as the first did, or for less.
class ReusedScratch {
 public:
  explicit ReusedScratch(const Op& whole) : whole_(whole) {}
  void* take(size_t bytes) {
    if (next_ == blocks_.size()) blocks_.push_back({nullptr, 0});
    Block& block = blocks_[next_++];
    if (block.bytes < bytes) block = {whole_.scratch_bytes(bytes), bytes};
    return block.data;
  }
  // The operation as its next part sees it.
  Op part() {
    next_ = 0;
    return {whole_.name, whole_.exec, whole_.about, this};
  }

 private:
  struct Block {
    void* data;
    size_t bytes;
  };
  const Op& whole_;
  std::vector<Block> blocks_;
  size_t next_ = 0;
};
inline void* Op::scratch_bytes(size_t bytes) const {
  return reused ? reused->take(bytes) : services->scratch(exec, bytes);
}

// A sum that the parts of an operation add to, one after another: in float32 until the last.
struct PartSum {
  float* total = nullptr;  // null: there is one part
  bool first = true, last = true;

  // Adds what came before to *sum; whether it is the whole then, or else kept for the next part.
  CNNEXT_DEVICE bool finish(int64_t at, float* sum) const {
    if (!first) *sum += total[at];
    if (!last) total[at] = *sum;
    return last;
  }
};

// Throws out of libcnnext.so; `what` is the step that failed.
[[noreturn]] void fail_cuda(const Op& op, const char* what, cudaError_t error);
// Throws where the device has not that much shared memory for a block; else asks for it.
void allow_shared(const Op& op, const void* kernel, size_t bytes);

inline void check(const Op& op, const char* what, cudaError_t error) {
  if (error != cudaSuccess) fail_cuda(op, what, error);
}

constexpr int kBlock = 256;  // threads, where a kernel has no reason for another number
// Kernels whose blocks step through their work have at most so many: some waves on the largest device. On the
// test bed few, so that small tensors make them step.
#if CNNEXT_CUDA_HOST
constexpr int64_t kMostBlocks = 3;
#else
constexpr int64_t kMostBlocks = 1 << 15;
#endif

inline int64_t blocks_for(int64_t items, int64_t items_per_block) {
  return greatest(1, least(ceil_div(items, items_per_block), kMostBlocks));
}

// Where a grid-stride loop begins, and its step.
CNNEXT_DEVICE int64_t first_item() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
CNNEXT_DEVICE int64_t item_step() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

template <class... Params>
void launch(const Op& op, void (*kernel)(Params...), dim3 grid, int block, size_t shared_bytes,
            typename AsGiven<Params>::Type... args) {
  services->shares(op.exec, static_cast<int64_t>(grid.x) * grid.y * grid.z);
  if (op.planning()) return;
  if (shared_bytes > 0) allow_shared(op, reinterpret_cast<const void*>(kernel), shared_bytes);
  const cudaError_t error =
      raw_launch(kernel, grid, dim3(static_cast<unsigned>(block)), shared_bytes, op.stream(), args...);
  if (error == cudaSuccess) return;
  char what[160];
  snprintf(what, sizeof(what),
           "the launch of %u x %u x %u blocks of %d threads with %zu bytes of shared memory", grid.x, grid.y,
           grid.z, block, shared_bytes);
  fail_cuda(op, what, error);
}
// blocks of kBlock threads without dynamic shared memory.
template <class... Params>
void launch_flat(const Op& op, void (*kernel)(Params...), int64_t blocks,
                 typename AsGiven<Params>::Type... args) {
  launch(op, kernel, dim3(static_cast<unsigned>(blocks)), kBlock, 0, args...);
}

// What is queued: zeros.
inline void clear(const Op& op, const char* what, void* memory, int64_t bytes) {
  if (op.planning()) return;
  check(op, what, cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), op.stream()));
}

// body(T{}) for the type of a float dtype; false where kernels have none for it (float64).
template <class Body>
bool dispatch_float(int32_t dtype, const Body& body) {
  switch (dtype) {
    case CNNEXT_FLOAT32:
      body(float{});
      return true;
    case CNNEXT_FLOAT16:
      body(float16{});
      return true;
    case CNNEXT_BFLOAT16:
      body(bfloat16{});
      return true;
    default:
      return false;
  }
}

// body(integral_constant<int, V>): the widest vectors where `length` is whole in them and all addresses are
// aligned to them, else single values. Null pointers do not matter.
template <class T, class Body>
void dispatch_width(int64_t length, std::initializer_list<const void*> pointers, const Body& body) {
  bool wide = length % kWidest<T> == 0;
  for (const void* pointer : pointers) wide = wide && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  if (wide) {
    body(std::integral_constant<int, kWidest<T>>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data);
}

}  // namespace cnnext::cuda
