// Results: described by the library in a dry run, allocated here, returned as arrays of the caller's library.
#pragma once

#include "array.h"

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
  // A NumPy array on the pooled allocator, as the dry run described it.
  void allocate();
  // `out` itself, or the new array as one of `library`.
  py::object take(Library library);

  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  ~Output() { Py_XDECREF(array_); }

 private:
  Array out_;
  PyObject* out_object_ = nullptr;  // borrowed
  PyObject* array_ = nullptr;
  cnnext_tensor tensor_{};
};

// call(context) is the ABI function with everything bound. Runs it dry first where an output is still to be
// allocated, then for real without the GIL.
template <class Call>
void run(std::initializer_list<Output*> outputs, const Call& call) {
  const cnnext_context* with = context();
  bool ready = true;
  for (Output* output : outputs) ready = ready && output->ready();
  if (!ready) {
    check(call(with));
    for (Output* output : outputs) {
      if (!output->ready()) output->allocate();
    }
  }
  PyThreadState* state = PyEval_SaveThread();
  cnnext_status status = call(with);
  PyEval_RestoreThread(state);
  check(status);
}

}  // namespace bindings
