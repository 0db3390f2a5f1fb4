// The op table of the vectorised CPU kernels. A null entry runs on ref.
#include <cstring>

#include "core/op_table.h"
#include "cpu/cpu.h"

namespace cnnext {
namespace {

bool takes_dtype(const char* op, int32_t dtype);

OpTable make_table() {
  OpTable t{};
  t.backend = "cpu";
  t.takes_dtype = takes_dtype;
  t.conv2d_forward = cpu_conv2d_forward;
  t.conv2d_backward_data = cpu_conv2d_backward_data;
  t.conv2d_backward_weights = cpu_conv2d_backward_weights;
  t.pack_weight = cpu_pack_weight;
  t.conv2d_relu_max_pool2d_forward = cpu_conv2d_relu_max_pool2d_forward;
  t.conv2d_relu_max_pool2d_backward = cpu_conv2d_relu_max_pool2d_backward;
  t.conv2d_batch_norm_forward = cpu_conv2d_batch_norm_forward;
  t.max_pool2d_forward = cpu_max_pool2d_forward;
  t.max_pool2d_backward = cpu_max_pool2d_backward;
  t.max_pool2d_gather = cpu_max_pool2d_gather;
  t.max_unpool2d = cpu_max_unpool2d;
  t.convert_indices = cpu_convert_indices;
  t.activation_forward = cpu_activation_forward;
  t.activation_backward = cpu_activation_backward;
  t.add = cpu_add;
  t.dropout = cpu_dropout;
  t.sgd_step = cpu_sgd_step;
  t.adam_step = cpu_adam_step;
  t.bias_add = cpu_bias_add;
  t.bias_grad = cpu_bias_grad;
  t.batch_norm_forward = cpu_batch_norm_forward;
  t.batch_norm_backward = cpu_batch_norm_backward;
  t.softmax_forward = cpu_softmax_forward;
  t.softmax_backward = cpu_softmax_backward;
  t.cross_entropy_forward = cpu_cross_entropy_forward;
  t.cross_entropy_backward = cpu_cross_entropy_backward;
  t.copy = cpu_copy;
  t.avg_pool2d_forward = cpu_avg_pool2d_forward;
  t.avg_pool2d_backward = cpu_avg_pool2d_backward;
  t.adaptive_avg_pool2d_forward = cpu_adaptive_avg_pool2d_forward;
  t.adaptive_avg_pool2d_backward = cpu_adaptive_avg_pool2d_backward;
  return t;
}

const OpTable& table() {
  static const OpTable made = make_table();
  return made;
}

bool takes_dtype(const char* op, int32_t dtype) {
  if (std::strcmp(op, "copy") == 0) return true;  // bits are bits
  for (const char* half_op : {"conv2d_forward", "conv2d_backward_data", "conv2d_backward_weights"}) {
    if (is_half(dtype) && std::strcmp(op, half_op) == 0) return true;
  }
  const bool is_byte = dtype == CNNEXT_UINT8 || dtype == CNNEXT_INT8;
  if (is_byte && std::strcmp(op, "max_pool2d_forward") == 0) return true;
#define CNNEXT_OP_FIELD(name, Desc) \
  if (std::strcmp(op, #name) == 0) return table().name && dtype == CNNEXT_FLOAT32;
  CNNEXT_OPS(CNNEXT_OP_FIELD)
#undef CNNEXT_OP_FIELD
  return false;
}

}  // namespace

const OpTable* cpu_table() { return &table(); }

}  // namespace cnnext
