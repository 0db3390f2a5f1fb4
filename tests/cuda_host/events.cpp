// Events. Their clock counts the threads that have run, so that times are the same at every run.
#include "bed.h"
#include "streams.h"

struct FakeEvent {
  cudaStream_t stream = nullptr;
  uint64_t reached = 0;
};

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new FakeEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const cudaError_t error = cudaEventSynchronize(event);  // what is queued still writes to it
  delete event;
  return error;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->stream = stream;
  return cuda_host::enqueue(stream, [event] {
    event->reached = cuda_host::control().threads;
    return cudaSuccess;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cuda_host::finish(event->stream); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = static_cast<float>(end->reached - start->reached);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = cuda_host::captured(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
