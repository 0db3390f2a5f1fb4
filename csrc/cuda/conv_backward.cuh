// A convolution's two backward passes as matrix products (gemm.cuh).
#pragma once

#include "cuda/conv.cuh"

namespace cnnext::cuda {

// One phase of x (pixels x C of a group) <- y, w: as a forward with stride 1 over the phase's own taps.
template <class T, bool kNhwc>
struct ConvBackwardData {
  static constexpr bool kAAlongDepth = kNhwc, kBAlongDepth = false;
  struct Row {
    int64_t offset, p, q;  // of the first tap's result, which may lie outside
  };
  struct Column {
    int64_t offset;
  };
  struct Term {
    int64_t k, r, s;
  };

  ConvTensors<T> v;
  ConvPhase down, right;
  int64_t P, Q, stride_h, stride_w, pixels, groups, depth;
  FastDivisor by_rows, by_columns;
  TermOrder<kNhwc> order;
  const void* bias;

  ConvBackwardData(const Conv2dDesc& d, const ConvPhase& down_, const ConvPhase& right_)
      : v(d),
        down(down_),
        right(right_),
        P(d.P),
        Q(d.Q),
        stride_h(d.stride_h),
        stride_w(d.stride_w),
        pixels(d.N * down.count * right.count),
        groups(d.groups),
        depth(d.K / d.groups * down.taps * right.taps),
        by_rows(greatest(down.count, 1)),
        by_columns(greatest(right.count, 1)),
        order(d.K / d.groups, down.taps, right.taps),
        bias(present(d.bias) ? d.bias.data : nullptr) {}

  CNNEXT_HOST_DEVICE int64_t rows() const { return pixels; }
  CNNEXT_HOST_DEVICE int64_t columns() const { return v.group_c; }
  CNNEXT_HOST_DEVICE int64_t batches() const { return groups; }
  CNNEXT_DEVICE Range terms(int64_t) const { return {0, depth}; }

  CNNEXT_DEVICE int64_t pixel(int64_t m, int64_t* i, int64_t* j) const {
    int64_t rest = by_columns.split(&m);
    *j = m;
    const int64_t n = by_rows.split(&rest);
    *i = rest;
    return n;
  }
  CNNEXT_DEVICE Row row(int64_t group, int64_t m) const {
    int64_t i, j;
    const int64_t n = pixel(m, &i, &j), p = i + down.result, q = j + right.result;
    return {n * v.ys.n + group * v.group_k * v.ys.c + p * v.ys.h + q * v.ys.w, p, q};
  }
  CNNEXT_DEVICE Column column(int64_t group, int64_t c) const {
    return {group * v.group_k * v.ws.n + c * v.ws.c + down.tap * v.ws.h + right.tap * v.ws.w};
  }
  CNNEXT_DEVICE Term term(int64_t, int64_t k) const {
    Term t;
    order.split(k, &t.k, &t.r, &t.s);
    return t;
  }
  CNNEXT_DEVICE float a(const Row& row, const Term& t, bool* inside) const {
    const int64_t up = t.r * down.result_step, left = t.s * right.result_step, p = row.p - up,
                  q = row.q - left;
    if (p < 0 || p >= P || q < 0 || q >= Q) {
      *inside = false;
      return 0;
    }
    return to_float(v.y[row.offset + t.k * v.ys.c - up * v.ys.h - left * v.ys.w]);
  }
  CNNEXT_DEVICE float b(const Term& t, const Column& column, bool*) const {
    return to_float(
        v.w[column.offset + t.k * v.ws.n + t.r * down.tap_step * v.ws.h + t.s * right.tap_step * v.ws.w]);
  }
  CNNEXT_DEVICE void put(int64_t group, int64_t m, int64_t c, float sum) const {
    int64_t i, j;
    const int64_t n = pixel(m, &i, &j), channel = group * v.group_c + c;
    const int64_t h = down.first + i * stride_h, w = right.first + j * stride_w;
    if (bias) sum += to_float(static_cast<const T*>(bias)[channel]);
    v.x[n * v.xs.n + channel * v.xs.c + h * v.xs.h + w * v.xs.w] = from_float<T>(sum);
  }
};

// w (K of a group x its channels and taps) <- y, x: a sum over pixels, cut into slices. Their sums go to
// scratch, slice by slice, and are added in order.
template <class T, bool kNhwc>
struct ConvBackwardWeights {
  static constexpr bool kAAlongDepth = !kNhwc, kBAlongDepth = !kNhwc;
  struct Row {
    int64_t offset;
  };
  struct Column {
    int64_t offset, down, right;  // of the tap
  };
  struct Term {
    int64_t y, x, h, w;  // offsets of the pixel, and its window's first tap
  };

