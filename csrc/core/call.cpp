#include "core/call.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/state.h"

namespace cnnext {

void check_tensor(const Tensor* t, const char* name) {
  if (!t) fail_value(name, " is NULL; a tensor is required");
  if (t->ndim < 0 || t->ndim > CNNEXT_MAX_NDIM) {
    fail_value(name, " has ", t->ndim, " axes; at most ", CNNEXT_MAX_NDIM, " are supported");
  }
  if (dtype_size(t->dtype) == 0) fail_type(name, " has the unknown dtype number ", t->dtype);
  if (t->device_type != CNNEXT_CPU && t->device_type != CNNEXT_CUDA) {
    fail_value(name, " is on device type ", t->device_type, "; cnnext supports the CPU (1) and CUDA (2)");
  }
  int64_t count = dtype_size(t->dtype);
  for (int i = 0; i < t->ndim; ++i) {
    if (t->shape[i] < 0) fail_value(name, "'s shape[", i, "] is ", t->shape[i], "; it must not be negative");
    count = checked_mul(count, std::max<int64_t>(t->shape[i], 1), name);
  }
}

void check_float(const Tensor& t, const char* name) {
  if (is_float(t.dtype)) return;
  if (is_half(t.dtype) && t.device_type == CNNEXT_CUDA) return;
  if (is_half(t.dtype)) {
    fail_not_implemented(name, " has dtype ", dtype_name(t.dtype),
                         "; the CPU backend supports float32 and float64 in this operation (16 bits in "
                         "convolution, linear, max-pool, activations, add and bias_grad)");
  }
  fail_type(name, " has dtype ", dtype_name(t.dtype), "; it must be float32 or float64");
}

void check_any_float(const Tensor& t, const char* name) {
  if (is_float(t.dtype) || is_half(t.dtype)) return;
  fail_type(name, " has dtype ", dtype_name(t.dtype), "; it must be float32, float64, float16 or bfloat16");
}

void check_same_dtype(const Tensor& a, const char* a_name, const Tensor& b, const char* b_name) {
  if (a.dtype != b.dtype) {
    fail_type(b_name, " has dtype ", dtype_name(b.dtype), ", but ", a_name, " has ", dtype_name(a.dtype),
              "; they must be equal");
  }
}

void check_ndim(const Tensor& t, const char* name, int low, int high) {
  if (t.ndim >= low && t.ndim <= high) return;
  if (low == high) fail_value(name, " has shape ", shape_string(t), "; it must have ", low, " axes");
  fail_value(name, " has shape ", shape_string(t), "; it must have ", low, " to ", high, " axes");
}

void check_shape(const Tensor& t, const char* name, std::initializer_list<int64_t> shape, const char* rule) {
  if (t.ndim == static_cast<int>(shape.size()) && std::equal(shape.begin(), shape.end(), t.shape)) return;
  Tensor expected{};
  expected.ndim = static_cast<int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), expected.shape);
  fail_value(name, " has shape ", shape_string(t), "; it must be ", shape_string(expected), ": ", rule);
}

void check_params(const void* params, size_t expected, const char* name) {
  if (!params) fail_value(name, " is NULL; it is required");
  size_t size;
  std::memcpy(&size, params, sizeof(size));
  if (size < expected) fail_value(name, "'s size is ", size, "; this library needs at least ", expected);
}

namespace {

// No two elements of the view share memory, as far as sorting the axes by stride can tell.
bool writable_strides(const Tensor& t) {
  int64_t strides[CNNEXT_MAX_NDIM], extents[CNNEXT_MAX_NDIM];
  int n = 0;
  for (int i = 0; i < t.ndim; ++i) {
    if (t.shape[i] == 0) return true;
    if (t.shape[i] == 1) continue;
    const int64_t stride = t.strides[i] < 0 ? -t.strides[i] : t.strides[i];
    int j = n++;
    for (; j > 0 && strides[j - 1] > stride; --j) {
      strides[j] = strides[j - 1];
      extents[j] = extents[j - 1];
    }
    strides[j] = stride;
    extents[j] = t.shape[i];
  }
  int64_t reach = 0;
  for (int i = 0; i < n; ++i) {
    if (strides[i] <= reach) return false;
    reach += strides[i] * (extents[i] - 1);
  }
  return true;
}

}  // namespace

bool describe_output(Tensor* out, const char* name, int32_t dtype, int ndim, const int64_t* shape,
                     Format format) {
  if (!out) fail_value(name, " is NULL; an output tensor is required");
  Tensor expected{};
  expected.dtype = dtype;
  expected.ndim = ndim;
  expected.device_type = out->device_type;
  expected.device_id = out->device_id;
  std::copy(shape, shape + ndim, expected.shape);
  set_format(&expected, format);
  if (!out->data) {
    if (numel(expected) == 0 && out->ndim == ndim && std::equal(shape, shape + ndim, out->shape) &&
        out->dtype == dtype) {
      return false;  // described before, and nothing to write
    }
    *out = expected;
    return true;
  }
  check_tensor(out, name);
  if (out->dtype != dtype) {
    fail_type(name, " has dtype ", dtype_name(out->dtype), "; the result's is ", dtype_name(dtype));
  }
  if (!same_shape(*out, expected)) {
    fail_value(name, " has shape ", shape_string(*out), "; the result's is ", shape_string(expected));
  }
  if (!writable_strides(*out)) fail_value(name, "'s strides make elements share memory; an output must not");
  return false;
}

