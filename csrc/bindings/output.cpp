#include "output.h"

#include <pybind11/numpy.h>

#include <utility>

namespace bindings {
namespace {

using api = py::detail::npy_api;

struct NumpyType {
  int type_num;
  int64_t size;
};

NumpyType numpy_type(int32_t dtype) {
  switch (dtype) {
    case CNNEXT_FLOAT32:
      return {api::NPY_FLOAT_, 4};
    case CNNEXT_FLOAT64:
      return {api::NPY_DOUBLE_, 8};
    case CNNEXT_FLOAT16:
      return {23, 2};  // NPY_HALF
    case CNNEXT_BFLOAT16:
      return {api::NPY_SHORT_, 2};  // its bits; take() gives them their type
    case CNNEXT_UINT8:
      return {api::NPY_UBYTE_, 1};
    case CNNEXT_INT8:
      return {api::NPY_BYTE_, 1};
    case CNNEXT_UINT16:
      return {api::NPY_USHORT_, 2};
    case CNNEXT_INT16:
      return {api::NPY_SHORT_, 2};
    case CNNEXT_INT32:
      return {api::NPY_INT32_, 4};
    case CNNEXT_INT64:
      return {api::NPY_INT64_, 8};
    default:
      raise(PyExc_NotImplementedError, "a result of dtype number %d has no NumPy array", int{dtype});
  }
}

void free_block(PyObject* capsule) { cnnext_free(PyCapsule_GetPointer(capsule, nullptr)); }

}  // namespace

Output::Output(PyObject* out, const char* name) : out_(Array::optional(out, name, Access::kWrite)) {
  tensor_.device_type = CNNEXT_CPU;
  if (out == Py_None) return;
  out_object_ = out;
  // An empty array may have no memory, and a null pointer asks for a dry run.
  static char nothing alignas(64);
  if (!out_.get()->data) out_.get()->data = &nothing;
}

void Output::set_shape(int ndim, const int64_t* shape) {
  if (given()) return;
  tensor_.ndim = ndim;
  for (int i = 0; i < ndim; ++i) tensor_.shape[i] = shape[i];
}

void Output::allocate() {
  NumpyType type = numpy_type(tensor_.dtype);
  Py_intptr_t shape[CNNEXT_MAX_NDIM], strides[CNNEXT_MAX_NDIM];
  int64_t bytes = type.size;
  bool fits = true;
  for (int i = 0; i < tensor_.ndim; ++i) {
    shape[i] = tensor_.shape[i];
    strides[i] = tensor_.strides[i] * type.size;
    fits = fits && !__builtin_mul_overflow(bytes, tensor_.shape[i], &bytes);
  }
  void* block = fits ? cnnext_alloc(static_cast<size_t>(bytes)) : nullptr;
  if (!block) raise(PyExc_MemoryError, "no memory for a result of %lld bytes", static_cast<long long>(bytes));
  PyObject* capsule = PyCapsule_New(block, nullptr, free_block);
  if (!capsule) {
    cnnext_free(block);
    throw py::error_already_set();
  }
  const api& numpy = api::get();
  PyObject* descr = numpy.PyArray_DescrFromType_(type.type_num);
  array_ = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, descr, tensor_.ndim, shape, strides, block,
                                       api::NPY_ARRAY_WRITEABLE_ | api::NPY_ARRAY_ALIGNED_, nullptr);
  if (!array_) {
    Py_DECREF(capsule);
    throw py::error_already_set();
  }
  if (numpy.PyArray_SetBaseObject_(array_, capsule) < 0) throw py::error_already_set();
  tensor_.data = block;
}

py::object Output::take(Library library) {
  if (given()) return py::reinterpret_borrow<py::object>(out_object_);
  return to_library(library, py::reinterpret_steal<py::object>(std::exchange(array_, nullptr)),
                    tensor_.dtype == CNNEXT_BFLOAT16);
}

}  // namespace bindings
