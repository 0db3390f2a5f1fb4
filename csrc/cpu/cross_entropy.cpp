// Cross-entropy straight from the logits: no log-softmax is stored. A position's loss is
// -sum over classes of factor * log-probability; the factors are those of ref.
#include <cmath>

#include "cpu/cpu.h"
#include "cpu/logit_columns.h"
#include "cpu/ops_ukernels.h"
#include "cpu/row_blocks.h"

namespace cnnext {
namespace {

const float* in(const Tensor& t) { return static_cast<const float*>(t.data); }

// What all positions of a call share.
class Problem {
 public:
  explicit Problem(const CrossEntropyDesc& desc)
      : d(desc),
        blocks(desc.format == Format::kNHWC ? RowBlocks{desc.N * desc.inner, desc.C, 1}
                                            : RowBlocks{desc.N, desc.C, desc.inner}),
        labels(desc.target_is_index ? static_cast<const int64_t*>(desc.target.data) : nullptr),
        weights(present(desc.weight) ? in(desc.weight) : nullptr),
        smoothing(desc.label_smoothing),
        uniform(desc.label_smoothing / static_cast<double>(desc.C)) {
    for (int64_t c = 0; c < d.C; ++c) total_weight += weight(c);
  }

  const CrossEntropyDesc& d;
  RowBlocks blocks;
  const int64_t* labels;  // nullptr: probabilities
  const float* weights;   // nullptr: all 1
  double smoothing, uniform, total_weight = 0;

  double weight(int64_t c) const { return weights ? weights[c] : 1; }
  bool ignored(int64_t row) const { return labels && labels[row] == d.ignore_index; }
  // The position's part of the mean's denominator.
  double share(int64_t row) const { return !labels ? 1 : ignored(row) ? 0 : weight(labels[row]); }
  // Factors of a row of probabilities.
  double fill_factors(const float* target, float* out) const {
    double sum = 0;
    for (int64_t c = 0; c < d.C; ++c) {
      const double p = smoothing > 0 ? target[c] * (1 - smoothing) + uniform : target[c];
      out[c] = static_cast<float>(p * weight(c));
      sum += out[c];
    }
    return sum;
  }
};

// Scratch of a strand: a block's logits and probabilities as rows, their norms, a row of factors.
struct Block {
  float *x, *target, *max, *sum, *factors;
  int64_t floats;

