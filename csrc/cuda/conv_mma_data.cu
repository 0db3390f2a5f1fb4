#include "cuda/mma_tuned.cuh"

namespace cnnext::cuda {
namespace {

constexpr int kByWgmma = kMmaShapeCount;  // in place of a shape

template <class T, bool kNhwc, bool kWhole>
int backward_data(const Op& op, const Conv2dDesc& given) {
  const Conv2dDesc d = with_channels_last<T>(op, given);
  const bool whole_results =
      kNhwc && in_chunks<T>(d.x, d.C / d.groups) && (!present(d.bias) || is_aligned(d.bias.data));
  const int64_t sms = multiprocessors(op);
  constexpr bool kMayWgmma = kWhole && sizeof(T) == 2;
  int last = 0;           // phase's tile
  bool by_wgmma = false;  // some phase
  const auto run = [&](int shape) {
    for_each_phase(d, [&](const ConvPhase& down, const ConvPhase& right) {
      const ConvBackwardData<T, kNhwc> problem(d, down, right);
      const MmaWork work{problem.rows(),
                         problem.columns(),
                         d.groups,
                         strips_of<T>(problem.depth),
                         kFirstShape<T, kWhole>,
                         1};
      if constexpr (kMayWgmma) {
        if (shape == kAsTable && wgmma_backward_data(op, d, problem, work, whole_results)) {
          by_wgmma = true;
          return;
        }
      }
      last = shape == kAsTable ? choose_mma(work, sms).shape : shape;
      run_choice<T, kWhole>(op, problem, last, whole_results);
    });
  };
  // Between wgmma and mma.sync bits may differ.
  const bool tunes = !(kMayWgmma && has_wgmma(op));
  run(tunes ? tuned_shape(op, MmaPass::kData, d, kFirstShape<T, kWhole>, run) : kAsTable);
  return by_wgmma ? kByWgmma : last;
}

}  // namespace

const char* mma_backward_data(const Op& op, const Conv2dDesc& d) {
  int shape = 0;
  const bool runs = dispatch_mma(d, [&](auto t, auto nhwc) {
    using T = decltype(t);
    constexpr bool kNhwc = decltype(nhwc)::value;
    // The weights' channels lie side by side, and so do those of groups, which chunks must not straddle.
    if (kNhwc && in_chunks<T>(d.y, d.K / d.groups)) {
      shape = backward_data<T, kNhwc, kNhwc>(op, d);
    } else {
      shape = backward_data<T, kNhwc, false>(op, d);
    }
  });
  if (shape == kByWgmma) return "cuda/conv2d_data_wgmma_128x128_nhwc";
  return runs ? mma_name(MmaPass::kData, d, shape) : nullptr;
}

}  // namespace cnnext::cuda
