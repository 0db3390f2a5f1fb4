#include "fake_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "bed.h"
#include "streams.h"

namespace cuda_host {
namespace {

constexpr unsigned char kGuard = 0xff;
constexpr size_t kTotal = size_t{2} << 30;

struct Block {
  unsigned char* map;
  size_t map_bytes, bytes;
};

struct Memory {
  std::mutex mutex;
  std::map<unsigned char*, Block> blocks;  // by their data
  size_t in_use = 0;                       // bytes
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

namespace {

cudaError_t free_now(void* data) {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const auto found = m.blocks.find(static_cast<unsigned char*>(data));
  if (found == m.blocks.end()) return note_error(cudaErrorInvalidValue);
  m.in_use -= found->second.bytes;
  munmap(found->second.map, found->second.map_bytes);
  m.blocks.erase(found);
  return cudaSuccess;
}

size_t bytes_of(void* data) {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const auto found = m.blocks.find(static_cast<unsigned char*>(data));
  return found == m.blocks.end() ? 0 : found->second.bytes;
}

Work fresh(void* data, size_t bytes) {
  return [=] {
    memset(data, kGuard, bytes);
    return cudaSuccess;
  };
}

}  // namespace

cudaError_t cudaMalloc(void** result, size_t bytes) {
  *result = nullptr;
  if (bytes == 0) return cudaSuccess;
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  if (bytes > kTotal - m.in_use) return note_error(cudaErrorMemoryAllocation);
  const size_t page = page_size(), inner = (padded(bytes) + page - 1) / page * page;
  void* const map =
      mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return note_error(cudaErrorMemoryAllocation);
  auto* const begin = static_cast<unsigned char*>(map) + page;
  mprotect(begin, inner, PROT_READ | PROT_WRITE);
  memset(begin, kGuard, inner);
  unsigned char* const data = begin + inner - padded(bytes);
  m.in_use += bytes;
  m.blocks[data] = {static_cast<unsigned char*>(map), inner + 2 * page, bytes};
  *result = data;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (!data) return cudaSuccess;
  finish_all();
  return free_now(data);
}

cudaError_t cudaMallocAsync(void** result, size_t bytes, cudaStream_t stream) {
  const cudaError_t error = cudaMalloc(result, bytes);
  Graph* const graph = captured(stream);
  if (error != cudaSuccess || !graph) return error;
  graph->work.push_back(fresh(*result, bytes));
  return cudaSuccess;
}
// What a graph has freed is there for its next launch, and nobody else's.
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  if (!data) return cudaSuccess;
  Graph* const graph = captured(stream);
  if (!graph) return enqueue(stream, [=] { return free_now(data); });
  graph->blocks.push_back(data);
  graph->work.push_back(fresh(data, bytes_of(data)));
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  *free_bytes = kTotal - m.in_use;
  *total = kTotal;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (const cudaError_t error = finish(nullptr)) return error;
  memcpy(to, from, bytes);
  return cudaSuccess;
}
// Host memory may be reused on return: it is copied at once, or into the queue.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const Work copy = [=] {
    memcpy(to, from, bytes);
    return cudaSuccess;
  };
  if (captured(stream)) return enqueue(stream, copy);
  if (!owns(to)) {
    if (const cudaError_t error = finish(stream)) return error;
    return copy();
  }
  if (owns(from)) return enqueue(stream, copy);
  const auto* const begin = static_cast<const unsigned char*>(from);
  const std::vector<unsigned char> kept(begin, begin + bytes);
  return enqueue(stream, [=] {
    memcpy(to, kept.data(), bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] {
    memset(to, value, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return finish(stream); }
cudaError_t cudaDeviceSynchronize() { return finish_all(); }

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

namespace {
int number_in(const char* variable) {
  const char* const text = std::getenv(variable);
  return text ? std::atoi(text) : 0;
}
}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  const auto off = static_cast<cudaError_t>(number_in("CNNEXT_BED_OFF"));
  *count = off == cudaSuccess ? 1 : 0;
  return off;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = number_in("CNNEXT_BED_DRIVER");
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 12040;
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
  const int wanted = number_in("CNNEXT_BED_CAPABILITY"), capability = wanted ? wanted : control().capability;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = control().multiprocessors;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(control().shared_limit);
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = capability / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = capability % 10;
      break;
    case cudaDevAttrL2CacheSize:
      *value = 1 << 20;
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
  if (static_cast<size_t>(value) <= control().shared_limit) return cudaSuccess;
  return note_error(cudaErrorInvalidValue);
}
