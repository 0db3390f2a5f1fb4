#include "cpu/conv_part.h"

#include <algorithm>

namespace cnnext {

Tensor images_of(const Tensor& t, int64_t n0, int64_t n1) {
  Tensor part = t;
  part.shape[0] = n1 - n0;
  part.data = static_cast<char*>(t.data) + n0 * t.shape[1] * t.shape[2] * t.shape[3] * dtype_size(t.dtype);
  return part;
}

Tensor dense_image(int64_t N, int64_t C, int64_t H, int64_t W, const Conv2dDesc& like, void* data) {
  Tensor t{};
  t.data = data;
  t.dtype = like.dtype;
  t.ndim = 4;
  t.device_type = CNNEXT_CPU;
  const int64_t shape[] = {N, C, H, W};
  std::copy(shape, shape + 4, t.shape);
  set_format(&t, like.format);
  return t;
}

// Rows of the result that begin elsewhere read an image with other padding, less than none for rows further
// down: the drivers only ever add it.
Conv2dDesc conv_part(const Conv2dDesc& whole, const ConvPart& part, void* y) {
  Conv2dDesc c = whole;
  c.N = part.n1 - part.n0;
  c.P = part.h1 - part.h0;
  c.pad_top -= part.h0 * c.stride_h;
  c.pad_bottom = (c.P - 1) * c.stride_h + (c.R - 1) * c.dilation_h + 1 - c.H - c.pad_top;
  if (c.P == 1) c.stride_h = 1;
  c.x = images_of(whole.x, part.n0, part.n1);
  c.y = dense_image(c.N, c.K, c.P, c.Q, c, y);
  return c;
}

}  // namespace cnnext
