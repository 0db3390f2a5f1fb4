// The optimisers' updates: all tensors of a call as one run, so that many small ones share a task.
#include <cmath>

#include "cpu/cpu.h"
#include "cpu/flat_tasks.h"
#include "cpu/ops_ukernels.h"

namespace cnnext {
namespace {

float* at(const Tensor* tensors, int64_t k, int64_t begin) {
  return tensors ? static_cast<float*>(tensors[k].data) + begin : nullptr;
}

bool all_float32(const Tensor* tensors, int64_t count) {
  return std::all_of(tensors, tensors + count, [](const Tensor& t) { return t.dtype == CNNEXT_FLOAT32; });
}

// body(k, begin, end) over pieces of tensors[k].
template <class Body>
void for_pieces(Exec& exec, const Tensor* tensors, int64_t count, const Body& body) {
  constexpr int64_t kChunk = kCheapChunk / 4;  // several arrays are read and written
  int64_t* ends = exec.scratch_array<int64_t>(count);
  int64_t total = 0;
  for (int64_t k = 0; k < count; ++k) ends[k] = total += numel(tensors[k]);
  for_chunks(exec, total, kChunk, [&](int64_t begin, int64_t end) {
    int64_t k = std::upper_bound(ends, ends + count, begin) - ends;
    while (begin < end) {
      const int64_t first = k ? ends[k - 1] : 0, stop = std::min(end, ends[k]);
      if (begin < stop) body(k, begin - first, stop - first);
      begin = stop;
      ++k;
    }
  });
}

}  // namespace

Ran cpu_sgd_step(const SgdDesc& d, Exec& exec) {
  if (!all_float32(d.param, d.count)) return Ran::kUnsupported;
  const cnnext_sgd_params& p = d.params;
  for_pieces(exec, d.param, d.count, [&](int64_t k, int64_t begin, int64_t end) {
    SgdArgs a{};
    a.param = at(d.param, k, begin);
    a.buffer = at(d.buffer, k, begin);
    a.grad = at(d.grad, k, begin);
    a.count = end - begin;
    a.lr = static_cast<float>(p.lr);
    a.momentum = static_cast<float>(p.momentum);
    a.damped = static_cast<float>(1 - p.dampening);
    a.weight_decay = static_cast<float>(p.weight_decay);
    a.sign = p.maximize ? -1.f : 1.f;
    a.nesterov = p.nesterov != 0;
    a.first_step = p.first_step != 0;
    ops_ukernels().elementwise.sgd(a);
  });
  exec.ran(CNNEXT_KERNEL_NAME("sgd_step"));
  return Ran::kDone;
}

Ran cpu_adam_step(const AdamDesc& d, Exec& exec) {
  if (!all_float32(d.param, d.count)) return Ran::kUnsupported;
  const cnnext_adam_params& p = d.params;
  const double step = static_cast<double>(p.step);
  AdamArgs settings{};
  settings.step_size = static_cast<float>(p.lr / (1 - std::pow(p.beta1, step)));
  settings.beta1_rest = static_cast<float>(1 - p.beta1);
  settings.beta2 = static_cast<float>(p.beta2);
  settings.beta2_rest = static_cast<float>(1 - p.beta2);
  settings.root_correction = static_cast<float>(std::sqrt(1 - std::pow(p.beta2, step)));
  settings.eps = static_cast<float>(p.eps);
  settings.weight_decay = p.decoupled ? 0.f : static_cast<float>(p.weight_decay);
  settings.decay = p.decoupled ? static_cast<float>(1 - p.lr * p.weight_decay) : 1.f;
  settings.sign = p.maximize ? -1.f : 1.f;
  for_pieces(exec, d.param, d.count, [&](int64_t k, int64_t begin, int64_t end) {
    AdamArgs a = settings;
    a.param = at(d.param, k, begin);
    a.avg = at(d.exp_avg, k, begin);
    a.avg_sq = at(d.exp_avg_sq, k, begin);
    a.max_sq = at(d.max_exp_avg_sq, k, begin);
    a.grad = at(d.grad, k, begin);
    a.count = end - begin;
    ops_ukernels().elementwise.adam(a);
  });
  exec.ran(CNNEXT_KERNEL_NAME("adam_step"));
  return Ran::kDone;
}

}  // namespace cnnext
