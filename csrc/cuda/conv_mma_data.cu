#include "cuda/mma_tuned.cuh"

namespace cnnext::cuda {
namespace {

// The name of what ran, in the last phase by wgmma if there was one.
template <class T, bool kNhwc, bool kChannelsFast, bool kWhole>
const char* backward_data(const Op& op, const Conv2dDesc& given) {
  using Problem = ConvBackwardData<T, kNhwc, kChannelsFast>;
  constexpr int kFirst = first_shape<Problem, kWhole, true>();
  const Conv2dDesc d = with_channels_last<T>(op, given);
  const bool whole_results =
      kNhwc && in_chunks<T>(d.x, d.C / d.groups) && (!present(d.bias) || is_aligned(d.bias.data));
  const int64_t sms = multiprocessors(op);
  constexpr bool kMayWgmma = kNhwc && kWhole && sizeof(T) == 2;
  int last = 0;  // phase's tile
  const char* by_wgmma = nullptr;
  const auto run = [&](int shape) {
    for_each_phase(d, [&](const ConvPhase& down, const ConvPhase& right) {
      const Problem problem(d, down, right);
      const MmaWork work{problem.rows(), problem.columns(), d.groups, strips_of<T>(problem.depth), kFirst, 1};
      if constexpr (kMayWgmma) {
        const char* const ran =
            shape == kAsTable ? wgmma_backward_data(op, d, problem, work, whole_results) : nullptr;
        if (ran) {
          by_wgmma = ran;
          return;
        }
      }
      last = shape == kAsTable ? choose_mma(work, sms).shape : shape;
      run_choice<kWhole, true>(op, problem, last, whole_results);
    });
  };
  // Between wgmma and mma.sync bits may differ.
  const bool tunes = !(kMayWgmma && has_wgmma(op));
  run(tunes ? tuned_shape(op, MmaPass::kData, d, kFirst, run) : kAsTable);
  return by_wgmma ? by_wgmma : mma_name(MmaPass::kData, d, last);
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
