#include <cstring>

#include "cpu/ref/ref.h"

namespace cnnext {
namespace {

// What takes float16 and bfloat16.
constexpr const char* kHalfOps[] = {"conv2d_forward",
                                    "conv2d_backward_data",
                                    "conv2d_backward_weights",
                                    "max_pool2d_forward",
                                    "max_pool2d_backward",
                                    "activation_forward",
                                    "activation_backward",
                                    "add",
                                    "bias_grad"};

bool takes_dtype(const char* op, int32_t dtype) {
  if (std::strcmp(op, "copy") == 0) return dtype_size(dtype) > 0;
  if (std::strcmp(op, "convert_indices") == 0) return is_integer(dtype);
  if (std::strcmp(op, "max_pool2d_forward") == 0 && (dtype == CNNEXT_UINT8 || dtype == CNNEXT_INT8))
    return true;
  if (is_half(dtype)) {
    for (const char* name : kHalfOps) {
      if (std::strcmp(op, name) == 0) return true;
    }
  }
  return is_float(dtype);
}

}  // namespace

const OpTable* ref_table() {
#define CNNEXT_REF_ENTRY(name, Desc) ref_##name,
  static const OpTable table = {"ref", takes_dtype, CNNEXT_OPS(CNNEXT_REF_ENTRY)};
#undef CNNEXT_REF_ENTRY
  return &table;
}

}  // namespace cnnext
