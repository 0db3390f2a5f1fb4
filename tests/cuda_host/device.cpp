// The fake device as a DeviceTable, in place of csrc/cuda/device.cu: one device.
#include "cuda/device.h"

#include <cuda_runtime.h>

#include <cstdio>

#include "fake_memory.h"
#include "streams.h"

namespace cnnext::cuda {
namespace {

// As in csrc/cuda/device.cu.
int result_of(cudaError_t status) {
  if (status != cudaSuccess) cudaGetLastError();
  return static_cast<int>(status);
}

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
int memory(size_t* free_bytes, size_t* total_bytes) {
  return result_of(cudaMemGetInfo(free_bytes, total_bytes));
}
int owner(const void* pointer, int32_t* id) {
  *id = cuda_host::owns(pointer) ? 0 : -1;
  return 0;
}
int alloc(size_t bytes, void* stream, void** block) {
  return result_of(cudaMallocAsync(block, bytes, static_cast<cudaStream_t>(stream)));
}
int free_block(void* block, void* stream) {
  return result_of(cudaFreeAsync(block, static_cast<cudaStream_t>(stream)));
}
void trim() {}
int copy(void* to, const void* from, size_t bytes, void* stream) {
  return result_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream)));
}
int wait(void* stream, void* producer) {
  return result_of(
      cuda_host::order_after(static_cast<cudaStream_t>(stream), static_cast<cudaStream_t>(producer)));
}
int synchronize(void* stream) { return result_of(cudaStreamSynchronize(static_cast<cudaStream_t>(stream))); }
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
      free_block,          trim,  copy,     wait,        synchronize, take_error, explain};
  return &table;
}

}  // namespace cnnext::cuda
