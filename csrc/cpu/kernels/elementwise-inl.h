// See elementwise.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/activation-inl.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/philox-inl.h"
#include "cpu/simd/ivec.h"

namespace cnnext {
namespace {

// y[i] = op(vectors at i): op(i, load) with load(p) reading a whole vector or a tail of one.
struct LoadVector {
  inline Vec operator()(const float* p) const { return Vec::load(p); }
};
struct LoadTail {
  int n;
  inline Vec operator()(const float* p) const { return Vec::load_tail(p, n); }
};

// After streaming, the kernel ends with a stream_fence().
template <class Op>
inline void run_flat(float* y, int64_t count, bool stream, const Op& op) {
  constexpr int L = Vec::kLanes;
  int64_t i = 0;
  if (stream) {
    const int head = static_cast<int>((0 - reinterpret_cast<uintptr_t>(y) / sizeof(float)) & (L - 1));
    if (head && head <= count) {
      op(0, LoadTail{head}).store_tail(y, head);
      i = head;
    }
    for (; i + L <= count; i += L) op(i, LoadVector{}).stream(y + i);
  } else {
    for (; i + 4 * L <= count; i += 4 * L) {
      const Vec a = op(i, LoadVector{}), b = op(i + L, LoadVector{});
      const Vec c = op(i + 2 * L, LoadVector{}), d = op(i + 3 * L, LoadVector{});
      a.store(y + i);
      b.store(y + i + L);
      c.store(y + i + 2 * L);
      d.store(y + i + 3 * L);
    }
    for (; i + L <= count; i += L) op(i, LoadVector{}).store(y + i);
  }
  if (i < count) {
    const int left = static_cast<int>(count - i);
    op(i, LoadTail{left}).store_tail(y + i, left);
  }
}

template <int kKind>
void flat_forward(const FlatArgs& a) {
  run_flat(a.y, a.count, a.stream,
           [&](int64_t i, auto load) { return activate_vector(kKind, a.alpha, load(a.a + i)); });
  if (a.stream) stream_fence();
}

// The gradient with respect to x, as ref's derivative(); a comparison that NaN fails keeps the gradient.
template <class V>
inline V gradient_vector(int32_t kind, float alpha, V grad, V x) {
  const V zero = V::zero(), one = V::set1(1.f);
  switch (kind) {
    case CNNEXT_ACT_RELU:
      return select(le(x, zero), zero, grad);
    case CNNEXT_ACT_RELU6:
      return select(le(V::set1(6.f), x), zero, select(le(x, zero), zero, grad));
    case CNNEXT_ACT_LEAKY_RELU:
      return select(lt(zero, x), grad, grad * V::set1(alpha));
    case CNNEXT_ACT_GELU: {
      const V density = exponential(x * x * V::set1(-0.5f)) * V::set1(0.39894228f);
      return grad * fma(x, density, normal_integral(x));
    }
    case CNNEXT_ACT_GELU_TANH: {
      // s = 0.5 (1 + tanh(u)) = sigmoid(2u); its derivative is 2 s (1 - s) du/dx.
      const V square = min(V::set1(1e30f), x * x);
      const V u2 = V::set1(1.59576912f) * (x * fma(square, V::set1(0.044715f), one));
      const V s = sigmoid(u2), rest = sigmoid(zero - u2);
      const V slope = V::set1(1.59576912f) * fma(square, V::set1(3 * 0.044715f), one);
      return grad * fma(x * (s * rest), slope, s);
    }
    case CNNEXT_ACT_SILU: {
      const V s = sigmoid(x);
      return grad * (s * fma(x, sigmoid(zero - x), one));
    }
    case CNNEXT_ACT_SIGMOID:
      return grad * (sigmoid(x) * sigmoid(zero - x));
    default: {  // 1 - tanh(x)^2 = 4 s (1 - s) at 2x, without the cancellation
      const V twice = x + x;
      return grad * (V::set1(4.f) * (sigmoid(twice) * sigmoid(zero - twice)));
    }
  }
}

template <int kKind>
void flat_backward(const FlatArgs& a) {
  run_flat(a.y, a.count, a.stream, [&](int64_t i, auto load) {
    return gradient_vector(kKind, a.alpha, load(a.b + i), load(a.a + i));
  });
  if (a.stream) stream_fence();
}

void flat_add(const FlatArgs& a) {
  run_flat(a.y, a.count, a.stream, [&](int64_t i, auto load) { return load(a.a + i) + load(a.b + i); });
  if (a.stream) stream_fence();
}

// ---- optimisers ----

// body(i, load, store) over vectors and the tail.
struct StoreVector {
  inline void operator()(Vec v, float* p) const { v.store(p); }
};
struct StoreTail {
  int n;
  inline void operator()(Vec v, float* p) const { v.store_tail(p, n); }
};

template <class Body>
inline void for_vectors(int64_t count, const Body& body) {
  constexpr int L = Vec::kLanes;
  int64_t i = 0;
  for (; i + L <= count; i += L) body(i, LoadVector{}, StoreVector{});
  if (i < count) {
    const int left = static_cast<int>(count - i);
    body(i, LoadTail{left}, StoreTail{left});
  }
}

template <bool kMomentum>
void sgd_as(const SgdArgs& a) {
  const Vec minus_lr = Vec::set1(-a.lr), momentum = Vec::set1(a.momentum), damped = Vec::set1(a.damped);
  const Vec weight_decay = Vec::set1(a.weight_decay), sign = Vec::set1(a.sign);
  for_vectors(a.count, [&](int64_t i, auto load, auto store) {
    const Vec w = load(a.param + i);
    Vec g = load(a.grad + i) * sign;
    if (a.weight_decay != 0.f) g = fma(w, weight_decay, g);
    if (kMomentum) {
      const Vec b = a.first_step ? g : fma(g, damped, load(a.buffer + i) * momentum);
      store(b, a.buffer + i);
      g = a.nesterov ? fma(b, momentum, g) : b;
    }
    store(fma(g, minus_lr, w), a.param + i);
  });
}

void sgd(const SgdArgs& a) { a.buffer ? sgd_as<true>(a) : sgd_as<false>(a); }

void adam(const AdamArgs& a) {
  const Vec beta1_rest = Vec::set1(a.beta1_rest), beta2 = Vec::set1(a.beta2);
  const Vec beta2_rest = Vec::set1(a.beta2_rest), minus_step = Vec::set1(-a.step_size);
  const Vec root = Vec::set1(a.root_correction), eps = Vec::set1(a.eps), sign = Vec::set1(a.sign);
  const Vec decay = Vec::set1(a.decay), weight_decay = Vec::set1(a.weight_decay);
  for_vectors(a.count, [&](int64_t i, auto load, auto store) {
    Vec w = load(a.param + i) * decay;
    Vec g = load(a.grad + i) * sign;
    if (a.weight_decay != 0.f) g = fma(w, weight_decay, g);
    const Vec old = load(a.avg + i), m = fma(g - old, beta1_rest, old);
    Vec v = fma(g * g, beta2_rest, load(a.avg_sq + i) * beta2);
    store(m, a.avg + i);
    store(v, a.avg_sq + i);
    if (a.max_sq) {
      const Vec most = load(a.max_sq + i);
      v = select(is_nan(most), most, select(le(v, most), most, v));
      store(v, a.max_sq + i);
    }
    store(fma(m / (sqrt(v) / root + eps), minus_step, w), a.param + i);
  });
}

// ---- dropout ----

// Words are unsigned and compared as such: both sides less 2^31.
void dropout(const DropoutArgs& a) {
  constexpr int L = Vec::kLanes;
  const Vec scale = Vec::set1(a.scale);
  if (a.threshold == 0) {
    run_flat(a.y, a.count, false, [&](int64_t i, auto load) { return load(a.x + i) * scale; });
    return;
  }
  const int32_t last_dropped = static_cast<int32_t>(static_cast<uint32_t>(a.threshold - 1) ^ 0x80000000u);
  const IVec limit = IVec::set1(last_dropped), flip = IVec::set1(INT32_MIN);
  int64_t i = 0;
  for (; i + L <= a.count; i += L) {
    const IVec word = IVec::load(reinterpret_cast<const int32_t*>(a.words + i)) + flip;
    (Vec::load(a.x + i) * select(gt(word, limit), scale, Vec::zero())).store(a.y + i);
  }
  for (; i < a.count; ++i) a.y[i] = a.x[i] * (a.words[i] >= a.threshold ? a.scale : 0.f);
}

constexpr ElementwiseUkernels kElementwiseUkernels = {
    {nullptr, flat_forward<1>, flat_forward<2>, flat_forward<3>, flat_forward<4>, flat_forward<5>,
     flat_forward<6>, flat_forward<7>, flat_forward<8>},
    {nullptr, flat_backward<1>, flat_backward<2>, flat_backward<3>, flat_backward<4>, flat_backward<5>,
     flat_backward<6>, flat_backward<7>, flat_backward<8>},
    flat_add,
    sgd,
    adam,
    philox_words,
    dropout};

}  // namespace
}  // namespace cnnext
