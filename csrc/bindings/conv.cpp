// Convolution and linear: arguments -> views -> one call.
#include "output.h"
#include "packed_weight.h"
#include "params.h"

namespace bindings {

cnnext_conv2d_params conv_params(PyObject* stride, PyObject* padding, PyObject* dilation, PyObject* groups) {
  cnnext_conv2d_params params = CNNEXT_CONV2D_PARAMS_INIT;
  parse_pair(stride, "stride", params.stride);
  parse_padding(padding, params.padding, &params.padding_mode, nullptr);
  parse_pair(dilation, "dilation", params.dilation);
  params.groups = parse_int(groups, "groups");
  return params;
}

namespace {
PyTypeObject* packed_type = nullptr;
}  // namespace

const PackedWeight* packed_weight_of(PyObject* object) {
  return Py_IS_TYPE(object, packed_type) ? &py::handle(object).cast<const PackedWeight&>() : nullptr;
}

namespace {

// x, weight, bias, stride, padding, dilation, groups, activation, residual, algorithm, out
py::object conv2d(Args args) {
  cnnext_conv2d_params params = conv_params(args[3], args[4], args[5], args[6]);
  params.activation = parse_activation(args[7], "activation");
  params.algorithm = parse_algorithm(args[9]);
  Array x(args[0], "x");
  Array bias = Array::optional(args[2], "bias");
  Array residual = Array::optional(args[8], "residual");
  Output y(args[10]);
  if (const PackedWeight* packed = packed_weight_of(args[1])) {
    const Origin origin = result_origin({&x, &bias, &residual});
    run(origin, {&y}, [&](const cnnext_context* with) {
      return cnnext_conv2d_packed(with, &params, x.get(), packed->handle(), bias.get(), residual.get(),
                                  y.get());
    });
    return y.take(origin);
  }
  Array weight(args[1], "weight");
  const Origin origin = result_origin({&x, &weight, &bias, &residual});
  run(origin, {&y}, [&](const cnnext_context* with) {
    return cnnext_conv2d(with, &params, x.get(), weight.get(), bias.get(), residual.get(), y.get());
  });
  return y.take(origin);
}

// grad_y, weight, input_shape, stride, padding, dilation, groups, algorithm, out
py::object conv2d_backward_data(Args args) {
  cnnext_conv2d_params params = conv_params(args[3], args[4], args[5], args[6]);
  params.algorithm = parse_algorithm(args[7]);
  Array grad_y(args[0], "grad_y"), weight(args[1], "weight");
  const Origin origin = result_origin({&grad_y, &weight});
  int64_t shape[CNNEXT_MAX_NDIM];
  int ndim = parse_shape(args[2], "input_shape", shape);
  Output grad_x(args[8]);
  grad_x.set_shape(ndim, shape);
  run(origin, {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_conv2d_backward_data(with, &params, grad_y.get(), weight.get(), grad_x.get());
  });
  return grad_x.take(origin);
}

// grad_y, x, weight_shape, stride, padding, dilation, groups, algorithm, out
py::object conv2d_backward_weights(Args args) {
  cnnext_conv2d_params params = conv_params(args[3], args[4], args[5], args[6]);
  params.algorithm = parse_algorithm(args[7]);
  Array grad_y(args[0], "grad_y"), x(args[1], "x");
  const Origin origin = result_origin({&grad_y, &x});
  int64_t shape[CNNEXT_MAX_NDIM];
  int ndim = parse_shape(args[2], "weight_shape", shape);
  Output grad_weight(args[8]);
  grad_weight.set_shape(ndim, shape);
  run(origin, {&grad_weight}, [&](const cnnext_context* with) {
    return cnnext_conv2d_backward_weights(with, &params, grad_y.get(), x.get(), grad_weight.get());
  });
  return grad_weight.take(origin);
}

// In conv_transpose2d's order: stride, padding, output_padding, groups, dilation.
cnnext_conv2d_params transposed_params(Args stride_to_dilation) {
  cnnext_conv2d_params params =
      conv_params(stride_to_dilation[0], stride_to_dilation[1], stride_to_dilation[4], stride_to_dilation[3]);
  parse_pair(stride_to_dilation[2], "output_padding", params.output_padding);
  return params;
}

// x, weight, bias, stride, padding, output_padding, groups, dilation, algorithm, out
py::object conv_transpose2d(Args args) {
  cnnext_conv2d_params params = transposed_params(args + 3);
  params.algorithm = parse_algorithm(args[8]);
  Array x(args[0], "x"), weight(args[1], "weight");
  Array bias = Array::optional(args[2], "bias");
  const Origin origin = result_origin({&x, &weight, &bias});
  Output y(args[9]);
  run(origin, {&y}, [&](const cnnext_context* with) {
    return cnnext_conv_transpose2d(with, &params, x.get(), weight.get(), bias.get(), y.get());
  });
  return y.take(origin);
}

// Its gradients are convolutions of grad_y with the output_padding left out at the end.
// grad_y, weight, stride, padding, output_padding, groups, dilation
py::object conv_transpose2d_backward_data(Args args) {
  cnnext_conv2d_params params = transposed_params(args + 2);
  Array grad_y(args[0], "grad_y"), weight(args[1], "weight");
  const Origin origin = result_origin({&grad_y, &weight});
  Output grad_x;
  run(origin, {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_conv2d(with, &params, grad_y.get(), weight.get(), nullptr, nullptr, grad_x.get());
  });
  return grad_x.take(origin);
}

// grad_y, x, weight_shape, stride, padding, output_padding, groups, dilation
py::object conv_transpose2d_backward_weights(Args args) {
  cnnext_conv2d_params params = transposed_params(args + 3);
  Array grad_y(args[0], "grad_y"), x(args[1], "x");
  const Origin origin = result_origin({&grad_y, &x});
  int64_t shape[CNNEXT_MAX_NDIM];
  int ndim = parse_shape(args[2], "weight_shape", shape);
  Output grad_weight;
  grad_weight.set_shape(ndim, shape);
  run(origin, {&grad_weight}, [&](const cnnext_context* with) {
    return cnnext_conv2d_backward_weights(with, &params, x.get(), grad_y.get(), grad_weight.get());
  });
  return grad_weight.take(origin);
}

// stride, padding, dilation, groups, output_padding, activation, algorithm
py::object conv2d_params(Args args) {
  cnnext_conv2d_params params = conv_params(args[0], args[1], args[2], args[3]);
  parse_pair(args[4], "output_padding", params.output_padding);
  params.activation = parse_activation(args[5], "activation");
  params.algorithm = parse_algorithm(args[6]);
  return struct_bytes(params);
}

// weight, stride, padding, dilation, groups, input_shape, channels_last
py::object pack_weight(Args args) {
  cnnext_conv2d_params params = conv_params(args[1], args[2], args[3], args[4]);
  Array weight(args[0], "weight");
  int64_t shape[CNNEXT_MAX_NDIM];
  bool has_shape = args[5] != Py_None;
  if (has_shape && parse_shape(args[5], "input_shape", shape) != 4) {
    raise(PyExc_ValueError, "input_shape is %R; it must be (N, C, H, W)", args[5]);
  }
  int32_t channels_last = parse_bool(args[6], "channels_last");
  cnnext_packed_weight* handle = nullptr;
  run_free(CallContext(weight.origin()), [&](const cnnext_context* with) {
    return cnnext_pack_weight(with, &params, weight.get(), channels_last, has_shape ? shape : nullptr,
                              &handle);
  });
  py::tuple weight_shape(weight.get()->ndim);
  for (int i = 0; i < weight.get()->ndim; ++i) weight_shape[i] = weight.get()->shape[i];
  py::str dtype(dtype_name(weight.get()->dtype));
  auto packed = std::make_unique<PackedWeight>(handle, weight_shape, dtype);
  return py::cast(std::move(packed));
}

// x, weight, bias, activation, out
py::object linear(Args args) {
  cnnext_conv2d_params params = CNNEXT_CONV2D_PARAMS_INIT;
  params.activation = parse_activation(args[3], "activation");
  Array x(args[0], "x"), weight(args[1], "weight");
  Array bias = Array::optional(args[2], "bias");
  const Origin origin = result_origin({&x, &weight, &bias});
  Output y(args[4]);
  run(origin, {&y}, [&](const cnnext_context* with) {
    return cnnext_linear(with, &params, x.get(), weight.get(), bias.get(), y.get());
  });
  return y.take(origin);
}

// grad_y, weight, out
py::object linear_backward_data(Args args) {
  Array grad_y(args[0], "grad_y"), weight(args[1], "weight");
  const Origin origin = result_origin({&grad_y, &weight});
  Output grad_x(args[2]);
  run(origin, {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_linear_backward_data(with, grad_y.get(), weight.get(), grad_x.get());
  });
  return grad_x.take(origin);
}

// grad_y, x, out
py::object linear_backward_weights(Args args) {
  Array grad_y(args[0], "grad_y"), x(args[1], "x");
  const Origin origin = result_origin({&grad_y, &x});
  Output grad_weight(args[2]);
  run(origin, {&grad_weight}, [&](const cnnext_context* with) {
    return cnnext_linear_backward_weights(with, grad_y.get(), x.get(), grad_weight.get());
  });
  return grad_weight.take(origin);
}

PyMethodDef methods[] = {
    method<11, conv2d>(
        "conv2d",
        "conv2d(x, weight, bias, stride, padding, dilation, groups, activation, residual, algorithm, "
        "out, /)\n--\n\nactivation(conv(x, weight) + bias + residual)."),
    method<9, conv2d_backward_data>(
        "conv2d_backward_data",
        "conv2d_backward_data(grad_y, weight, input_shape, stride, padding, dilation, "
        "groups, algorithm, out, /)\n--\n\nThe gradient of x."),
    method<9, conv2d_backward_weights>(
        "conv2d_backward_weights",
        "conv2d_backward_weights(grad_y, x, weight_shape, stride, padding, dilation, "
        "groups, algorithm, out, /)\n--\n\nThe gradient of weight."),
    method<10, conv_transpose2d>("conv_transpose2d",
                                 "conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, "
                                 "dilation, algorithm, out, /)\n--\n\nThe adjoint of conv2d, plus bias."),
    method<7, conv_transpose2d_backward_data>(
        "conv_transpose2d_backward_data",
        "conv_transpose2d_backward_data(grad_y, weight, stride, padding, output_padding, groups, dilation, "
        "/)\n--\n\nThe gradient of x."),
    method<8, conv_transpose2d_backward_weights>(
        "conv_transpose2d_backward_weights",
        "conv_transpose2d_backward_weights(grad_y, x, weight_shape, stride, padding, output_padding, groups, "
        "dilation, /)\n--\n\nThe gradient of weight."),
    method<7, conv2d_params>(
        "conv2d_params",
        "conv2d_params(stride, padding, dilation, groups, output_padding, activation, algorithm, "
        "/)\n--\n\nThe bytes of a cnnext_conv2d_params."),
    method<7, pack_weight>(
        "pack_weight",
        "pack_weight(weight, stride, padding, dilation, groups, input_shape, channels_last, "
        "/)\n--\n\nA copy of weight in the order that the kernels read."),
    method<5, linear>("linear",
                      "linear(x, weight, bias, activation, out, /)\n--\n\nactivation(x weight^T + bias)."),
    method<3, linear_backward_data>("linear_backward_data",
                                    "linear_backward_data(grad_y, weight, out, /)\n--\n\nThe gradient of x."),
    method<3, linear_backward_weights>(
        "linear_backward_weights",
        "linear_backward_weights(grad_y, x, out, /)\n--\n\nThe gradient of weight."),
    {nullptr, nullptr, 0, nullptr}};

py::str repr(const PackedWeight& packed) {
  return py::str("PackedWeight(shape={}, dtype={}, nbytes={})")
      .format(packed.shape(), packed.dtype(), packed.nbytes());
}

}  // namespace

void add_conv(py::module_& m) {
  py::class_<PackedWeight> type(
      m, "PackedWeight", py::is_final(),
      "A convolution's weight in the order that the kernels read; made by pack_weight(). It "
      "holds a copy: later changes of the array do not reach it.");
  type.def_property_readonly("shape", &PackedWeight::shape);
  type.def_property_readonly("dtype", &PackedWeight::dtype);
  type.def_property_readonly("nbytes", &PackedWeight::nbytes);
  type.def("__repr__", &repr);
  packed_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
