// Convolution in all three passes: by tensor cores (conv_mma.cuh), or, in float32 whose products are to be
// float32's, as matrix products by FFMA.
#include "cuda/conv_backward.cuh"
#include "cuda/conv_depthwise.cuh"
#include "cuda/conv_mma.cuh"
#include "cuda/parts.cuh"

namespace cnnext::cuda {
namespace {

// Enough slices to fill a device with tiles, none of fewer than some strips, and no more scratch than 64 MiB.
int64_t slices_of(const Conv2dDesc& d) {
  const int64_t columns = d.C / d.groups * d.R * d.S, pixels = d.N * d.P * d.Q;
  const int64_t tiles = ceil_div(d.K / d.groups, kGemmTile) * ceil_div(columns, kGemmTile) * d.groups;
  constexpr int64_t kEnoughTiles = 512, kLeastPixels = 16 * kGemmDepth, kMostFloats = 1 << 24;
  const int64_t most = greatest(1, kMostFloats / greatest(1, d.K * columns));
  return greatest(1, least(least(kEnoughTiles / greatest(1, tiles), ceil_div(pixels, kLeastPixels)), most));
}

constexpr int64_t kMostPhases = 4096;  // each is a launch

}  // namespace

Ran conv2d_forward(const Op& op, const Conv2dDesc& whole) {
  const Conv2dDesc d = pixels_as_images(whole);
  if (is_depthwise(d)) return depthwise_forward(op, d);
  if (!fits_gemm(d)) return Ran::kUnsupported;
  if (const char* ran = wgmma_forward(op, d)) return op.done(ran);
  if (const char* ran = mma_forward(op, d)) return op.done(ran);
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  dispatch_format(d, [&](auto nhwc) { run_gemm(op, ConvForward<float, decltype(nhwc)::value>(d)); });
  return op.done(d.format == Format::kNCHW ? "cuda/conv2d_gemm_64x64_nchw" : "cuda/conv2d_gemm_64x64_nhwc");
}

Ran conv2d_backward_data(const Op& op, const Conv2dDesc& whole) {
  const Conv2dDesc d = pixels_as_images(whole);
  if (is_depthwise(d)) return depthwise_backward_data(op, d);
  if (!fits_gemm(d) || d.stride_h > kMostPhases / d.stride_w) return Ran::kUnsupported;
  if (const char* ran = mma_backward_data(op, d)) return op.done(ran);
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  dispatch_format(d, [&](auto nhwc) {
    for_each_phase(d, [&](const ConvPhase& down, const ConvPhase& right) {
      run_gemm(op, ConvBackwardData<float, decltype(nhwc)::value>(d, down, right));
    });
  });
  return op.done(d.format == Format::kNCHW ? "cuda/conv2d_data_gemm_64x64_nchw"
                                           : "cuda/conv2d_data_gemm_64x64_nhwc");
}

Ran conv2d_backward_weights(const Op& op, const Conv2dDesc& whole, const PartSum& parts) {
  const Conv2dDesc d = pixels_as_images(whole);
  if (is_depthwise(d)) return depthwise_backward_weights(op, d, parts);
  if (!fits_gemm(d)) return Ran::kUnsupported;
  if (const char* ran = mma_backward_weights(op, d, parts)) return op.done(ran);
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  dispatch_format(d, [&](auto nhwc) {
    const int64_t slices = slices_of(d), count = d.K * (d.C / d.groups) * d.R * d.S;
    const ConvBackwardWeights<float, decltype(nhwc)::value> problem(d, slices,
                                                                    op.scratch<float>(slices * count));
    run_gemm(op, problem);
    run_add_slices(op, problem, parts);
  });
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
