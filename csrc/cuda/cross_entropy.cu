// Cross-entropy of index and probability targets. Each block adds up the losses of its positions and their
// parts of the mean's denominator, and a last one adds up the blocks': the shape alone says how many there
// are, so the order is fixed. An index target that is no class cannot be reported without waiting for the
// device: its loss and gradient are NaN.
#include "cuda/logits.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {
namespace {

struct Targets {
  const void* data;
  int32_t dtype;
  const void* weight;  // may be null
  int32_t weight_dtype;
  int64_t C, ignore_index;
  float smoothing, uniform;  // uniform: smoothing / C
  bool is_index;

  explicit Targets(const CrossEntropyDesc& d)
      : data(d.target.data),
        dtype(d.target.dtype),
        weight(present(d.weight) ? d.weight.data : nullptr),
        weight_dtype(d.weight.dtype),
        C(d.C),
        ignore_index(d.ignore_index),
        smoothing(static_cast<float>(d.label_smoothing)),
        uniform(static_cast<float>(d.label_smoothing / static_cast<double>(d.C))),
        is_index(d.target_is_index != 0) {}

  // A position's class, in whatever integers it came; of a target of probabilities nothing.
  CNNEXT_DEVICE int64_t label(int64_t position) const {
    switch (is_index ? dtype : -1) {
      case CNNEXT_INT64:
        return static_cast<const int64_t*>(data)[position];
      case CNNEXT_INT32:
        return static_cast<const int32_t*>(data)[position];
      case CNNEXT_INT16:
        return static_cast<const int16_t*>(data)[position];
      case CNNEXT_UINT16:
        return static_cast<const uint16_t*>(data)[position];
      case CNNEXT_INT8:
        return static_cast<const int8_t*>(data)[position];
      case CNNEXT_UINT8:
        return static_cast<const uint8_t*>(data)[position];
      default:
        return 0;
    }
  }
  CNNEXT_DEVICE bool ignored(int64_t label) const { return is_index && label == ignore_index; }
  CNNEXT_DEVICE bool wrong(int64_t label) const {
    return is_index && !ignored(label) && (label < 0 || label >= C);
  }
  CNNEXT_DEVICE float weight_of(int64_t c) const {
    return weight ? load_parameter(weight, weight_dtype, c) : 1;
  }
  // A position's part of the mean's denominator.
  CNNEXT_DEVICE float share(int64_t label) const {
    if (!is_index) return 1;
    return ignored(label) ? 0 : wrong(label) ? NAN : weight_of(label);
  }
  // What the log-probability of class c is multiplied by, but for the sign.
  template <class T>
  CNNEXT_DEVICE float factor(int64_t label, int64_t at, int64_t c) const {
    if (!is_index) {
      const float p = to_float(static_cast<const T*>(data)[at]);
      return (smoothing > 0 ? p * (1 - smoothing) + uniform : p) * weight_of(c);
    }
    return (c == label ? (1 - smoothing) * weight_of(c) : 0) + uniform * weight_of(c);
  }
};

// The sum of losses, and of the parts of the mean's denominator.
using LossSums = Sums<2>;

CNNEXT_DEVICE void keep_block_sums(LossSums sums, LossSums* blocks) {
  merge_block(&sums);
  if (threadIdx.x == 0) blocks[blockIdx.x] = sums;
}

// blocks: the sums of each block, or null where each loss goes to `loss`.
template <class T, int kLanes>
__global__ void __launch_bounds__(kBlock)
    position_losses(Rows rows, Targets targets, const T* x, T* loss, LossSums* blocks) {
  LossSums sums{};
  for (int64_t row = first_item() / kLanes; row < rows.count; row += item_step() / kLanes) {
    const int64_t start = rows.start(row), label = targets.label(row);
    const LogSumExp norm = log_sum_exp<kLanes>(x + start, rows.length, rows.step);
    float sum = 0;
    if (targets.ignored(label)) {
      sum = 0;
    } else if (targets.wrong(label)) {
      sum = NAN;
    } else {
      // Only the label's log-probability enters where nothing is smoothed: the others may be infinite.
      const bool only_label = targets.is_index && targets.smoothing == 0;
      for (int64_t c = lane_of_row<kLanes>(); c < rows.length; c += kLanes) {
        if (only_label && c != label) continue;
        const int64_t at = start + c * rows.step;
        sum -= norm.log_probability(to_float(x[at])) * targets.template factor<T>(label, at, c);
      }
    }
    sum = group_sum<kLanes>(sum);
    if (lane_of_row<kLanes>() != 0) continue;
    if (blocks) {
      sums.merge({{sum, targets.share(label)}});
    } else {
      loss[row] = from_float<T>(sum);
    }
  }
  if (blocks) keep_block_sums(sums, blocks);
}

__global__ void __launch_bounds__(kBlock) position_shares(int64_t count, Targets targets, LossSums* blocks) {
  LossSums sums{};
  for (int64_t i = first_item(); i < count; i += item_step())
    sums.fields[1] += targets.share(targets.label(i));
  keep_block_sums(sums, blocks);
}

// One block: adds up the others' sums. *result is the losses' or their mean, *denominator the latter's;
// either may be null.
template <class T>
__global__ void __launch_bounds__(kBlock)
    add_blocks(int64_t count, const LossSums* blocks, bool mean, T* result, float* denominator) {
  LossSums sums{};
  for (int64_t i = threadIdx.x; i < count; i += kBlock) sums.merge(blocks[i]);
  merge_block(&sums);
  if (threadIdx.x != 0) return;
  if (result) *result = from_float<T>(mean ? sums.fields[0] / sums.fields[1] : sums.fields[0]);
  if (denominator) *denominator = sums.fields[1];
}

// log-softmax's backward of the gradient -scale * factor. denominator: null unless the loss is a mean.
template <class T, int kLanes>
__global__ void __launch_bounds__(kBlock)
    position_gradients(Rows rows, Targets targets, const T* x, const T* grad_loss, bool one_grad,
                       const float* denominator, T* grad_x) {
  for (int64_t row = first_item() / kLanes; row < rows.count; row += item_step() / kLanes) {
    const int64_t start = rows.start(row), label = targets.label(row);
    const bool dead = targets.ignored(label), wrong = targets.wrong(label);
    float scale = to_float(grad_loss[one_grad ? 0 : row]);
    if (denominator) scale /= *denominator;
    if (wrong) scale = NAN;
    const LogSumExp norm = log_sum_exp<kLanes>(x + start, rows.length, rows.step);
    float sum = 0;
    for (int64_t c = lane_of_row<kLanes>(); c < rows.length && !dead; c += kLanes) {
      sum -= scale * targets.template factor<T>(label, start + c * rows.step, c);
    }
    sum = group_sum<kLanes>(sum);
    for (int64_t c = lane_of_row<kLanes>(); c < rows.length; c += kLanes) {
      const int64_t at = start + c * rows.step;
      const float grad = dead ? 0 : -scale * targets.template factor<T>(label, at, c);
      grad_x[at] = from_float<T>(grad - norm.probability(to_float(x[at])) * sum);
    }
  }
}

Rows rows_of(const CrossEntropyDesc& d) {
  return d.format == Format::kNCHW ? rows_along(d.N, d.C, d.inner) : rows_of_pixels(d.N, d.C, d.inner);
}

// As many blocks as fill the largest device: what each of them leaves is added up by one.
int64_t blocks_of_sums(int64_t threads) {
  constexpr int64_t kEnough = 2048;
  return least(kEnough, blocks_for(threads, kBlock));
}

}  // namespace

