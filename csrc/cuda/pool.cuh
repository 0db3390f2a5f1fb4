// What all pools share: their geometry, and where images lie in memory.
#pragma once

#include "cuda/launch.cuh"

namespace cnnext::cuda {

struct PoolShape {
  WindowAxis rows, columns;
  int64_t N, C;

  explicit PoolShape(const Pool2dDesc& d)
      : rows{d.H, d.P, d.R, d.pad_top, d.pad_bottom, FastDivisor(d.stride_h), FastDivisor(d.dilation_h)},
        columns{d.W, d.Q, d.S, d.pad_left, d.pad_right, FastDivisor(d.stride_w), FastDivisor(d.dilation_w)},
        N(d.N),
        C(d.C) {}
};

// A pixel of V channels, and how to reach others of the same image and channels.
struct Pixel {
  int64_t image_channel;  // n * C + c of the first channel
  int64_t row, column;
};

// The images of one side, seen as items of V channels: c fastest where they are NHWC, else the column (V is
// 1).
template <int V, bool kNhwc>
class Images {
 public:
  Images(int64_t N, int64_t C, int64_t H, int64_t W)
      : count_(N * C / V * H * W), C_(C), H_(H), W_(W), by_channels_(C / V), by_rows_(H), by_columns_(W) {}

  CNNEXT_HOST_DEVICE int64_t count() const { return count_; }
  CNNEXT_HOST_DEVICE Pixel pixel(int64_t item) const {
    int64_t rest = item;
    if constexpr (kNhwc) {
      const int64_t pixels = by_channels_.split(&rest), c = rest * V;
      rest = pixels;
      const int64_t all_rows = by_columns_.split(&rest), column = rest;
      rest = all_rows;
      const int64_t n = by_rows_.split(&rest);
      return {n * C_ + c, rest, column};
    } else {
      const int64_t all_rows = by_columns_.split(&rest), column = rest;
      rest = all_rows;
      const int64_t image_channel = by_rows_.split(&rest);
      return {image_channel, rest, column};
    }
  }
  // Where the image and channels of `at` begin; a row and a column further.
  CNNEXT_HOST_DEVICE int64_t base(const Pixel& at) const {
    if constexpr (!kNhwc) return at.image_channel * H_ * W_;
    const int64_t n = by_channels_.divide(at.image_channel / V);
    return n * C_ * H_ * W_ + at.image_channel - n * C_;
  }
  CNNEXT_HOST_DEVICE int64_t row_step() const { return kNhwc ? W_ * C_ : W_; }
  CNNEXT_HOST_DEVICE int64_t column_step() const { return kNhwc ? C_ : 1; }
  CNNEXT_HOST_DEVICE int64_t offset(int64_t base, int64_t row, int64_t column) const {
    return base + row * row_step() + column * column_step();
  }

 private:
  int64_t count_, C_, H_, W_;
  FastDivisor by_channels_, by_rows_, by_columns_;
};

// body(T{}, V, kNhwc) as types: how wide items are for images of that format.
template <class T, class Body>
void dispatch_images(const Pool2dDesc& d, std::initializer_list<const void*> pointers, const Body& body) {
  if (d.format == Format::kNCHW) {
    body(std::integral_constant<int, 1>{}, std::false_type{});
  } else {
    dispatch_width<T>(d.C, pointers, [&](auto v) { body(v, std::true_type{}); });
  }
}

}  // namespace cnnext::cuda