  Block(const Problem& p, void* scratch) {
    const int64_t rows = p.blocks.block(), size = p.blocks.dense() ? 0 : rows * p.d.C;
    ScratchParts parts(scratch);
    x = parts.take<float>(size);
    target = parts.take<float>(p.labels ? 0 : size);
    max = parts.take<float>(rows);
    sum = parts.take<float>(rows);
    factors = parts.take<float>(p.d.C);
    floats = parts.floats();
  }
};

// body(block, first row, rows, logits, probabilities or nullptr, scratch of the strand).
template <class Body>
void for_blocks(const Problem& p, Exec& exec, const Body& body) {
  const RowBlocks& blocks = p.blocks;
  parallel_strands(exec, blocks.tasks(), Block(p, nullptr).floats, [&](int64_t task, float* scratch) {
    const Block block(p, scratch);
    const int64_t begin = task * blocks.block(), end = std::min(blocks.rows(), begin + blocks.block());
    const float *x = in(p.d.x) + begin * p.d.C, *target = p.labels ? nullptr : in(p.d.target) + begin * p.d.C;
    if (!blocks.dense()) {
      blocks.gather(in(p.d.x), begin, end, block.x);
      if (!p.labels) blocks.gather(in(p.d.target), begin, end, block.target);
      x = block.x;
      target = p.labels ? nullptr : block.target;
    }
    ops_ukernels().softmax.norms(x, end - begin, p.d.C, block.max, block.sum);
    body(task, begin, end - begin, x, target, block);
  });
}

// row: of the call; r: of the block.
double row_loss(const Problem& p, int64_t row, int64_t r, const float* x, const float* target,
                const Block& b) {
  if (p.ignored(row)) return 0;
  const SoftmaxUkernels& kernels = ops_ukernels().softmax;
  const double log_sum = std::log(static_cast<double>(b.sum[r]));
  const float rest = static_cast<float>(log_sum);
  if (!p.labels) {
    p.fill_factors(target, b.factors);
    return -kernels.weighted(x, b.factors, p.d.C, b.max[r], rest);
  }
  const int64_t label = p.labels[row];
  const double hard = (static_cast<double>(x[label]) - b.max[r] - log_sum) * p.weight(label);
  if (p.smoothing == 0) return -hard;
  return -((1 - p.smoothing) * hard + p.uniform * kernels.weighted(x, p.weights, p.d.C, b.max[r], rest));
}

struct Sums {
  double loss = 0, share = 0;
};

double denominator(const Problem& p, Exec& exec) {
  if (p.d.C == 0) return 0;
  if (!p.labels) return static_cast<double>(p.blocks.rows());
  const int64_t block = 16384, blocks = (p.blocks.rows() + block - 1) / block;
  double* sums = exec.scratch_array<double>(blocks);
  exec.parallel_for(blocks, [&](int64_t i) {
    sums[i] = 0;
    for (int64_t row = i * block; row < std::min(p.blocks.rows(), (i + 1) * block); ++row)
      sums[i] += p.share(row);
  });
  double sum = 0;
  for (int64_t i = 0; i < blocks; ++i) sum += sums[i];
  return sum;
}

void row_gradient(const Problem& p, int64_t row, int64_t r, double scale, const float* x, const float* target,
                  const Block& b, float* grad_x) {
  const auto gradient = ops_ukernels().softmax.gradient;
  const auto share = [&](double factors) { return static_cast<float>(scale * factors / b.sum[r]); };
  if (p.ignored(row)) {  // 0, but NaN where a logit spoils the row
    gradient(x, nullptr, grad_x, p.d.C, b.max[r], 0 / b.sum[r], 0);
  } else if (!p.labels) {
    const float k = share(p.fill_factors(target, b.factors));
    gradient(x, b.factors, grad_x, p.d.C, b.max[r], k, static_cast<float>(scale));
  } else {
    const int64_t label = p.labels[row];
    const double hard = (1 - p.smoothing) * p.weight(label);
    gradient(x, p.weights, grad_x, p.d.C, b.max[r], share(hard + p.uniform * p.total_weight),
             static_cast<float>(scale * p.uniform));
    grad_x[label] -= static_cast<float>(scale * hard);
  }
}

// Positions side by side with a label each: the usual loss of images.
bool by_columns(const Problem& p) {
  return !p.blocks.dense() && p.labels && p.smoothing == 0 && LogitColumns::suits(p.d.C, p.d.inner);
}

int64_t forward_tasks(const Problem& p) {
  if (!by_columns(p)) return p.blocks.tasks();
  return p.d.N * ceil_div(p.d.inner, LogitColumns::block(p.d.C, p.d.inner));
}

void forward_columns(const Problem& p, float* loss, Sums* sums, Exec& exec) {
  for_logit_columns(p.d.N, p.d.C, p.d.inner, 1, exec,
                    [&](int64_t task, int64_t at, int64_t row, int64_t count, LogitColumns& columns) {
                      columns.load(in(p.d.x) + at, count);
                      columns.sum_exponentials(false);
                      ops_ukernels().softmax.column_log(columns.sum, count);
                      Sums mine;
                      for (int64_t i = 0; i < count; ++i, ++row) {
                        double value = 0;
                        if (!p.ignored(row)) {
                          const int64_t label = p.labels[row];
                          const double logit = columns.copy(label)[i];
                          value = -(logit - columns.most[i] - columns.sum[i]) * p.weight(label);
                        }
                        if (p.d.reduction == CNNEXT_REDUCTION_NONE) loss[row] = static_cast<float>(value);
                        mine.loss += value;
                        mine.share += p.share(row);
                      }
                      sums[task] = mine;
                    });
}

void backward_columns(const Problem& p, const float* grad_loss, double divisor, float* grad_x, Exec& exec) {
  const bool each = p.d.reduction == CNNEXT_REDUCTION_NONE;
  const auto scale = [&](int64_t row) { return p.share(row) * grad_loss[each ? row : 0] / divisor; };
  for_logit_columns(p.d.N, p.d.C, p.d.inner, 1, exec,
                    [&](int64_t, int64_t at, int64_t row, int64_t count, LogitColumns& columns) {
                      columns.load(in(p.d.x) + at, count);
                      columns.sum_exponentials(true);
                      // An ignored position's is 0, but NaN where a logit spoils it.
                      float* const factor = columns.sum;
                      for (int64_t i = 0; i < count; ++i) {
                        const double share = p.ignored(row + i) ? 0 : scale(row + i);
                        factor[i] = static_cast<float>(share / columns.sum[i]);
                      }
                      for (int64_t c = 0; c < p.d.C; ++c) {
                        ops_ukernels().softmax.column_scale(columns.copy(c), factor, count,
                                                            grad_x + at + c * p.d.inner);
                      }
                      for (int64_t i = 0; i < count; ++i) {
                        if (p.ignored(row + i)) continue;
                        const int64_t label = p.labels[row + i];
                        grad_x[at + label * p.d.inner + i] -= static_cast<float>(scale(row + i));
                      }
                    });
}

}  // namespace

Ran cpu_cross_entropy_forward(const CrossEntropyDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.C == 0) return Ran::kUnsupported;
  const Problem p(d);
  float* loss = static_cast<float*>(d.loss.data);
  const int64_t tasks = forward_tasks(p);
  Sums* sums = exec.scratch_array<Sums>(tasks);
  if (by_columns(p)) {
    forward_columns(p, loss, sums, exec);
  } else {
    for_blocks(
        p, exec,
        [&](int64_t task, int64_t begin, int64_t rows, const float* x, const float* target, const Block& b) {
          Sums mine;
          for (int64_t r = 0; r < rows; ++r) {
            const int64_t row = begin + r;
            const double value = row_loss(p, row, r, x + r * d.C, target ? target + r * d.C : nullptr, b);
            if (d.reduction == CNNEXT_REDUCTION_NONE) loss[row] = static_cast<float>(value);
            mine.loss += value;
            mine.share += p.share(row);
          }
          sums[task] = mine;
        });
  }
  if (d.reduction != CNNEXT_REDUCTION_NONE) {
    Sums total;
    for (int64_t i = 0; i < tasks; ++i) {
      total.loss += sums[i].loss;
      total.share += sums[i].share;
    }
    *loss = static_cast<float>(d.reduction == CNNEXT_REDUCTION_MEAN ? total.loss / total.share : total.loss);
  }
  exec.ran(CNNEXT_KERNEL_NAME("cross_entropy"));
  return Ran::kDone;
}

