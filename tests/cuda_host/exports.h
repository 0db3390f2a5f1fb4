// What libcnnext_cuda_host.so exports for tests besides cnnext_cuda_backend.
#pragma once

#include <cstddef>

namespace cuda_host {
struct Control;
}

extern "C" {
cuda_host::Control* cnnext_cuda_host_control();
void* cnnext_cuda_host_alloc(size_t bytes);
void cnnext_cuda_host_free(void* memory);
}
