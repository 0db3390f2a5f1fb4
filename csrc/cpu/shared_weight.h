// A convolution's packed weights for its parts.
#pragma once

#include "core/desc.h"
#include "core/exec.h"
#include "core/packed_weight.h"

namespace cnnext {

// Packed weights for all parts: the caller's handle, or one made for this call.
class SharedWeight {
 public:
  // part: any of them.
  SharedWeight(const Conv2dDesc& part, Exec& exec);
  ~SharedWeight();
  SharedWeight(const SharedWeight&) = delete;
  SharedWeight& operator=(const SharedWeight&) = delete;
  // For the parts' `packed`; nullptr: the weights are read as they lie.
  const void* handle() const { return handle_; }

 private:
  const cnnext_packed_weight* handle_;
  cnnext_packed_weight own_{};
};

}  // namespace cnnext
