#include <cstdio>

#include "cuda/device.h"
#include "cuda/launch.cuh"

namespace cnnext::cuda {
namespace {

struct Text {
  char value[640] = "";
  size_t length = 0;

  template <class... Args>
  void add(const char* format, Args... args) {
    const int written = snprintf(value + length, sizeof(value) - length, format, args...);
    if (written > 0) length = static_cast<size_t>(least(length + written, sizeof(value) - 1));
  }
  void add_shape(const Tensor& t) {
    add("%s", "(");
    for (int i = 0; i < t.ndim; ++i) add("%s%lld", i ? ", " : "", static_cast<long long>(t.shape[i]));
    add("%s", ")");
  }
};

}  // namespace

void fail_cuda(const Op& op, const char* what, cudaError_t error) {
  cudaGetLastError();  // what is reported here is not the next caller's
  Text text;
  text.add("%s of shape ", op.name);
  text.add_shape(op.about);
  text.add(": %s failed: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
  if (fault_of(error) == DeviceFault::kLost) {
    text.add("%s", "; the error may be an earlier kernel's, and this process can use the device no more");
  }
  services->fail(error == cudaErrorMemoryAllocation ? CNNEXT_OUT_OF_MEMORY : CNNEXT_RUNTIME_ERROR,
                 text.value);
  __builtin_unreachable();
}

void allow_shared(const Op& op, const void* kernel, size_t bytes) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (bytes <= kWithoutAsking) return;
  int device = 0, limit = 0;
  check(op, "asking for the current device", cudaGetDevice(&device));
  check(op, "asking for the device's shared memory",
        cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (bytes > static_cast<size_t>(limit)) {
    Text text;
    text.add("%s of shape ", op.name);
    text.add_shape(op.about);
    text.add(" needs %zu bytes of shared memory for a block; this device has %d", bytes, limit);
    services->fail(CNNEXT_NOT_IMPLEMENTED, text.value);
  }
  check(op, "asking for shared memory",
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

}  // namespace cnnext::cuda
