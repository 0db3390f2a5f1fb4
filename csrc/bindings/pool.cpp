// Pools and their indices: arguments -> views -> one call.
#include "output.h"
#include "params.h"

namespace bindings {
namespace {

// stride None, or empty as torch writes it: the kernel's size.
bool is_default(PyObject* stride) {
  return stride == Py_None ||
         ((PyTuple_Check(stride) || PyList_Check(stride)) && PySequence_Size(stride) == 0);
}

}  // namespace

cnnext_pool2d_params pool_params(PyObject* kernel_size, PyObject* stride, PyObject* padding,
                                 const PoolNames& names) {
  cnnext_pool2d_params params = CNNEXT_POOL2D_PARAMS_INIT;
  parse_pair(kernel_size, names.size, params.kernel);
  if (is_default(stride)) {
    params.stride[0] = params.kernel[0];
    params.stride[1] = params.kernel[1];
  } else {
    parse_pair(stride, names.stride, params.stride);
  }
  parse_padding(padding, params.padding, &params.padding_mode, &params.four_sided);
  return params;
}

cnnext_pool2d_params max_pool_params(Args kernel_to_ceil, PyObject* indices, const char* indices_name) {
  cnnext_pool2d_params params = pool_params(kernel_to_ceil[0], kernel_to_ceil[1], kernel_to_ceil[2]);
  parse_pair(kernel_to_ceil[3], "dilation", params.dilation);
  params.ceil_mode = parse_bool(kernel_to_ceil[4], "ceil_mode");
  params.index_kind = parse_index_kind(indices, indices_name);
  return params;
}

namespace {

cnnext_pool2d_params avg_pool_params(Args kernel_to_divisor, PyObject* dilation) {
  cnnext_pool2d_params params = pool_params(kernel_to_divisor[0], kernel_to_divisor[1], kernel_to_divisor[2]);
  params.ceil_mode = parse_bool(kernel_to_divisor[3], "ceil_mode");
  params.count_include_pad = parse_bool(kernel_to_divisor[4], "count_include_pad");
  PyObject* divisor = kernel_to_divisor[5];
  if (divisor != Py_None) {
    params.divisor_override = parse_int(divisor, "divisor_override");
    // 0 says "none" in the C struct.
    if (!params.divisor_override) raise(PyExc_ValueError, "divisor_override is 0; it must not be zero");
  }
  parse_pair(dilation, "dilation", params.dilation);
  return params;
}

// kernel_size, stride, padding, dilation, ceil_mode, indices, what messages call those
py::object max_pool2d_params(Args args) {
  const py::str name = py::str(py::handle(args[6]));
  return struct_bytes(max_pool_params(args, args[5], PyUnicode_AsUTF8(name.ptr())));
}

// kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
py::object avg_pool2d_params(Args args) { return struct_bytes(avg_pool_params(args, args[6])); }

// x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices, out
py::object max_pool2d(Args args) {
  cnnext_pool2d_params params = max_pool_params(args + 1, args[7], "indices");
  bool with_indices = parse_bool(args[6], "return_indices");
  Array x(args[0], "x");
  Output y(args[8]), indices;
  if (!with_indices) {
    run(x.origin(), {&y}, [&](const cnnext_context* with) {
      return cnnext_max_pool2d(with, &params, x.get(), y.get(), nullptr);
    });
    return y.take(x.origin());
  }
  run(x.origin(), {&y, &indices}, [&](const cnnext_context* with) {
    return cnnext_max_pool2d(with, &params, x.get(), y.get(), indices.get());
  });
  return py::make_tuple(y.take(x.origin()), indices.take(x.origin()));
}

// grad_y, indices, input_shape, kernel_size, stride, padding, dilation, ceil_mode, indices_kind, out
py::object max_pool2d_backward(Args args) {
  cnnext_pool2d_params params = max_pool_params(args + 3, args[8], "indices_kind");
  Array grad_y(args[0], "grad_y"), indices(args[1], "indices");
  const Origin origin = result_origin({&grad_y, &indices});
  int64_t shape[CNNEXT_MAX_NDIM];
  int ndim = parse_shape(args[2], "input_shape", shape);
  Output grad_x(args[9]);
  grad_x.set_shape(ndim, shape);
  run(origin, {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_max_pool2d_backward(with, &params, grad_y.get(), indices.get(), grad_x.get());
  });
  return grad_x.take(origin);
}

// x, indices, kernel_size, stride, padding, dilation, ceil_mode, indices_kind, out
py::object max_pool2d_gather(Args args) {
  cnnext_pool2d_params params = max_pool_params(args + 2, args[7], "indices_kind");
  Array x(args[0], "x"), indices(args[1], "indices");
  const Origin origin = result_origin({&x, &indices});
  Output y(args[8]);
  run(origin, {&y}, [&](const cnnext_context* with) {
    return cnnext_max_pool2d_gather(with, &params, x.get(), indices.get(), y.get());
  });
  return y.take(origin);
}

// x, indices, kernel_size, stride, padding, output_shape, indices_kind, out
py::object max_unpool2d(Args args) {
  cnnext_pool2d_params params = pool_params(args[2], args[3], args[4]);
  params.index_kind = parse_index_kind(args[6], "indices_kind");
  Array x(args[0], "x"), indices(args[1], "indices");
  const Origin origin = result_origin({&x, &indices});
  int64_t shape[CNNEXT_MAX_NDIM];
  int ndim = parse_shape(args[5], "output_size", shape);
  Output y(args[7]);
  y.set_shape(ndim, shape);
  run(origin, {&y}, [&](const cnnext_context* with) {
    return cnnext_max_unpool2d(with, &params, x.get(), indices.get(), y.get());
  });
  return y.take(origin);
}

// indices, input_shape, kernel_size, stride, padding, dilation, ceil_mode, source, target
py::object convert_indices(Args args) {
  cnnext_pool2d_params params = max_pool_params(args + 2, args[7], "source");
  int32_t target = parse_index_kind(args[8], "target");
  Array indices(args[0], "indices");
  int64_t shape[CNNEXT_MAX_NDIM];
  int ndim = parse_shape(args[1], "input_shape", shape);
  if (ndim != 4 && ndim != 3)
    raise(PyExc_ValueError, "input_shape is %R; it must be (N, C, H, W) or (C, H, W)", args[1]);
  const int64_t batched[4] = {ndim == 4 ? shape[0] : 1, shape[ndim - 3], shape[ndim - 2], shape[ndim - 1]};
  Output out;
  run(indices.origin(), {&out}, [&](const cnnext_context* with) {
    return cnnext_convert_indices(with, &params, batched, target, indices.get(), out.get());
  });
  return out.take(indices.origin());
}

// x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
py::object avg_pool2d(Args args) {
  cnnext_pool2d_params params = avg_pool_params(args + 1, args[7]);
  Array x(args[0], "x");
  Output y(args[8]);
  run(x.origin(), {&y},
      [&](const cnnext_context* with) { return cnnext_avg_pool2d(with, &params, x.get(), y.get()); });
  return y.take(x.origin());
}

// grad_y, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override,
// dilation, out
py::object avg_pool2d_backward(Args args) {
  cnnext_pool2d_params params = avg_pool_params(args + 2, args[8]);
  Array grad_y(args[0], "grad_y");
  int64_t shape[CNNEXT_MAX_NDIM];
  int ndim = parse_shape(args[1], "input_shape", shape);
  Output grad_x(args[9]);
  grad_x.set_shape(ndim, shape);
  run(grad_y.origin(), {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_avg_pool2d_backward(with, &params, grad_y.get(), grad_x.get());
  });
  return grad_x.take(grad_y.origin());
}

// x, (h, w) with None or -1 for the input's own size, out
py::object adaptive_avg_pool2d(Args args) {
  int64_t size[2];
  parse_pair(args[1], "output_size", size);
  Array x(args[0], "x");
  Output y(args[2]);
  run(x.origin(), {&y},
      [&](const cnnext_context* with) { return cnnext_adaptive_avg_pool2d(with, size, x.get(), y.get()); });
  return y.take(x.origin());
}

// grad_y, input_shape, out
py::object adaptive_avg_pool2d_backward(Args args) {
  Array grad_y(args[0], "grad_y");
  int64_t shape[CNNEXT_MAX_NDIM];
  int ndim = parse_shape(args[1], "input_shape", shape);
  Output grad_x(args[2]);
  grad_x.set_shape(ndim, shape);
  run(grad_y.origin(), {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_adaptive_avg_pool2d_backward(with, grad_y.get(), grad_x.get());
  });
  return grad_x.take(grad_y.origin());
}

PyMethodDef methods[] = {
    method<9, max_pool2d>(
        "max_pool2d",
        "max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices, "
        "out, /)\n--\n\nThe maximum of every window, with its index if asked for."),
    method<10, max_pool2d_backward>(
        "max_pool2d_backward",
        "max_pool2d_backward(grad_y, indices, input_shape, kernel_size, stride, padding, "
        "dilation, ceil_mode, indices_kind, out, /)\n--\n\nThe gradient of x."),
    method<9, max_pool2d_gather>(
        "max_pool2d_gather",
        "max_pool2d_gather(x, indices, kernel_size, stride, padding, dilation, ceil_mode, "
        "indices_kind, out, /)\n--\n\nx read at the indices."),
    method<8, max_unpool2d>(
        "max_unpool2d",
        "max_unpool2d(x, indices, kernel_size, stride, padding, output_shape, indices_kind, out, "
        "/)\n--\n\nx written at the indices of zeros of output_shape."),
    method<9, convert_indices>(
        "convert_indices",
        "convert_indices(indices, input_shape, kernel_size, stride, padding, dilation, "
        "ceil_mode, source, target, /)\n--\n\nThe same argmax in another form."),
    method<7, max_pool2d_params>(
        "max_pool2d_params",
        "max_pool2d_params(kernel_size, stride, padding, dilation, ceil_mode, indices, indices_name, "
        "/)\n--\n\nThe bytes of a max-pool's cnnext_pool2d_params."),
    method<7, avg_pool2d_params>(
        "avg_pool2d_params",
        "avg_pool2d_params(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, "
        "dilation, /)\n--\n\nThe bytes of an average pool's cnnext_pool2d_params."),
    method<9, avg_pool2d>("avg_pool2d",
                          "avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, "
                          "divisor_override, dilation, out, /)\n--\n\nThe mean of every window."),
    method<10, avg_pool2d_backward>(
        "avg_pool2d_backward",
        "avg_pool2d_backward(grad_y, input_shape, kernel_size, stride, padding, "
        "ceil_mode, count_include_pad, divisor_override, dilation, out, /)\n--\n\nThe "
        "gradient of x."),
    method<3, adaptive_avg_pool2d>(
        "adaptive_avg_pool2d",
        "adaptive_avg_pool2d(x, output_size, out, /)\n--\n\nMeans over windows that "
        "divide x into output_size; -1 keeps x's size."),
    method<3, adaptive_avg_pool2d_backward>(
        "adaptive_avg_pool2d_backward",
        "adaptive_avg_pool2d_backward(grad_y, input_shape, out, /)\n--\n\nThe "
        "gradient of x."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_pool(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
