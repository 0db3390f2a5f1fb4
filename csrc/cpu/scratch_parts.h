// A strand's scratch cut into typed arrays, each on its own cache lines.
#pragma once

#include <cstdint>

namespace cnnext {

class ScratchParts {
 public:
  explicit ScratchParts(void* base) : base_(static_cast<char*>(base)) {}

  // With a null base it only adds up, so that one function both sizes and cuts.
  template <class T>
  T* take(int64_t count) {
    T* const part = base_ ? reinterpret_cast<T*>(base_ + bytes_) : nullptr;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return part;
  }
  int64_t bytes() const { return bytes_; }
  int64_t floats() const { return bytes_ / static_cast<int64_t>(sizeof(float)); }

 private:
  char* base_;
  int64_t bytes_ = 0;
};

}  // namespace cnnext
