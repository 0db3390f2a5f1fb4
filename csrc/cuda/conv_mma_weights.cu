#include "cuda/mma_tuned.cuh"

namespace cnnext::cuda {
namespace {

// Slices are of some strips at least, and take no more scratch than 64 MiB.
constexpr int64_t kLeastStrips = 4, kMostFloats = 1 << 24, kMostSlices = 512;

template <class T, bool kNhwc, bool kWhole>
int backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts) {
  const int64_t columns = d.C / d.groups * d.R * d.S, strips = strips_of<T>(d.N * d.P * d.Q);
  const int64_t most =
      least(least(strips / kLeastStrips, kMostFloats / greatest(d.K * columns, 1)), kMostSlices);
  const MmaWork work{d.K / d.groups, columns, d.groups, strips, kFirstShape<T, kWhole>, greatest(most, 1)};
  const MmaChoice choice = choose_mma(work, multiprocessors(op));
  const ConvBackwardWeights<T, kNhwc> problem(d, choice.slices,
                                              op.scratch<float>(choice.slices * d.K * columns));
  // The table's slices by any tile: what they are decides about bits.
  const auto run = [&](int shape) {
    run_choice<T, kWhole>(op, problem, shape == kAsTable ? choice.shape : shape, columns % kWidest<T> == 0);
  };
  const int tuned = tuned_shape(op, MmaPass::kWeights, d, kFirstShape<T, kWhole>, run);
  run(tuned);
  run_add_slices(op, problem, parts);
  return tuned == kAsTable ? choice.shape : tuned;
}

}  // namespace

const char* mma_backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts) {
  int shape = 0;
  const bool runs = dispatch_mma(d, [&](auto t, auto nhwc) {
    using T = decltype(t);
    constexpr bool kNhwc = decltype(nhwc)::value;
    if (kNhwc && in_chunks<T>(d.x, d.C / d.groups) && in_chunks<T>(d.y, d.K / d.groups)) {
      shape = backward_weights<T, kNhwc, kNhwc>(op, d, parts);
    } else {
      shape = backward_weights<T, kNhwc, false>(op, d, parts);
    }
  });
  return runs ? mma_name(MmaPass::kWeights, d, shape) : nullptr;
}

}  // namespace cnnext::cuda
