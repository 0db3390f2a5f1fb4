// What fused operations share that run a convolution in parts.
#pragma once

#include "core/desc.h"

namespace cnnext {

// Images [n0, n1) of a dense image.
Tensor images_of(const Tensor& t, int64_t n0, int64_t n1);

// A dense image in the convolution's format and dtype.
Tensor dense_image(int64_t N, int64_t C, int64_t H, int64_t W, const Conv2dDesc& like, void* data);

// Images [n0, n1) and rows [h0, h1) of a convolution's result.
struct ConvPart {
  int64_t n0, n1, h0, h1;
};
// The convolution that gives that part, in y, dense by itself.
Conv2dDesc conv_part(const Conv2dDesc& whole, const ConvPart& part, void* y);

}  // namespace cnnext
