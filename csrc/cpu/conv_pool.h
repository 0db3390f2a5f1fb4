// Convolution, ReLU and max-pool in one, strip by strip: some rows of the convolution, or some whole images,
// are computed into scratch that stays in a cache, and pooled from there.
#pragma once

#include "core/desc.h"

namespace cnnext {

// How a problem is cut; it follows from the shape alone.
struct ConvPoolStrips {
  int64_t images, rows;  // of a strip: whole images, or some rows of windows of one
  int64_t image_parts, row_parts;
  int64_t conv_rows;  // of the convolution under a strip, at most
  bool serial;        // a strip is one thread's task; else all threads share one strip after the other

  int64_t count() const { return image_parts * row_parts; }
};
ConvPoolStrips plan_conv_pool(const ConvPoolDesc& desc);
// Images whose gradients of the convolution's result are in scratch at a time.
int64_t conv_pool_backward_images(const ConvPoolDesc& desc);

// Images [n0, n1), windows' rows [p0, p1), and the rows [h0, h1) of the convolution that they read.
struct ConvPoolStrip {
  int64_t n0, n1, p0, p1, h0, h1;
  int64_t images() const { return n1 - n0; }
  int64_t rows() const { return p1 - p0; }
};
ConvPoolStrip conv_pool_strip(const ConvPoolDesc& desc, const ConvPoolStrips& strips, int64_t index);
ConvPoolStrip conv_pool_images(const ConvPoolDesc& desc, int64_t n0, int64_t n1);

// The strip's convolution, and its pool; inner: the rows between them. Results are the caller's to place.
Conv2dDesc strip_conv(const ConvPoolDesc& desc, const ConvPoolStrip& strip, void* inner);
Pool2dDesc strip_pool(const ConvPoolDesc& desc, const ConvPoolStrip& strip, void* inner);

// What weights and bias get from no images.
void zero_conv_pool_gradients(const ConvPoolDesc& desc);

}  // namespace cnnext
