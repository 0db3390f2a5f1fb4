#include "cuda/mma_tuned.cuh"

namespace cnnext::cuda {
namespace {

// The name of what ran.
template <class T, bool kNhwc, bool kChannelsFast, bool kWhole>
const char* backward_data(const Op& op, const Conv2dDesc& given) {
  using Problem = ConvBackwardData<T, kNhwc, kChannelsFast>;
  constexpr int kFirst = first_shape<Problem, kWhole, true>();
  const Conv2dDesc d = with_channels_last<T>(op, given);
  const bool whole_results =
      kNhwc && in_chunks<T>(d.x, d.C / d.groups) && (!present(d.bias) || is_aligned(d.bias.data));
  const int64_t sms = multiprocessors(op);
  constexpr bool kMayWgmma = kNhwc && kWhole && sizeof(T) == 2;
  // body(problem, the table's tile) for each phase.
  const auto for_each_problem = [&](const auto& body) {
    for_each_phase(d, [&](const ConvPhase& down, const ConvPhase& right) {
      const Problem problem(d, down, right);
      const MmaWork work{problem.rows(), problem.columns(), d.groups, strips_of<T>(problem.depth), kFirst, 1};
      int shape = kByMma;
      if constexpr (kMayWgmma) shape = wgmma_data_shape(op, d, problem, work);
      body(problem, shape == kByMma ? choose_mma(work, sms).shape : kFirstWgmma + shape);
    });
  };
  // Between wgmma and mma.sync bits may differ, so that the table decides between them.
  bool by_mma = false, by_wgmma = false;
  for_each_problem([&](const Problem&, int shape) { (shape < kFirstWgmma ? by_mma : by_wgmma) = true; });
  int ran = 0;  // in the last phase of those by wgmma, if there are any
  const auto run = [&](int wanted) {
    for_each_problem([&](const Problem& problem, int shape) {
      const bool takes = shape >= kFirstWgmma;
      if (wanted != kAsTable && takes == (wanted >= kFirstWgmma)) shape = wanted;
      if (takes || !by_wgmma) ran = shape;
      if constexpr (kMayWgmma) {
        if (takes) return run_wgmma_data(op, d, problem, shape - kFirstWgmma, whole_results);
      }
      run_choice<kWhole, true>(op, problem, shape, whole_results);
    });
  };
  run(tuned_shape(op, MmaPass::kData, d, by_mma ? kFirst : kFirstWgmma,
                  by_wgmma ? kShapeCount - 1 : kFirstWgmma - 1, run));
  return mma_name(MmaPass::kData, d, ran);
}

// The weights' channels lie side by side, and so do those of groups, which chunks must not straddle.
template <class T>
const char* backward_data(const Op& op, const Conv2dDesc& d) {
  const int64_t channels = d.K / d.groups;
  if (d.format == Format::kNHWC) {
    return in_chunks<T>(d.y, channels) ? backward_data<T, true, true, true>(op, d)
                                       : backward_data<T, true, true, false>(op, d);
  }
  if (pixels_in_chunks<T>(d, d.y)) return backward_data<T, false, false, true>(op, d);
  return channels % kWidest<T> == 0 ? backward_data<T, false, true, true>(op, d)
                                    : backward_data<T, false, false, false>(op, d);
}

}  // namespace

const char* mma_backward_data(const Op& op, const Conv2dDesc& d) {
  const char* ran = nullptr;
  dispatch_mma(d, [&](auto t) { ran = backward_data<decltype(t)>(op, d); });
  return ran;
}

}  // namespace cnnext::cuda
