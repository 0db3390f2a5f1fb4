// Element-wise and per-channel operations: arguments -> views -> one call.
#include "output.h"
#include "params.h"

namespace bindings {
namespace {

// x, kind, negative_slope, out
py::object activation(Args args) {
  int32_t kind = parse_activation(args[1], "kind");
  double slope = parse_double(args[2], "negative_slope");
  Array x(args[0], "x");
  Output y(args[3]);
  run(x.origin(), {&y}, [&](const cnnext_context* with) {
    return cnnext_activation_forward(with, kind, slope, x.get(), y.get());
  });
  return y.take(x.origin());
}

// grad_y, x, kind, negative_slope, out
py::object activation_backward(Args args) {
  int32_t kind = parse_activation(args[2], "kind");
  double slope = parse_double(args[3], "negative_slope");
  Array grad_y(args[0], "grad_y"), x(args[1], "x");
  const Origin origin = result_origin({&grad_y, &x});
  Output grad_x(args[4]);
  run(origin, {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_activation_backward(with, kind, slope, grad_y.get(), x.get(), grad_x.get());
  });
  return grad_x.take(origin);
}

// x, y, out
py::object add(Args args) {
  Array x(args[0], "x"), y(args[1], "y");
  const Origin origin = result_origin({&x, &y});
  Output sum(args[2]);
  run(origin, {&sum},
      [&](const cnnext_context* with) { return cnnext_add(with, x.get(), y.get(), sum.get()); });
  return sum.take(origin);
}

// x, bias, out
py::object bias_add(Args args) {
  Array x(args[0], "x"), bias(args[1], "bias");
  const Origin origin = result_origin({&x, &bias});
  Output y(args[2]);
  run(origin, {&y},
      [&](const cnnext_context* with) { return cnnext_bias_add(with, x.get(), bias.get(), y.get()); });
  return y.take(origin);
}

// grad_y, out
py::object bias_grad(Args args) {
  Array grad_y(args[0], "grad_y");
  Output grad_bias(args[1]);
  run(grad_y.origin(), {&grad_bias},
      [&](const cnnext_context* with) { return cnnext_bias_grad(with, grad_y.get(), grad_bias.get()); });
  return grad_bias.take(grad_y.origin());
}

// x, p, seed, offset, out
py::object dropout(Args args) {
  double p = parse_double(args[1], "p");
  auto seed = static_cast<uint64_t>(parse_int(args[2], "seed"));
  auto offset = static_cast<uint64_t>(parse_int(args[3], "offset"));
  Array x(args[0], "x");
  Output y(args[4]);
  run(x.origin(), {&y},
      [&](const cnnext_context* with) { return cnnext_dropout(with, p, seed, offset, x.get(), y.get()); });
  return y.take(x.origin());
}

// x, channels_last, out
py::object contiguous(Args args) {
  int32_t channels_last = parse_bool(args[1], "channels_last");
  Array x(args[0], "x");
  Output y(args[2]);
  run(x.origin(), {&y},
      [&](const cnnext_context* with) { return cnnext_copy(with, channels_last, x.get(), y.get()); });
  return y.take(x.origin());
}

PyMethodDef methods[] = {
    method<4, activation>("activation",
                          "activation(x, kind, negative_slope, out, /)\n--\n\nAn activation by its name."),
    method<5, activation_backward>(
        "activation_backward",
        "activation_backward(grad_y, x, kind, negative_slope, out, /)\n--\n\nIts gradient; "
        "x is the activation's input."),
    method<3, add>("add", "add(x, y, out, /)\n--\n\nx + y of one shape."),
    method<3, bias_add>("bias_add", "bias_add(x, bias, out, /)\n--\n\nx + bias over axis 1."),
    method<2, bias_grad>("bias_grad", "bias_grad(grad_y, out, /)\n--\n\nThe sum over every axis but axis 1."),
    method<5, dropout>(
        "dropout",
        "dropout(x, p, seed, offset, out, /)\n--\n\nZeros with probability p, the rest times 1/(1-p)."),
    method<3, contiguous>("contiguous", "contiguous(x, channels_last, out, /)\n--\n\nA dense copy of x."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_elementwise(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
