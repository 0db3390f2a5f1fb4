// What calls would do, for tensors of which there are only shapes: the same ABI functions, with a plan to
// fill.
#include <algorithm>
#include <cstring>

#include "params.h"

namespace bindings {
namespace {

// Tensors that are not there: their addresses are nobody's, and no two of a call overlap.
class Planner {
 public:
  // device: a CUDA device's number, or None for the CPU.
  Planner(PyObject* dtype, PyObject* channels_last, PyObject* device)
      : dtype_(parse_dtype(dtype)),
        channels_last_(parse_bool(channels_last, "channels_last")),
        device_(device == Py_None ? -1 : static_cast<int32_t>(parse_int(device, "device"))) {}

  cnnext_tensor image(PyObject* shape, const char* name) { return tensor(shape, name, channels_last_); }
  cnnext_tensor weight(PyObject* shape, const char* name) { return tensor(shape, name, false); }
  cnnext_tensor vector(int64_t length) {
    cnnext_tensor t = typed();
    t.ndim = 1;
    t.shape[0] = length;
    t.strides[0] = 1;
    place(&t);
    return t;
  }

  // call(context) dry, which describes the outputs; then as a plan.
  template <class Call>
  void run(std::initializer_list<cnnext_tensor*> outputs, const Call& call) {
    describe(outputs, call);
    cnnext_context with = context() ? *context() : cnnext_context CNNEXT_CONTEXT_INIT;
    with.plan = &plan_;
    check(call(&with));
  }
  // The gradient of a result, where one channel of x leaves its layout open.
  template <class Call>
  void describe_gradient(cnnext_tensor* y, const Call& call) {
    describe({y}, call);
    lay(y, channels_last_);
  }
  template <class Call>
  void describe(std::initializer_list<cnnext_tensor*> outputs, const Call& call) {
    check(call(context()));
    for (cnnext_tensor* output : outputs) place(output);
  }

  // y: the forward's result, or the transposed convolution's.
  py::object answer(const cnnext_tensor& y) const {
    py::tuple shape(y.ndim);
    for (int i = 0; i < y.ndim; ++i) shape[static_cast<size_t>(i)] = y.shape[i];
    py::dict result;
    result["kernel"] = plan_.kernel ? plan_.kernel : "";
    result["scratch_bytes"] = plan_.scratch_bytes;
    result["packed_weight_bytes"] = plan_.packed_weight_bytes;
    result["tasks"] = plan_.tasks;
    result["choice"] = plan_.choice ? plan_.choice : "table";
    result["threads"] = cnnext_get_num_threads();
    result["y_shape"] = shape;
    result["strip"] = py::make_tuple(plan_.strip_images, plan_.strip_rows);
    return std::move(result);
  }

 private:
  cnnext_tensor typed() const {
    cnnext_tensor t{};
    t.dtype = dtype_;
    t.device_type = device_ < 0 ? CNNEXT_CPU : CNNEXT_CUDA;
    t.device_id = std::max(device_, 0);
    return t;
  }
  // Far beyond what a processor can address, and aligned as the allocator's blocks are.
  void place(cnnext_tensor* t) { t->data = reinterpret_cast<void*>(++placed_ << 56); }

  cnnext_tensor tensor(PyObject* shape, const char* name, bool channels_last) {
    cnnext_tensor t = typed();
    t.ndim = parse_shape(shape, name, t.shape);
    place(&t);
    lay(&t, channels_last);
    return t;
  }

  // Sizes too large, or negative, are the library's to refuse: strides may wrap around until then.
  static void lay(cnnext_tensor* t, bool channels_last) {
    uint64_t step = 1;
    const auto put = [&](int axis) {
      t->strides[axis] = static_cast<int64_t>(step);
      step *= static_cast<uint64_t>(t->shape[axis]);
    };
    const int channel = t->ndim - 3;
    const bool apart = channels_last && channel >= 0;
    if (apart) put(channel);
    for (int axis = t->ndim - 1; axis >= 0; --axis) {
      if (!apart || axis != channel) put(axis);
    }
  }