Ran cpu_cross_entropy_backward(const CrossEntropyDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.C == 0) return Ran::kUnsupported;
  const Problem p(d);
  const float* grad_loss = in(d.grad_loss);
  float* grad_x = static_cast<float*>(d.grad_x.data);
  const bool each = d.reduction == CNNEXT_REDUCTION_NONE;
  const double divisor = d.reduction == CNNEXT_REDUCTION_MEAN ? denominator(p, exec) : 1;
  if (by_columns(p)) {
    backward_columns(p, grad_loss, divisor, grad_x, exec);
    exec.ran(CNNEXT_KERNEL_NAME("cross_entropy_grad"));
    return Ran::kDone;
  }
  for_blocks(p, exec,
             [&](int64_t, int64_t begin, int64_t rows, const float* x, const float* target, const Block& b) {
               for (int64_t r = 0; r < rows; ++r) {
                 const int64_t row = begin + r, at = r * d.C;
                 // A gathered block is overwritten by its gradients.
                 float* out = p.blocks.dense() ? grad_x + row * d.C : b.x + at;
                 row_gradient(p, row, r, grad_loss[each ? row : 0] / divisor, x + at,
                              target ? target + at : nullptr, b, out);
               }
               if (!p.blocks.dense()) p.blocks.scatter(b.x, begin, begin + rows, grad_x);
             });
  exec.ran(CNNEXT_KERNEL_NAME("cross_entropy_grad"));
  return Ran::kDone;
}

}  // namespace cnnext
