// One table a backend: a function pointer an op. Adding an op starts with a line in CNNEXT_OPS.
#pragma once

#include "core/desc.h"
#include "core/device_table.h"
#include "core/exec.h"
#include "core/packed_weight.h"

namespace cnnext {

#define CNNEXT_OPS(X)                              \
  X(conv2d_forward, Conv2dDesc)                    \
  X(conv2d_backward_data, Conv2dDesc)              \
  X(conv2d_backward_weights, Conv2dDesc)           \
  X(conv2d_relu_max_pool2d_forward, ConvPoolDesc)  \
  X(conv2d_relu_max_pool2d_backward, ConvPoolDesc) \
  X(conv2d_batch_norm_forward, ConvBatchNormDesc)  \
  X(max_pool2d_forward, Pool2dDesc)                \
  X(max_pool2d_backward, Pool2dDesc)               \
  X(max_pool2d_gather, Pool2dDesc)                 \
  X(max_unpool2d, Pool2dDesc)                      \
  X(convert_indices, ConvertIndicesDesc)           \
  X(avg_pool2d_forward, Pool2dDesc)                \
  X(avg_pool2d_backward, Pool2dDesc)               \
  X(adaptive_avg_pool2d_forward, Pool2dDesc)       \
  X(adaptive_avg_pool2d_backward, Pool2dDesc)      \
  X(activation_forward, ElementwiseDesc)           \
  X(activation_backward, ElementwiseDesc)          \
  X(add, ElementwiseDesc)                          \
  X(dropout, ElementwiseDesc)                      \
  X(bias_add, ChannelDesc)                         \
  X(bias_grad, ChannelDesc)                        \
  X(batch_norm_forward, BatchNormDesc)             \
  X(batch_norm_backward, BatchNormDesc)            \
  X(softmax_forward, SoftmaxDesc)                  \
  X(softmax_backward, SoftmaxDesc)                 \
  X(cross_entropy_forward, CrossEntropyDesc)       \
  X(cross_entropy_backward, CrossEntropyDesc)      \
  X(copy, CopyDesc)                                \
  X(sgd_step, SgdDesc)                             \
  X(adam_step, AdamDesc)

// What an op function says. kUnsupported sends the call to the next table (ref) on the CPU; it must have
// written nothing.
enum class Ran : int32_t { kDone = 0, kUnsupported = 1 };

struct OpTable {
  const char* backend;  // "ref", "cpu", "cuda"
  // Whether the table's own implementation takes this dtype; what cnnext_op_supported reports.
  bool (*takes_dtype)(const char* op, int32_t dtype);
#define CNNEXT_OP_FIELD(name, Desc) Ran (*name)(const Desc& desc, Exec& exec);
  CNNEXT_OPS(CNNEXT_OP_FIELD)
#undef CNNEXT_OP_FIELD
  // Packs desc.w (dense) for this backend's forward kernels; may be null, and may leave blob empty. desc's N,
  // H, W, P and Q are 0 where the input's shape is not known. The blob outlives the call: it comes from
  // pool_alloc or the backend's own allocator, never from exec's scratch.
  void (*pack_weight)(const Conv2dDesc& desc, Exec& exec, PackedBlob* blob) = nullptr;
  // Where the tensors of this table's descriptors lie, and exec's scratch with them; nullptr: on the host.
  const DeviceTable* device = nullptr;
};

// The backends, in order of preference (backend.cpp); nullptr where one is not there.
const OpTable* ref_table();
const OpTable* cpu_table();
const OpTable* cuda_table();

}  // namespace cnnext
