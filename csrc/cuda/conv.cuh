// A convolution's forward pass as a matrix product (gemm.cuh), read from memory as it lies.
#pragma once

#include "cuda/activation.cuh"
#include "cuda/gemm.cuh"

namespace cnnext::cuda {

struct Strides {
  int64_t n, c, h, w;
  explicit Strides(const Tensor& t) : n(t.strides[0]), c(t.strides[1]), h(t.strides[2]), w(t.strides[3]) {}
};

template <class T>
struct ConvTensors {
  T *x, *w, *y;
  Strides xs, ws, ys;
  int64_t group_c, group_k;  // channels of a group on either side

  explicit ConvTensors(const Conv2dDesc& d)
      : x(static_cast<T*>(d.x.data)),
        w(static_cast<T*>(d.w.data)),
        y(static_cast<T*>(d.y.data)),
        xs(d.x),
        ws(d.w),
        ys(d.y),
        group_c(d.C / d.groups),
        group_k(d.K / d.groups) {}
};

// The number of a column of weights as (channel, row of taps, column of taps): channels run fastest where
// they do in memory.
template <bool kNhwc>
struct TapOrder {
  FastDivisor by_channels, by_taps, by_columns;

  TapOrder(int64_t channels, int64_t rows, int64_t columns)
      : by_channels(greatest(channels, 1)),
        by_taps(greatest(rows * columns, 1)),
        by_columns(greatest(columns, 1)) {}
  CNNEXT_DEVICE void split(int64_t k, int64_t* c, int64_t* r, int64_t* s) const {
    if constexpr (kNhwc) {
      const int64_t tap = by_channels.split(&k);
      *c = k;
      k = tap;
    } else {
      *c = by_taps.split(&k);
    }
    *r = by_columns.split(&k);
    *s = k;
  }
};

// The walk over channels and taps in that order.
template <bool kChannelsFast>
TermWalk walk_taps(int64_t channels, int64_t rows, int64_t columns, const Offsets& of_channel,
                   const Offsets& of_row, const Offsets& of_column) {
  if (kChannelsFast) return {channels, columns, of_channel, of_column, of_row};
  return {columns, rows, of_column, of_row, of_channel};
}

// What a digit's 1 is worth. Where it is always 0, nothing, however large a stride or dilation may be.
inline int64_t worth(int64_t step, int64_t count) { return count > 1 ? step : 0; }

// The matrix products' positions have 32 bits, and a digit of a sum 31.
inline bool fits_gemm(const Conv2dDesc& d) {
  constexpr int64_t kMost = int64_t{1} << 30;
  return d.H + d.pad_top + d.pad_bottom < kMost && d.W + d.pad_left + d.pad_right < kMost && d.P < kMost &&
         d.Q < kMost && d.C < kMost && d.K < kMost;
}

// A convolution of single pixels side by side, as linear is one.
inline bool is_pixelwise(const Conv2dDesc& d) {
  return d.R * d.S == 1 && d.stride_h == 1 && d.stride_w == 1 && d.P == d.H && d.Q == d.W && d.pad_top == 0 &&
         d.pad_left == 0;
}
// All its pixels are images of their own then, and there may be as many of them as there are images.
inline Conv2dDesc pixels_as_images(const Conv2dDesc& d) {
  if (!is_pixelwise(d) || d.format != Format::kNHWC) return d;
  Conv2dDesc c = d;
  c.N *= d.H * d.W;
  c.H = c.W = c.P = c.Q = 1;
  c.x.strides[0] = d.C;
  c.y.strides[0] = d.K;
  return c;
}

// body(kNhwc)
template <class Body>
void dispatch_format(const Conv2dDesc& d, const Body& body) {
  if (d.format == Format::kNCHW) {
    body(std::false_type{});
  } else {
    body(std::true_type{});
  }
}

struct Epilogue {
  const void *bias, *residual;
  int32_t activation;
  float alpha;
};

template <class T, int V>
CNNEXT_DEVICE void add_values(Vec<float, V>* sums, const T* from) {
  const Vec<float, V> values = to_floats(load<V>(from));
#pragma unroll
  for (int j = 0; j < V; ++j) (*sums)[j] += values[j];
}

// y (pixels x K of a group) <- x, w. kChannelsFast: a sum's terms run through the channels of a tap, then
// through taps, or the other way round.
template <class T, bool kNhwc, bool kChannelsFast = kNhwc>
struct ConvForward {
  using Value = T;
  static constexpr bool kAAlongDepth = kChannelsFast, kASteps = kChannelsFast && !kNhwc, kBAlongDepth = true,
                        kPaddedA = true, kResultsAlongColumns = kNhwc;
  struct Result {
    int64_t offset, k;  // of the group's first channel
  };

