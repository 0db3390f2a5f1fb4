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

// The axes alone, for kernels whose indices are I.
template <class I>
struct PoolAxes {
  WindowAxisOf<I> rows, columns;
  explicit PoolAxes(const PoolShape& s) : rows(s.rows.as<I>()), columns(s.columns.as<I>()) {}
};

// body(I{}): int32_t where all that a pool computes of its indices fits. On the test bed small shapes alone
// count as fitting, so that both are tried.
template <class Body>
void dispatch_index(const Pool2dDesc& d, const Body& body) {
#if CNNEXT_CUDA_HOST
  constexpr int64_t kMost = 700;
#else
  constexpr int64_t kMost = 1 << 30;
#endif
  bool fits = d.N * d.C * d.H * d.W < kMost && d.N * d.C * d.P * d.Q < kMost;
  const auto check_axis = [&](int64_t windows, int64_t kernel, int64_t stride, int64_t dilation) {
    for (const int64_t one : {kernel, stride, dilation}) fits = fits && one < kMost;
    // Where the last window begins, and how far it reaches; the image and its padding are no longer.
    fits = fits && windows * stride < kMost && kernel * dilation < kMost;
  };
  check_axis(d.P, d.R, d.stride_h, d.dilation_h);
  check_axis(d.Q, d.S, d.stride_w, d.dilation_w);
  fits ? body(int32_t{}) : body(int64_t{});
}

// A pixel of V channels, and how to reach others of the same image and channels.
template <class I>
struct PixelOf {
  I image_channel;  // n * C + c of the first channel
  I row, column;
};
using Pixel = PixelOf<int64_t>;

// The images of one side, seen as items of V channels: c fastest where they are NHWC, else the column (V is
// 1).
template <int V, bool kNhwc, class I = int64_t>
class Images {
 public:
  Images(int64_t N, int64_t C, int64_t H, int64_t W)
      : count_(static_cast<I>(N * C / V * H * W)),
        C_(static_cast<I>(C)),
        H_(static_cast<I>(H)),
        W_(static_cast<I>(W)),
        by_channels_(C_ / V),
        by_rows_(H_),
        by_columns_(W_) {}

  CNNEXT_HOST_DEVICE I count() const { return count_; }
  CNNEXT_HOST_DEVICE PixelOf<I> pixel(I item) const {
    I rest = item;
    if constexpr (kNhwc) {
      const I pixels = by_channels_.split(&rest), c = rest * V;
      rest = pixels;
      const I all_rows = by_columns_.split(&rest), column = rest;
      rest = all_rows;
      const I n = by_rows_.split(&rest);
      return {n * C_ + c, rest, column};
    } else {
      const I all_rows = by_columns_.split(&rest), column = rest;
      rest = all_rows;
      const I image_channel = by_rows_.split(&rest);
      return {image_channel, rest, column};
    }
  }
  // Where the image and channels of `at` begin; a row and a column further.
  CNNEXT_HOST_DEVICE I base(const PixelOf<I>& at) const {
    if constexpr (!kNhwc) return at.image_channel * H_ * W_;
    const I n = by_channels_.divide(at.image_channel / V);
    return n * C_ * H_ * W_ + at.image_channel - n * C_;
  }
  CNNEXT_HOST_DEVICE I row_step() const { return kNhwc ? W_ * C_ : W_; }
  CNNEXT_HOST_DEVICE I column_step() const { return kNhwc ? C_ : 1; }
  CNNEXT_HOST_DEVICE I offset(I base, I row, I column) const {
    return base + row * row_step() + column * column_step();
  }

 private:
  I count_, C_, H_, W_;
  DivisorOf<I> by_channels_, by_rows_, by_columns_;
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
