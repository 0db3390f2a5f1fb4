#include "cuda/mma_banks.cuh"
#include "cuda/mma_tuned.cuh"
#include "cuda/wgmma_gemm.cuh"

namespace cnnext::cuda {
namespace {

static_assert(slab_is_free<WgmmaTileOf<float16, 0>>() && slab_is_free<WgmmaTileOf<float16, 1>>() &&
              slab_is_free<WgmmaTileOf<float, 0>>());

// The windows' pixels that a tap takes. Their positions are what the results' shape says, so that padding
// behind the image need not be known.
PixelBoxes boxes_of(const Conv2dDesc& d, int box_pixels, int box_channels) {
  return {d.N,        d.H,         d.W, d.C, {-d.pad_top, d.stride_h, d.P}, {-d.pad_left, d.stride_w, d.Q},
          box_pixels, box_channels};
}

// One pixel a window, at the same place: then `a` is a matrix.
bool is_matrix(const Conv2dDesc& d) { return d.H * d.W == 1 && d.R * d.S == 1 && d.P * d.Q == 1; }

template <class T>
bool takes(const Conv2dDesc& d) {
  constexpr int64_t kMost = INT32_MAX;
  const int64_t channels = d.C / d.groups, terms = channels * d.R * d.S;
  if (d.format != Format::kNHWC || channels == 0 || channels % WgmmaTileOf<T, 0>::kDepth != 0 ||
      terms >= kMost || d.N >= kMost || d.K + 256 >= kMost || !is_aligned(d.x.data)) {
    return false;
  }
  if (d.N * d.P * d.Q == 0 || d.K == 0) return false;
  if (is_matrix(d)) return true;
  const int64_t most_offset = greatest((d.R - 1) * d.dilation_h, (d.S - 1) * d.dilation_w);
  return fits_pixel_boxes(boxes_of(d, 1, 1), most_offset);
}

template <class T>
void forward(const Op& op, const Conv2dDesc& d, int shape, int64_t sms) {
  using Tile = WgmmaTileOf<T, 0>;  // both have the same rows and depth
  using Problem = ConvForward<T, true>;
  const Problem problem(d);
  const int64_t channels = d.C / d.groups, terms = channels * d.R * d.S;
  const auto narrow = [](int64_t n) { return static_cast<int>(n); };
  const auto taps = [&](int64_t count, int64_t dilation) {
    return WgmmaTaps{narrow(count), 0, narrow(worth(dilation, count)), 0, 0};
  };
  const WgmmaWalk walk{narrow(channels / Tile::kDepth),
                       channels,
                       taps(d.R, d.dilation_h),
                       taps(d.S, d.dilation_w),
                       {FastDivisor(d.P), narrow(-d.pad_top), narrow(d.stride_h)},
                       {FastDivisor(d.Q), narrow(-d.pad_left), narrow(d.stride_w)}};
  const bool whole_results = in_chunks<T>(d.y, d.K / d.groups) && is_aligned(problem.epilogue.bias) &&
                             is_aligned(problem.epilogue.residual);
  const TensorMap weights = map_boxes(
      op, d.dtype, d.w.data, {{terms, 1, Tile::kDepth}, {d.K, d.w.strides[0], kWgmmaShapes[shape].columns}});
  WgmmaJob<Problem> job{{}, weights, problem, walk, narrow(terms / Tile::kDepth), 0, 0, whole_results};
  if (is_matrix(d)) {
    job.a = map_boxes(op, d.dtype, d.x.data, {{d.C, 1, Tile::kDepth}, {d.N, d.C, Tile::kRows}});
    run_wgmma<false>(op, job, shape, sms);
  } else {
    job.a = map_pixels(op, d.dtype, d.x.data, boxes_of(d, Tile::kRows, Tile::kDepth));
    run_wgmma<true>(op, job, shape, sms);
  }
}

}  // namespace

const char* wgmma_forward(const Op& op, const Conv2dDesc& d) {
  if (d.dtype == CNNEXT_FLOAT32 && services->float32_matmul_precision() == CNNEXT_FLOAT32_HIGHEST) {
    return nullptr;
  }
  int shape = kByMma;
  dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (!takes<T>(d) || !has_wgmma(op)) return;
    const int64_t sms = multiprocessors(op);
    const MmaWork work{d.N * d.P * d.Q,
                       d.K / d.groups,
                       d.groups,
                       strips_of<T>(d.C / d.groups * d.R * d.S),
                       kFirstShape<T, true>,
                       1};
    shape = choose_wgmma(work, kWgmmaShapeCount<T>, sms);
    if (shape == kByMma) return;
    const Conv2dDesc ordered = with_terms_in_order<T>(op, d, true);
    const auto run = [&](int wanted) {
      if (wanted != kAsTable) shape = wanted - kFirstWgmma;
      forward<T>(op, ordered, shape, sms);
    };
    const int table = shape, tuned = tuned_shape(op, MmaPass::kForward, d, kFirstWgmma,
                                                 kFirstWgmma + kWgmmaShapeCount<T> - 1, run);
    shape = table;
    run(tuned);
  });
  return shape == kByMma ? nullptr : mma_name(MmaPass::kForward, d, kFirstWgmma + shape);
}

}  // namespace cnnext::cuda
