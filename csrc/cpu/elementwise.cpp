// Activations, sums and dropout over flat runs.
#include "cpu/cpu.h"
#include "cpu/flat_tasks.h"
#include "cpu/ops_ukernels.h"
#include "cpu/philox.h"

namespace cnnext {
namespace {

const float* in(const Tensor& t) { return static_cast<const float*>(t.data); }
float* out(const Tensor& t) { return static_cast<float*>(t.data); }

bool is_cheap(int32_t kind) { return kind <= CNNEXT_ACT_LEAKY_RELU; }

void run_flat(const ElementwiseDesc& d, bool cheap, void (*kernel)(const FlatArgs&), Exec& exec) {
  const float *x = in(d.x), *grad = present(d.grad) ? in(d.grad) : nullptr;
  float* y = out(d.y);
  // In place there is nothing to gain: the line is in the cache.
  const bool stream = cheap && d.numel * int64_t{sizeof(float)} >= kStreamBytes && y != x && y != grad;
  for_chunks(exec, d.numel, cheap ? kCheapChunk : kMathChunk, [&](int64_t begin, int64_t end) {
    kernel({x + begin, grad ? grad + begin : nullptr, y + begin, end - begin, static_cast<float>(d.alpha),
            stream});
  });
}

constexpr KernelName kForwardNames[kActivationKinds] = {
    {nullptr, nullptr, nullptr},       CNNEXT_KERNEL_NAMES("relu"),    CNNEXT_KERNEL_NAMES("relu6"),
    CNNEXT_KERNEL_NAMES("leaky_relu"), CNNEXT_KERNEL_NAMES("gelu"),    CNNEXT_KERNEL_NAMES("gelu_tanh"),
    CNNEXT_KERNEL_NAMES("silu"),       CNNEXT_KERNEL_NAMES("sigmoid"), CNNEXT_KERNEL_NAMES("tanh"),
};
constexpr KernelName kBackwardNames[kActivationKinds] = {
    {nullptr, nullptr, nullptr},       CNNEXT_KERNEL_NAMES("relu_grad"),
    CNNEXT_KERNEL_NAMES("relu6_grad"), CNNEXT_KERNEL_NAMES("leaky_relu_grad"),
    CNNEXT_KERNEL_NAMES("gelu_grad"),  CNNEXT_KERNEL_NAMES("gelu_tanh_grad"),
    CNNEXT_KERNEL_NAMES("silu_grad"),  CNNEXT_KERNEL_NAMES("sigmoid_grad"),
    CNNEXT_KERNEL_NAMES("tanh_grad"),
};

}  // namespace

Ran cpu_activation_forward(const ElementwiseDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  run_flat(d, is_cheap(d.kind), ops_ukernels().elementwise.forward[d.kind], exec);
  exec.ran(of_active_isa(kForwardNames[d.kind]));
  return Ran::kDone;
}

Ran cpu_activation_backward(const ElementwiseDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  run_flat(d, is_cheap(d.kind), ops_ukernels().elementwise.backward[d.kind], exec);
  exec.ran(of_active_isa(kBackwardNames[d.kind]));
  return Ran::kDone;
}

Ran cpu_add(const ElementwiseDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  run_flat(d, true, ops_ukernels().elementwise.add, exec);
  exec.ran(CNNEXT_KERNEL_NAME("add"));
  return Ran::kDone;
}

// The words of a stretch are drawn from whole groups of 8 blocks; offset moves where in the first group it
// begins.
Ran cpu_dropout(const ElementwiseDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  constexpr int64_t kStretch = 1024, kGroup = 32;
  const ElementwiseUkernels& kernels = ops_ukernels().elementwise;
  const uint64_t threshold = dropout_threshold(d.alpha);
  const float scale = static_cast<float>(dropout_scale(d.alpha));
  for_chunks(exec, d.numel, kMathChunk, [&](int64_t begin, int64_t end) {
    alignas(64) uint32_t words[kStretch + kGroup];
    for (int64_t at = begin; at < end; at += kStretch) {
      const int64_t count = std::min(kStretch, end - at);
      const uint64_t number = d.offset + static_cast<uint64_t>(at);
      const int64_t skip = static_cast<int64_t>(number % 4);
      if (threshold) kernels.philox(number / 4, d.seed, (skip + count + kGroup - 1) / kGroup, words);
      kernels.dropout({in(d.x) + at, out(d.y) + at, count, words + skip, threshold, scale});
    }
  });
  exec.ran(CNNEXT_KERNEL_NAME("dropout"));
  return Ran::kDone;
}

}  // namespace cnnext
