// The 16-bit floats and vectors as kernels see them. Arithmetic is in float32: kernels convert on load and on
// store and nowhere else, so that a value that is only passed on (max-pool, copies) keeps its bits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cnnext/cnnext.h"
#if CNNEXT_CUDA_HOST
#include "core/half.h"
#endif

#define CNNEXT_DEVICE __device__ __forceinline__
// For what seldom runs: a call, whose registers cost the rest of the kernel nothing.
#define CNNEXT_DEVICE_CALL __device__ __attribute__((noinline))
#define CNNEXT_HOST_DEVICE __host__ __device__ __forceinline__

namespace cnnext::cuda {

struct float16 {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};

// N values that are loaded and stored at once.
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  T v[N];
  CNNEXT_HOST_DEVICE T& operator[](int i) { return v[i]; }
  CNNEXT_HOST_DEVICE const T& operator[](int i) const { return v[i]; }
};

// As many as fit into the widest access, 16 bytes.
template <class T>
constexpr int kWidest = 16 / static_cast<int>(sizeof(T));

template <class To, class From>
CNNEXT_HOST_DEVICE To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "bits_as keeps the size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// 16 bytes of values of which each word has one, in its lower bits.
template <class T>
CNNEXT_HOST_DEVICE Vec<T, 16 / sizeof(T)> joined(const uint32_t* bits) {
  uint32_t words[4];
  for (int i = 0; i < 4; ++i) words[i] = sizeof(T) == 4 ? bits[i] : bits[i * 2] | bits[i * 2 + 1] << 16;
  return bits_as<Vec<T, 16 / sizeof(T)>>(words);
}

CNNEXT_DEVICE float to_float(float value) { return value; }
CNNEXT_DEVICE float to_float(bfloat16 value) {
  return bits_as<float>(static_cast<uint32_t>(value.bits) << 16);
}
// Max-pool alone takes these.
CNNEXT_DEVICE float to_float(uint8_t value) { return value; }
CNNEXT_DEVICE float to_float(int8_t value) { return value; }

#if CNNEXT_CUDA_HOST
inline float to_float(float16 value) { return bits_as<cnnext::Float16>(value); }
template <class T>
T from_float(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else if constexpr (std::is_same_v<T, float16>) {
    return bits_as<float16>(cnnext::Float16(value));
  } else {
    return bits_as<bfloat16>(cnnext::BFloat16(value));
  }
}
#else
CNNEXT_DEVICE float to_float(float16 value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
}
// To the nearest, ties to even.
template <class T>
CNNEXT_DEVICE T from_float(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    T result;
    if constexpr (std::is_same_v<T, float16>) {
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    } else {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    }
    return result;
  }
}
#endif

template <class T, int N>
CNNEXT_DEVICE Vec<float, N> to_floats(const Vec<T, N>& value) {
  Vec<float, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result[i] = to_float(value[i]);
  return result;
}
template <class T, int N>
CNNEXT_DEVICE Vec<T, N> from_floats(const Vec<float, N>& value) {
  Vec<T, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result[i] = from_float<T>(value[i]);
  return result;
}

// Vectors of one value per channel (weights, statistics) come in float32 or in the image's own type; they are
// short, so the type is looked at as they are read.
CNNEXT_DEVICE float load_parameter(const void* data, int32_t dtype, int64_t at) {
  if (dtype == CNNEXT_FLOAT16) return to_float(static_cast<const float16*>(data)[at]);
  if (dtype == CNNEXT_BFLOAT16) return to_float(static_cast<const bfloat16*>(data)[at]);
  return static_cast<const float*>(data)[at];
}
CNNEXT_DEVICE void store_parameter(void* data, int32_t dtype, int64_t at, float value) {
  if (dtype == CNNEXT_FLOAT16) {
    static_cast<float16*>(data)[at] = from_float<float16>(value);
  } else if (dtype == CNNEXT_BFLOAT16) {
    static_cast<bfloat16*>(data)[at] = from_float<bfloat16>(value);
  } else {
    static_cast<float*>(data)[at] = value;
  }
}

}  // namespace cnnext::cuda
