// Dropout: the mask of an element follows from seed, offset and position alone (cpu/philox.h). A thread needs
// one block of random words for four elements.
#include "cpu/philox.h"
#include "cuda/launch.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {
namespace {

struct Mask {
  uint64_t seed, offset, threshold;
  float scale;
};

CNNEXT_DEVICE uint32_t pick(const uint32_t (&words)[4], uint64_t at) {
  const uint32_t low = at & 1 ? words[1] : words[0], high = at & 1 ? words[3] : words[2];
  return at & 2 ? high : low;
}

// A dropped value is multiplied by 0, so NaN and infinities stay visible.
template <class T, int V>
__global__ void __launch_bounds__(kBlock) dropout_kernel(int64_t count, const T* x, T* y, Mask mask) {
  const int64_t vectors = count / V;
  uint32_t words[4];
  for (int64_t i = first_item(); i < vectors; i += item_step()) {
    Vec<float, V> values = to_floats(load_streaming<V>(x + i * V));
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const uint64_t number = mask.offset + static_cast<uint64_t>(i * V + j);
      if (j == 0 || number % 4 == 0) philox4x32(number / 4, mask.seed, words);
      values[j] *= pick(words, number) >= mask.threshold ? mask.scale : 0;
    }
    store(y + i * V, from_floats<T>(values));
  }
  const int64_t tail = vectors * V + first_item();
  if (tail < count) {
    const uint64_t number = mask.offset + static_cast<uint64_t>(tail);
    philox4x32(number / 4, mask.seed, words);
    y[tail] = from_float<T>(to_float(x[tail]) * (pick(words, number) >= mask.threshold ? mask.scale : 0));
  }
}

}  // namespace

Ran dropout(const ElementwiseDesc& d, Exec& exec) {
  const Op op{"dropout", exec, d.x};
  const Mask mask{d.seed, d.offset, dropout_threshold(d.alpha), static_cast<float>(dropout_scale(d.alpha))};
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (d.numel == 0) return;
    dispatch_width<T>(0, {d.x.data, d.y.data}, [&](auto v) {
      constexpr int V = decltype(v)::value;
      launch_flat(op, dropout_kernel<T, V>, blocks_for(d.numel, kBlock * V), d.numel, data<const T>(d.x),
                  data<T>(d.y), mask);
    });
  });
  return known ? op.done("cuda/dropout") : Ran::kUnsupported;
}

}  // namespace cnnext::cuda
