// Results: described by the library in a dry run, allocated here, returned as arrays of the caller's library.
#pragma once

#include "array.h"
#include "cuda_stream.h"

namespace bindings {

class Output {
 public:
  // `out`: the array to write, or None to allocate one.
  explicit Output(PyObject* out = Py_None, const char* name = "out");

  bool given() const { return out_.present(); }
  bool ready() const { return given() || array_; }
  cnnext_tensor* get() { return given() ? out_.get() : &tensor_; }
  // Tells the library the shape where it cannot know it; before run().
  void set_shape(int ndim, const int64_t* shape);
  // As the dry run described it: a NumPy array on the pooled allocator, or the library's own on CUDA.
  void allocate(const Origin& origin, const CallContext& with);
  // `out` itself, or the new array as one of origin's library.
  py::object take(const Origin& origin);
  // A given array must be where the operands are, and on CUDA of their library, whose stream orders the work.
  void check_beside(const Origin& origin) const {
    if (!given()) return;
    const Origin own = out_.origin();
    if (own.device_type != origin.device_type || (own.on_device() && !is_same(own, origin))) {
      raise_apart(own, origin);
    }
  }

  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  ~Output() { Py_XDECREF(array_); }

 private:
  static bool is_same(const Origin& a, const Origin& b) {
    return a.device_id == b.device_id && a.library == b.library;
  }
  [[noreturn]] static void raise_apart(const Origin& out, const Origin& origin);
  void allocate_on_device(const Origin& origin, const CallContext& with);

  Array out_;
  PyObject* out_object_ = nullptr;  // borrowed
  PyObject* array_ = nullptr;
  cnnext_tensor tensor_{};
};

// call(context) without the GIL.
template <class Call>
void run_free(const CallContext& with, const Call& call) {
  PyThreadState* state = PyEval_SaveThread();
  cnnext_status status = call(with.get());
  PyEval_RestoreThread(state);
  check(status);
}

// call(context) is the ABI function with everything bound. Runs it dry first where an output is still to be
// allocated, then for real without the GIL.
template <class Call>
void run(const Origin& origin, std::initializer_list<Output*> outputs, const Call& call) {
  const CallContext with(origin);
  bool ready = true;
  for (Output* output : outputs) {
    output->check_beside(origin);
    ready = ready && output->ready();
  }
  if (!ready) {
    check(call(with.get()));
    for (Output* output : outputs) {
      if (!output->ready()) output->allocate(origin, with);
    }
  }
  run_free(with, call);
}

// The same for results of which each is wanted or not: always dry first.
template <class Call>
void run_wanted(const Origin& origin, Output* outputs, const bool* wanted, int count, const Call& call) {
  const CallContext with(origin);
  check(call(with.get()));
  for (int i = 0; i < count; ++i) {
    if (wanted[i]) outputs[i].allocate(origin, with);
  }
  run_free(with, call);
}

}  // namespace bindings
