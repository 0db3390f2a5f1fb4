// The optimisers' updates of all parameters in one launch: the list of tensors travels in the kernel's
// arguments, and a block finds its tensor by the number of its first chunk. More tensors than fit take
// further launches. 16 bytes at a time where all of a tensor's addresses are aligned to them.
#include <cmath>

#include "cuda/launch.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {
namespace {

constexpr int kMostTensors = 400;
constexpr int64_t kChunk = kBlock * 16;  // elements of a block

struct Tensors {
  void *param, *state[3];  // SGD: the buffer; Adam: exp_avg, exp_avg_sq, max_exp_avg_sq; null where absent
  const void* grad;
  int64_t count;
  int32_t dtype;
  bool wide;  // all of them are aligned to 16 bytes
};
struct TensorList {
  Tensors tensors[kMostTensors];
  int32_t first_chunk[kMostTensors + 1];
  int32_t count;
};
static_assert(sizeof(TensorList) < 32000, "kernel arguments have 32,764 bytes");

struct SgdUpdate {
  float lr, momentum, gain, weight_decay;  // gain: 1 - dampening
  bool nesterov, maximize, first_step;

  CNNEXT_DEVICE void operator()(float& param, float grad, float (&state)[3], bool has_buffer) const {
    float g = maximize ? -grad : grad;
    if (weight_decay != 0) g += weight_decay * param;
    if (has_buffer) {
      state[0] = first_step ? g : momentum * state[0] + gain * g;
      g = nesterov ? g + momentum * state[0] : state[0];
    }
    param -= lr * g;
  }
};

struct AdamUpdate {
  float beta2, gain1, gain2, eps, weight_decay, decay_factor, step_size, root_correction;
  bool decoupled, maximize, has_max;

  CNNEXT_DEVICE void operator()(float& param, float grad, float (&state)[3], bool) const {
    float g = maximize ? -grad : grad;
    if (decoupled) {
      param *= decay_factor;
    } else if (weight_decay != 0) {
      g += weight_decay * param;
    }
    state[0] += (g - state[0]) * gain1;
    state[1] = beta2 * state[1] + gain2 * g * g;
    float v = state[1];
    if (has_max) {
      if (state[2] == state[2] && !(v <= state[2])) state[2] = v;  // NaN stays
      v = state[2];
    }
    param -= step_size * state[0] / (sqrtf(v) / root_correction + eps);
  }
};

// The V elements at i.
template <class T, int V, class Update>
CNNEXT_DEVICE void update_at(const Tensors& t, int64_t i, const Update& update) {
  Vec<float, V> param = to_floats(load<V>(static_cast<const T*>(t.param) + i)), state[3] = {};
  const Vec<float, V> grad = to_floats(load<V>(static_cast<const T*>(t.grad) + i));
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    if (t.state[k]) state[k] = to_floats(load<V>(static_cast<const T*>(t.state[k]) + i));
  }
#pragma unroll
  for (int j = 0; j < V; ++j) {
    float of_one[3] = {state[0][j], state[1][j], state[2][j]};
    update(param[j], grad[j], of_one, t.state[0] != nullptr);
#pragma unroll
    for (int k = 0; k < 3; ++k) state[k][j] = of_one[k];
  }
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    if (t.state[k]) store(static_cast<T*>(t.state[k]) + i, from_floats<T>(state[k]));
  }
  store(static_cast<T*>(t.param) + i, from_floats<T>(param));
}

template <class T, class Update>
CNNEXT_DEVICE void update_chunk(const Tensors& t, int64_t begin, const Update& update) {
  constexpr int V = kWidest<T>;
  const int64_t end = least(begin + kChunk, t.count);
  if (t.wide) {
    for (int64_t i = begin + threadIdx.x * V; i + V <= end; i += kBlock * V) update_at<T, V>(t, i, update);
    begin += (end - begin) / V * V;
  }
  for (int64_t i = begin + threadIdx.x; i < end; i += kBlock) update_at<T, 1>(t, i, update);
}