void Call::check_context(const cnnext_context& context) const {
  if (context.size < offsetof(cnnext_context, plan)) {  // the first version's size
    fail_value("context's size is ", context.size, "; this library needs at least ",
               offsetof(cnnext_context, plan));
  }
  if (exec_.planning() && context.plan->size < sizeof(cnnext_plan)) {
    fail_value("plan's size is ", context.plan->size, "; this library needs at least ", sizeof(cnnext_plan));
  }
  if (context.backend < CNNEXT_BACKEND_AUTO || context.backend > CNNEXT_BACKEND_CUDA) {
    fail_value("context's backend is ", context.backend,
               "; it must be 0 (auto), 1 (ref), 2 (cpu) or 3 (cuda)");
  }
}

void Call::copy(const Tensor& src, const Tensor& dst) {
  if (exec_.planning()) return;  // a copy takes no scratch
  const CopyDesc desc{src, dst};
  if (on_device()) {
    const char* const kernel = exec_.kernel();
    const OpTable* table = cuda_table();
    if (!table->copy || table->copy(desc, exec_) != Ran::kDone) fail_unsupported("copy");
    check_launches("copy");
    exec_.ran(kernel);  // what the call is known by
    return;
  }
  const OpTable* cpu = cpu_table();
  if (cpu && cpu->copy && cpu->copy(desc, exec_) == Ran::kDone) return;
  ref_table()->copy(desc, exec_);
}

Tensor Call::scratch_tensor(const Tensor& like) {
  Tensor result = like;
  try {
    result.data = exec_.scratch(static_cast<size_t>(numel(like) * dtype_size(like.dtype)));
  } catch (const DeviceMemoryError& error) {
    fail_memory("a dense copy", error);
  }
  return result;
}

Tensor Call::dense(const Tensor& t, Format format) {
  if (is_dense(t, format)) return t;
  Tensor wanted = t;
  set_format(&wanted, format);
  Tensor result = scratch_tensor(wanted);
  copy(t, result);
  return result;
}

Tensor Call::contiguous(const Tensor& t) { return dense(t, Format::kNCHW); }

Tensor Call::dense_like(const Tensor& t, const Tensor& like) {
  bool same = true;
  for (int i = 0; i < t.ndim; ++i) same = same && (t.shape[i] <= 1 || t.strides[i] == like.strides[i]);
  if (same) return t;
  Tensor wanted = t;
  std::copy(like.strides, like.strides + like.ndim, wanted.strides);
  Tensor result = scratch_tensor(wanted);
  copy(t, result);
  return result;
}

Tensor Call::dense_weight(const Tensor& t, Format* w_format) {
  *w_format = is_dense(t, Format::kNCHW) || !is_dense(t, Format::kNHWC) ? Format::kNCHW : Format::kNHWC;
  return dense(t, *w_format);
}

void Call::avoid(const Tensor& input) {
  if (num_inputs_ == kMaxInputs) fail_value("too many inputs");
  inputs_[num_inputs_++] = input;
}

Tensor Call::stage(const Tensor& out, const Tensor& shape_like) {
  if (staged_ == kMaxStaged) fail_value("too many staged outputs");
  const Tensor temporary = scratch_tensor(shape_like);
  staged_from_[staged_] = temporary;
  staged_to_[staged_++] = out;
  return temporary;
}

Tensor Call::output(const Tensor& out, Format format) {
  Tensor wanted = out;
  set_format(&wanted, format);
  return output_like(out, wanted);
}

Tensor Call::output_like(const Tensor& out, const Tensor& like) {
  bool direct = true;
  for (int i = 0; i < out.ndim; ++i)
    direct = direct && (out.shape[i] <= 1 || out.strides[i] == like.strides[i]);
  for (int i = 0; i < num_inputs_ && direct; ++i) {
    if (overlap(out, inputs_[i]) && !(allow_same_ && same_view(out, inputs_[i]))) direct = false;
  }
  if (direct) return out;
  Tensor wanted = out;
  std::copy(like.strides, like.strides + like.ndim, wanted.strides);
  return stage(out, wanted);
}

Call::Candidates Call::candidates() const {
  switch (exec_.backend()) {
    case CNNEXT_BACKEND_REF:
      return {{ref_table(), nullptr}};
    case CNNEXT_BACKEND_CUDA:
      return {{cuda_table(), nullptr}};
    case CNNEXT_BACKEND_AUTO:
      if (on_device()) return {{cuda_table(), nullptr}};
      [[fallthrough]];
    default:
      return {{cpu_table(), ref_table()}};
  }
}

void Call::finish(const OpTable* table, const char* op_name) {
  if (exec_.planning()) return exec_.write_plan();
  if (on_device()) check_launches(op_name);
  for (int i = 0; i < staged_; ++i) copy(staged_from_[i], staged_to_[i]);
  record_last_call(table->backend, op_name, exec_);
}

// The drivers that leave out what they do with data outside of tasks.
void Call::check_can_plan(const char* op_name) const {
  static const char* const planned[] = {"conv2d_forward",
                                        "conv2d_backward_data",
                                        "conv2d_backward_weights",
                                        "max_pool2d_forward",
                                        "max_pool2d_backward",
                                        "conv2d_relu_max_pool2d_forward",
                                        "conv2d_relu_max_pool2d_backward",
                                        "conv2d_batch_norm_forward"};
  for (const char* name : planned) {
    if (!std::strcmp(name, op_name)) return;
  }
  fail_not_implemented(op_name, " makes no plans; convolutions, linear and max-pool do");
}

}  // namespace cnnext
