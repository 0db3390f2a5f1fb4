// Convolution, ReLU and max-pool in one: arguments -> views -> one call.
#include "output.h"
#include "packed_weight.h"
#include "params.h"

namespace bindings {
namespace {

// x, weight, bias, stride, padding, dilation, groups, pool_size, pool_stride, pool_padding, with_codes
py::object conv2d_relu_max_pool2d(Args args) {
  const FusedParams params(args + 3);
  const bool with_codes = parse_bool(args[10], "with_codes");
  Array x(args[0], "x");
  Array bias = Array::optional(args[2], "bias");
  Output y, codes;
  cnnext_tensor* const codes_or_none = with_codes ? codes.get() : nullptr;
  const auto take = [&](const Origin& origin) -> py::object {
    if (!with_codes) return y.take(origin);
    return py::make_tuple(y.take(origin), codes.take(origin));
  };
  const auto run_both = [&](const Origin& origin, const auto& call) {
    with_codes ? run(origin, {&y, &codes}, call) : run(origin, {&y}, call);
  };
  if (const PackedWeight* packed = packed_weight_of(args[1])) {
    const Origin origin = result_origin({&x, &bias});
    run_both(origin, [&](const cnnext_context* with) {
      return cnnext_conv2d_relu_max_pool2d_packed(with, &params.conv, &params.pool, x.get(), packed->handle(),
                                                  bias.get(), y.get(), codes_or_none);
    });
    return take(origin);
  }
  Array weight(args[1], "weight");
  const Origin origin = result_origin({&x, &weight, &bias});
  run_both(origin, [&](const cnnext_context* with) {
    return cnnext_conv2d_relu_max_pool2d(with, &params.conv, &params.pool, x.get(), weight.get(), bias.get(),
                                         y.get(), codes_or_none);
  });
  return take(origin);
}

// grad_y, codes, x, weight, stride, padding, dilation, groups, pool_size, pool_stride, pool_padding, need_x,
// need_weight, need_bias
py::object conv2d_relu_max_pool2d_backward(Args args) {
  const FusedParams params(args + 4);
  Array grad_y(args[0], "grad_y"), codes(args[1], "codes"), x(args[2], "x"), weight(args[3], "weight");
  const Origin origin = result_origin({&grad_y, &codes, &x, &weight});
  Output results[3];
  static constexpr const char* kNames[] = {"need_x", "need_weight", "need_bias"};
  bool wanted[3];
  for (int i = 0; i < 3; ++i) wanted[i] = parse_bool(args[11 + i], kNames[i]);
  const auto result = [&](int i) { return wanted[i] ? results[i].get() : nullptr; };
  const auto call = [&](const cnnext_context* with) {
    return cnnext_conv2d_relu_max_pool2d_backward(with, &params.conv, &params.pool, grad_y.get(), codes.get(),
                                                  x.get(), weight.get(), result(0), result(1), result(2));
  };
  run_wanted(origin, results, wanted, 3, call);
  const auto take = [&](int i) -> py::object { return wanted[i] ? results[i].take(origin) : py::none(); };
  return py::make_tuple(take(0), take(1), take(2));
}

// As FusedParams.
py::object conv2d_relu_max_pool2d_params(Args args) {
  const FusedParams params(args);
  return py::make_tuple(struct_bytes(params.conv), struct_bytes(params.pool));
}

PyMethodDef methods[] = {
    method<7, conv2d_relu_max_pool2d_params>(
        "conv2d_relu_max_pool2d_params",
        "conv2d_relu_max_pool2d_params(stride, padding, dilation, groups, pool_size, pool_stride, "
        "pool_padding, /)\n--\n\nThe bytes of a cnnext_conv2d_params and of a cnnext_pool2d_params."),
    method<11, conv2d_relu_max_pool2d>(
        "conv2d_relu_max_pool2d",
        "conv2d_relu_max_pool2d(x, weight, bias, stride, padding, dilation, groups, pool_size, pool_stride, "
        "pool_padding, with_codes, /)\n--\n\nmax_pool2d(relu(conv2d(x))) strip by strip."),
    method<14, conv2d_relu_max_pool2d_backward>(
        "conv2d_relu_max_pool2d_backward",
        "conv2d_relu_max_pool2d_backward(grad_y, codes, x, weight, stride, padding, dilation, groups, "
        "pool_size, pool_stride, pool_padding, need_x, need_weight, need_bias, /)\n--\n\nThe gradients of "
        "x, weight and bias."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_conv_pool(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
