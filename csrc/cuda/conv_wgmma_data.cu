#include "cuda/conv_mma_parts.cuh"
#include "cuda/wgmma_gemm.cuh"

namespace cnnext::cuda {

namespace {

// A phase is a convolution of stride 1 with taps in the other direction, so that the last one's offset is 0.
WindowPositions positions(const ConvPhase& p) {
  return {p.result - (p.taps - 1) * p.result_step, 1, p.count};
}
template <class T>
PixelBoxes boxes_of(const Conv2dDesc& d, const ConvBackwardData<T, true>& problem) {
  using Tile = WgmmaTileOf<T, 0>;  // all have the same rows and depth
  return {d.N, d.P, d.Q, d.K, positions(problem.down), positions(problem.right), Tile::kRows, Tile::kDepth};
}
bool is_matrix(const Conv2dDesc& d, const ConvPhase& down, const ConvPhase& right) {
  return d.P * d.Q == 1 && down.count * right.count == 1 && down.taps * right.taps == 1 && down.result == 0 &&
         right.result == 0;
}

}  // namespace

template <class T>
int wgmma_data_shape(const Op& op, const Conv2dDesc& d, const ConvBackwardData<T, true>& problem,
                     const MmaWork& work) {
  const ConvPhase &down = problem.down, &right = problem.right;
  constexpr int64_t kMost = INT32_MAX;
  if (problem.depth == 0 || problem.rows() == 0 || problem.columns() == 0 ||
      d.K / d.groups % WgmmaTileOf<T, 0>::kDepth != 0 || problem.depth >= kMost || d.N >= kMost ||
      !is_aligned(d.y.data) || !is_aligned(d.w.data) || d.w.strides[0] >= int64_t{1} << 38) {
    return kByMma;
  }
  const int64_t most_offset =
      greatest((down.taps - 1) * down.result_step, (right.taps - 1) * right.result_step);
  if (!is_matrix(d, down, right) && !fits_pixel_boxes(boxes_of(d, problem), most_offset)) return kByMma;
  if (!has_wgmma(op)) return kByMma;
  return choose_wgmma(work, kWgmmaShapeCount<T>, multiprocessors(op));
}

template <class T>
void run_wgmma_data(const Op& op, const Conv2dDesc& d, const ConvBackwardData<T, true>& problem, int shape,
                    bool whole_results) {
  using Tile = WgmmaTileOf<T, 0>;
  const int64_t channels = d.K / d.groups, sms = multiprocessors(op);
  const auto taps = [](const ConvPhase& p) {
    const auto narrow = [](int64_t n) { return static_cast<int>(n); };
    return WgmmaTaps{narrow(p.taps), narrow((p.taps - 1) * p.result_step), narrow(-p.result_step),
                     narrow(p.tap), narrow(p.tap_step)};
  };
  const auto windows = [](const WindowPositions& p) {
    return WgmmaWindows{FastDivisor(p.count), static_cast<int>(p.first), 1};
  };
  const PixelBoxes boxes = boxes_of(d, problem);
  const WgmmaWalk walk{static_cast<int>(channels / Tile::kDepth),
                       channels,
                       taps(problem.down),
                       taps(problem.right),
                       windows(boxes.rows),
                       windows(boxes.columns)};
  const TensorMap weights = map_boxes(op, d.dtype, d.w.data,
                                      {{problem.columns(), 1, kSwizzledLines},
                                       {d.S, d.w.strides[3], 1},
                                       {d.R, d.w.strides[2], 1},
                                       {d.K, d.w.strides[0], Tile::kDepth}});
  WgmmaJob<ConvBackwardData<T, true>> job{
      {}, weights, problem, walk, static_cast<int>(problem.depth / Tile::kDepth), 0, 0, whole_results};
  if (is_matrix(d, problem.down, problem.right)) {
    job.a = map_boxes(op, d.dtype, d.y.data, {{d.K, 1, Tile::kDepth}, {d.N, d.K, Tile::kRows}});
    run_wgmma<false>(op, job, shape, sms);
  } else {
    job.a = map_pixels(op, d.dtype, d.y.data, boxes);
    run_wgmma<true>(op, job, shape, sms);
  }
}
#define CNNEXT_WGMMA(T)                                                                            \
  template int wgmma_data_shape<T>(const Op&, const Conv2dDesc&, const ConvBackwardData<T, true>&, \
                                   const MmaWork&);                                                \
  template void run_wgmma_data<T>(const Op&, const Conv2dDesc&, const ConvBackwardData<T, true>&, int, bool);
CNNEXT_WGMMA(float16)
CNNEXT_WGMMA(bfloat16)
#undef CNNEXT_WGMMA

}  // namespace cnnext::cuda
