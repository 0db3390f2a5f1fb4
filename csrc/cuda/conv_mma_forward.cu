#include "cuda/mma_tuned.cuh"

namespace cnnext::cuda {
namespace {

template <class T, bool kNhwc, bool kWhole>
int forward(const Op& op, const Conv2dDesc& given) {
  const Conv2dDesc d = with_terms_in_order<T>(op, given);
  const ConvForward<T, kNhwc> problem(d);
  const MmaWork work{
      problem.rows(), problem.columns(), d.groups, strips_of<T>(problem.depth), kFirstShape<T, kWhole>, 1};
  const int chosen = choose_mma(work, multiprocessors(op)).shape;
  const bool whole_results = kNhwc && in_chunks<T>(d.y, d.K / d.groups) &&
                             is_aligned(problem.epilogue.bias) && is_aligned(problem.epilogue.residual);
  const auto run = [&](int shape) {
    run_choice<T, kWhole>(op, problem, shape == kAsTable ? chosen : shape, whole_results);
  };
  const int tuned = tuned_shape(op, MmaPass::kForward, d, kFirstShape<T, kWhole>, run);
  run(tuned);
  return tuned == kAsTable ? chosen : tuned;
}

}  // namespace

const char* mma_forward(const Op& op, const Conv2dDesc& d) {
  int shape = 0;
  const bool runs = dispatch_mma(d, [&](auto t, auto nhwc) {
    using T = decltype(t);
    constexpr bool kNhwc = decltype(nhwc)::value;
    if (kNhwc && in_chunks<T>(d.x, d.C / d.groups)) {
      shape = forward<T, kNhwc, kNhwc>(op, d);
    } else {
      shape = forward<T, kNhwc, false>(op, d);
    }
  });
  return runs ? mma_name(MmaPass::kForward, d, shape) : nullptr;
}

}  // namespace cnnext::cuda