Ran cross_entropy_forward(const CrossEntropyDesc& d, Exec& exec) {
  const Op op{"cross_entropy_forward", exec, d.x};
  const Rows rows = rows_of(d);
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    const bool each = d.reduction == CNNEXT_REDUCTION_NONE;
    dispatch_lanes(rows, [&](auto lanes) {
      constexpr int kLanes = decltype(lanes)::value;
      const int64_t threads = rows.count * kLanes;
      const int64_t count = each ? blocks_for(threads, kBlock) : blocks_of_sums(threads);
      LossSums* const blocks = each ? nullptr : op.scratch<LossSums>(count);
      if (each && rows.count == 0) return;
      launch_flat(op, position_losses<T, kLanes>, count, rows, Targets(d), data<const T>(d.x),
                  data<T>(d.loss), blocks);
      if (each) return;
      launch_flat(op, add_blocks<T>, 1, count, blocks, d.reduction == CNNEXT_REDUCTION_MEAN, data<T>(d.loss),
                  nullptr);
    });
  });
  return known ? op.done("cuda/cross_entropy_forward") : Ran::kUnsupported;
}

Ran cross_entropy_backward(const CrossEntropyDesc& d, Exec& exec) {
  const Op op{"cross_entropy_backward", exec, d.x};
  const Rows rows = rows_of(d);
  const bool known = dispatch_float(d.dtype, [&](auto t) {
    using T = decltype(t);
    if (rows.count * rows.length == 0) return;
    float* denominator = nullptr;
    if (d.reduction == CNNEXT_REDUCTION_MEAN) {
      const int64_t count = blocks_of_sums(rows.count);
      LossSums* const blocks = op.scratch<LossSums>(count);
      denominator = op.scratch<float>(1);
      launch_flat(op, position_shares, count, rows.count, Targets(d), blocks);
      launch_flat(op, add_blocks<T>, 1, count, blocks, false, nullptr, denominator);
    }
    dispatch_lanes(rows, [&](auto lanes) {
      constexpr int kLanes = decltype(lanes)::value;
      launch_flat(op, position_gradients<T, kLanes>, blocks_of_rows(rows, kLanes), rows, Targets(d),
                  data<const T>(d.x), data<const T>(d.grad_loss), d.reduction != CNNEXT_REDUCTION_NONE,
                  denominator, data<T>(d.grad_x));
    });
  });
  return known ? op.done("cuda/cross_entropy_backward") : Ran::kUnsupported;
}

}  // namespace cnnext::cuda
