// As much of the CUDA driver as bench/cuda asks for, on the memory of the CUDA library that
// CNNEXT_CUDA_LIBRARY names: fake_cuda's, or the test bed's (libcnnext_cuda_host.so). Streams are in order
// and done at once, events are the host's clock, and a kernel of PTX is only found: nothing assembles it.
// Stops at whatever the driver would refuse.
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>

#define DRIVER extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kInvalidValue = 1, kMemory = 2, kNotInitialized = 3, kInvalidContext = 201, kNotFound = 500;
constexpr size_t kTotal = size_t{1} << 28;

struct Event {
  bool recorded = false;
  std::chrono::steady_clock::time_point at;
};
using Pointer = unsigned long long;

std::map<Pointer, size_t> blocks;
std::set<Event*> events;
std::set<std::string*> modules;
size_t in_use = 0;
bool initialized = false, retained = false;
thread_local bool current = false;

void* library() {
  static void* const handle = dlopen(std::getenv("CNNEXT_CUDA_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
  return handle;
}

template <class Function>
Function* found(const char* name) {
  return reinterpret_cast<Function*>(dlsym(library(), name));
}

void* take(size_t bytes) {
  if (auto* alloc = found<void*(int, size_t)>("fake_alloc")) return alloc(0, bytes);
  if (auto* alloc = found<void*(size_t)>("cnnext_cuda_host_alloc")) return alloc(bytes);
  return nullptr;
}
void give(void* block) {
  if (auto* free_block = found<void(void*)>("fake_free")) return free_block(block);
  found<void(void*)>("cnnext_cuda_host_free")(block);
}
// Only fake_cuda itself may touch its memory.
void move(void* to, const void* from, size_t bytes) {
  if (auto* write = found<void(void*, const void*, size_t)>("fake_write")) return write(to, from, bytes);
  std::memcpy(to, from, bytes);
}

void* at(Pointer address) { return reinterpret_cast<void*>(address); }
bool inside(Pointer address, size_t bytes) {
  auto after = blocks.upper_bound(address);
  if (after == blocks.begin()) return false;
  --after;
  return address + bytes <= after->first + after->second;
}
int ready() { return !initialized ? kNotInitialized : current ? 0 : kInvalidContext; }

}  // namespace

DRIVER int cuInit(unsigned flags) {
  initialized = flags == 0;
  return flags == 0 ? 0 : kInvalidValue;
}
DRIVER int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
DRIVER int cuDeviceGetCount(int* count) {
  *count = 1;
  return initialized ? 0 : kNotInitialized;
}
DRIVER int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal == 0 ? 0 : kInvalidValue;
}
DRIVER int cuDeviceGetName(char* name, int bytes, int) {
  std::snprintf(name, static_cast<size_t>(bytes), "the stand-in for a driver");
  return 0;
}
DRIVER int cuDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int kMultiprocessors = 16, kL2Bytes = 38;
  *value = attribute == kL2Bytes ? 1 << 12 : attribute == kMultiprocessors ? 4 : 1;
  return 0;
}
DRIVER int cuDevicePrimaryCtxRetain(void** context, int) {
  retained = true;
  *context = &retained;
  return 0;
}
DRIVER int cuCtxSetCurrent(void* context) {
  current = context == &retained;
  return current ? 0 : kInvalidContext;
}
DRIVER int cuCtxSynchronize() { return ready(); }
DRIVER int cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  *free_bytes = kTotal - in_use;
  *total = kTotal;
  return ready();
}
DRIVER int cuMemAlloc_v2(Pointer* address, size_t bytes) {
  if (ready() != 0) return ready();
  if (bytes == 0) return kInvalidValue;
  void* const block = in_use + bytes > kTotal ? nullptr : take(bytes);
  if (!block) return kMemory;
  *address = reinterpret_cast<Pointer>(block);
  blocks[*address] = bytes;
  in_use += bytes;
  return 0;
}
DRIVER int cuMemFree_v2(Pointer address) {
  const auto block = blocks.find(address);
  if (block == blocks.end()) return kInvalidValue;
  in_use -= block->second;
  blocks.erase(block);
  give(at(address));
  return ready();
}
DRIVER int cuMemcpyHtoD_v2(Pointer to, const void* from, size_t bytes) {
  if (!inside(to, bytes)) return kInvalidValue;
  move(at(to), from, bytes);
  return ready();
}
DRIVER int cuMemcpyDtoH_v2(void* to, Pointer from, size_t bytes) {
  if (!inside(from, bytes)) return kInvalidValue;
  move(to, at(from), bytes);
  return ready();
}
DRIVER int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void* stream) {
  if (stream || !inside(to, bytes) || !inside(from, bytes)) return kInvalidValue;
  move(at(to), at(from), bytes);
  return ready();
}
DRIVER int cuMemsetD32Async(Pointer to, unsigned value, size_t words, void* stream) {
  if (stream || !inside(to, 4 * words)) return kInvalidValue;
  const std::string bytes(4 * words, static_cast<char>(value));
  move(at(to), bytes.data(), bytes.size());
  return ready();
}
DRIVER int cuEventCreate(Event** event, unsigned) {
  *event = *events.insert(new Event).first;
  return ready();
}
DRIVER int cuEventRecord(Event* event, void* stream) {
  if (stream || !events.count(event)) return kInvalidValue;
  *event = {true, std::chrono::steady_clock::now()};
  return ready();
}
DRIVER int cuEventElapsedTime(float* ms, Event* start, Event* stop) {
  if (!events.count(start) || !events.count(stop) || !start->recorded || !stop->recorded)
    return kInvalidValue;
  *ms = std::chrono::duration<float, std::milli>(stop->at - start->at).count();
  return ready();
}
DRIVER int cuEventDestroy_v2(Event* event) {
  if (!events.erase(event)) return kInvalidValue;
  delete event;
  return 0;
}
DRIVER int cuModuleLoadData(std::string** module, const char* ptx) {
  *module = *modules.insert(new std::string(ptx)).first;
  return ready();
}
DRIVER int cuModuleGetFunction(std::string** function, std::string* module, const char* name) {
  if (!modules.count(module)) return kInvalidValue;
  *function = module;
  const bool is_there = module->find(std::string(".entry ") + name + "(") != std::string::npos;
  return is_there ? ready() : kNotFound;
}
DRIVER int cuLaunchKernel(std::string* function, unsigned grid, unsigned grid_y, unsigned grid_z,
                          unsigned block, unsigned block_y, unsigned block_z, unsigned shared, void* stream,
                          void** arguments, void** extra) {
  const bool sizes = grid >= 1 && grid_y == 1 && grid_z == 1 && block >= 1 && block <= 1024 && block_y == 1 &&
                     block_z == 1 && shared == 0;
  if (!modules.count(function) || !sizes || stream || extra) return kInvalidValue;
  return inside(*static_cast<Pointer*>(arguments[0]), 4) ? ready() : kInvalidValue;
}
DRIVER int cuGetErrorString(int error, const char** text) {
  *text = error == kMemory           ? "out of memory"
          : error == kNotInitialized ? "not initialized"
          : error == kInvalidContext ? "invalid context"
          : error == kNotFound       ? "not found"
                                     : "invalid value";
  return 0;
}
