// Convolution in all three passes as matrix products by FFMA: strict float32 products for every dtype.
#include "cuda/conv_backward.cuh"
#include "cuda/conv_depthwise.cuh"
#include "cuda/parts.cuh"

namespace cnnext::cuda {
namespace {

// body(T{}, kNhwc)
template <class Body>
bool dispatch_conv(const Conv2dDesc& d, const Body& body) {
  return dispatch_float(d.dtype, [&](auto t) {
    if (d.format == Format::kNCHW) {
      body(t, std::false_type{});
    } else {
      body(t, std::true_type{});
    }
  });
}

// Enough slices to fill a device with tiles, none of fewer than some strips, and no more scratch than 64 MiB.
int64_t slices_of(const Conv2dDesc& d) {
  const int64_t columns = d.C / d.groups * d.R * d.S, pixels = d.N * d.P * d.Q;
  const int64_t tiles = ceil_div(d.K / d.groups, kGemmTile) * ceil_div(columns, kGemmTile) * d.groups;
  constexpr int64_t kEnoughTiles = 512, kLeastPixels = 16 * kGemmDepth, kMostFloats = 1 << 24;
  const int64_t most = greatest(1, kMostFloats / greatest(1, d.K * columns));
  return greatest(1, least(least(kEnoughTiles / greatest(1, tiles), ceil_div(pixels, kLeastPixels)), most));
}

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

constexpr int64_t kMostPhases = 4096;  // each is a launch

}  // namespace

Ran conv2d_forward(const Op& op, const Conv2dDesc& whole) {
  const Conv2dDesc d = pixels_as_images(whole);
  if (is_depthwise(d)) return depthwise_forward(op, d);
  if (!fits_gemm(d)) return Ran::kUnsupported;
  const bool known = dispatch_conv(
      d, [&](auto t, auto nhwc) { run_gemm(op, ConvForward<decltype(t), decltype(nhwc)::value>(d)); });
  if (!known) return Ran::kUnsupported;
  return op.done(d.format == Format::kNCHW ? "cuda/conv2d_gemm_64x64_nchw" : "cuda/conv2d_gemm_64x64_nhwc");
}

Ran conv2d_backward_data(const Op& op, const Conv2dDesc& whole) {
  const Conv2dDesc d = pixels_as_images(whole);
  if (is_depthwise(d)) return depthwise_backward_data(op, d);
  if (!fits_gemm(d) || d.stride_h > kMostPhases / d.stride_w) return Ran::kUnsupported;
  const bool known = dispatch_conv(d, [&](auto t, auto nhwc) {
    for (int64_t a = 0; a < d.stride_h; ++a) {
      const ConvPhase down = conv_phase(a, d.H, d.R, d.stride_h, d.dilation_h, d.pad_top);
      for (int64_t b = 0; b < d.stride_w; ++b) {
        const ConvPhase right = conv_phase(b, d.W, d.S, d.stride_w, d.dilation_w, d.pad_left);
        run_gemm(op, ConvBackwardData<decltype(t), decltype(nhwc)::value>(d, down, right));
      }
    }
  });
  if (!known) return Ran::kUnsupported;
  return op.done(d.format == Format::kNCHW ? "cuda/conv2d_data_gemm_64x64_nchw"
                                           : "cuda/conv2d_data_gemm_64x64_nhwc");
}

Ran conv2d_backward_weights(const Op& op, const Conv2dDesc& whole, const PartSum& parts) {
  const Conv2dDesc d = pixels_as_images(whole);
  if (is_depthwise(d)) return depthwise_backward_weights(op, d, parts);
  if (!fits_gemm(d)) return Ran::kUnsupported;
  const bool known = dispatch_conv(d, [&](auto t, auto nhwc) {
    using T = decltype(t);
    constexpr bool kNhwc = decltype(nhwc)::value;
    const int64_t slices = slices_of(d), count = d.K * (d.C / d.groups) * d.R * d.S;
    const ConvBackwardWeights<T, kNhwc> problem(d, slices, op.scratch<float>(slices * count));
    run_gemm(op, problem);
    launch_flat(op, add_slices<T, kNhwc>, blocks_for(count, kBlock), problem, parts);
  });
  if (!known) return Ran::kUnsupported;
  return op.done(d.format == Format::kNCHW ? "cuda/conv2d_weights_gemm_64x64_nchw"
                                           : "cuda/conv2d_weights_gemm_64x64_nhwc");
}

Ran conv2d_forward(const Conv2dDesc& d, Exec& exec) {
  return conv2d_forward({"conv2d_forward", exec, d.x}, d);
}
Ran conv2d_backward_data(const Conv2dDesc& d, Exec& exec) {
  return conv2d_backward_data({"conv2d_backward_data", exec, d.y}, d);
}
Ran conv2d_backward_weights(const Conv2dDesc& d, Exec& exec) {
  return conv2d_backward_weights({"conv2d_backward_weights", exec, d.x}, d, {});
}

}  // namespace cnnext::cuda
