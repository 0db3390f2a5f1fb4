// What libcnnext_cuda_host.so exports for tests besides cnnext_cuda_backend.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_host {
struct Control;
}

extern "C" {
cuda_host::Control* cnnext_cuda_host_control();
void* cnnext_cuda_host_alloc(size_t bytes);
void cnnext_cuda_host_free(void* memory);
void cnnext_cuda_host_order(uint64_t seed);  // Control::order, for tests that are no C++
}