template <class Update>
__global__ void __launch_bounds__(kBlock) update_all(const __grid_constant__ TensorList list, Update update) {
  const int32_t chunk = static_cast<int32_t>(blockIdx.x);
  int low = 0, high = list.count;  // the last tensor whose first chunk is not behind this one
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (list.first_chunk[middle] <= chunk ? low : high) = middle;
  }
  const Tensors& t = list.tensors[low];
  const int64_t begin = (chunk - list.first_chunk[low]) * kChunk;
  if (t.dtype == CNNEXT_FLOAT16) {
    update_chunk<float16>(t, begin, update);
  } else if (t.dtype == CNNEXT_BFLOAT16) {
    update_chunk<bfloat16>(t, begin, update);
  } else {
    update_chunk<float>(t, begin, update);
  }
}

int64_t size_of(const Tensor& t) {
  int64_t size = 1;
  for (int i = 0; i < t.ndim; ++i) size *= t.shape[i];
  return size;
}

// Launches whenever the list is full, and for the rest. next(k) describes tensor k.
template <class Update, class Next>
Ran update_tensors(const Op& op, const char* kernel, int64_t count, const Tensor* params,
                   const Update& update, const Next& next) {
  for (int64_t k = 0; k < count; ++k) {
    if (!dispatch_float(params[k].dtype, [](auto) {})) return Ran::kUnsupported;
  }
  TensorList list{};
  const auto flush = [&] {
    if (list.count > 0) launch_flat(op, update_all<Update>, list.first_chunk[list.count], list, update);
    list.count = 0;
  };
  for (int64_t k = 0; k < count; ++k) {
    Tensors t = next(k);
    t.param = params[k].data;
    t.count = size_of(params[k]);
    t.dtype = params[k].dtype;
    t.wide = true;
    for (const void* pointer :
         {static_cast<const void*>(t.param), t.grad, static_cast<const void*>(t.state[0]),
          static_cast<const void*>(t.state[1]), static_cast<const void*>(t.state[2])}) {
      t.wide = t.wide && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
    }
    if (t.count == 0) continue;
    const int64_t chunks = ceil_div(t.count, kChunk);
    if (chunks > INT32_MAX) return Ran::kUnsupported;
    if (list.count == kMostTensors || list.first_chunk[list.count] + chunks > INT32_MAX) flush();
    list.tensors[list.count] = t;
    list.first_chunk[list.count + 1] = list.first_chunk[list.count] + static_cast<int32_t>(chunks);
    ++list.count;
  }
  flush();
  return op.done(kernel);
}

}  // namespace

Ran sgd_step(const SgdDesc& d, Exec& exec) {
  if (d.count == 0) return Ran::kDone;
  const cnnext_sgd_params& p = d.params;
  const SgdUpdate update{static_cast<float>(p.lr),
                         static_cast<float>(p.momentum),
                         static_cast<float>(1 - p.dampening),
                         static_cast<float>(p.weight_decay),
                         p.nesterov != 0,
                         p.maximize != 0,
                         p.first_step != 0};
  return update_tensors({"sgd_step", exec, d.param[0]}, "cuda/sgd_step", d.count, d.param, update,
                        [&](int64_t k) {
                          Tensors t{};
                          t.grad = d.grad[k].data;
                          if (d.buffer) t.state[0] = d.buffer[k].data;
                          return t;
                        });
}

Ran adam_step(const AdamDesc& d, Exec& exec) {
  if (d.count == 0) return Ran::kDone;
  const cnnext_adam_params& p = d.params;
  const double step = static_cast<double>(p.step);
  const AdamUpdate update{static_cast<float>(p.beta2),
                          static_cast<float>(1 - p.beta1),
                          static_cast<float>(1 - p.beta2),
                          static_cast<float>(p.eps),
                          static_cast<float>(p.weight_decay),
                          static_cast<float>(1 - p.lr * p.weight_decay),
                          static_cast<float>(p.lr / (1 - std::pow(p.beta1, step))),
                          static_cast<float>(std::sqrt(1 - std::pow(p.beta2, step))),
                          p.decoupled != 0,
                          p.maximize != 0,
                          d.max_exp_avg_sq != nullptr};
  return update_tensors({"adam_step", exec, d.param[0]}, "cuda/adam_step", d.count, d.param, update,
                        [&](int64_t k) {
                          Tensors t{};
                          t.grad = d.grad[k].data;
                          t.state[0] = d.exp_avg[k].data;
                          t.state[1] = d.exp_avg_sq[k].data;
                          if (d.max_exp_avg_sq) t.state[2] = d.max_exp_avg_sq[k].data;
                          return t;
                        });
}

}  // namespace cnnext::cuda
