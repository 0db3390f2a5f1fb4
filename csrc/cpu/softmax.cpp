#include "cpu/cpu.h"
#include "cpu/logit_columns.h"
#include "cpu/ops_ukernels.h"
#include "cpu/row_blocks.h"

namespace cnnext {
namespace {

void forward_columns(const SoftmaxDesc& d, Exec& exec) {
  const SoftmaxUkernels& kernels = ops_ukernels().softmax;
  const float* x = static_cast<const float*>(d.x.data);
  float* y = static_cast<float*>(d.y.data);
  for_logit_columns(d.outer, d.dim, d.inner, 1, exec,
                    [&](int64_t, int64_t at, int64_t, int64_t count, LogitColumns& columns) {
                      columns.load(x + at, count);
                      columns.sum_exponentials(!d.log);
                      float* const sum = columns.sum;
                      if (d.log) kernels.column_log(sum, count);
                      for (int64_t i = 0; i < count && !d.log; ++i) sum[i] = 1 / sum[i];
                      for (int64_t c = 0; c < d.dim; ++c) {
                        if (d.log)
                          kernels.column_shift(columns.copy(c), columns.most, sum, count,
                                               y + at + c * d.inner);
                        else
                          kernels.column_scale(columns.copy(c), sum, count, y + at + c * d.inner);
                      }
                    });
}

void backward_columns(const SoftmaxDesc& d, Exec& exec) {
  const SoftmaxUkernels& kernels = ops_ukernels().softmax;
  const float *grad_y = static_cast<const float*>(d.grad_y.data), *y = static_cast<const float*>(d.y.data);
  float* grad_x = static_cast<float*>(d.grad_x.data);
  for_logit_columns(d.outer, d.dim, d.inner, 2, exec,
                    [&](int64_t, int64_t at, int64_t, int64_t count, LogitColumns& columns) {
                      columns.copy_from(grad_y + at, count, 0);
                      columns.copy_from(y + at, count, 1);
                      columns.add_up([&](int64_t c, float* sums) {
                        kernels.column_dot(columns.copy(c), columns.copy(c, 1), count, d.log, sums);
                      });
                      for (int64_t c = 0; c < d.dim; ++c) {
                        kernels.column_gradient(columns.copy(c), columns.copy(c, 1), columns.sum, count,
                                                d.log, grad_x + at + c * d.inner);
                      }
                    });
}

}  // namespace

Ran cpu_softmax_forward(const SoftmaxDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  const RowBlocks blocks{d.outer, d.dim, d.inner};
  const SoftmaxUkernels& kernels = ops_ukernels().softmax;
  const float* x = static_cast<const float*>(d.x.data);
  float* y = static_cast<float*>(d.y.data);
  if (LogitColumns::suits(d.dim, d.inner)) {
    forward_columns(d, exec);
  } else if (d.dim > 0) {
    parallel_strands(exec, blocks.tasks(), blocks.dense() ? 0 : blocks.block() * d.dim,
                     [&](int64_t task, float* scratch) {
                       const int64_t begin = task * blocks.block();
                       const int64_t end = std::min(blocks.rows(), begin + blocks.block());
                       if (blocks.dense()) {
                         kernels.forward(x + begin * d.dim, y + begin * d.dim, end - begin, d.dim, d.log);
                         return;
                       }
                       blocks.gather(x, begin, end, scratch);
                       kernels.forward(scratch, scratch, end - begin, d.dim, d.log);
                       blocks.scatter(scratch, begin, end, y);
                     });
  }
  exec.ran(d.log ? CNNEXT_KERNEL_NAME("log_softmax") : CNNEXT_KERNEL_NAME("softmax"));
  return Ran::kDone;
}

Ran cpu_softmax_backward(const SoftmaxDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  const RowBlocks blocks{d.outer, d.dim, d.inner};
  const SoftmaxUkernels& kernels = ops_ukernels().softmax;
  const float *grad_y = static_cast<const float*>(d.grad_y.data), *y = static_cast<const float*>(d.y.data);
  float* grad_x = static_cast<float*>(d.grad_x.data);
  if (LogitColumns::suits(d.dim, d.inner)) {
    backward_columns(d, exec);
  } else if (d.dim > 0) {
    const int64_t size = blocks.block() * d.dim;
    parallel_strands(exec, blocks.tasks(), blocks.dense() ? 0 : 2 * size, [&](int64_t task, float* scratch) {
      const int64_t begin = task * blocks.block(), end = std::min(blocks.rows(), begin + blocks.block());
      if (blocks.dense()) {
        const int64_t at = begin * d.dim;
        kernels.backward(grad_y + at, y + at, grad_x + at, end - begin, d.dim, d.log);
        return;
      }
      float *grads = scratch, *values = scratch + size;
      blocks.gather(grad_y, begin, end, grads);
      blocks.gather(y, begin, end, values);
      kernels.backward(grads, values, grads, end - begin, d.dim, d.log);
      blocks.scatter(grads, begin, end, grad_x);
    });
  }
  exec.ran(d.log ? CNNEXT_KERNEL_NAME("log_softmax_grad") : CNNEXT_KERNEL_NAME("softmax_grad"));
  return Ran::kDone;
}

}  // namespace cnnext
