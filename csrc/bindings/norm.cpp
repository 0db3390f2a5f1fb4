// Batch normalisation, softmax and cross-entropy: arguments -> views -> one call.
#include <climits>

#include "output.h"
#include "params.h"

namespace bindings {
namespace {

int32_t parse_dim(PyObject* object) {
  int64_t dim = parse_int(object, "dim");
  if (dim < INT_MIN || dim > INT_MAX) raise(PyExc_ValueError, "dim is %R; it must be an axis of x", object);
  return static_cast<int32_t>(dim);
}

// x, running_mean, running_var, weight, bias, training, momentum, eps, save_stats, out, activation
py::object batch_norm(Args args) {
  cnnext_batch_norm_params params = CNNEXT_BATCH_NORM_PARAMS_INIT;
  params.training = parse_bool(args[5], "training");
  params.momentum = parse_double(args[6], "momentum");
  params.eps = parse_double(args[7], "eps");
  params.activation = parse_norm_activation(args[10]);
  bool save = parse_bool(args[8], "save_stats");
  Access access = params.training ? Access::kWrite : Access::kRead;
  Array x(args[0], "x");
  Array running_mean = Array::optional(args[1], "running_mean", access);
  Array running_var = Array::optional(args[2], "running_var", access);
  Array weight = Array::optional(args[3], "weight"), bias = Array::optional(args[4], "bias");
  const Origin origin = result_origin({&x, &running_mean, &running_var, &weight, &bias});
  Output y(args[9]), save_mean, save_invstd;
  auto call = [&](const cnnext_context* with) {
    return cnnext_batch_norm(with, &params, x.get(), weight.get(), bias.get(), running_mean.get(),
                             running_var.get(), y.get(), save ? save_mean.get() : nullptr,
                             save ? save_invstd.get() : nullptr);
  };
  if (!save) {
    run(origin, {&y}, call);
    return y.take(origin);
  }
  run(origin, {&y, &save_mean, &save_invstd}, call);
  return py::make_tuple(y.take(origin), save_mean.take(origin), save_invstd.take(origin));
}

// grad_y, x, weight, save_mean, save_invstd, training, need_x, need_weight, need_bias, y, activation
// (both None without one)
py::object batch_norm_backward(Args args) {
  cnnext_batch_norm_params params = CNNEXT_BATCH_NORM_PARAMS_INIT;
  params.training = parse_bool(args[5], "training");
  const bool needs[3] = {parse_bool(args[6], "needs"), parse_bool(args[7], "needs"),
                         parse_bool(args[8], "needs")};
  Array grad_y(args[0], "grad_y"), x(args[1], "x");
  Array weight = Array::optional(args[2], "weight"), y = Array::optional(args[9], "y");
  params.activation = parse_norm_activation(args[10]);
  Array save_mean(args[3], "save_mean"), save_invstd(args[4], "save_invstd");
  const Origin origin = result_origin({&grad_y, &x, &weight, &save_mean, &save_invstd, &y});
  Output grads[3];
  auto call = [&](const cnnext_context* with) {
    return cnnext_batch_norm_activation_backward(
        with, &params, grad_y.get(), x.get(), y.get(), weight.get(), save_mean.get(), save_invstd.get(),
        needs[0] ? grads[0].get() : nullptr, needs[1] ? grads[1].get() : nullptr,
        needs[2] ? grads[2].get() : nullptr);
  };
  run_wanted(origin, grads, needs, 3, call);
  py::tuple results(3);
  for (size_t i = 0; i < 3; ++i) results[i] = needs[i] ? grads[i].take(origin) : py::object(py::none());
  return std::move(results);
}

// x, dim, log, out
py::object softmax(Args args) {
  int32_t dim = parse_dim(args[1]), log = parse_bool(args[2], "log");
  Array x(args[0], "x");
  Output y(args[3]);
  run(x.origin(), {&y},
      [&](const cnnext_context* with) { return cnnext_softmax(with, dim, log, x.get(), y.get()); });
  return y.take(x.origin());
}

// grad_y, y, dim, log, out
py::object softmax_backward(Args args) {
  int32_t dim = parse_dim(args[2]), log = parse_bool(args[3], "log");
  Array grad_y(args[0], "grad_y"), y(args[1], "y");
  const Origin origin = result_origin({&grad_y, &y});
  Output grad_x(args[4]);
  run(origin, {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_softmax_backward(with, dim, log, grad_y.get(), y.get(), grad_x.get());
  });
  return grad_x.take(origin);
}

cnnext_cross_entropy_params loss_params(Args ignore_reduction_smoothing) {
  cnnext_cross_entropy_params params = CNNEXT_CROSS_ENTROPY_PARAMS_INIT;
  params.ignore_index = parse_int(ignore_reduction_smoothing[0], "ignore_index");
  params.reduction = parse_reduction(ignore_reduction_smoothing[1]);
  params.label_smoothing = parse_double(ignore_reduction_smoothing[2], "label_smoothing");
  return params;
}

// x, target, weight, ignore_index, reduction, label_smoothing
py::object cross_entropy(Args args) {
  cnnext_cross_entropy_params params = loss_params(args + 3);
  Array x(args[0], "x"), target(args[1], "target");
  Array weight = Array::optional(args[2], "weight");
  const Origin origin = result_origin({&x, &target, &weight});
  Output loss;
  run(origin, {&loss}, [&](const cnnext_context* with) {
    return cnnext_cross_entropy(with, &params, x.get(), target.get(), weight.get(), loss.get());
  });
  return loss.take(origin);
}

// grad_loss, x, target, weight, ignore_index, reduction, label_smoothing
py::object cross_entropy_backward(Args args) {
  cnnext_cross_entropy_params params = loss_params(args + 4);
  Array grad_loss(args[0], "grad_loss"), x(args[1], "x"), target(args[2], "target");
  Array weight = Array::optional(args[3], "weight");
  const Origin origin = result_origin({&grad_loss, &x, &target, &weight});
  Output grad_x;
  run(origin, {&grad_x}, [&](const cnnext_context* with) {
    return cnnext_cross_entropy_backward(with, &params, grad_loss.get(), x.get(), target.get(), weight.get(),
                                         grad_x.get());
  });
  return grad_x.take(origin);
}

// training, momentum, eps
py::object batch_norm_params(Args args) {
  cnnext_batch_norm_params params = CNNEXT_BATCH_NORM_PARAMS_INIT;
  params.training = parse_bool(args[0], "training");
  params.momentum = parse_double(args[1], "momentum");
  params.eps = parse_double(args[2], "eps");
  return py::bytes(reinterpret_cast<const char*>(&params), sizeof(params));  // without gaps
}

PyMethodDef methods[] = {
    method<3, batch_norm_params>(
        "batch_norm_params",
        "batch_norm_params(training, momentum, eps, /)\n--\n\nThe bytes of a cnnext_batch_norm_params."),
    method<11, batch_norm>("batch_norm",
                           "batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps, "
                           "save_stats, out, activation, /)\n--\n\ny, or (y, mean, 1/std) if save_stats."),
    method<11, batch_norm_backward>(
        "batch_norm_backward",
        "batch_norm_backward(grad_y, x, weight, save_mean, save_invstd, training, need_x, "
        "need_weight, need_bias, y, activation, /)\n--\n\n(grad_x, grad_weight, grad_bias)."),
    method<4, softmax>("softmax", "softmax(x, dim, log, out, /)\n--\n\nSoftmax, or its logarithm."),
    method<5, softmax_backward>(
        "softmax_backward",
        "softmax_backward(grad_y, y, dim, log, out, /)\n--\n\nThe gradient of x; y is the "
        "forward's result."),
    method<6, cross_entropy>("cross_entropy",
                             "cross_entropy(x, target, weight, ignore_index, reduction, label_smoothing, "
                             "/)\n--\n\nThe cross-entropy of logits."),
    method<7, cross_entropy_backward>(
        "cross_entropy_backward",
        "cross_entropy_backward(grad_loss, x, target, weight, ignore_index, reduction, "
        "label_smoothing, /)\n--\n\nThe gradient of x."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_norm(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
