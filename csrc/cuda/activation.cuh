// The activations and their derivatives in float32, as ref/activation.h has them in double: comparisons are
// written so that NaN falls through to the branch that keeps it.
#pragma once

#include "cuda/device_utils.cuh"

namespace cnnext::cuda {

constexpr float kInvSqrt2 = 0.70710678118654752440f;
constexpr float kInvSqrt2Pi = 0.39894228040143267794f;
constexpr float kSqrt2OverPi = 0.79788456080286535588f;

CNNEXT_DEVICE float sigmoid(float x) { return 1 / (1 + expf(-x)); }

CNNEXT_DEVICE float activate(int32_t kind, float alpha, float x) {
  switch (kind) {
    case CNNEXT_ACT_RELU:
      return x < 0 ? 0 : x;
    case CNNEXT_ACT_RELU6:
      return x < 0 ? 0 : x > 6 ? 6 : x;
    case CNNEXT_ACT_LEAKY_RELU:
      return x > 0 ? x : x * alpha;
    case CNNEXT_ACT_GELU:  // erfc keeps the tail's digits
      return 0.5f * x * erfcf(-x * kInvSqrt2);
    case CNNEXT_ACT_GELU_TANH:
      return 0.5f * x * (1 + tanhf(kSqrt2OverPi * (x + 0.044715f * x * x * x)));
    case CNNEXT_ACT_SILU:
      return x / (1 + expf(-x));
    case CNNEXT_ACT_SIGMOID:
      return sigmoid(x);
    case CNNEXT_ACT_TANH:
      return tanhf(x);
    default:
      return x;
  }
}

// All of a vector: code for ReLU, and one value after another for what is longer.
template <int V>
CNNEXT_DEVICE void activate_all(int32_t kind, float alpha, Vec<float, V>* values) {
  if (kind == CNNEXT_ACT_NONE) return;
  if (V == 1 || kind == CNNEXT_ACT_RELU) {
#pragma unroll
    for (int i = 0; i < V; ++i) (*values)[i] = activate(V == 1 ? kind : CNNEXT_ACT_RELU, alpha, (*values)[i]);
    return;
  }
  Vec<float, V> copy = *values;  // in memory, since it is indexed; the others stay in registers
#pragma unroll 1
  for (int i = 0; i < V; ++i) copy[i] = activate(kind, alpha, copy[i]);
  *values = copy;
}

// The relu family selects the gradient instead of multiplying it, so that an infinite gradient at a dead
// element gives 0.
CNNEXT_DEVICE float activation_gradient(int32_t kind, float alpha, float grad, float x) {
  switch (kind) {
    case CNNEXT_ACT_RELU:
      return x <= 0 ? 0 : grad;
    case CNNEXT_ACT_RELU6:
      return x <= 0 || x >= 6 ? 0 : grad;
    case CNNEXT_ACT_LEAKY_RELU:
      return grad * (x > 0 ? 1 : alpha);
    case CNNEXT_ACT_GELU:
      return grad * (0.5f * erfcf(-x * kInvSqrt2) + x * kInvSqrt2Pi * expf(-0.5f * x * x));
    case CNNEXT_ACT_GELU_TANH: {
      const float t = tanhf(kSqrt2OverPi * (x + 0.044715f * x * x * x));
      return grad * (0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kSqrt2OverPi * (1 + 3 * 0.044715f * x * x));
    }
    case CNNEXT_ACT_SILU: {
      const float s = sigmoid(x);
      return grad * (s * (1 + x * (1 - s)));
    }
    case CNNEXT_ACT_SIGMOID: {
      const float s = sigmoid(x);
      return grad * (s * (1 - s));
    }
    case CNNEXT_ACT_TANH: {
      const float t = tanhf(x);
      return grad * (1 - t * t);
    }
    default:
      return grad;
  }
}

}  // namespace cnnext::cuda
