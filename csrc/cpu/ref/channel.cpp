#include "cpu/ref/loops.h"

namespace cnnext {

Ran ref_bias_add(const ChannelDesc& d, Exec& exec) {
  const ChannelIndex at{d.C, d.inner, d.format};
  dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const T *x = data<T>(d.x), *bias = data<T>(d.bias);
    T* y = data<T>(d.y);
    exec.parallel_for(d.N, [&](int64_t n) {
      for (int64_t c = 0; c < d.C; ++c) {
        for (int64_t i = 0; i < d.inner; ++i) y[at(n, c, i)] = x[at(n, c, i)] + bias[c];
      }
    });
  });
  return Ran::kDone;
}

Ran ref_bias_grad(const ChannelDesc& d, Exec& exec) {
  const ChannelIndex at{d.C, d.inner, d.format};
  dispatch_any_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const T* x = data<T>(d.x);
    T* bias = data<T>(d.bias);
    exec.parallel_for(d.C, [&](int64_t c) {
      double sum = 0;
      for (int64_t n = 0; n < d.N; ++n) {
        for (int64_t i = 0; i < d.inner; ++i) sum += x[at(n, c, i)];
      }
      bias[c] = static_cast<T>(sum);
    });
  });
  return Ran::kDone;
}

}  // namespace cnnext
