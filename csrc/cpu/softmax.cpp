#include "cpu/cpu.h"
#include "cpu/ops_ukernels.h"
#include "cpu/row_blocks.h"

namespace cnnext {

Ran cpu_softmax_forward(const SoftmaxDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  const RowBlocks blocks{d.outer, d.dim, d.inner};
  const SoftmaxUkernels& kernels = ops_ukernels().softmax;
  const float* x = static_cast<const float*>(d.x.data);
  float* y = static_cast<float*>(d.y.data);
  if (d.dim > 0) {
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
  if (d.dim > 0) {
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
