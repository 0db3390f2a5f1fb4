// Activations, their gradients and addition: one flat run, 16 bytes a thread and step where every address is
// aligned, the tail value by value. y may be an input itself: each thread reads before it writes.
#include "cuda/activation.cuh"
#include "cuda/launch.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {
namespace {

struct ActivationForward {
  int32_t kind;
  float alpha;
  CNNEXT_DEVICE float operator()(float x, float) const { return activate(kind, alpha, x); }
};
struct ActivationBackward {
  int32_t kind;
  float alpha;
  CNNEXT_DEVICE float operator()(float x, float grad) const {
    return activation_gradient(kind, alpha, grad, x);
  }
};
struct Add {
  CNNEXT_DEVICE float operator()(float a, float b) const { return a + b; }
};

template <class T, int V, bool kTwo, class Function>
__global__ void __launch_bounds__(kBlock)
    elementwise(int64_t count, const T* x, const T* other, T* y, Function function) {
  const int64_t vectors = count / V;
  for (int64_t i = first_item(); i < vectors; i += item_step()) {
    const Vec<float, V> a = to_floats(load_streaming<V>(x + i * V));
    Vec<float, V> b{}, result;
    if constexpr (kTwo) b = to_floats(load_streaming<V>(other + i * V));
#pragma unroll
    for (int j = 0; j < V; ++j) result[j] = function(a[j], b[j]);
    store(y + i * V, from_floats<T>(result));
  }
  const int64_t tail = vectors * V + first_item();
  if (tail < count) {  // fewer than V values: the first block's threads
    const float b = kTwo ? to_float(other[tail]) : 0;
    y[tail] = from_float<T>(function(to_float(x[tail]), b));
  }
}

template <bool kTwo, class Function>
Ran run(const Op& op, const ElementwiseDesc& d, const char* kernel, Function function) {
  if (d.numel == 0) return op.done(kernel);
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const void* other = kTwo ? d.grad.data : nullptr;
    dispatch_width<T>(0, {d.x.data, other, d.y.data}, [&](auto v) {
      constexpr int V = decltype(v)::value;
      launch_flat(op, elementwise<T, V, kTwo, Function>, blocks_for(d.numel, kBlock * V), d.numel,
                  data<const T>(d.x), static_cast<const T*>(other), data<T>(d.y), function);
    });
  });
  return known ? op.done(kernel) : Ran::kUnsupported;
}

}  // namespace

Ran activation_forward(const ElementwiseDesc& d, Exec& exec) {
  return run<false>({"activation_forward", exec, d.x}, d, "cuda/activation_forward",
                    ActivationForward{d.kind, static_cast<float>(d.alpha)});
}

Ran activation_backward(const ElementwiseDesc& d, Exec& exec) {
  return run<true>({"activation_backward", exec, d.x}, d, "cuda/activation_backward",
                   ActivationBackward{d.kind, static_cast<float>(d.alpha)});
}

Ran add(const ElementwiseDesc& d, Exec& exec) { return run<true>({"add", exec, d.x}, d, "cuda/add", Add{}); }

}  // namespace cnnext::cuda