  ConvTensors<T> v;
  int64_t H, W, pixels, groups, slices, per_slice, stride_h, stride_w, dilation_h, dilation_w, pad_top,
      pad_left, taps;
  FastDivisor by_p, by_q;
  TermOrder<kNhwc> order;
  float* partial;

  ConvBackwardWeights(const Conv2dDesc& d, int64_t slices_, float* partial_)
      : v(d),
        H(d.H),
        W(d.W),
        pixels(d.N * d.P * d.Q),
        groups(d.groups),
        slices(slices_),
        per_slice(ceil_div(pixels, slices)),
        stride_h(d.stride_h),
        stride_w(d.stride_w),
        dilation_h(d.dilation_h),
        dilation_w(d.dilation_w),
        pad_top(d.pad_top),
        pad_left(d.pad_left),
        taps(d.R * d.S),
        by_p(d.P),
        by_q(d.Q),
        order(d.C / d.groups, d.R, d.S),
        partial(partial_) {}

  CNNEXT_HOST_DEVICE int64_t rows() const { return v.group_k; }
  CNNEXT_HOST_DEVICE int64_t columns() const { return v.group_c * taps; }
  CNNEXT_HOST_DEVICE int64_t batches() const { return groups * slices; }
  CNNEXT_DEVICE Range terms(int64_t batch) const {
    const int64_t slice = batch % slices;
    return {least(slice * per_slice, pixels), least((slice + 1) * per_slice, pixels)};
  }
  CNNEXT_DEVICE Row row(int64_t batch, int64_t m) const {
    return {(batch / slices * v.group_k + m) * v.ys.c};
  }
  CNNEXT_DEVICE Column column(int64_t batch, int64_t n) const {
    int64_t c, r, s;
    order.split(n, &c, &r, &s);
    const int64_t down = r * dilation_h, right = s * dilation_w;
    return {(batch / slices * v.group_c + c) * v.xs.c + down * v.xs.h + right * v.xs.w, down, right};
  }
  CNNEXT_DEVICE Term term(int64_t, int64_t k) const {
    int64_t rest = by_q.split(&k);
    const int64_t q = k, n = by_p.split(&rest), p = rest;
    const int64_t h = p * stride_h - pad_top, w = q * stride_w - pad_left;
    return {n * v.ys.n + p * v.ys.h + q * v.ys.w, n * v.xs.n + h * v.xs.h + w * v.xs.w, h, w};
  }
  CNNEXT_DEVICE float a(const Row& row, const Term& t, bool*) const {
    return to_float(v.y[row.offset + t.y]);
  }
  CNNEXT_DEVICE float b(const Term& t, const Column& column, bool* inside) const {
    const int64_t h = t.h + column.down, w = t.w + column.right;
    if (h < 0 || h >= H || w < 0 || w >= W) {
      *inside = false;
      return 0;
    }
    return to_float(v.x[t.x + column.offset]);
  }
  CNNEXT_DEVICE void put(int64_t batch, int64_t m, int64_t n, float sum) const {
    const int64_t group = batch / slices, slice = batch % slices;
    partial[((slice * groups + group) * rows() + m) * columns() + n] = sum;
  }
};

}  // namespace cnnext::cuda
