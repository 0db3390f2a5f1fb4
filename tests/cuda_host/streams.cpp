#include "streams.h"

#include <memory>
#include <utility>

#include "fake_memory.h"

struct FakeStream {
  bool blocking;
  std::vector<cuda_host::Work> queue;
  std::unique_ptr<cuda_host::Graph> graph;  // while it is being captured
};

namespace cuda_host {
namespace {

std::vector<std::unique_ptr<FakeStream>>& streams() {
  static auto* const all = new std::vector<std::unique_ptr<FakeStream>>;
  return *all;
}

bool exists(cudaStream_t stream) {
  if (!stream) return true;
  for (const auto& known : streams()) {
    if (known.get() == stream) return true;
  }
  return false;
}

cudaError_t run_queue(FakeStream& stream) {
  cudaError_t first = cudaSuccess;
  for (const Work& work : std::exchange(stream.queue, {})) {
    const cudaError_t error = work();
    if (first == cudaSuccess) first = error;
  }
  return first;
}

// The legacy default stream waits for all blocking streams, which a captured one cannot be waited for.
cudaError_t finish_blocking() {
  for (const auto& stream : streams()) {
    if (!stream->blocking) continue;
    if (stream->graph) return cudaErrorStreamCaptureImplicit;
    if (const cudaError_t error = run_queue(*stream)) return error;
  }
  return cudaSuccess;
}

}  // namespace

Graph::~Graph() {
  for (void* block : blocks) cudaFree(block);
}

cudaStream_t make_stream(bool blocking) {
  streams().push_back(std::make_unique<FakeStream>());
  streams().back()->blocking = blocking;
  return streams().back().get();
}

cudaError_t destroy_stream(cudaStream_t stream) {
  if (!stream || !exists(stream)) return cudaErrorInvalidResourceHandle;
  const cudaError_t error = run_queue(*stream);
  for (auto at = streams().begin(); at != streams().end(); ++at) {
    if (at->get() != stream) continue;
    streams().erase(at);
    break;
  }
  return error;
}

Graph* captured(cudaStream_t stream) { return stream && exists(stream) ? stream->graph.get() : nullptr; }

cudaError_t enqueue(cudaStream_t stream, Work work) {
  if (!exists(stream)) return note_error(cudaErrorInvalidResourceHandle);
  if (!stream) {
    if (const cudaError_t error = finish_blocking()) return note_error(error);
    return work();
  }
  (stream->graph ? stream->graph->work : stream->queue).push_back(std::move(work));
  return cudaSuccess;
}

cudaError_t finish(cudaStream_t stream) {
  if (!exists(stream)) return note_error(cudaErrorInvalidResourceHandle);
  if (!stream) return note_error(finish_blocking());
  return note_error(stream->graph ? cudaErrorStreamCaptureUnsupported : run_queue(*stream));
}

cudaError_t finish_all() {
  cudaError_t first = cudaSuccess;
  for (const auto& stream : streams()) {
    const cudaError_t error = stream->graph ? cudaErrorStreamCaptureUnsupported : run_queue(*stream);
    if (first == cudaSuccess) first = error;
  }
  return note_error(first);
}

cudaError_t order_after(cudaStream_t stream, cudaStream_t producer) {
  if (!exists(stream) || !exists(producer)) return note_error(cudaErrorInvalidResourceHandle);
  if (stream == producer) return cudaSuccess;
  if (captured(stream) || captured(producer)) return note_error(cudaErrorStreamCaptureIsolation);
  return finish(producer);
}

cudaError_t begin_capture(cudaStream_t stream) {
  if (!stream || !exists(stream) || stream->graph) return cudaErrorInvalidResourceHandle;
  stream->graph = std::make_unique<Graph>();
  return cudaSuccess;
}

cudaError_t end_capture(cudaStream_t stream, Graph** graph) {
  if (!captured(stream)) return cudaErrorInvalidResourceHandle;
  *graph = stream->graph.release();
  return cudaSuccess;
}

}  // namespace cuda_host
