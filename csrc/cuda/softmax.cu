#include "cuda/logits.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {
namespace {

template <class T, int kLanes>
__global__ void __launch_bounds__(kBlock) softmax_forward_kernel(Rows rows, const T* x, T* y, bool log) {
  for (int64_t row = first_item() / kLanes; row < rows.count; row += item_step() / kLanes) {
    const int64_t start = rows.start(row);
    const LogSumExp norm = log_sum_exp<kLanes>(x + start, rows.length, rows.step);
    for (int64_t k = lane_of_row<kLanes>(); k < rows.length; k += kLanes) {
      const float value = to_float(x[start + k * rows.step]);
      y[start + k * rows.step] = from_float<T>(log ? norm.log_probability(value) : norm.probability(value));
    }
  }
}

// softmax: (grad - sum(grad * y)) * y; log-softmax: grad - exp(y) * sum(grad).
template <class T, int kLanes>
__global__ void __launch_bounds__(kBlock)
    softmax_backward_kernel(Rows rows, const T* y, const T* grad_y, T* grad_x, bool log) {
  for (int64_t row = first_item() / kLanes; row < rows.count; row += item_step() / kLanes) {
    const int64_t start = rows.start(row);
    float sum = 0;
    for (int64_t k = lane_of_row<kLanes>(); k < rows.length; k += kLanes) {
      const int64_t at = start + k * rows.step;
      sum += log ? to_float(grad_y[at]) : to_float(grad_y[at]) * to_float(y[at]);
    }
    sum = group_sum<kLanes>(sum);
    for (int64_t k = lane_of_row<kLanes>(); k < rows.length; k += kLanes) {
      const int64_t at = start + k * rows.step;
      const float grad = to_float(grad_y[at]), value = to_float(y[at]);
      grad_x[at] = from_float<T>(log ? grad - expf(value) * sum : (grad - sum) * value);
    }
  }
}

}  // namespace

Ran softmax_forward(const SoftmaxDesc& d, Exec& exec) {
  const Op op{"softmax_forward", exec, d.x};
  const Rows rows = rows_along(d.outer, d.dim, d.inner);
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (rows.count * rows.length == 0) return;
    dispatch_lanes(rows, [&](auto lanes) {
      constexpr int kLanes = decltype(lanes)::value;
      launch_flat(op, softmax_forward_kernel<T, kLanes>, blocks_of_rows(rows, kLanes), rows,
                  data<const T>(d.x), data<T>(d.y), d.log != 0);
    });
  });
  return known ? op.done("cuda/softmax_forward") : Ran::kUnsupported;
}

Ran softmax_backward(const SoftmaxDesc& d, Exec& exec) {
  const Op op{"softmax_backward", exec, d.y};
  const Rows rows = rows_along(d.outer, d.dim, d.inner);
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (rows.count * rows.length == 0) return;
    dispatch_lanes(rows, [&](auto lanes) {
      constexpr int kLanes = decltype(lanes)::value;
      launch_flat(op, softmax_backward_kernel<T, kLanes>, blocks_of_rows(rows, kLanes), rows,
                  data<const T>(d.y), data<const T>(d.grad_y), data<T>(d.grad_x), d.log != 0);
    });
  });
  return known ? op.done("cuda/softmax_backward") : Ran::kUnsupported;
}

}  // namespace cnnext::cuda
