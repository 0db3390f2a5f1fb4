// On which stream a call's work is queued. By default on the current stream of the library whose arrays they
// are (torch, CuPy), and for all others on the legacy default stream; or on one that was named for this
// thread.
#pragma once

#include <cstdint>
#include <optional>

#include "array.h"

namespace bindings {

// The stream that cnnext.cuda_stream() named, a cudaStream_t as a number.
const std::optional<uintptr_t>& explicit_stream();

// The stream for arrays of no library that has a current one.
inline void* foreign_stream() { return reinterpret_cast<void*>(explicit_stream().value_or(0)); }

// Has the stream that was named, if any, wait for the one that torch or CuPy queues its work for the device
// on.
void wait_for_library(Library library, int device_id);

// As DLPack and __cuda_array_interface__ number it: 1 is the legacy default stream, which CUDA calls 0 too.
inline uintptr_t interface_stream(void* stream) {
  return stream ? reinterpret_cast<uintptr_t>(stream) : uintptr_t{1};
}
// The other way round.
inline void* from_interface_stream(uintptr_t number) {
  return reinterpret_cast<void*>(number == 1 ? 0 : number);
}

// The context of one call: the forced backend, and on CUDA the stream.
class CallContext {
 public:
  explicit CallContext(const Origin& origin) : given_(context()) {
    if (origin.on_device()) use_stream(origin);
  }
  CallContext(const CallContext&) = delete;
  CallContext& operator=(const CallContext&) = delete;

  const cnnext_context* get() const { return given_; }
  void* stream() const { return given_ ? given_->stream : nullptr; }

 private:
  void use_stream(const Origin& origin);

  const cnnext_context* given_;
  cnnext_context own_;  // on CUDA
};

}  // namespace bindings
