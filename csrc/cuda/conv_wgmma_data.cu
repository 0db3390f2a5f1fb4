#include "cuda/conv_mma_parts.cuh"
#include "cuda/wgmma_gemm.cuh"

namespace cnnext::cuda {

// A phase is a convolution of stride 1 with taps in the other direction, so that the last one's offset is 0.
template <class T>
const char* wgmma_backward_data(const Op& op, const Conv2dDesc& d, const ConvBackwardData<T, true>& problem,
                                const MmaWork& work, bool whole_results) {
  using Tile = WgmmaTileOf<T, 0>;  // both have the same rows and depth
  const int64_t channels = d.K / d.groups, columns = problem.columns();
  const ConvPhase &down = problem.down, &right = problem.right;
  constexpr int64_t kMost = INT32_MAX;
  if (problem.depth == 0 || problem.rows() == 0 || columns == 0 || channels % Tile::kDepth != 0 ||
      problem.depth >= kMost || d.N >= kMost || !is_aligned(d.y.data) || !is_aligned(d.w.data) ||
      d.w.strides[0] >= int64_t{1} << 38) {
    return nullptr;
  }
  const auto taps = [](const ConvPhase& p) {
    const auto narrow = [](int64_t n) { return static_cast<int>(n); };
    return WgmmaTaps{narrow(p.taps), narrow((p.taps - 1) * p.result_step), narrow(-p.result_step),
                     narrow(p.tap), narrow(p.tap_step)};
  };
  const auto positions = [](const ConvPhase& p) {
    return WindowPositions{p.result - (p.taps - 1) * p.result_step, 1, p.count};
  };
  const PixelBoxes boxes{d.N, d.P, d.Q, d.K, positions(down), positions(right), Tile::kRows, Tile::kDepth};
  const int64_t most_offset =
      greatest((down.taps - 1) * down.result_step, (right.taps - 1) * right.result_step);
  const bool is_matrix = d.P * d.Q == 1 && down.count * right.count == 1 && down.taps * right.taps == 1 &&
                         down.result == 0 && right.result == 0;
  if (!is_matrix && !fits_pixel_boxes(boxes, most_offset)) return nullptr;
  if (!has_wgmma(op)) return nullptr;
  const int64_t sms = multiprocessors(op);
  const int shape = choose_wgmma(work, kWgmmaShapeCount<T>, sms);
  if (shape == kByMma) return nullptr;

  const auto windows = [](const WindowPositions& p) {
    return WgmmaWindows{FastDivisor(p.count), static_cast<int>(p.first), 1};
  };
  const WgmmaWalk walk{static_cast<int>(channels / Tile::kDepth),
                       channels,
                       taps(down),
                       taps(right),
                       windows(boxes.rows),
                       windows(boxes.columns)};
  const TensorMap weights = map_boxes(op, d.dtype, d.w.data,
                                      {{columns, 1, kSwizzledLines},
                                       {d.S, d.w.strides[3], 1},
                                       {d.R, d.w.strides[2], 1},
                                       {d.K, d.w.strides[0], Tile::kDepth}});
  WgmmaJob<ConvBackwardData<T, true>> job{
      {}, weights, problem, walk, static_cast<int>(problem.depth / Tile::kDepth), 0, 0, whole_results};
  if (is_matrix) {
    job.a = map_boxes(op, d.dtype, d.y.data, {{d.K, 1, Tile::kDepth}, {d.N, d.K, Tile::kRows}});
    run_wgmma<false>(op, job, shape, sms);
  } else {
    job.a = map_pixels(op, d.dtype, d.y.data, boxes);
    run_wgmma<true>(op, job, shape, sms);
  }
  return shape == 0 ? "cuda/conv2d_data_wgmma_128x128_nhwc" : "cuda/conv2d_data_wgmma_128x256_nhwc";
}
#define CNNEXT_WGMMA(T)                                                     \
  template const char* wgmma_backward_data<T>(const Op&, const Conv2dDesc&, \
                                              const ConvBackwardData<T, true>&, const MmaWork&, bool);
CNNEXT_WGMMA(float16)
CNNEXT_WGMMA(bfloat16)
#undef CNNEXT_WGMMA

}  // namespace cnnext::cuda
