// The fake device's streams and graphs. Work on the legacy default stream is done at once. On any other
// stream it is put off until somebody waits for it, so that a caller who does not wait meets what a slow GPU
// would show: results that are not there yet. A stream that is being captured notes its work alone. For one
// thread.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <vector>

namespace cuda_host {

using Work = std::function<cudaError_t()>;

struct Graph {
  std::vector<Work> work;
  std::vector<void*> blocks;  // freed by its work, but there for its next launch
  ~Graph();
};

cudaStream_t make_stream(bool blocking);  // blocking: ordered with the legacy default stream
cudaError_t destroy_stream(cudaStream_t stream);

cudaError_t enqueue(cudaStream_t stream, Work work);
cudaError_t finish(cudaStream_t stream);
cudaError_t finish_all();
// What comes on `stream` runs after what `producer` has now.
cudaError_t order_after(cudaStream_t stream, cudaStream_t producer);

Graph* captured(cudaStream_t stream);  // where its work is noted; nullptr: it is not being captured
cudaError_t begin_capture(cudaStream_t stream);
cudaError_t end_capture(cudaStream_t stream, Graph** graph);

}  // namespace cuda_host
