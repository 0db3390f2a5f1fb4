#include <cmath>

#include "cpu/ref/loops.h"

namespace cnnext {
namespace {

template <class T>
class BatchNorm {
 public:
  explicit BatchNorm(const BatchNormDesc& desc) : d(desc), at{desc.C, desc.inner, desc.format} {}

  void forward(int64_t c) const {
    double mean, invstd;
    if (d.training) {
      statistics(c, &mean, &invstd);
    } else {
      mean = data<T>(d.running_mean)[c];
      invstd = 1 / std::sqrt(data<T>(d.running_var)[c] + d.eps);
    }
    if (present(d.save_mean)) data<T>(d.save_mean)[c] = static_cast<T>(mean);
    if (present(d.save_invstd)) data<T>(d.save_invstd)[c] = static_cast<T>(invstd);
    const double scale = invstd * (present(d.weight) ? data<T>(d.weight)[c] : T(1));
    const double bias = present(d.bias) ? data<T>(d.bias)[c] : T(0);
    const T* x = data<T>(d.x);
    T* y = data<T>(d.y);
    each(c, [&](int64_t at) {
      const T value = static_cast<T>((x[at] - mean) * scale + bias);
      y[at] = activate(value);
    });
  }

  // dx = weight * invstd * (dy - mean(dy) - xhat * mean(dy * xhat)); in evaluation the statistics are
  // constants.
  void backward(int64_t c) const {
    const T *x = data<T>(d.x), *y = data<T>(d.y);
    const auto grad_y = [&](int64_t at) {
      return d.activation && stops(y[at]) ? T(0) : data<T>(d.grad_y)[at];
    };
    const double mean = data<T>(d.save_mean)[c], invstd = data<T>(d.save_invstd)[c];
    double sum = 0, dot = 0;
    each(c, [&](int64_t at) {
      sum += grad_y(at);
      dot += grad_y(at) * ((x[at] - mean) * invstd);
    });
    if (present(d.grad_weight)) data<T>(d.grad_weight)[c] = static_cast<T>(dot);
    if (present(d.grad_bias)) data<T>(d.grad_bias)[c] = static_cast<T>(sum);
    if (!present(d.grad_x)) return;
    const double scale = invstd * (present(d.weight) ? data<T>(d.weight)[c] : T(1));
    const double count = static_cast<double>(d.N * d.inner);
    T* grad_x = data<T>(d.grad_x);
    each(c, [&](int64_t at) {
      const double centred =
          d.training ? grad_y(at) - sum / count - (x[at] - mean) * invstd * dot / count : grad_y(at);
      grad_x[at] = static_cast<T>(scale * centred);
    });
  }

 private:
  // NaN stays, and its gradient passes.
  T activate(T value) const {
    if (d.activation && value <= 0) return 0;
    return d.activation == CNNEXT_ACT_RELU6 && value > 6 ? T(6) : value;
  }
  bool stops(T y) const { return y <= 0 || (d.activation == CNNEXT_ACT_RELU6 && y >= 6); }

  template <class Body>
  void each(int64_t c, const Body& body) const {
    for (int64_t n = 0; n < d.N; ++n) {
      for (int64_t i = 0; i < d.inner; ++i) body(at(n, c, i));
    }
  }

  // Two passes; the running statistics move too. An empty batch has none: 0, and the running ones stay.
  void statistics(int64_t c, double* mean, double* invstd) const {
    const T* x = data<T>(d.x);
    const double count = static_cast<double>(d.N * d.inner);
    *mean = *invstd = 0;
    if (count == 0) return;
    double sum = 0, squares = 0;
    each(c, [&](int64_t at) { sum += x[at]; });
    *mean = sum / count;
    each(c, [&](int64_t at) { squares += (x[at] - *mean) * (x[at] - *mean); });
    *invstd = 1 / std::sqrt(squares / count + d.eps);
    if (!present(d.running_mean)) return;
    T &running_mean = data<T>(d.running_mean)[c], &running_var = data<T>(d.running_var)[c];
    running_mean = static_cast<T>((1 - d.momentum) * running_mean + d.momentum * *mean);
    running_var = static_cast<T>((1 - d.momentum) * running_var + d.momentum * (squares / (count - 1)));
  }

  const BatchNormDesc& d;
  ChannelIndex at;
};

}  // namespace

Ran ref_batch_norm_forward(const BatchNormDesc& d, Exec& exec) {
  dispatch_float(d.dtype, [&](auto t) {
    const BatchNorm<decltype(t)> op(d);
    exec.parallel_for(d.C, [&](int64_t c) { op.forward(c); });
  });
  return Ran::kDone;
}

Ran ref_batch_norm_backward(const BatchNormDesc& d, Exec& exec) {
  dispatch_float(d.dtype, [&](auto t) {
    const BatchNorm<decltype(t)> op(d);
    exec.parallel_for(d.C, [&](int64_t c) { op.backward(c); });
  });
  return Ran::kDone;
}

}  // namespace cnnext
