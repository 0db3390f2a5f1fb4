// Optimiser steps over lists of arrays, in place.
#include <vector>

#include "output.h"
#include "params.h"

namespace bindings {
namespace {

// A list of arrays as views in one run; None: an absent list (null).
class ArrayList {
 public:
  ArrayList(PyObject* object, const char* name, Access access, Py_ssize_t expected = -1) {
    if (object == Py_None) return;
    items_ = py::reinterpret_steal<py::object>(PySequence_Fast(object, ""));
    if (!items_ || PyObject_HasAttrString(object, "__dlpack__")) {
      PyErr_Clear();
      raise(PyExc_TypeError, "%s must be a list of arrays, got %S", name, type_name(object).ptr());
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items_.ptr());
    if (expected >= 0 && count != expected) {
      raise(PyExc_ValueError, "%s has %zd arrays; it must have as many as params, %zd", name, count,
            expected);
    }
    arrays_.reserve(static_cast<size_t>(count));
    views_.reserve(static_cast<size_t>(count) + 1);
    for (Py_ssize_t i = 0; i < count; ++i) {
      arrays_.emplace_back(PySequence_Fast_GET_ITEM(items_.ptr(), i), name, access);
      views_.push_back(*arrays_.back().get());
    }
    present_ = true;
  }

  Py_ssize_t count() const { return static_cast<Py_ssize_t>(arrays_.size()); }
  cnnext_tensor* get() { return present_ ? views_.data() : nullptr; }
  // The first array's; on CUDA a TypeError where another library's is among them, as in result_origin().
  Origin origin() const {
    const Origin first = arrays_.empty() ? Origin() : arrays_.front().origin();
    check_library(first);
    return first;
  }
  void check_library(const Origin& first) const {
    for (const Array& array : arrays_) {
      if (first.on_device() && array.on_device() && array.library() != first.library) {
        raise_two_libraries(first.name, array.name());
      }
    }
  }

 private:
  py::object items_;  // keeps the arrays of a generator or of a list that changes
  std::vector<Array> arrays_;
  std::vector<cnnext_tensor> views_;
  bool present_ = false;
};

void require(PyObject* object, const char* name) {
  if (object == Py_None) raise(PyExc_TypeError, "%s must be a list of arrays, got None", name);
}

// The first list is what the step updates.
template <class Call>
py::object run_step(std::initializer_list<const ArrayList*> lists, const Call& call) {
  const Origin origin = (*lists.begin())->origin();
  for (const ArrayList* list : lists) list->check_library(origin);
  run_free(CallContext(origin), call);
  return py::none();
}

// params, grads, momentum_buffers, lr, momentum, dampening, weight_decay, nesterov, maximize, first_step
py::object sgd_step(Args args) {
  cnnext_sgd_params options{};
  options.size = sizeof(options);
  options.lr = parse_double(args[3], "lr");
  options.momentum = parse_double(args[4], "momentum");
  options.dampening = parse_double(args[5], "dampening");
  options.weight_decay = parse_double(args[6], "weight_decay");
  options.nesterov = parse_bool(args[7], "nesterov");
  options.maximize = parse_bool(args[8], "maximize");
  options.first_step = parse_bool(args[9], "first_step");
  require(args[0], "params");
  require(args[1], "grads");
  ArrayList params(args[0], "params", Access::kWrite);
  ArrayList grads(args[1], "grads", Access::kRead, params.count());
  ArrayList buffers(args[2], "momentum_buffers", Access::kWrite, params.count());
  return run_step({&params, &grads, &buffers}, [&](const cnnext_context* with) {
    return cnnext_sgd_step(with, &options, params.count(), params.get(), grads.get(), buffers.get());
  });
}

// params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step, lr, beta1, beta2, eps, weight_decay,
// decoupled, maximize
py::object adam_step(Args args) {
  cnnext_adam_params options{};
  options.size = sizeof(options);
  options.step = parse_int(args[5], "step");
  options.lr = parse_double(args[6], "lr");
  options.beta1 = parse_double(args[7], "beta1");
  options.beta2 = parse_double(args[8], "beta2");
  options.eps = parse_double(args[9], "eps");
  options.weight_decay = parse_double(args[10], "weight_decay");
  options.decoupled = parse_bool(args[11], "decoupled");
  options.maximize = parse_bool(args[12], "maximize");
  require(args[0], "params");
  require(args[1], "grads");
  require(args[2], "exp_avgs");
  require(args[3], "exp_avg_sqs");
  ArrayList params(args[0], "params", Access::kWrite);
  ArrayList grads(args[1], "grads", Access::kRead, params.count());
  ArrayList averages(args[2], "exp_avgs", Access::kWrite, params.count());
  ArrayList squares(args[3], "exp_avg_sqs", Access::kWrite, params.count());
  ArrayList maxima(args[4], "max_exp_avg_sqs", Access::kWrite, params.count());
  return run_step({&params, &grads, &averages, &squares, &maxima}, [&](const cnnext_context* with) {
    return cnnext_adam_step(with, &options, params.count(), params.get(), grads.get(), averages.get(),
                            squares.get(), maxima.get());
  });
}

PyMethodDef methods[] = {
    method<10, sgd_step>(
        "sgd_step",
        "sgd_step(params, grads, momentum_buffers, lr, momentum, dampening, weight_decay, nesterov, "
        "maximize, first_step, /)\n--\n\nOne step of SGD, in place."),
    method<13, adam_step>(
        "adam_step",
        "adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step, lr, beta1, beta2, "
        "eps, weight_decay, decoupled, maximize, /)\n--\n\nOne step of Adam or AdamW, in place."),
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_optim(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace bindings
