// The activations by vectors. NaN stays NaN: the second operand of min and max is the one that is kept. The
// including file has chosen Vec.
#pragma once

#include "cnnext/cnnext.h"
#include "cpu/kernels/activation.h"

namespace cnnext {
namespace {

// Horner's scheme, highest coefficient first.
template <class V, int kCount>
inline V polynomial(V x, const float (&c)[kCount]) {
  V sum = V::set1(c[0]);
#pragma GCC unroll 16
  for (int i = 1; i < kCount; ++i) sum = fma(sum, x, V::set1(c[i]));
  return sum;
}

// e^x = 2^n * e^r with |r| <= ln(2) / 2, ln(2) in two parts. Results below the normal range keep their few
// bits.
template <class V>
inline V exponential(V x) {
  constexpr float kTerms[] = {1.98756915e-4f, 1.39819995e-3f, 8.33345193e-3f,
                              4.16657959e-2f, 1.66666657e-1f, 5.00000000e-1f};
  x = min(V::set1(89.f), max(V::set1(-104.f), x));
  const V n = round_even(x * V::set1(1.44269504f));
  V r = fma(n, V::set1(-0.693359375f), x);
  r = fma(n, V::set1(2.12194440e-4f), r);
  const V p = fma(polynomial(r, kTerms), r * r, r + V::set1(1.f));
  return times_pow2(p, n);
}

template <class V>
inline V sigmoid(V x) {
  const V e = exponential(V::zero() - abs(x));  // of -|x|, so that neither end loses bits
  const V s = V::set1(1.f) / (e + V::set1(1.f));
  return select(lt(x, V::zero()), e * s, s);
}

template <class V>
inline V hyperbolic_tangent(V x) {
  constexpr float kTerms[] = {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f,
                              -3.33332819422e-1f};
  const V square = x * x, magnitude = abs(x);
  const V small = fma(polynomial(square, kTerms) * square, x, x);
  const V e = exponential(magnitude * V::set1(-2.f));
  const V large = (V::set1(1.f) - e) / (V::set1(1.f) + e);
  const V signed_large = select(lt(x, V::zero()), V::zero() - large, large);
  return select(lt(magnitude, V::set1(0.625f)), small, signed_large);
}

// The normal distribution's integral up to x, by erfc(z) = t * exp(-z^2) * polynomial(t), t = 1 / (1 + 0.35
// z).
template <class V>
inline V normal_integral(V x) {
  constexpr float kTerms[] = {0.03908279538f, -0.16273625195f, 0.19069616497f, -0.04044605047f,
                              0.09801763296f, 0.13989149034f,  0.15341015160f, 0.18740186095f,
                              0.19720189273f, 0.19748032093f};
  const V z = min(V::set1(20.f), abs(x) * V::set1(0.70710678f));  // beyond, e^(-z^2) is 0
  const V t = V::set1(1.f) / fma(z, V::set1(0.35f), V::set1(1.f));
  const V square = z * z;
  const V rest = fma(z, z, V::zero() - square);  // what rounding took from the square
  const V e = exponential(V::zero() - square);
  const V erfc = t * polynomial(t, kTerms) * fma(V::zero() - e, rest, e);
  const V half = V::set1(0.5f) * erfc;
  return select(lt(x, V::zero()), half, V::set1(1.f) - half);
}

template <class V>
inline V gelu(V x) {
  return x * normal_integral(x);
}

// 0.5 (1 + tanh(u)) is sigmoid(2 u).
template <class V>
inline V gelu_by_tanh(V x) {
  const V cube = x * x * x;
  return x * sigmoid(V::set1(1.59576912f) * fma(cube, V::set1(0.044715f), x));
}

template <class V>
inline V activate_vector(int32_t kind, float alpha, V x) {
  switch (kind) {
    case CNNEXT_ACT_RELU:
      return max(V::zero(), x);
    case CNNEXT_ACT_RELU6:
      return min(V::set1(6.f), max(V::zero(), x));
    case CNNEXT_ACT_LEAKY_RELU:
      return select(lt(x, V::zero()), x * V::set1(alpha), x);
    case CNNEXT_ACT_GELU:
      return gelu(x);
    case CNNEXT_ACT_GELU_TANH:
      return gelu_by_tanh(x);
    case CNNEXT_ACT_SILU:
      return x * sigmoid(x);
    case CNNEXT_ACT_SIGMOID:
      return sigmoid(x);
    case CNNEXT_ACT_TANH:
      return hyperbolic_tangent(x);
    default:
      return x;
  }
}

[[maybe_unused]] void activate(int32_t kind, float alpha, const float* x, float* y, int64_t count) {
  constexpr int L = Vec::kLanes;
  int64_t i = 0;
  for (; i + L <= count; i += L) activate_vector(kind, alpha, Vec::load(x + i)).store(y + i);
  if (i < count) {
    const int left = static_cast<int>(count - i);
    activate_vector(kind, alpha, Vec::load_tail(x + i, left)).store_tail(y + i, left);
  }
}

}  // namespace
}  // namespace cnnext
