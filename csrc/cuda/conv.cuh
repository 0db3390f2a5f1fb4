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

// The number of a term as (channel, row of taps, column of taps): channels run fastest where they do in
// memory.
template <bool kNhwc>
struct TermOrder {
  FastDivisor by_channels, by_taps, by_columns;

  TermOrder(int64_t channels, int64_t rows, int64_t columns)
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

struct Epilogue {
  const void *bias, *residual;
  int32_t activation;
  float alpha;
};

// y (pixels x K of a group) <- x, w.
template <class T, bool kNhwc>
struct ConvForward {
  static constexpr bool kAAlongDepth = kNhwc, kBAlongDepth = true;
  struct Row {
    int64_t offset, h, w;  // of the window's first tap, which may lie outside
  };
  struct Column {
    int64_t offset;
  };
  struct Term {
    int64_t c, r, s;
  };

  ConvTensors<T> v;
  int64_t H, W, pixels, groups, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, depth;
  FastDivisor by_p, by_q;
  TermOrder<kNhwc> order;
  Epilogue epilogue;

  explicit ConvForward(const Conv2dDesc& d)
      : v(d),
        H(d.H),
        W(d.W),
        pixels(d.N * d.P * d.Q),
        groups(d.groups),
        stride_h(d.stride_h),
        stride_w(d.stride_w),
        dilation_h(d.dilation_h),
        dilation_w(d.dilation_w),
        pad_top(d.pad_top),
        pad_left(d.pad_left),
        depth(d.C / d.groups * d.R * d.S),
        by_p(d.P),
        by_q(d.Q),
        order(d.C / d.groups, d.R, d.S),
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
  CNNEXT_DEVICE Row row(int64_t group, int64_t m) const {
    int64_t p, q;
    const int64_t n = pixel(m, &p, &q), h = p * stride_h - pad_top, w = q * stride_w - pad_left;
    return {n * v.xs.n + group * v.group_c * v.xs.c + h * v.xs.h + w * v.xs.w, h, w};
  }
  CNNEXT_DEVICE Column column(int64_t group, int64_t n) const { return {(group * v.group_k + n) * v.ws.n}; }
  CNNEXT_DEVICE Term term(int64_t, int64_t k) const {
    Term t;
    order.split(k, &t.c, &t.r, &t.s);
    return t;
  }
  CNNEXT_DEVICE float a(const Row& row, const Term& t, bool* inside) const {
    const int64_t down = t.r * dilation_h, right = t.s * dilation_w, h = row.h + down, w = row.w + right;
    if (h < 0 || h >= H || w < 0 || w >= W) {
      *inside = false;
      return 0;
    }
    return to_float(v.x[row.offset + t.c * v.xs.c + down * v.xs.h + right * v.xs.w]);
  }
  CNNEXT_DEVICE float b(const Term& t, const Column& column, bool*) const {
    return to_float(v.w[column.offset + t.c * v.ws.c + t.r * v.ws.h + t.s * v.ws.w]);
  }
  CNNEXT_DEVICE void put(int64_t group, int64_t m, int64_t n, float sum) const {
    int64_t p, q;
    const int64_t image = pixel(m, &p, &q), k = group * v.group_k + n;
    const int64_t at = image * v.ys.n + k * v.ys.c + p * v.ys.h + q * v.ys.w;
    if (epilogue.bias) sum += to_float(static_cast<const T*>(epilogue.bias)[k]);
    if (epilogue.residual) sum += to_float(static_cast<const T*>(epilogue.residual)[at]);
    v.y[at] = from_float<T>(activate(epilogue.activation, epilogue.alpha, sum));
  }
};

}  // namespace cnnext::cuda
