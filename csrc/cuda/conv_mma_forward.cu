#include "cuda/mma_tuned.cuh"

namespace cnnext::cuda {
namespace {

template <class T, bool kNhwc, bool kChannelsFast, bool kWhole>
int forward(const Op& op, const Conv2dDesc& given) {
  const Conv2dDesc d = with_terms_in_order<T>(op, given, kChannelsFast);
  const ConvForward<T, kNhwc, kChannelsFast> problem(d);
  constexpr int kFirst = first_shape<ConvForward<T, kNhwc, kChannelsFast>, kWhole, true>();
  const MmaWork work{problem.rows(), problem.columns(), d.groups, strips_of<T>(problem.depth), kFirst, 1};
  const int chosen = choose_mma(work, multiprocessors(op)).shape;
  const bool whole_results = kNhwc && in_chunks<T>(d.y, d.K / d.groups) &&
                             is_aligned(problem.epilogue.bias) && is_aligned(problem.epilogue.residual);
  const auto run = [&](int shape) {
    run_choice<kWhole, true>(op, problem, shape == kAsTable ? chosen : shape, whole_results);
  };
  const int tuned = tuned_shape(op, MmaPass::kForward, d, kFirst, kFirstWgmma - 1, run);
  run(tuned);
  return tuned == kAsTable ? chosen : tuned;
}

template <class T>
int forward(const Op& op, const Conv2dDesc& d) {
  const int64_t channels = d.C / d.groups;
  if (d.format == Format::kNHWC) {
    return in_chunks<T>(d.x, channels) ? forward<T, true, true, true>(op, d)
                                       : forward<T, true, true, false>(op, d);
  }
  if (pixels_in_chunks<T>(d, d.x)) return forward<T, false, false, true>(op, d);
  return channels % kWidest<T> == 0 ? forward<T, false, true, true>(op, d)
                                    : forward<T, false, false, false>(op, d);
}

}  // namespace

const char* mma_forward(const Op& op, const Conv2dDesc& d) {
  int shape = 0;
  const bool runs = dispatch_mma(d, [&](auto t) { shape = forward<decltype(t)>(op, d); });
  return runs ? mma_name(MmaPass::kForward, d, shape) : nullptr;
}

}  // namespace cnnext::cuda
