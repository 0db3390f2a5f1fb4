// The gradients of convolution, ReLU and max-pool in one: the gradient of the convolution's result is spread
// out from the windows some images at a time, and used while it is in a cache. The images' gradients of
// weights and bias are added in order.
#include "cpu/conv_part.h"
#include "cpu/conv_pool.h"
#include "cpu/cpu.h"
#include "cpu/exec_part.h"
#include "cpu/ref/ref.h"

namespace cnnext {
namespace {

class Backward {
 public:
  Backward(const ConvPoolDesc& desc, int64_t images, Exec& exec) : d_(desc), exec_(exec) {
    inner_ = exec.scratch_array<float>(images * desc.conv.K * desc.conv.P * desc.conv.Q);
    const bool several = images < desc.conv.N;
    w_part_ = several && present(desc.grad_w) ? exec.scratch_array<float>(numel(desc.grad_w)) : nullptr;
    bias_part_ = several && present(desc.grad_bias) ? exec.scratch_array<float>(desc.conv.K) : nullptr;
  }

  void run(int64_t n0, int64_t n1) {
    const ConvPoolStrip strip = conv_pool_images(d_, n0, n1);
    Pool2dDesc pool = strip_pool(d_, strip, inner_);
    pool.y = images_of(d_.pool.y, n0, n1);
    pool.indices = images_of(d_.pool.indices, n0, n1);
    part(cpu_max_pool2d_backward, ref_max_pool2d_backward, pool);

    // The descriptor's y is the gradient that the windows gave.
    Conv2dDesc conv = strip_conv(d_, strip, inner_);
    if (present(d_.grad_w)) {
      Conv2dDesc weights = conv;
      weights.w = d_.grad_w;
      weights.w_format = Format::kNCHW;
      if (n0) weights.w.data = w_part_;
      part(cpu_conv2d_backward_weights, ref_conv2d_backward_weights, weights);
      if (n0) add(w_part_, d_.grad_w);
    }
    if (present(d_.grad_bias)) {
      ChannelDesc bias{conv.N,      conv.K, conv.P * conv.Q, conv.dtype,
                       conv.format, conv.y, d_.grad_bias,    absent()};
      if (n0) bias.bias.data = bias_part_;
      part(cpu_bias_grad, ref_bias_grad, bias);
      if (n0) add(bias_part_, d_.grad_bias);
    }
    if (present(d_.grad_x)) {
      conv.x = images_of(d_.grad_x, n0, n1);
      part(cpu_conv2d_backward_data, ref_conv2d_backward_data, conv);
    }
  }

  // The last part's kernel is the call's.
  void report() const {
    exec_.borrows(report_.scratch_bytes);
    exec_.ran(report_.kernel);
  }

 private:
  template <class Desc>
  void part(Ran (*fast)(const Desc&, Exec&), Ran (*ref)(const Desc&, Exec&), const Desc& desc) {
    const PartReport part = run_part(exec_, false, [&](Exec& exec) { run_or_ref(fast, ref, desc, exec); });
    report_.include(part);
    report_.kernel = part.kernel;
  }

  void add(const float* from, const Tensor& to) {
    ElementwiseDesc add{};
    add.numel = numel(to);
    add.dtype = to.dtype;
    add.x = add.y = to;
    add.grad = to;
    add.grad.data = const_cast<float*>(from);
    run_part(exec_, false, [&](Exec& exec) { run_or_ref(cpu_add, ref_add, add, exec); });
  }

  const ConvPoolDesc& d_;
  Exec& exec_;
  float *inner_, *w_part_, *bias_part_;
  PartReport report_;
};

}  // namespace

Ran cpu_conv2d_relu_max_pool2d_backward(const ConvPoolDesc& desc, Exec& exec) {
  if (desc.conv.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  if (desc.conv.N == 0) {
    if (exec.planning()) return Ran::kDone;
    zero_conv_pool_gradients(desc);
    return Ran::kDone;
  }
  const int64_t images = conv_pool_backward_images(desc);
  exec.strips(images, desc.conv.P);
  Backward backward(desc, images, exec);
  const int64_t last = (desc.conv.N - 1) / images;
  // A plan looks at the first part and the last.
  for (int64_t i = 0; i <= last; i = exec.planning() && i < last ? last : i + 1) {
    backward.run(i * images, std::min(desc.conv.N, (i + 1) * images));
  }
  backward.report();
  return Ran::kDone;
}

}  // namespace cnnext
