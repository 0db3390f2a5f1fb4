// A convolution's two backward passes as matrix products (gemm.cuh).
#pragma once

#include "cuda/conv.cuh"

namespace cnnext::cuda {

// One phase of x (pixels x C of a group) <- y, w: as a forward with stride 1 over the phase's own taps.
template <class T, bool kNhwc, bool kChannelsFast = kNhwc>
struct ConvBackwardData {
  using Value = T;
  static constexpr bool kAAlongDepth = kChannelsFast, kASteps = kChannelsFast && !kNhwc, kBAlongDepth = false,
                        kPaddedA = true, kResultsAlongColumns = kNhwc;
  struct Result {
    int64_t offset, c;  // of the group's first channel
  };

  ConvTensors<T> v;
  ConvPhase down, right;
  uint32_t H, W;  // of y
  int64_t stride_h, stride_w, pixels, groups, depth;
  FastDivisor by_rows, by_columns;
  TermWalk walk;
  TermWalk::Step near, strip;
  const void* bias;

  ConvBackwardData(const Conv2dDesc& d, const ConvPhase& down_, const ConvPhase& right_)
      : v(d),
        down(down_),
        right(right_),
        H(static_cast<uint32_t>(d.P)),
        W(static_cast<uint32_t>(d.Q)),
        stride_h(d.stride_h),
        stride_w(d.stride_w),
        pixels(d.N * down.count * right.count),
        groups(d.groups),
        depth(d.K / d.groups * down.taps * right.taps),
        by_rows(greatest(down.count, 1)),
        by_columns(greatest(right.count, 1)),
        walk(walk_taps<kChannelsFast>(
            d.K / d.groups, down.taps, right.taps, {v.ys.c, v.ws.n, 0, 0},
            {-down.result_step * v.ys.h, down.tap_step * v.ws.h, static_cast<uint32_t>(-down.result_step), 0},
            {-right.result_step * v.ys.w, right.tap_step * v.ws.w, 0,
             static_cast<uint32_t>(-right.result_step)})),
        near(walk.step(kGemmTermStep)),
        strip(walk.step(kGemmDepth)),
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
  // Begins at the first tap's result, which may lie outside.
  CNNEXT_DEVICE Line row(int64_t group, int64_t m) const {
    int64_t i, j;
    const int64_t n = pixel(m, &i, &j), p = i + down.result, q = j + right.result;
    return {n * v.ys.n + group * v.group_k * v.ys.c + p * v.ys.h + q * v.ys.w, static_cast<uint32_t>(p),
            static_cast<uint32_t>(q)};
  }
  CNNEXT_DEVICE Line column(int64_t group, int64_t c) const {
    return {group * v.group_k * v.ws.n + c * v.ws.c + down.tap * v.ws.h + right.tap * v.ws.w, 0, 0};
  }
  CNNEXT_DEVICE const T* a() const { return v.y; }
  CNNEXT_DEVICE const T* b() const { return v.w; }
  CNNEXT_DEVICE int64_t a_step() const { return v.ys.c; }
  CNNEXT_DEVICE Result result(int64_t group, int64_t m) const {
    int64_t i, j;
    const int64_t n = pixel(m, &i, &j), c = group * v.group_c;
    const int64_t h = down.first + i * stride_h, w = right.first + j * stride_w;
    return {n * v.xs.n + c * v.xs.c + h * v.xs.h + w * v.xs.w, c};
  }
  template <int V>
  CNNEXT_DEVICE void put(const Result& result, int64_t c, const Vec<float, V>& values) const {
    Vec<float, V> sums = values;
    if (bias) add_values(&sums, static_cast<const T*>(bias) + result.c + c);
    store(v.x + result.offset + c * v.xs.c, from_floats<T>(sums));
  }
};

// body(down, right) for each.
template <class Body>
void for_each_phase(const Conv2dDesc& d, const Body& body) {
  for (int64_t a = 0; a < d.stride_h; ++a) {
    const ConvPhase down = conv_phase(a, d.H, d.R, d.stride_h, d.dilation_h, d.pad_top);
    for (int64_t b = 0; b < d.stride_w; ++b) {
      body(down, conv_phase(b, d.W, d.S, d.stride_w, d.dilation_w, d.pad_left));
    }
  }
}

// w (K of a group x its channels and taps) <- y, x: a sum over pixels, cut into slices. Their sums go to
// scratch, slice by slice, and are added in order.
constexpr int64_t kSliceUnit = 32;  // a slice has whole strips, and begins at whole chunks
template <class T, bool kNhwc>
struct ConvBackwardWeights {
  using Value = T;
  static constexpr bool kAAlongDepth = !kNhwc, kASteps = false, kBAlongDepth = !kNhwc, kPaddedA = false,
                        kResultsAlongColumns = true;
  struct Result {
    int64_t offset;
  };

