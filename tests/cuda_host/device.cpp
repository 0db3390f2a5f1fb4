// The fake device as a DeviceTable, in place of csrc/cuda/device.cu: one device, whose streams are in order.
#include "cuda/device.h"

#include <cuda_runtime.h>

#include <cstdio>

#include "fake_memory.h"

namespace cnnext::cuda {
namespace {

int count(int32_t* devices) {
  *devices = 1;
  return 0;
}
int describe(int32_t, char* text, size_t bytes) {
  std::snprintf(text, bytes, "the test bed on the host");
  return 0;
}
int get_current(int32_t* id) {
  *id = 0;
  return 0;
}
int set_current(int32_t id) { return id == 0 ? 0 : cudaErrorInvalidDevice; }
int memory(size_t* free_bytes, size_t* total_bytes) { return cudaMemGetInfo(free_bytes, total_bytes); }
int owner(const void* pointer, int32_t* id) {
  *id = cuda_host::owns(pointer) ? 0 : -1;
  return 0;
}
int alloc(size_t bytes, void*, void** block) { return cudaMalloc(block, bytes); }
int free_block(void* block, void*) { return cudaFree(block); }
void trim() {}
int copy(void* to, const void* from, size_t bytes, void* stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream));
}
int nothing(void*) { return 0; }
int wait(void*, void*) { return 0; }
int take_error() { return cudaGetLastError(); }
DeviceFault explain(int error, char* text, size_t bytes) {
  const auto status = static_cast<cudaError_t>(error);
  std::snprintf(text, bytes, "%s (%s)", cudaGetErrorString(status), cudaGetErrorName(status));
  return fault_of(error);
}

}  // namespace

const DeviceTable* device_table() {
  static const DeviceTable table = {
      sizeof(DeviceTable), count, describe, get_current, set_current, memory,     owner,  alloc,
      free_block,          trim,  copy,     wait,        nothing,     take_error, explain};
  return &table;
}

}  // namespace cnnext::cuda
