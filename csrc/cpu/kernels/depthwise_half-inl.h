// Depthwise on 16-bit images: the kernels of depthwise.h, and planes into strips of floats and back.
#pragma once

#include "cpu/kernels/depthwise-inl.h"

namespace cnnext {
namespace {

// One block of up to kLanes channels and pixels.
template <class V, class E>
inline void depthwise_to_strip_block(int channels, int pixels, const E* in, int64_t plane, float* out,
                                     int64_t out_step) {
  constexpr int L = V::kLanes;
  V block[L];
  if (pixels == L) {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) block[i] = i < channels ? load_lanes<V>(in + i * plane) : V::zero();
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      block[i] = i < channels ? load_lanes_tail<V>(in + i * plane, pixels) : V::zero();
  }
  transpose(block);
#pragma GCC unroll 16
  for (int j = 0; j < L; ++j) {
    if (j >= pixels) break;
    block[j].store(out + j * out_step);
  }
}

template <class V, class E>
inline void depthwise_from_strip_block(int channels, int pixels, const float* in, int64_t in_step, E* out,
                                       int64_t plane) {
  constexpr int L = V::kLanes;
  V block[L];
#pragma GCC unroll 16
  for (int j = 0; j < L; ++j) block[j] = j < pixels ? V::load(in + j * in_step) : V::zero();
  transpose(block);
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) {
    if (i >= channels) break;
    if (pixels == L)
      store_lanes(block[i], out + i * plane);
    else
      store_lanes_tail(block[i], out + i * plane, pixels);
  }
}

inline int depthwise_part(int64_t left, int most) { return left < most ? static_cast<int>(left) : most; }

template <class V, class E>
void depthwise_to_strip(int64_t channels, int64_t pixels, const E* in, int64_t plane, float* out,
                        int64_t out_step) {
  constexpr int L = V::kLanes;
  for (int64_t p = 0; p < pixels; p += L) {
    for (int64_t c = 0; c < channels; c += L) {
      depthwise_to_strip_block<V>(depthwise_part(channels - c, L), depthwise_part(pixels - p, L),
                                  in + c * plane + p, plane, out + p * out_step + c, out_step);
    }
  }
}

template <class V, class E>
void depthwise_from_strip(int64_t channels, int64_t pixels, const float* in, int64_t in_step, E* out,
                          int64_t plane) {
  constexpr int L = V::kLanes;
  for (int64_t p = 0; p < pixels; p += L) {
    for (int64_t c = 0; c < channels; c += L) {
      depthwise_from_strip_block<V>(depthwise_part(channels - c, L), depthwise_part(pixels - p, L),
                                    in + p * in_step + c, in_step, out + c * plane + p, plane);
    }
  }
}

template <class V, class E>
void depthwise_stream(int64_t n, const E* in, E* out) {
  constexpr int kValues = V::kLanes * 4 / sizeof(E);
  for (int64_t i = 0; i < n; i += kValues)
    V::load(reinterpret_cast<const float*>(in + i)).stream(reinterpret_cast<float*>(out + i));
}

template <class V, class E>
constexpr DepthwiseHalfKernels<E> depthwise_half_kernels() {
  return {depthwise_channels_ukernels<V, E>(), depthwise_to_strip<V, E>, depthwise_from_strip<V, E>,
          depthwise_stream<V, E>};
}

}  // namespace
}  // namespace cnnext
