// libcnnext_cuda.so's one exported function: the table of its operations, or why there is none.
#include <cstring>

#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {

const HostServices* services = nullptr;

namespace {

bool takes_dtype(const char* op, int32_t dtype) {
  if (std::strcmp(op, "copy") == 0) return dtype >= CNNEXT_FLOAT32 && dtype <= CNNEXT_INT64;
  if (std::strcmp(op, "convert_indices") == 0) return dtype >= CNNEXT_UINT8 && dtype <= CNNEXT_INT64;
  if (std::strcmp(op, "max_pool2d_forward") == 0 && (dtype == CNNEXT_UINT8 || dtype == CNNEXT_INT8)) {
    return true;
  }
  return dtype == CNNEXT_FLOAT32 || dtype == CNNEXT_FLOAT16 || dtype == CNNEXT_BFLOAT16;
}

OpTable make_table() {
  OpTable table{};
  table.device = device_table();
  table.backend = "cuda";
  table.takes_dtype = takes_dtype;
#define CNNEXT_SET_OP(name, Desc) table.name = name;
  CNNEXT_OPS(CNNEXT_SET_OP)
#undef CNNEXT_SET_OP
  return table;
}

}  // namespace
}  // namespace cnnext::cuda

extern "C" __attribute__((visibility("default"))) const cnnext::OpTable* cnnext_cuda_backend(
    const cnnext::HostServices* services, const char** reason) {
  if (services->size < sizeof(cnnext::HostServices) || services->table_bytes != sizeof(cnnext::OpTable)) {
    *reason = "libcnnext_cuda.so and libcnnext.so are of different builds";
    return nullptr;
  }
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    *reason = cudaGetErrorString(status);
    return nullptr;
  }
  if (count == 0) {
    *reason = "no CUDA device";
    return nullptr;
  }
  cnnext::cuda::services = services;
  static const cnnext::OpTable table = cnnext::cuda::make_table();
  return &table;
}