  ConvTensors<T> v;
  uint32_t H, W;
  int64_t pixels, groups, stride_h, stride_w, pad_top, pad_left, depth;
  FastDivisor by_p, by_q;
  TermWalk walk;
  TermWalk::Step near, strip;
  Epilogue epilogue;

  explicit ConvForward(const Conv2dDesc& d)
      : v(d),
        H(static_cast<uint32_t>(d.H)),
        W(static_cast<uint32_t>(d.W)),
        pixels(d.N * d.P * d.Q),
        groups(d.groups),
        stride_h(d.stride_h),
        stride_w(d.stride_w),
        pad_top(d.pad_top),
        pad_left(d.pad_left),
        depth(d.C / d.groups * d.R * d.S),
        by_p(d.P),
        by_q(d.Q),
        walk(walk_taps<kChannelsFast>(
            d.C / d.groups, d.R, d.S, {v.xs.c, v.ws.c, 0, 0},
            {worth(d.dilation_h, d.R) * v.xs.h, v.ws.h, static_cast<uint32_t>(worth(d.dilation_h, d.R)), 0},
            {worth(d.dilation_w, d.S) * v.xs.w, v.ws.w, 0, static_cast<uint32_t>(worth(d.dilation_w, d.S))})),
        near(walk.step(kGemmTermStep)),
        strip(walk.step(kGemmDepth)),
        epilogue{present(d.bias) ? d.bias.data : nullptr, present(d.residual) ? d.residual.data : nullptr,
                 d.activation, static_cast<float>(d.activation_alpha)} {}

  CNNEXT_HOST_DEVICE int64_t rows() const { return pixels; }
  CNNEXT_HOST_DEVICE int64_t columns() const { return v.group_k; }
  CNNEXT_HOST_DEVICE int64_t batches() const { return groups; }
  CNNEXT_DEVICE Range terms(int64_t) const { return {0, depth}; }

  CNNEXT_DEVICE int64_t pixel(int64_t m, int64_t* p, int64_t* q) const {
    int64_t rest = by_q.split(&m);
    *q = m;
    const int64_t n = by_p.split(&rest);
    *p = rest;
    return n;
  }
  CNNEXT_DEVICE Line row(int64_t group, int64_t m) const {
    int64_t p, q;
    const int64_t n = pixel(m, &p, &q), h = p * stride_h - pad_top, w = q * stride_w - pad_left;
    return {n * v.xs.n + group * v.group_c * v.xs.c + h * v.xs.h + w * v.xs.w, static_cast<uint32_t>(h),
            static_cast<uint32_t>(w)};
  }
  CNNEXT_DEVICE Line column(int64_t group, int64_t n) const {
    return {(group * v.group_k + n) * v.ws.n, 0, 0};
  }
  CNNEXT_DEVICE const T* a() const { return v.x; }
  CNNEXT_DEVICE const T* b() const { return v.w; }
  CNNEXT_DEVICE int64_t a_step() const { return v.xs.c; }
  CNNEXT_DEVICE Result result(int64_t group, int64_t m) const {
    const int64_t k = group * v.group_k;
    if (kNhwc) return {m * groups * v.group_k + k, k};
    int64_t p, q;
    const int64_t image = pixel(m, &p, &q);
    return {image * v.ys.n + k * v.ys.c + p * v.ys.h + q * v.ys.w, k};
  }
  template <int V>
  CNNEXT_DEVICE void put(const Result& result, int64_t n, const Vec<float, V>& values) const {
    Vec<float, V> sums = values;
    const int64_t at = result.offset + n * v.ys.c;
    if (epilogue.bias) add_values(&sums, static_cast<const T*>(epilogue.bias) + result.k + n);
    if (epilogue.residual) add_values(&sums, static_cast<const T*>(epilogue.residual) + at);
    activate_all(epilogue.activation, epilogue.alpha, &sums);
    store(v.y + at, from_floats<T>(sums));
  }
};

}  // namespace cnnext::cuda
