// What a backend on a device offers beside its ops: memory, copies, streams, and what its errors mean. Plain
// functions, because it lies in another library.
//
// An int that is returned is 0, or an error number of that library's own for explain(). Nothing throws.
// Memory, copies and streams are those of the calling thread's current device; a stream is a cudaStream_t,
// and nullptr the legacy default stream.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cnnext {

enum class DeviceFault : int32_t {
  kMemory = 1,  // out of memory; nothing else is affected
  kLaunch = 2,  // a kernel did not start; nothing else is affected
  kLost = 3,    // sticky: the context is lost for this process, and every later call fails with it
  kOther = 4
};

struct DeviceTable {
  size_t size;  // sizeof(DeviceTable): a library of another build is refused

  int (*count)(int32_t* count);
  int (*describe)(int32_t id, char* text, size_t bytes);  // "NVIDIA H100 PCIe, sm_90, 79 GiB"
  int (*get_current)(int32_t* id);
  int (*set_current)(int32_t id);
  int (*memory)(size_t* free_bytes, size_t* total_bytes);
  int (*owner)(const void* pointer, int32_t* id);  // *id is -1 where it is no device's memory

  // In the stream's order, from a bounded pool; blocks are aligned to 256 bytes, bytes is above 0. Neither
  // waits for anything, so that both may be captured in a graph.
  int (*alloc)(size_t bytes, void* stream, void** block);
  int (*free)(void* block, void* stream);
  void (*trim)();  // gives what the pool keeps back to the device

  // Between host and device either way, or on the device. Pageable host memory may be reused on return.
  int (*copy)(void* to, const void* from, size_t bytes, void* stream);
  // What is queued on `stream` from now on waits for what `producer` has been given by now.
  int (*wait)(void* stream, void* producer);
  int (*synchronize)(void* stream);

  // The error of this thread's launches since it was last asked; does not wait for them.
  int (*take_error)();
  // Writes the error's name and what it means.
  DeviceFault (*explain)(int error, char* text, size_t bytes);
};

}  // namespace cnnext
