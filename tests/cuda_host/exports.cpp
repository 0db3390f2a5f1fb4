#include "exports.h"

#include "bed.h"

#define CNNEXT_EXPORT __attribute__((visibility("default")))

extern "C" CNNEXT_EXPORT cuda_host::Control* cnnext_cuda_host_control() { return &cuda_host::control(); }
extern "C" CNNEXT_EXPORT void* cnnext_cuda_host_alloc(size_t bytes) {
  void* memory = nullptr;
  cudaMalloc(&memory, bytes);
  return memory;
}
extern "C" CNNEXT_EXPORT void cnnext_cuda_host_free(void* memory) { cudaFree(memory); }
extern "C" CNNEXT_EXPORT void cnnext_cuda_host_order(uint64_t seed) { cuda_host::control().order = seed; }
