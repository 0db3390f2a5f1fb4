#include "cpu/philox.h"
#include "cpu/ref/activation.h"
#include "cpu/ref/loops.h"

namespace cnnext {
namespace {

// d activation / dx, as torch's formulas behave at infinities and NaN: a comparison that NaN fails keeps the
// gradient.
double derivative(int32_t kind, double alpha, double x) {
  constexpr double kInvSqrt2 = 0.70710678118654752440;
  constexpr double kInvSqrt2Pi = 0.39894228040143267794;
  constexpr double kSqrt2OverPi = 0.79788456080286535588;
  switch (kind) {
    case CNNEXT_ACT_RELU:
      return x <= 0 ? 0 : 1;
    case CNNEXT_ACT_RELU6:
      return x <= 0 || x >= 6 ? 0 : 1;
    case CNNEXT_ACT_LEAKY_RELU:
      return x > 0 ? 1 : alpha;
    case CNNEXT_ACT_GELU:
      return 0.5 * (1 + std::erf(x * kInvSqrt2)) + x * kInvSqrt2Pi * std::exp(-0.5 * x * x);
    case CNNEXT_ACT_GELU_TANH: {
      const double t = std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
    }
    case CNNEXT_ACT_SILU: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
    case CNNEXT_ACT_SIGMOID: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 - s);
    }
    default: {
      const double t = std::tanh(x);
      return 1 - t * t;
    }
  }
}

// The relu family selects the gradient instead of multiplying it, so that an infinite gradient at a dead
// element gives 0.
double backward(int32_t kind, double alpha, double grad, double x) {
  const double slope = derivative(kind, alpha, x);
  if (kind == CNNEXT_ACT_RELU || kind == CNNEXT_ACT_RELU6) return slope == 0 ? 0 : grad;
  return grad * slope;
}

}  // namespace

Ran ref_activation_forward(const ElementwiseDesc& d, Exec& exec) {
  dispatch_any_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const T* x = data<T>(d.x);
    T* y = data<T>(d.y);
    for_each(exec, d.numel,
             [=, &d](int64_t i) { y[i] = static_cast<T>(ref_activate(d.kind, d.alpha, x[i])); });
  });
  return Ran::kDone;
}

Ran ref_activation_backward(const ElementwiseDesc& d, Exec& exec) {
  dispatch_any_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const T *x = data<T>(d.x), *grad = data<T>(d.grad);
    T* y = data<T>(d.y);
    for_each(exec, d.numel,
             [=, &d](int64_t i) { y[i] = static_cast<T>(backward(d.kind, d.alpha, grad[i], x[i])); });
  });
  return Ran::kDone;
}

Ran ref_add(const ElementwiseDesc& d, Exec& exec) {
  dispatch_any_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const T *a = data<T>(d.x), *b = data<T>(d.grad);
    T* y = data<T>(d.y);
    for_each(exec, d.numel, [=](int64_t i) { y[i] = static_cast<T>(static_cast<double>(a[i]) + b[i]); });
  });
  return Ran::kDone;
}

// A dropped value is multiplied by 0, so NaN and infinities stay visible, as in torch.
Ran ref_dropout(const ElementwiseDesc& d, Exec& exec) {
  const uint64_t threshold = dropout_threshold(d.alpha);
  dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const T scale = static_cast<T>(dropout_scale(d.alpha));
    const T* x = data<T>(d.x);
    T* y = data<T>(d.y);
    for_each(exec, d.numel, [=, &d](int64_t i) {
      const uint64_t n = d.offset + static_cast<uint64_t>(i);
      uint32_t words[4];
      philox4x32(n / 4, d.seed, words);
      y[i] = x[i] * (words[n % 4] >= threshold ? scale : T(0));
    });
  });
  return Ran::kDone;
}

}  // namespace cnnext
