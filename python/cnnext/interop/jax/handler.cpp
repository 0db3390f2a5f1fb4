// cnnext's operations as handlers of XLA's foreign function interface, one for CPUs and one for CUDA devices.
//
// Built against the headers of the jaxlib that calls it (_build.py); knows of cnnext what cnnext.h says. A
// call names its operation, brings the bytes of its parameter structs one behind the other, and bit masks
// that say which of the operation's inputs and results are there. Buffers are used where they lie.
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "cnnext/cnnext.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

constexpr int kMaxTensors = 16;

// -1: none of cnnext's.
int32_t dtype_of(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F32:
      return CNNEXT_FLOAT32;
    case ffi::DataType::F64:
      return CNNEXT_FLOAT64;
    case ffi::DataType::F16:
      return CNNEXT_FLOAT16;
    case ffi::DataType::BF16:
      return CNNEXT_BFLOAT16;
    case ffi::DataType::U8:
      return CNNEXT_UINT8;
    case ffi::DataType::S8:
      return CNNEXT_INT8;
    case ffi::DataType::U16:
      return CNNEXT_UINT16;
    case ffi::DataType::S16:
      return CNNEXT_INT16;
    case ffi::DataType::S32:
      return CNNEXT_INT32;
    case ffi::DataType::S64:
      return CNNEXT_INT64;
    case ffi::DataType::U32:  // halves of int64, one behind the other: JAX may have no 64 bits
      return CNNEXT_INT64;
    default:
      return -1;
  }
}

ffi::ErrorCode code_of(cnnext_status status) {
  switch (status) {
    case CNNEXT_INVALID_VALUE:
    case CNNEXT_INVALID_TYPE:
      return ffi::ErrorCode::kInvalidArgument;
    case CNNEXT_NOT_IMPLEMENTED:
      return ffi::ErrorCode::kUnimplemented;
    case CNNEXT_OUT_OF_MEMORY:
      return ffi::ErrorCode::kResourceExhausted;
    default:
      return ffi::ErrorCode::kInternal;
  }
}

bool view_of(const ffi::AnyBuffer& buffer, int32_t device_type, int32_t device, cnnext_tensor* view) {
  const auto shape = buffer.dimensions();
  const int ndim = static_cast<int>(shape.size());
  const int32_t dtype = dtype_of(buffer.element_type());
  if (dtype < 0 || ndim > CNNEXT_MAX_NDIM) return false;
  // What has no elements may have no memory, which would ask for a dry run.
  alignas(64) static unsigned char nothing[64];
  *view = {buffer.untyped_data() ? buffer.untyped_data() : nothing, dtype, ndim, device_type, device, {}, {}};
  int64_t stride = 1;
  for (int i = ndim; i-- > 0;) {
    const bool halves = i == ndim - 1 && buffer.element_type() == ffi::DataType::U32;
    view->shape[i] = halves ? shape[i] / 2 : shape[i];
    view->strides[i] = stride;
    stride *= view->shape[i] > 0 ? view->shape[i] : 1;
  }
  return true;
}

// The arguments of one call, given out in the C ABI's order.
class Arguments {
 public:
  const cnnext_context* with = nullptr;
  cnnext_tensor tensors[2][kMaxTensors];  // inputs, results
  int64_t present[2];
  ffi::Span<const int64_t> params;

  template <typename Pointer>
  Pointer next() {
    using Pointed = std::remove_pointer_t<Pointer>;
    using Value = std::remove_const_t<Pointed>;
    if constexpr (std::is_same_v<Value, cnnext_tensor>) {
      return next_tensor(std::is_const_v<Pointed> ? 0 : 1);
    } else {
      return next_params(&std::get<Value>(structs_));
    }
  }

 private:
  cnnext_tensor* next_tensor(int side) {
    const int slot = slots_[side]++;
    return (present[side] >> slot) & 1 ? &tensors[side][used_[side]++] : nullptr;
  }
  template <typename Struct>
  const Struct* next_params(Struct* copy) {
    const size_t words = sizeof(Struct) / sizeof(int64_t);
    static_assert(sizeof(Struct) % sizeof(int64_t) == 0, "parameters come in words");
    if (params_used_ + words > params.size()) return nullptr;  // which the library refuses
    std::memcpy(copy, params.begin() + params_used_, sizeof(Struct));
    params_used_ += words;
    return copy;
  }

  int slots_[2] = {0, 0}, used_[2] = {0, 0};
  size_t params_used_ = 0;
  std::tuple<cnnext_conv2d_params, cnnext_pool2d_params, cnnext_batch_norm_params> structs_;
};

template <typename... T>
cnnext_status call(cnnext_status (*function)(const cnnext_context*, T...), Arguments& arguments) {
  std::tuple<T...> values{arguments.next<T>()...};  // braces keep the order
  return std::apply([&](T... each) { return function(arguments.with, each...); }, values);
}

// The running statistics are inputs; training writes the new ones to results of their own.
cnnext_status batch_norm(const cnnext_context* with, const cnnext_batch_norm_params* params,
                         const cnnext_tensor* x, const cnnext_tensor* weight, const cnnext_tensor* bias,
                         const cnnext_tensor* mean, const cnnext_tensor* var, cnnext_tensor* y,
                         cnnext_tensor* save_mean, cnnext_tensor* save_invstd, cnnext_tensor* new_mean,
                         cnnext_tensor* new_var) {
  const cnnext_tensor* old[] = {mean, var};
  cnnext_tensor* updated[] = {new_mean, new_var};
  cnnext_tensor read[2];
  for (int i = 0; i < 2; ++i) {
    if (updated[i]) {
      const cnnext_status status = cnnext_copy(with, 0, old[i], updated[i]);
      if (status != CNNEXT_OK) return status;
    } else if (old[i]) {
      read[i] = *old[i];
      updated[i] = &read[i];
    }
  }
  return cnnext_batch_norm(with, params, x, weight, bias, updated[0], updated[1], y, save_mean, save_invstd);
}

