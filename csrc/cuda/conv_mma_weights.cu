#include "cuda/mma_tuned.cuh"

namespace cnnext::cuda {
namespace {

// Slices are of some strips at least, and take no more scratch than 64 MiB.
constexpr int64_t kLeastStrips = 4, kMostFloats = 1 << 24, kMostSlices = 512;

template <class T, bool kNhwc, bool kWholeY, bool kWholeX>
int backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts) {
  const int64_t columns = d.C / d.groups * d.R * d.S, strips = strips_of<T>(d.N * d.P * d.Q);
  const int64_t most =
      least(least(strips / kLeastStrips, kMostFloats / greatest(d.K * columns, 1)), kMostSlices);
  constexpr int kFirst = first_shape<ConvBackwardWeights<T, kNhwc>, kWholeY, kWholeX>();
  const MmaWork work{d.K / d.groups, columns, d.groups, strips, kFirst, greatest(most, 1)};
  const MmaChoice choice = choose_mma(work, multiprocessors(op));
  const ConvBackwardWeights<T, kNhwc> problem(d, choice.slices,
                                              op.scratch<float>(choice.slices * d.K * columns));
  // The table's slices by any tile: what they are decides about bits.
  const auto run = [&](int shape) {
    run_choice<kWholeY, kWholeX>(op, problem, shape == kAsTable ? choice.shape : shape,
                                 columns % kWidest<T> == 0);
  };
  const int tuned = tuned_shape(op, MmaPass::kWeights, d, kFirst, kFirstWgmma - 1, run);
  run(tuned);
  run_add_slices(op, problem, parts);
  return tuned == kAsTable ? choice.shape : tuned;
}

template <class T>
int backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts) {
  if (d.format == Format::kNCHW) {
    return d.P * d.Q % kWidest<T> == 0 && is_aligned(d.y.data)
               ? backward_weights<T, false, true, false>(op, d, parts)
               : backward_weights<T, false, false, false>(op, d, parts);
  }
  if (!in_chunks<T>(d.y, d.K / d.groups)) return backward_weights<T, true, false, false>(op, d, parts);
  return in_chunks<T>(d.x, d.C / d.groups) ? backward_weights<T, true, true, true>(op, d, parts)
                                           : backward_weights<T, true, true, false>(op, d, parts);
}

}  // namespace

const char* mma_backward_weights(const Op& op, const Conv2dDesc& d, const PartSum& parts) {
  int shape = 0;
  const bool runs = dispatch_mma(d, [&](auto t) { shape = backward_weights<decltype(t)>(op, d, parts); });
  return runs ? mma_name(MmaPass::kWeights, d, shape) : nullptr;
}

}  // namespace cnnext::cuda
