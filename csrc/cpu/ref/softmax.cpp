#include "cpu/ref/softmax.h"

namespace cnnext {

Ran ref_softmax_forward(const SoftmaxDesc& d, Exec& exec) {
  dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (d.dim == 0) return;
    for_blocks(exec, d.outer * d.inner, 256, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t start = row / d.inner * d.dim * d.inner + row % d.inner;
        const T* x = data<T>(d.x) + start;
        T* y = data<T>(d.y) + start;
        const LogSumExp norm = log_sum_exp(x, d.dim, d.inner);
        for (int64_t k = 0; k < d.dim; ++k) {
          const double value = x[k * d.inner];
          y[k * d.inner] = static_cast<T>(d.log ? norm.log_probability(value) : norm.probability(value));
        }
      }
    });
  });
  return Ran::kDone;
}

// softmax: (grad - sum(grad * y)) * y; log-softmax: grad - exp(y) * sum(grad).
Ran ref_softmax_backward(const SoftmaxDesc& d, Exec& exec) {
  dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (d.dim == 0) return;
    for_blocks(exec, d.outer * d.inner, 256, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t start = row / d.inner * d.dim * d.inner + row % d.inner;
        const T *y = data<T>(d.y) + start, *grad_y = data<T>(d.grad_y) + start;
        T* grad_x = data<T>(d.grad_x) + start;
        double sum = 0;
        for (int64_t k = 0; k < d.dim; ++k) {
          const int64_t at = k * d.inner;
          sum += d.log ? grad_y[at] : static_cast<double>(grad_y[at]) * y[at];
        }
        for (int64_t k = 0; k < d.dim; ++k) {
          const int64_t at = k * d.inner;
          const double g = grad_y[at], value = y[at];
          grad_x[at] = static_cast<T>(d.log ? g - std::exp(value) * sum : (g - sum) * value);
        }
      }
    });
  });
  return Ran::kDone;
}

}  // namespace cnnext
