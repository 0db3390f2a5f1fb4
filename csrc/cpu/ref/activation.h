// The activations in double: what every fused epilogue and every vector kernel is measured against.
#pragma once

#include <cmath>
#include <cstdint>

#include "cnnext/cnnext.h"

namespace cnnext {

// Comparisons are written so that NaN falls through to the branch that keeps it.
inline double ref_activate(int32_t kind, double alpha, double x) {
  constexpr double kInvSqrt2 = 0.70710678118654752440;
  constexpr double kSqrt2OverPi = 0.79788456080286535588;
  switch (kind) {
    case CNNEXT_ACT_RELU:
      return x < 0 ? 0 : x;
    case CNNEXT_ACT_RELU6:
      return x < 0 ? 0 : x > 6 ? 6 : x;
    case CNNEXT_ACT_LEAKY_RELU:
      return x > 0 ? x : x * alpha;
    case CNNEXT_ACT_GELU:
      return 0.5 * x * (1 + std::erf(x * kInvSqrt2));
    case CNNEXT_ACT_GELU_TANH:
      return 0.5 * x * (1 + std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x)));
    case CNNEXT_ACT_SILU:
      return x / (1 + std::exp(-x));
    case CNNEXT_ACT_SIGMOID:
      return 1 / (1 + std::exp(-x));
    case CNNEXT_ACT_TANH:
      return std::tanh(x);
    default:
      return x;
  }
}

}  // namespace cnnext
