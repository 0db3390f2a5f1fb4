// Convolution on the CPU: the list of algorithms, best first, for forward and backward-data.
#include <cassert>
#include <new>

#include "core/memory.h"
#include "cpu/conv2d_inner.h"
#include "cpu/conv2d_k_driver.h"
#include "cpu/conv2d_p.h"
#include "cpu/conv_autotune.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "cpu/depthwise.h"
#include "cpu/winograd.h"

namespace cnnext {

int32_t conv_activation_flags(int32_t activation) {
  switch (activation) {
    case CNNEXT_ACT_RELU:
      return kConvKRelu;
    case CNNEXT_ACT_RELU6:
      return kConvKRelu6;
    case CNNEXT_ACT_LEAKY_RELU:
      return kConvKLeakyRelu;
    default:
      return 0;
  }
}

bool conv_activation_is_slow(int32_t activation) {
  return activation != CNNEXT_ACT_NONE && !conv_activation_flags(activation);
}

void conv_activate(int32_t activation, float alpha, float* values, int64_t count) {
  ukernels().activation.run(activation, alpha, values, values, count);
}

namespace {

// What a packed handle's blob is: this, and the floats behind it.
struct alignas(64) KernelBlob {
  PackedConvWeight packed;
};
constexpr int32_t kBlobOfKernelK = 1;

// The handle's packed weights, or nullptr where there are none that lie as `layout` has them.
const PackedConvWeight* kept_weight(const void* handle, const WeightLayout& layout) {
  if (!handle) return nullptr;
  const PackedBlob& blob = static_cast<const cnnext_packed_weight*>(handle)->packed;
  if (!blob.blob || blob.kind != kBlobOfKernelK || blob.isa != static_cast<int32_t>(active_isa()))
    return nullptr;
  const PackedConvWeight& packed = static_cast<const KernelBlob*>(blob.blob)->packed;
  if (packed.rows != layout.rows || packed.split != layout.split) return nullptr;
  return layout.split == 1 || packed.wide == layout.wide ? &packed : nullptr;
}

const ConvKUkernels& kernels_of(const ConvProblem& problem) {
  return problem.pairs ? problem.pairs->conv_k : ukernels().conv_k;
}

void run_k_kernel(const Conv2dDesc& desc, ConvProblem problem, const void* handle, Exec& exec) {
  // Wide taps read zeros for padding, which an infinite weight must not meet.
  for (const bool assume_finite : {true, false}) {
    const ConvForm form = conv_form(problem, assume_finite, handle != nullptr);
    const ChannelBlocks blocks(problem, form, kernels_of(problem));
    const WeightLayout layout = weight_layout(problem, form, blocks, exec);
    PackedConvWeight packed;
    if (form.pack_late) {
      packed.finite = false;
    } else if (const PackedConvWeight* kept = kept_weight(handle, layout)) {
      packed = *kept;
    } else {
      load_half_weight(desc, &problem, exec);
      packed = pack_conv_weight(problem, blocks, layout,
                                exec.scratch_array<float>(packed_floats(problem, blocks, layout)), exec);
    }
    if ((form.wide || form.planes) && assume_finite && !packed.finite) continue;
    if (form.planes) return run_conv_p(problem, blocks, layout, packed, exec);
    if (!form.pack_late && conv_p_may(problem, assume_finite)) exec.offers(ConvVariant::kPlanes);
    exec.ran(blocks.tile(0).name);
    return run_conv_k(problem, form, blocks, layout, packed, exec);
  }
}

bool conv_k_supports(const Conv2dDesc& desc) { return desc.dtype == CNNEXT_FLOAT32 || is_half(desc.dtype); }
void conv_k_forward(const Conv2dDesc& desc, Exec& exec) {
  if (winograd_may_forward(desc)) exec.offers(ConvVariant::kWinograd);
  run_k_kernel(desc, forward_problem(desc, exec), desc.packed, exec);
}
void conv_k_backward_data(const Conv2dDesc& desc, Exec& exec) {
  if (winograd_may_backward_data(desc)) exec.offers(ConvVariant::kWinograd);
  run_k_kernel(desc, backward_data_problem(desc, exec), nullptr, exec);
}

void winograd_or_direct_forward(const Conv2dDesc& desc, Exec& exec) {
  if (!winograd_forward(desc, exec)) conv_k_forward(desc, exec);
}
void winograd_or_direct_backward_data(const Conv2dDesc& desc, Exec& exec) {
  if (!winograd_backward_data(desc, exec)) conv_k_backward_data(desc, exec);
}

struct Algorithm {
  const char* name;
  bool (*supports)(const Conv2dDesc& desc);
  void (*run)(const Conv2dDesc& desc, Exec& exec);
};

constexpr Algorithm kForward[] = {
    {"depthwise", depthwise_supports, depthwise_forward},
    {"depthwise_half", depthwise_half_supports, depthwise_half_forward},
    {"inner_product", inner_product_supports_forward, inner_product_forward},
    {"winograd", winograd_supports_forward, winograd_or_direct_forward},
    {"conv2d_k", conv_k_supports, conv_k_forward},
};
constexpr Algorithm kBackwardData[] = {
    {"depthwise", depthwise_supports, depthwise_backward_data},
    {"depthwise_half", depthwise_half_supports, depthwise_half_backward_data},
    {"inner_product", inner_product_supports_backward_data, inner_product_backward_data},
    {"winograd", winograd_supports_backward_data, winograd_or_direct_backward_data},
    {"conv2d_k", conv_k_supports, conv_k_backward_data},
};

template <size_t kCount>
Ran run_first(const Algorithm (&list)[kCount], const Conv2dDesc& desc, Exec& exec) {
  for (const Algorithm& algorithm : list) {
    if (!algorithm.supports(desc)) continue;
    algorithm.run(desc, exec);
    return Ran::kDone;
  }
  return Ran::kUnsupported;
}

// Sizes that the ABI settles before a descriptor is made: only N, C and K may be 0.
void check_sizes([[maybe_unused]] const Conv2dDesc& d) {
  assert(d.C > 0 && d.H > 0 && d.W > 0 && d.R > 0 && d.S > 0 && d.P > 0 && d.Q > 0);
  assert(d.groups > 0 && d.C % d.groups == 0 && d.K % d.groups == 0);
}

}  // namespace

Ran cpu_conv2d_forward_untuned(const Conv2dDesc& desc, Exec& exec) {
  // Without input channels the sum is empty: ref writes bias, residual and activation.
  if (desc.N == 0 || desc.C == 0 || desc.K == 0) return Ran::kUnsupported;
  check_sizes(desc);
  return run_first(kForward, desc, exec);
}

Ran cpu_conv2d_forward(const Conv2dDesc& desc, Exec& exec) {
  if (desc.N == 0 || desc.C == 0 || desc.K == 0) return Ran::kUnsupported;
  return run_tuned(ConvPass::kForward, desc, exec, cpu_conv2d_forward_untuned);
}

Ran cpu_conv2d_backward_data(const Conv2dDesc& desc, Exec& exec) {
  // Without output channels nothing reaches x: ref fills it.
  if (desc.N == 0 || desc.C == 0 || desc.K == 0) return Ran::kUnsupported;
  check_sizes(desc);
  return run_tuned(ConvPass::kBackwardData, desc, exec,
                   [](const Conv2dDesc& d, Exec& e) { return run_first(kBackwardData, d, e); });
}

void cpu_pack_weight(const Conv2dDesc& desc, Exec& exec, PackedBlob* blob) {
  // The other algorithms read the weights as they lie.
  if (!conv_k_supports(desc) || depthwise_supports(desc) || depthwise_half_supports(desc) || desc.C == 0 ||
      desc.K == 0)
    return;
  if (winograd_pack(desc, exec, blob)) return;
  ConvProblem problem = forward_problem(desc, exec);
  load_half_weight(desc, &problem, exec);
  const ConvForm form = conv_form(problem, true, true);
  const ChannelBlocks blocks(problem, form, kernels_of(problem));
  const WeightLayout layout = weight_layout(problem, form, blocks, exec);
  const size_t floats = static_cast<size_t>(packed_floats(problem, blocks, layout));
  const size_t bytes = sizeof(KernelBlob) + floats * sizeof(float);
  void* const memory = pool_alloc(bytes);
  if (!memory) throw std::bad_alloc();
  auto* const made = new (memory) KernelBlob;
  made->packed = pack_conv_weight(problem, blocks, layout, reinterpret_cast<float*>(made + 1), exec);
  blob->blob = memory;
  blob->free_blob = pool_free;
  blob->blob_bytes = bytes;
  blob->isa = static_cast<int32_t>(active_isa());
  blob->kind = kBlobOfKernelK;
  blob->format = desc.format;
}

}  // namespace cnnext
