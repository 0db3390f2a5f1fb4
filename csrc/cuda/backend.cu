// libcnnext_cuda.so: says whether a device is there. Its op table has no operations yet, so the backend
// reports itself off.
#include <cuda_runtime.h>

#include "core/host_services.h"

extern "C" __attribute__((visibility("default"))) const cnnext::OpTable* cnnext_cuda_backend(
    const cnnext::HostServices* services, const char** reason) {
  if (services->size < sizeof(cnnext::HostServices)) {
    *reason = "libcnnext_cuda.so is newer than libcnnext.so";
    return nullptr;
  }
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    *reason = cudaGetErrorString(status);
  } else if (count == 0) {
    *reason = "no CUDA device";
  } else {
    *reason = "this version has no CUDA operations yet";
  }
  return nullptr;
}
