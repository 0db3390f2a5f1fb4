// Convolution and batch norm in one: arguments -> views -> one call.
#include "output.h"
#include "params.h"

namespace bindings {
namespace {

// x, weight, bias, stride, padding, dilation, groups, running_mean, running_var, norm_weight, norm_bias,
// momentum, eps, activation, return_saved
py::object conv2d_batch_norm(Args args) {
  const cnnext_conv2d_params conv = conv_params(args[3], args[4], args[5], args[6]);
  cnnext_batch_norm_params norm = CNNEXT_BATCH_NORM_PARAMS_INIT;
  norm.training = 1;
  norm.momentum = parse_double(args[11], "momentum");
  norm.eps = parse_double(args[12], "eps");
  norm.activation = parse_norm_activation(args[13]);
  const bool saved = parse_bool(args[14], "return_saved");
  Array x(args[0], "x"), weight(args[1], "weight");
  Array bias = Array::optional(args[2], "bias");
  Array running_mean = Array::optional(args[7], "running_mean", Access::kWrite);
  Array running_var = Array::optional(args[8], "running_var", Access::kWrite);
  Array norm_weight = Array::optional(args[9], "norm_weight");
  Array norm_bias = Array::optional(args[10], "norm_bias");
  const Origin origin =
      result_origin({&x, &weight, &bias, &running_mean, &running_var, &norm_weight, &norm_bias});
  Output y, conv_y, mean, invstd;
  const auto call = [&](const cnnext_context* with) {
    return cnnext_conv2d_batch_norm(with, &conv, &norm, x.get(), weight.get(), bias.get(), norm_weight.get(),
                                    norm_bias.get(), running_mean.get(), running_var.get(), y.get(),
                                    saved ? conv_y.get() : nullptr, saved ? mean.get() : nullptr,
                                    saved ? invstd.get() : nullptr);
  };
  if (!saved) {
    run(origin, {&y}, call);
    return y.take(origin);
  }
  run(origin, {&y, &conv_y, &mean, &invstd}, call);
  return py::make_tuple(y.take(origin), conv_y.take(origin), mean.take(origin), invstd.take(origin));
}

PyMethodDef methods[] = {
    method<15, conv2d_batch_norm>(
        "conv2d_batch_norm",
        "conv2d_batch_norm(x, weight, bias, stride, padding, dilation, groups, running_mean, running_var, "
        "norm_weight, norm_bias, momentum, eps, activation, return_saved, /)\n--\n\ny, or (y, the "
        "convolution's "
        "result, mean, 1/std) if return_saved."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_conv_norm(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
