// What the channels drivers need to know of the elements of images (E) and of what their kernels read (K):
// floats, or 16 bits where channels-last images are read as they lie. Planes of 16 bits are widened on their
// way into strips.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/desc.h"
#include "cpu/ukernels.h"

namespace cnnext {

template <class E>
constexpr bool kIsFloat = std::is_same_v<E, float>;

template <class E>
const DepthwiseHalfKernels<E>& depthwise_half_kernels() {
  if constexpr (std::is_same_v<E, Float16Bits>)
    return depthwise_half_ukernels()->float16;
  else
    return bf16_ukernels() ? bf16_ukernels()->depthwise : depthwise_half_ukernels()->bfloat16;
}

template <class K>
const DepthwiseChannelsUkernels<K>& depthwise_channels_kernels() {
  if constexpr (kIsFloat<K>)
    return ukernels().depthwise.channels;
  else
    return depthwise_half_kernels<K>().channels;
}

// Calls run(E, K) with values of those types.
template <class Run>
void with_depthwise_elements(int32_t dtype, Format format, const Run& run) {
  const bool planes = format == Format::kNCHW;
  if (dtype == CNNEXT_FLOAT16)
    planes ? run(Float16Bits{}, float{}) : run(Float16Bits{}, Float16Bits{});
  else if (dtype == CNNEXT_BFLOAT16)
    planes ? run(Bfloat16Bits{}, float{}) : run(Bfloat16Bits{}, Bfloat16Bits{});
  else
    run(float{}, float{});
}

// Floats of scratch for so many elements.
template <class K>
int64_t scratch_floats_of(int64_t elements) {
  return (elements * static_cast<int64_t>(sizeof(K)) + 63) / 64 * 16;
}

// `count` channels of some neighbouring pixels into a strip whose pixels lie out_step elements apart; `step`
// is from a plane to the next, or from a pixel. Of planes, channels up to whole vectors become zero.
template <class E, class K>
void depthwise_load_strip(bool planes, int64_t count, int64_t pixels, const E* in, int64_t step, K* out,
                          int64_t out_step) {
  if constexpr (kIsFloat<E>) {
    const ConvWeightsUkernels& movers = ukernels().conv_weights;
    planes ? movers.transpose_padded(count, pixels, in, step, out, out_step)
           : movers.copy_rows(pixels, count, in, step, out, out_step);
  } else if constexpr (kIsFloat<K>) {
    depthwise_half_kernels<E>().to_strip(count, pixels, in, step, out, out_step);
  } else {
    for (int64_t i = 0; i < pixels; ++i, in += step, out += out_step)
      std::memcpy(out, in, static_cast<size_t>(count) * sizeof(E));
  }
}

}  // namespace cnnext