  ConvTensors<T> v;
  uint32_t H, W;
  int64_t pixels, groups, slices, per_slice, dilation_h, dilation_w, origin_h, origin_w, taps;
  TapOrder<kNhwc> order;
  TermWalk walk;
  TermWalk::Step near, strip;
  float* partial;

  ConvBackwardWeights(const Conv2dDesc& d, int64_t slices_, float* partial_)
      : v(d),
        H(static_cast<uint32_t>(d.H)),
        W(static_cast<uint32_t>(d.W)),
        pixels(d.N * d.P * d.Q),
        groups(d.groups),
        slices(slices_),
        per_slice(ceil_div(ceil_div(pixels, slices), kSliceUnit) * kSliceUnit),
        dilation_h(d.dilation_h),
        dilation_w(d.dilation_w),
        origin_h(-d.pad_top),
        origin_w(-d.pad_left),
        taps(d.R * d.S),
        order(d.C / d.groups, d.R, d.S),
        walk(d.Q, d.P,
             {v.ys.w, worth(d.stride_w, d.Q) * v.xs.w, 0, static_cast<uint32_t>(worth(d.stride_w, d.Q))},
             {v.ys.h, worth(d.stride_h, d.P) * v.xs.h, static_cast<uint32_t>(worth(d.stride_h, d.P)), 0},
             {v.ys.n, v.xs.n, 0, 0}),
        near(walk.step(kGemmTermStep)),
        strip(walk.step(kGemmDepth)),
        partial(partial_) {}

  CNNEXT_HOST_DEVICE int64_t rows() const { return v.group_k; }
  CNNEXT_HOST_DEVICE int64_t columns() const { return v.group_c * taps; }
  CNNEXT_HOST_DEVICE int64_t batches() const { return groups * slices; }
  CNNEXT_DEVICE Range terms(int64_t batch) const {
    const int64_t slice = batch % slices;
    return {least(slice * per_slice, pixels), least((slice + 1) * per_slice, pixels)};
  }
  CNNEXT_DEVICE Line row(int64_t batch, int64_t m) const {
    return {(batch / slices * v.group_k + m) * v.ys.c, 0, 0};
  }
  // Begins at what the tap sees from the first pixel, which may lie outside.
  CNNEXT_DEVICE Line column(int64_t batch, int64_t n) const {
    int64_t c, r, s;
    order.split(n, &c, &r, &s);
    const int64_t h = r * dilation_h + origin_h, w = s * dilation_w + origin_w;
    return {(batch / slices * v.group_c + c) * v.xs.c + h * v.xs.h + w * v.xs.w, static_cast<uint32_t>(h),
            static_cast<uint32_t>(w)};
  }
  CNNEXT_DEVICE const T* a() const { return v.y; }
  CNNEXT_DEVICE const T* b() const { return v.x; }
  CNNEXT_DEVICE Result result(int64_t batch, int64_t m) const {
    const int64_t group = batch / slices, slice = batch % slices;
    return {((slice * groups + group) * rows() + m) * columns()};
  }
  template <int V>
  CNNEXT_DEVICE void put(const Result& result, int64_t n, const Vec<float, V>& sums) const {
    constexpr int kPart = V < 4 ? V : 4;
#pragma unroll
    for (int j = 0; j < V; j += kPart) {
      Vec<float, kPart> part;
#pragma unroll
      for (int i = 0; i < kPart; ++i) part[i] = sums[j + i];
      store(partial + result.offset + n + j, part);
    }
  }
};

template <class T, bool kNhwc>
__global__ void __launch_bounds__(kBlock) add_slices(ConvBackwardWeights<T, kNhwc> problem, PartSum parts) {
  const int64_t columns = problem.columns(), per_slice = problem.groups * problem.rows() * columns;
  for (int64_t i = first_item(); i < per_slice; i += item_step()) {
    float sum = 0;
    for (int64_t slice = 0; slice < problem.slices; ++slice) sum += problem.partial[slice * per_slice + i];
    if (!parts.finish(i, &sum)) continue;
    int64_t c, r, s;
    const int64_t k = i / columns;
    problem.order.split(i % columns, &c, &r, &s);
    const Strides& ws = problem.v.ws;
    problem.v.w[k * ws.n + c * ws.c + r * ws.h + s * ws.w] = from_float<T>(sum);
  }
}

template <class T, bool kNhwc>
void run_add_slices(const Op& op, const ConvBackwardWeights<T, kNhwc>& problem, const PartSum& parts) {
  const int64_t count = problem.groups * problem.rows() * problem.columns();
  launch_flat(op, add_slices<T, kNhwc>, blocks_for(count, kBlock), problem, parts);
}

}  // namespace cnnext::cuda
