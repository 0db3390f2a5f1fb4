// Loops that the reference functions share.
#pragma once

#include <algorithm>

#include "cpu/ref/ref.h"

namespace cnnext {

// body(begin, end) over [0, count) in blocks whose borders depend on count alone.
template <class Body>
void for_blocks(Exec& exec, int64_t count, int64_t block, const Body& body) {
  const int64_t blocks = (count + block - 1) / block;
  exec.parallel_for(blocks, [&](int64_t b) { body(b * block, std::min(count, (b + 1) * block)); });
}

// body(i) for each i in [0, count).
template <class Body>
void for_each(Exec& exec, int64_t count, const Body& body) {
  for_blocks(exec, count, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data);
}

// Where element (n, c, i) of a channel tensor lies.
struct ChannelIndex {
  int64_t C, inner;
  Format format;
  int64_t operator()(int64_t n, int64_t c, int64_t i) const {
    return format == Format::kNCHW ? (n * C + c) * inner + i : (n * inner + i) * C + c;
  }
};

}  // namespace cnnext
