// Memory, copies, streams and errors by the CUDA runtime.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <mutex>

#include "cuda/device.h"

namespace cnnext::cuda {
namespace {

// A runtime call's error is also kept for cudaGetLastError, where take_error() would find it.
int result_of(cudaError_t status) {
  if (status != cudaSuccess) cudaGetLastError();
  return static_cast<int>(status);
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

// ---- devices ----

int count(int32_t* devices) {
  int n = 0;
  const int error = result_of(cudaGetDeviceCount(&n));
  *devices = n;
  return error;
}

int describe(int32_t id, char* text, size_t bytes) {
  cudaDeviceProp properties;
  if (const int error = result_of(cudaGetDeviceProperties(&properties, id))) return error;
  std::snprintf(text, bytes, "%s, sm_%d%d, %.0f GiB", properties.name, properties.major, properties.minor,
                static_cast<double>(properties.totalGlobalMem) / (1 << 30));
  return 0;
}

int get_current(int32_t* id) {
  int device = 0;
  const int error = result_of(cudaGetDevice(&device));
  *id = device;
  return error;
}

int set_current(int32_t id) { return result_of(cudaSetDevice(id)); }

int memory(size_t* free_bytes, size_t* total_bytes) {
  return result_of(cudaMemGetInfo(free_bytes, total_bytes));
}

int owner(const void* pointer, int32_t* id) {
  cudaPointerAttributes attributes;
  *id = -1;
  if (const int error = result_of(cudaPointerGetAttributes(&attributes, pointer))) return error;
  if (attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged) {
    *id = attributes.device;
  }
  return 0;
}

// ---- memory: one pool of our own for each device, so that the process's default pool keeps its settings
// ----

constexpr int kMaxDevices = 64;
constexpr size_t kMaxKept = size_t{2} << 30;

struct Pool {
  std::once_flag once;
  cudaMemPool_t handle = nullptr;  // nullptr: the device has no pools
  cudaError_t status = cudaSuccess;
};
Pool* pools() {
  static Pool* const made = new Pool[kMaxDevices];  // never destroyed: calls may come while the process ends
  return made;
}

cudaError_t make_pool(int id, cudaMemPool_t* handle) {
  int supported = 0;
  cudaError_t status = cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, id);
  if (status != cudaSuccess || !supported) return status;
  cudaMemPoolProps properties = {};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = id;
  status = cudaMemPoolCreate(handle, &properties);
  if (status != cudaSuccess) return status;
  // What it keeps for later blocks when a stream, event or device is waited for: an eighth of the memory at
  // most.
  size_t free_bytes = 0, total_bytes = 0;
  status = cudaMemGetInfo(&free_bytes, &total_bytes);
  unsigned long long kept = std::min(total_bytes / 8, kMaxKept);
  if (status == cudaSuccess) {
    status = cudaMemPoolSetAttribute(*handle, cudaMemPoolAttrReleaseThreshold, &kept);
  }
  return status;
}

// The current device's.
cudaError_t current_pool(cudaMemPool_t* handle) {
  int id = 0;
  const cudaError_t status = cudaGetDevice(&id);
  if (status != cudaSuccess) return status;
  if (id < 0 || id >= kMaxDevices) return cudaErrorInvalidDevice;
  Pool& pool = pools()[id];
  std::call_once(pool.once, [&] { pool.status = make_pool(id, &pool.handle); });
  *handle = pool.handle;
  return pool.status;
}

int alloc(size_t bytes, void* stream, void** block) {
  cudaMemPool_t pool = nullptr;
  if (const int error = result_of(current_pool(&pool))) return error;
  if (!pool) return result_of(cudaMalloc(block, bytes));
  return result_of(cudaMallocFromPoolAsync(block, bytes, pool, stream_of(stream)));
}

int free_block(void* block, void* stream) {
  cudaMemPool_t pool = nullptr;
  if (const int error = result_of(current_pool(&pool))) return error;
  return result_of(pool ? cudaFreeAsync(block, stream_of(stream)) : cudaFree(block));
}

void trim() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
  for (int id = 0; id < std::min(devices, kMaxDevices); ++id) {
    if (cudaMemPool_t handle = pools()[id].handle) cudaMemPoolTrimTo(handle, 0);
  }
  cudaGetLastError();
}

// ---- work ----

int copy(void* to, const void* from, size_t bytes, void* stream) {
  return result_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(stream)));
}

int wait(void* stream, void* producer) {
  cudaEvent_t reached;
  cudaError_t status = cudaEventCreateWithFlags(&reached, cudaEventDisableTiming);
  if (status != cudaSuccess) return result_of(status);
  status = cudaEventRecord(reached, stream_of(producer));
  if (status == cudaSuccess) status = cudaStreamWaitEvent(stream_of(stream), reached, 0);
  const cudaError_t destroyed = cudaEventDestroy(reached);  // lives on until it has been reached
  return result_of(status != cudaSuccess ? status : destroyed);
}

int synchronize(void* stream) { return result_of(cudaStreamSynchronize(stream_of(stream))); }

// ---- errors ----

int take_error() { return static_cast<int>(cudaGetLastError()); }

DeviceFault explain(int error, char* text, size_t bytes) {
  const cudaError_t status = static_cast<cudaError_t>(error);
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
