#include "fake_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>

#include "bed.h"

namespace cuda_host {
namespace {

constexpr unsigned char kGuard = 0xff;

struct Block {
  unsigned char* map;
  size_t map_bytes, bytes;
};

struct Memory {
  std::mutex mutex;
  std::map<unsigned char*, Block> blocks;  // by their data
};
Memory& memory() {
  static Memory* const the_memory = new Memory;
  return *the_memory;
}

size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
size_t padded(size_t bytes) { return (bytes + 15) / 16 * 16; }

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

cudaError_t note_error(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

size_t blocks_in_use() {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  return m.blocks.size();
}

bool owns(const void* address) {
  const auto* at = static_cast<const unsigned char*>(address);
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  for (const auto& [data, block] : m.blocks) {
    if (at >= data && at < data + block.bytes) return true;
  }
  return false;
}

// Runs in a signal handler while a kernel runs: the lock is free then.
std::string describe_address(const void* address) {
  const auto* at = static_cast<const unsigned char*>(address);
  char text[160];
  for (const auto& [data, block] : memory().blocks) {
    if (at < block.map || at >= block.map + block.map_bytes) continue;
    const bool before = at < data;
    snprintf(text, sizeof(text), "touches device memory %lld bytes %s an array of %zu bytes",
             static_cast<long long>(before ? data - at : at - data - static_cast<long long>(block.bytes)),
             before ? "before" : "behind the end of", block.bytes);
    return text;
  }
  snprintf(text, sizeof(text), "touches %p, which is no device memory", address);
  return text;
}

std::string describe_damage() {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  for (const auto& [data, block] : m.blocks) {
    const unsigned char* const end = block.map + block.map_bytes - page_size();
    for (const unsigned char* at = block.map + page_size(); at < end; ++at) {
      if (at == data) at = data + block.bytes;
      if (at < end && *at != kGuard) {
        char text[160];
        snprintf(text, sizeof(text), "wrote %s an array of %zu bytes",
                 at < data ? "before" : "behind the end of", block.bytes);
        return text;
      }
    }
  }
  return "";
}

}  // namespace cuda_host

using namespace cuda_host;

cudaError_t cudaMalloc(void** result, size_t bytes) {
  *result = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t page = page_size(), inner = (padded(bytes) + page - 1) / page * page;
  void* const map =
      mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return note_error(cudaErrorMemoryAllocation);
  auto* const begin = static_cast<unsigned char*>(map) + page;
  mprotect(begin, inner, PROT_READ | PROT_WRITE);
  memset(begin, kGuard, inner);
  unsigned char* const data = begin + inner - padded(bytes);
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  m.blocks[data] = {static_cast<unsigned char*>(map), inner + 2 * page, bytes};
  *result = data;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (!data) return cudaSuccess;
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const auto found = m.blocks.find(static_cast<unsigned char*>(data));
  if (found == m.blocks.end()) return note_error(cudaErrorInvalidValue);
  munmap(found->second.map, found->second.map_bytes);
  m.blocks.erase(found);
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** result, size_t bytes, cudaStream_t) { return cudaMalloc(result, bytes); }
cudaError_t cudaFreeAsync(void* data, cudaStream_t) { return cudaFree(data); }
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  *free_bytes = *total = size_t{1} << 33;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  memset(to, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorLaunchFailure: {
      thread_local std::string text;
      text = last_report();
      return text.c_str();
    }
    default:
      return "an error of the fake device";
  }
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    default:
      return "cudaError";
  }
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : note_error(cudaErrorInvalidDevice);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 4 : static_cast<int>(control().shared_limit);
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
  if (static_cast<size_t>(value) <= control().shared_limit) return cudaSuccess;
  return note_error(cudaErrorInvalidValue);
}
