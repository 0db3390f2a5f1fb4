// The driver's API on the fake device, as far as tests/gpu/driver.py calls it: what it does on a GPU it does
// here.
#include "fake_memory.h"
#include "streams.h"

#define CNNEXT_DRIVER extern "C" __attribute__((visibility("default"))) int

using cuda_host::Graph;

namespace {

void* pointer(uint64_t address) { return reinterpret_cast<void*>(address); }

// The runtime's last error is none of the driver's.
int result_of(cudaError_t error) {
  cudaGetLastError();
  return error;
}

}  // namespace

CNNEXT_DRIVER cuInit(unsigned) { return 0; }
CNNEXT_DRIVER cuDevicePrimaryCtxRetain(void** context, int device) {
  static char the_context;
  *context = &the_context;
  return device == 0 ? 0 : cudaErrorInvalidDevice;
}
CNNEXT_DRIVER cuCtxSetCurrent(void*) { return 0; }
CNNEXT_DRIVER cuCtxSynchronize() { return result_of(cuda_host::finish_all()); }
CNNEXT_DRIVER cuGetErrorString(int error, const char** text) {
  *text = cudaGetErrorString(static_cast<cudaError_t>(error));
  return 0;
}

CNNEXT_DRIVER cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  return result_of(cudaMemGetInfo(free_bytes, total));
}
CNNEXT_DRIVER cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  void* block = nullptr;
  const int error = result_of(cudaMalloc(&block, bytes));
  *address = reinterpret_cast<uint64_t>(block);
  return error;
}
CNNEXT_DRIVER cuMemFree_v2(uint64_t address) { return result_of(cudaFree(pointer(address))); }
CNNEXT_DRIVER cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) {
  return result_of(cudaMemcpy(pointer(to), from, bytes, cudaMemcpyHostToDevice));
}
CNNEXT_DRIVER cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) {
  return result_of(cudaMemcpy(to, pointer(from), bytes, cudaMemcpyDeviceToHost));
}
CNNEXT_DRIVER cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, cudaStream_t stream) {
  return result_of(cudaMemcpyAsync(pointer(to), pointer(from), bytes, cudaMemcpyDeviceToDevice, stream));
}

CNNEXT_DRIVER cuStreamCreate(cudaStream_t* stream, unsigned flags) {
  *stream = cuda_host::make_stream(flags == 0);
  return 0;
}
CNNEXT_DRIVER cuStreamDestroy_v2(cudaStream_t stream) { return cuda_host::destroy_stream(stream); }
CNNEXT_DRIVER cuStreamSynchronize(cudaStream_t stream) { return result_of(cudaStreamSynchronize(stream)); }

CNNEXT_DRIVER cuStreamBeginCapture_v2(cudaStream_t stream, int) { return cuda_host::begin_capture(stream); }
CNNEXT_DRIVER cuStreamEndCapture(cudaStream_t stream, Graph** graph) {
  return cuda_host::end_capture(stream, graph);
}
CNNEXT_DRIVER cuGraphInstantiateWithFlags(Graph** runnable, Graph* graph, uint64_t) {
  *runnable = graph;
  return 0;
}
CNNEXT_DRIVER cuGraphLaunch(Graph* graph, cudaStream_t stream) {
  for (const cuda_host::Work& work : graph->work) {
    if (const cudaError_t error = cuda_host::enqueue(stream, work)) return result_of(error);
  }
  return 0;
}
CNNEXT_DRIVER cuGraphExecDestroy(Graph*) { return 0; }
CNNEXT_DRIVER cuGraphDestroy(Graph* graph) {
  delete graph;
  return 0;
}