template <auto Function>
cnnext_status call_by(Arguments& arguments) {
  return call(Function, arguments);
}

struct Operation {
  std::string_view name;
  cnnext_status (*run)(Arguments&);
};
constexpr Operation kOperations[] = {
    {"conv2d", call_by<cnnext_conv2d>},
    {"conv2d_backward_data", call_by<cnnext_conv2d_backward_data>},
    {"conv2d_backward_weights", call_by<cnnext_conv2d_backward_weights>},
    {"conv_transpose2d", call_by<cnnext_conv_transpose2d>},
    {"linear", call_by<cnnext_linear>},
    {"linear_backward_data", call_by<cnnext_linear_backward_data>},
    {"linear_backward_weights", call_by<cnnext_linear_backward_weights>},
    {"bias_grad", call_by<cnnext_bias_grad>},
    {"max_pool2d", call_by<cnnext_max_pool2d>},
    {"max_pool2d_backward", call_by<cnnext_max_pool2d_backward>},
    {"max_pool2d_gather", call_by<cnnext_max_pool2d_gather>},
    {"max_unpool2d", call_by<cnnext_max_unpool2d>},
    {"avg_pool2d", call_by<cnnext_avg_pool2d>},
    {"avg_pool2d_backward", call_by<cnnext_avg_pool2d_backward>},
    {"conv2d_relu_max_pool2d", call_by<cnnext_conv2d_relu_max_pool2d>},
    {"conv2d_relu_max_pool2d_backward", call_by<cnnext_conv2d_relu_max_pool2d_backward>},
    {"batch_norm", call_by<batch_norm>},
    {"batch_norm_backward", call_by<cnnext_batch_norm_backward>},
};

ffi::Error invalid(std::string text) { return ffi::Error::InvalidArgument(std::move(text)); }

ffi::Error run(int32_t device_type, void* stream, ffi::RemainingArgs inputs, ffi::RemainingRets results,
               std::string_view name, ffi::Span<const int64_t> params, int64_t input_mask,
               int64_t result_mask) {
  if (inputs.size() > kMaxTensors || results.size() > kMaxTensors) return invalid("too many arrays");
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.stream = stream;
  Arguments arguments;
  arguments.with = &context;
  arguments.params = params;
  arguments.present[0] = input_mask;
  arguments.present[1] = result_mask;
  int32_t device = 0;
  if (device_type == CNNEXT_CUDA && inputs.size() > 0) {
    const cnnext_status status =
        cnnext_cuda_pointer_device(inputs.get<ffi::AnyBuffer>(0)->untyped_data(), &device);
    if (status != CNNEXT_OK) return ffi::Error(code_of(status), cnnext_last_error());
    device = device < 0 ? 0 : device;  // of an empty array
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!view_of(*inputs.get<ffi::AnyBuffer>(i), device_type, device, &arguments.tensors[0][i]))
      return invalid("an input has a dtype or a number of axes that cnnext does not take");
  }
  for (size_t i = 0; i < results.size(); ++i) {
    if (!view_of(**results.get<ffi::AnyBuffer>(i), device_type, device, &arguments.tensors[1][i]))
      return invalid("a result has a dtype or a number of axes that cnnext does not give");
  }
  for (const Operation& operation : kOperations) {
    if (operation.name != name) continue;
    const cnnext_status status = operation.run(arguments);
    return status == CNNEXT_OK ? ffi::Error::Success() : ffi::Error(code_of(status), cnnext_last_error());
  }
  return invalid("no operation " + std::string(name));
}

ffi::Error on_cpu(ffi::RemainingArgs inputs, ffi::RemainingRets results, std::string_view name,
                  ffi::Span<const int64_t> params, int64_t input_mask, int64_t result_mask) {
  return run(CNNEXT_CPU, nullptr, inputs, results, name, params, input_mask, result_mask);
}
ffi::Error on_cuda(void* stream, ffi::RemainingArgs inputs, ffi::RemainingRets results, std::string_view name,
                   ffi::Span<const int64_t> params, int64_t input_mask, int64_t result_mask) {
  return run(CNNEXT_CUDA, stream, inputs, results, name, params, input_mask, result_mask);
}

template <typename Binding>
auto with_arrays(Binding binding) {
  return std::move(binding)
      .RemainingArgs()
      .RemainingRets()
      .template Attr<std::string_view>("operation")
      .template Attr<ffi::Span<const int64_t>>("params")
      .template Attr<int64_t>("inputs")
      .template Attr<int64_t>("results");
}

}  // namespace

#define CNNEXT_EXPORTED __attribute__((visibility("default")))
extern "C" CNNEXT_EXPORTED XLA_FFI_Error* cnnext_jax_cpu(XLA_FFI_CallFrame* frame) {
  static auto* handler = with_arrays(ffi::Ffi::Bind()).To(on_cpu).release();
  return handler->Call(frame);
}
extern "C" CNNEXT_EXPORTED XLA_FFI_Error* cnnext_jax_cuda(XLA_FFI_CallFrame* frame) {
  static auto* handler =
      with_arrays(ffi::Ffi::Bind().Ctx<ffi::PlatformStream<void*>>()).To(on_cuda).release();
  return handler->Call(frame);
}