  const int32_t dtype_;
  const bool channels_last_;
  const int32_t device_;
  uintptr_t placed_ = 0;
  cnnext_plan plan_ = CNNEXT_PLAN_INIT;
};

// op, x_shape, weight_shape, stride, padding, dilation, groups, output_padding, bias, activation, algorithm,
// channels_last, dtype, device
py::object plan_conv(Args args) {
  const char* const op = PyUnicode_Check(args[0]) ? PyUnicode_AsUTF8(args[0]) : nullptr;
  if (!op) raise(PyExc_TypeError, "op must be a string, got %S", type_name(args[0]).ptr());
  Planner planner(args[12], args[11], args[13]);
  cnnext_conv2d_params params = conv_params(args[3], args[4], args[5], args[6]);
  parse_pair(args[7], "output_padding", params.output_padding);
  const bool has_bias = parse_bool(args[8], "bias");
  params.activation = parse_activation(args[9], "activation");
  params.algorithm = parse_algorithm(args[10]);
  cnnext_tensor x = planner.image(args[1], "x_shape"), w = planner.weight(args[2], "weight_shape");
  cnnext_tensor bias{}, y{};
  const bool transposed = !std::strcmp(op, "conv_transpose2d");
  if (has_bias && w.ndim == 4) bias = planner.vector(transposed ? w.shape[1] * params.groups : w.shape[0]);
  const cnnext_tensor* const given = bias.data ? &bias : nullptr;
  const auto forward = [&](const cnnext_context* with) {
    return cnnext_conv2d(with, &params, &x, &w, given, nullptr, &y);
  };
  if (!std::strcmp(op, "conv2d")) {
    planner.run({&y}, forward);
  } else if (transposed) {
    planner.run({&y}, [&](const cnnext_context* with) {
      return cnnext_conv_transpose2d(with, &params, &x, &w, given, &y);
    });
  } else if (!std::strcmp(op, "conv2d_batch_norm")) {
    cnnext_batch_norm_params norm = CNNEXT_BATCH_NORM_PARAMS_INIT;
    norm.training = 1;
    cnnext_tensor conv_y{}, mean{}, invstd{};
    planner.run({&y, &conv_y, &mean, &invstd}, [&](const cnnext_context* with) {
      return cnnext_conv2d_batch_norm(with, &params, &norm, &x, &w, given, nullptr, nullptr, nullptr, nullptr,
                                      &y, &conv_y, &mean, &invstd);
    });
  } else if (!std::strcmp(op, "conv2d_backward_data")) {
    planner.describe_gradient(&y, forward);
    cnnext_tensor grad_x = x;
    grad_x.data = nullptr;
    planner.run({&grad_x}, [&](const cnnext_context* with) {
      return cnnext_conv2d_backward_data(with, &params, &y, &w, &grad_x);
    });
  } else if (!std::strcmp(op, "conv2d_backward_weights")) {
    planner.describe_gradient(&y, forward);
    cnnext_tensor grad_w = w;
    grad_w.data = nullptr;
    planner.run({&grad_w}, [&](const cnnext_context* with) {
      return cnnext_conv2d_backward_weights(with, &params, &y, &x, &grad_w);
    });
  } else {
    raise(PyExc_ValueError, "op is %R; it must be a convolution", args[0]);
  }
  return planner.answer(y);
}

// backward, x_shape, kernel_size, stride, padding, dilation, ceil_mode, return_indices, indices,
// channels_last, dtype, device
py::object plan_max_pool(Args args) {
  Planner planner(args[10], args[9], args[11]);
  const bool backward = parse_bool(args[0], "backward");
  const cnnext_pool2d_params params = max_pool_params(args + 2, args[8], "indices");
  const bool with_indices = parse_bool(args[7], "return_indices") || backward;
  cnnext_tensor x = planner.image(args[1], "x_shape"), y{}, indices{};
  const auto forward = [&](const cnnext_context* with) {
    return cnnext_max_pool2d(with, &params, &x, &y, with_indices ? &indices : nullptr);
  };
  if (!backward) {
    planner.run({&y, &indices}, forward);
    return planner.answer(y);
  }
  planner.describe({&y, &indices}, forward);
  cnnext_tensor grad_x = x;
  grad_x.data = nullptr;
  planner.run({&grad_x}, [&](const cnnext_context* with) {
    return cnnext_max_pool2d_backward(with, &params, &y, &indices, &grad_x);
  });
  return planner.answer(y);
}

// backward, x_shape, weight_shape, stride, padding, dilation, groups, pool_size, pool_stride, pool_padding,
// bias, channels_last, dtype, device
py::object plan_conv_pool(Args args) {
  Planner planner(args[12], args[11], args[13]);
  const bool backward = parse_bool(args[0], "backward");
  const FusedParams params(args + 3);
  const bool has_bias = parse_bool(args[10], "bias");
  cnnext_tensor x = planner.image(args[1], "x_shape"), w = planner.weight(args[2], "weight_shape");
  cnnext_tensor bias{}, y{}, codes{};
  if (has_bias && w.ndim == 4) bias = planner.vector(w.shape[0]);
  const auto forward = [&](const cnnext_context* with) {
    return cnnext_conv2d_relu_max_pool2d(with, &params.conv, &params.pool, &x, &w,
                                         bias.data ? &bias : nullptr, &y, &codes);
  };
  if (!backward) {
    planner.run({&y, &codes}, forward);
    return planner.answer(y);
  }
  planner.describe({&y, &codes}, forward);
  cnnext_tensor grad_x{}, grad_w{}, grad_bias{};
  planner.run({&grad_x, &grad_w, &grad_bias}, [&](const cnnext_context* with) {
    return cnnext_conv2d_relu_max_pool2d_backward(with, &params.conv, &params.pool, &y, &codes, &x, &w,
                                                  &grad_x, &grad_w, has_bias ? &grad_bias : nullptr);
  });
  return planner.answer(y);
}

py::object get_autotune(Args) {
  static constexpr const char* kModes[] = {"off", "same_bits", "any"};
  return py::str(kModes[cnnext_get_autotune()]);
}
py::object set_autotune(Args args) {
  check(cnnext_set_autotune(parse_autotune(args[0])));
  return py::none();
}

PyMethodDef methods[] = {
    method<14, plan_conv>(
        "plan_conv",
        "plan_conv(op, x_shape, weight_shape, stride, padding, dilation, groups, "
        "output_padding, bias, activation, algorithm, channels_last, dtype, device, /)\n--\n\nWhat "
        "a convolution of these shapes would run."),
    method<12, plan_max_pool>(
        "plan_max_pool",
        "plan_max_pool(backward, x_shape, kernel_size, stride, padding, dilation, ceil_mode, "
        "return_indices, indices, channels_last, dtype, device, /)\n--\n\nThe same for max-pool."),
    method<14, plan_conv_pool>(
        "plan_conv_pool",
        "plan_conv_pool(backward, x_shape, weight_shape, stride, padding, dilation, groups, pool_size, "
        "pool_stride, pool_padding, bias, channels_last, dtype, device, /)\n--\n\nThe same for "
        "conv2d_relu_max_pool2d."),
    method<0, get_autotune>("get_autotune",
                            "get_autotune()\n--\n\nWhat set_autotune() or CNNEXT_AUTOTUNE says."),
    method<1, set_autotune>(
        "set_autotune",
        "set_autotune(mode, /)\n--\n\nWhether convolutions time other ways to run at the first call of a "
        "shape, and keep the fastest: 'off', 'same_bits' (only ways with the same bits) or 'any' (others "
        "too: "
        "results then depend on what was timed)."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_plan(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
