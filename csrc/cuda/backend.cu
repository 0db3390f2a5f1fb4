// libcnnext_cuda.so's one exported function: the table of its operations, or why there is none.
#include <cstdlib>
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

// Fields that stay null have no kernels yet.
OpTable make_table() {
  OpTable table{};
  table.device = device_table();
  table.backend = "cuda";
  table.takes_dtype = takes_dtype;
  table.conv2d_forward = conv2d_forward;
  table.conv2d_backward_data = conv2d_backward_data;
  table.conv2d_backward_weights = conv2d_backward_weights;
  table.conv2d_relu_max_pool2d_forward = conv2d_relu_max_pool2d_forward;
  table.conv2d_relu_max_pool2d_backward = conv2d_relu_max_pool2d_backward;
  table.conv2d_batch_norm_forward = conv2d_batch_norm_forward;
  table.max_pool2d_forward = max_pool2d_forward;
  table.max_pool2d_backward = max_pool2d_backward;
  table.max_pool2d_gather = max_pool2d_gather;
  table.max_unpool2d = max_unpool2d;
  table.convert_indices = convert_indices;
  table.activation_forward = activation_forward;
  table.activation_backward = activation_backward;
  table.avg_pool2d_forward = avg_pool2d_forward;
  table.avg_pool2d_backward = avg_pool2d_backward;
  table.adaptive_avg_pool2d_forward = adaptive_avg_pool2d_forward;
  table.adaptive_avg_pool2d_backward = adaptive_avg_pool2d_backward;
  table.add = add;
  table.dropout = dropout;
  table.bias_add = bias_add;
  table.bias_grad = bias_grad;
  table.batch_norm_forward = batch_norm_forward;
  table.batch_norm_backward = batch_norm_backward;
  table.softmax_forward = softmax_forward;
  table.softmax_backward = softmax_backward;
  table.cross_entropy_forward = cross_entropy_forward;
  table.cross_entropy_backward = cross_entropy_backward;
  table.copy = copy;
  table.sgd_step = sgd_step;
  table.adam_step = adam_step;
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
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    static char text[256];
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cnnext::cuda::explain_no_device(status, driver, runtime, std::getenv("CUDA_VISIBLE_DEVICES"), text,
                                    sizeof(text));
    *reason = text;
    return nullptr;
  }
  cnnext::cuda::services = services;
  static const cnnext::OpTable table = cnnext::cuda::make_table();
  return &table;
}
