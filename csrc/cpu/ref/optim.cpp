// torch's update rules, in its order of operations.
#include <cmath>

#include "cpu/ref/loops.h"

namespace cnnext {

Ran ref_sgd_step(const SgdDesc& d, Exec& exec) {
  const cnnext_sgd_params& p = d.params;
  for (int64_t k = 0; k < d.count; ++k) {
    dispatch_float(d.param[k].dtype, [&](auto t) {
      using T = decltype(t);
      T *param = data<T>(d.param[k]), *buffer = d.buffer ? data<T>(d.buffer[k]) : nullptr;
      const T* grad = data<T>(d.grad[k]);
      for_each(exec, numel(d.param[k]), [&](int64_t i) {
        double g = p.maximize ? -static_cast<double>(grad[i]) : grad[i];
        if (p.weight_decay != 0) g += p.weight_decay * param[i];
        if (buffer) {
          const double b = p.first_step ? g : p.momentum * buffer[i] + (1 - p.dampening) * g;
          buffer[i] = static_cast<T>(b);
          g = p.nesterov ? g + p.momentum * b : b;
        }
        param[i] = static_cast<T>(param[i] - p.lr * g);
      });
    });
  }
  return Ran::kDone;
}

Ran ref_adam_step(const AdamDesc& d, Exec& exec) {
  const cnnext_adam_params& p = d.params;
  const double step_size = p.lr / (1 - std::pow(p.beta1, static_cast<double>(p.step)));
  const double root_correction = std::sqrt(1 - std::pow(p.beta2, static_cast<double>(p.step)));
  for (int64_t k = 0; k < d.count; ++k) {
    dispatch_float(d.param[k].dtype, [&](auto t) {
      using T = decltype(t);
      T *param = data<T>(d.param[k]), *avg = data<T>(d.exp_avg[k]), *avg_sq = data<T>(d.exp_avg_sq[k]);
      T* max_sq = d.max_exp_avg_sq ? data<T>(d.max_exp_avg_sq[k]) : nullptr;
      const T* grad = data<T>(d.grad[k]);
      for_each(exec, numel(d.param[k]), [&](int64_t i) {
        double g = p.maximize ? -static_cast<double>(grad[i]) : grad[i];
        double w = param[i];
        if (p.decoupled) {
          w *= 1 - p.lr * p.weight_decay;
        } else if (p.weight_decay != 0) {
          g += p.weight_decay * w;
        }
        const double m = avg[i] + (g - avg[i]) * (1 - p.beta1);
        double v = p.beta2 * avg_sq[i] + (1 - p.beta2) * g * g;
        avg[i] = static_cast<T>(m);
        avg_sq[i] = static_cast<T>(v);
        if (max_sq) {
          if (!std::isnan(max_sq[i]) && !(v <= max_sq[i])) max_sq[i] = static_cast<T>(v);  // NaN stays
          v = max_sq[i];
        }
        param[i] = static_cast<T>(w - step_size * m / (std::sqrt(v) / root_correction + p.eps));
      });
    });
  }
  return Ran::kDone;
}

}  // namespace cnnext
