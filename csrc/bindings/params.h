// The one place where Python parameters (ints, pairs, paddings, names) are read. Kinds and lengths are judged
// here; values are judged by the library, which knows the rules.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "python.h"

namespace bindings {

int64_t parse_int(PyObject* object, const char* name);
double parse_double(PyObject* object, const char* name);
bool parse_bool(PyObject* object, const char* name);
// An int or a sequence of one (both), or a sequence of two ints.
void parse_pair(PyObject* object, const char* name, int64_t* pair);
// An int, (h, w), ((top, bottom), (left, right)), "same" or "valid". four_sided (may be null): whether the
// third.
void parse_padding(PyObject* object, int64_t* padding, int32_t* mode, int32_t* four_sided);
// A sequence of at most CNNEXT_MAX_NDIM ints; returns how many.
int parse_shape(PyObject* object, const char* name, int64_t* shape);

int32_t parse_activation(PyObject* object, const char* name);  // None: CNNEXT_ACT_NONE
int32_t parse_norm_activation(PyObject* object);               // those that batch norm takes
int32_t parse_algorithm(PyObject* object);
int32_t parse_autotune(PyObject* object);
int32_t parse_precision(PyObject* object);
const char* precision_name(int32_t precision);
int32_t parse_index_kind(PyObject* object, const char* name);
int32_t parse_reduction(PyObject* object);
int32_t parse_backend(PyObject* object);
int32_t parse_dtype(PyObject* object);
const char* dtype_name(int32_t dtype);  // what parse_dtype() takes

// The parameters of whole families (conv.cpp, pool.cpp).
cnnext_conv2d_params conv_params(PyObject* stride, PyObject* padding, PyObject* dilation, PyObject* groups);
// What messages call a pool's sizes.
struct PoolNames {
  const char *size, *stride;
};
cnnext_pool2d_params pool_params(PyObject* kernel_size, PyObject* stride, PyObject* padding,
                                 const PoolNames& names = {"kernel_size", "stride"});
// From conv's stride, padding, dilation and groups, and pool_size, pool_stride and pool_padding.
struct FusedParams {
  cnnext_conv2d_params conv;
  cnnext_pool2d_params pool;

  explicit FusedParams(Args args)
      : conv(conv_params(args[0], args[1], args[2], args[3])),
        pool(pool_params(args[4], args[5], args[6], kNames)) {
    pool.index_kind = CNNEXT_INDEX_WINDOW;
  }
  static constexpr PoolNames kNames = {"pool_size", "pool_stride"};
};
// kernel_size, stride, padding, dilation, ceil_mode
cnnext_pool2d_params max_pool_params(Args kernel_to_ceil, PyObject* indices, const char* indices_name);

// A struct of parameters as bytes, for callers that hand it to the C ABI themselves (cnnext.interop.jax).
// `last` is the member before the only gap between members, which is zeroed so that equal parameters are
// equal bytes.
template <typename Struct, typename Last, typename Next>
py::bytes struct_bytes(const Struct& params, const Last& last, const Next& next) {
  std::string bytes(reinterpret_cast<const char*>(&params), sizeof(params));
  const auto place = [&](const void* member) {
    return static_cast<const char*>(member) - reinterpret_cast<const char*>(&params);
  };
  const auto begin = place(&last) + static_cast<std::ptrdiff_t>(sizeof(Last));
  std::fill(bytes.begin() + begin, bytes.begin() + place(&next), 0);
  return py::bytes(bytes);
}
inline py::bytes struct_bytes(const cnnext_conv2d_params& params) {
  return struct_bytes(params, params.algorithm, params.activation_alpha);
}
inline py::bytes struct_bytes(const cnnext_pool2d_params& params) {
  return struct_bytes(params, params.four_sided, params.divisor_override);
}

}  // namespace bindings
