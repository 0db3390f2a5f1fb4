// Convolution, ReLU and max-pool by what they are made of, with the inner results as a whole.
#include "cpu/conv_pool.h"

#include "core/pool_index.h"
#include "cpu/ref/ref.h"

namespace cnnext {
namespace {

void* inner_of(const ConvPoolDesc& d, Exec& exec) {
  const int64_t count = d.conv.N * d.conv.K * d.conv.P * d.conv.Q;
  return exec.scratch(static_cast<size_t>(count * dtype_size(d.conv.dtype)));
}

}  // namespace

Ran ref_conv2d_relu_max_pool2d_forward(const ConvPoolDesc& d, Exec& exec) {
  const ConvPoolStrip all = conv_pool_images(d, 0, d.conv.N);
  void* const inner = inner_of(d, exec);
  Conv2dDesc conv = strip_conv(d, all, inner);
  conv.activation = CNNEXT_ACT_RELU;
  ref_conv2d_forward(conv, exec);
  ref_max_pool2d_forward(strip_pool(d, all, inner), exec);
  if (present(d.pool.indices) && !exec.planning()) {
    dispatch_float(d.conv.dtype, [&](auto t) {
      const auto* y = static_cast<const decltype(t)*>(d.pool.y.data);
      for (int64_t i = 0; i < numel(d.pool.y); ++i) {
        if (y[i] <= 0) store_index(d.pool.indices.data, d.pool.index_dtype, i, kNoTap);
      }
    });
  }
  exec.ran("ref/conv2d_relu_max_pool2d_forward");
  return Ran::kDone;
}

Ran ref_conv2d_relu_max_pool2d_backward(const ConvPoolDesc& d, Exec& exec) {
  exec.ran("ref/conv2d_relu_max_pool2d_backward");
  if (d.conv.N == 0) {
    if (exec.planning()) return Ran::kDone;
    zero_conv_pool_gradients(d);
    return Ran::kDone;
  }
  const ConvPoolStrip all = conv_pool_images(d, 0, d.conv.N);
  void* const inner = inner_of(d, exec);
  ref_max_pool2d_backward(strip_pool(d, all, inner), exec);
  Conv2dDesc conv = strip_conv(d, all, inner);
  if (present(d.grad_w)) {
    Conv2dDesc weights = conv;
    weights.w = d.grad_w;
    weights.w_format = Format::kNCHW;
    ref_conv2d_backward_weights(weights, exec);
  }
  if (present(d.grad_bias)) {
    ref_bias_grad({conv.N, conv.K, conv.P * conv.Q, conv.dtype, conv.format, conv.y, d.grad_bias, absent()},
                  exec);
  }
  if (present(d.grad_x)) {
    conv.x = d.grad_x;
    ref_conv2d_backward_data(conv, exec);
  }
  exec.ran("ref/conv2d_relu_max_pool2d_backward");
  return Ran::kDone;
}

}  // namespace cnnext
