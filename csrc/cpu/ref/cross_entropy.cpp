#include "cpu/ref/softmax.h"

namespace cnnext {
namespace {

// One position (n, i): its logits, its target and its part of the mean's denominator.
template <class T>
class CrossEntropy {
 public:
  explicit CrossEntropy(const CrossEntropyDesc& desc)
      : d(desc),
        at{desc.C, desc.inner, desc.format},
        stride(desc.format == Format::kNCHW ? desc.inner : 1),
        smoothing(desc.label_smoothing),
        uniform(desc.label_smoothing / static_cast<double>(desc.C)) {}

  int64_t positions() const { return d.N * d.inner; }

  double weight(int64_t c) const { return present(d.weight) ? data<T>(d.weight)[c] : T(1); }
  int64_t label(int64_t position) const { return data<int64_t>(d.target)[position]; }
  bool ignored(int64_t position) const { return d.target_is_index && label(position) == d.ignore_index; }
  double share(int64_t position) const {
    if (!d.target_is_index) return 1;
    return ignored(position) ? 0 : weight(label(position));
  }

  double denominator() const {
    double sum = 0;
    for (int64_t p = 0; p < positions(); ++p) sum += share(p);
    return d.C > 0 ? sum : 0;
  }

  // What the log-probability of class c is multiplied by, but for the sign.
  double factor(int64_t position, int64_t start, int64_t c) const {
    if (!d.target_is_index) {
      const double p = data<T>(d.target)[start + c * stride];
      return (smoothing > 0 ? p * (1 - smoothing) + uniform : p) * weight(c);
    }
    return (c == label(position) ? (1 - smoothing) * weight(c) : 0) + uniform * weight(c);
  }

  int64_t start(int64_t position) const { return at(position / d.inner, 0, position % d.inner); }

  // Only the label's log-probability enters where nothing is smoothed: the others may be infinite.
  double loss(int64_t position) const {
    if (ignored(position)) return 0;
    const int64_t first = start(position);
    const T* x = data<T>(d.x) + first;
    const LogSumExp norm = log_sum_exp(x, d.C, stride);
    const auto term = [&](int64_t c) {
      return norm.log_probability(x[c * stride]) * factor(position, first, c);
    };
    if (d.target_is_index && smoothing == 0) return -term(label(position));
    double sum = 0;
    for (int64_t c = 0; c < d.C; ++c) sum += term(c);
    return -sum;
  }

  // log-softmax's backward of the gradient -scale * factor.
  void gradient(int64_t position, double scale) const {
    const int64_t first = start(position);
    const T* x = data<T>(d.x) + first;
    T* grad_x = data<T>(d.grad_x) + first;
    const bool dead = ignored(position);
    double sum = 0;
    for (int64_t c = 0; c < d.C && !dead; ++c) sum -= scale * factor(position, first, c);
    const LogSumExp norm = log_sum_exp(x, d.C, stride);
    for (int64_t c = 0; c < d.C; ++c) {
      const double g = dead ? 0 : -scale * factor(position, first, c);
      grad_x[c * stride] = static_cast<T>(g - norm.probability(x[c * stride]) * sum);
    }
  }

 private:
  const CrossEntropyDesc& d;
  ChannelIndex at;
  int64_t stride;  // between classes
  double smoothing, uniform;
};

}  // namespace

Ran ref_cross_entropy_forward(const CrossEntropyDesc& d, Exec& exec) {
  dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const CrossEntropy<T> op(d);
    const int64_t count = op.positions();
    T* loss = data<T>(d.loss);
    if (d.reduction == CNNEXT_REDUCTION_NONE) {
      for_blocks(exec, count, 256, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) loss[p] = static_cast<T>(op.loss(p));
      });
      return;
    }
    double* losses = exec.scratch_array<double>(count);
    for_blocks(exec, count, 256, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) losses[p] = op.loss(p);
    });
    double sum = 0;
    for (int64_t p = 0; p < count; ++p) sum += losses[p];
    *loss = static_cast<T>(d.reduction == CNNEXT_REDUCTION_MEAN ? sum / op.denominator() : sum);
  });
  return Ran::kDone;
}

Ran ref_cross_entropy_backward(const CrossEntropyDesc& d, Exec& exec) {
  dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const CrossEntropy<T> op(d);
    const T* grad_loss = data<T>(d.grad_loss);
    const double divisor = d.reduction == CNNEXT_REDUCTION_MEAN ? op.denominator() : 1;
    for_blocks(exec, op.positions(), 256, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        op.gradient(p, grad_loss[d.reduction == CNNEXT_REDUCTION_NONE ? p : 0] / divisor);
      }
    });
  });
  return Ran::kDone;
}

}  // namespace cnnext
