#include "output.h"

#include <pybind11/numpy.h>

#include <string>
#include <utility>

#include "device_array.h"
#include "params.h"

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

void Output::allocate(const Origin& origin, const CallContext& with) {
  if (origin.on_device()) return allocate_on_device(origin, with);
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

namespace {

py::tuple tuple_of(const int64_t* values, int count) {
  py::tuple result(count);
  for (int i = 0; i < count; ++i) result[static_cast<size_t>(i)] = values[i];
  return result;
}

}  // namespace

void Output::allocate_on_device(const Origin& origin, const CallContext& with) {
  if (origin.library != Library::kTorch && origin.library != Library::kCupy) {
    array_ = new_device_array(&tensor_, with.stream()).release().ptr();
    return;
  }
  static PyObject* empty = nullptr;
  const py::object stream = explicit_stream() ? py::object(py::int_(*explicit_stream())) : py::none();
  const py::object made = py::handle(kept_attr(&empty, "cnnext._device", "empty"))(
      origin.library == Library::kTorch ? "torch" : "cupy", origin.device_id,
      tuple_of(tensor_.shape, tensor_.ndim), tuple_of(tensor_.strides, tensor_.ndim),
      dtype_name(tensor_.dtype), stream);
  tensor_.data = reinterpret_cast<void*>(made[py::int_(1)].cast<uintptr_t>());
  array_ = py::object(made[py::int_(0)]).release().ptr();
}

void Output::raise_apart(const Origin& out, const Origin& origin) {
  if (out.device_type == origin.device_type && out.device_id == origin.device_id) {
    raise_two_libraries(origin.name, out.name);
  }
  const auto place = [](const Origin& of) {
    return of.on_device() ? "cuda:" + std::to_string(of.device_id) : std::string("the CPU");
  };
  throw ErrorOfCall(std::string(out.name) + " is on " + place(out) + ", but " + origin.name + " is on " +
                    place(origin) + "; the arrays of one call must be on one device");
}

py::object Output::take(const Origin& origin) {
  if (given()) return py::reinterpret_borrow<py::object>(out_object_);
  auto array = py::reinterpret_steal<py::object>(std::exchange(array_, nullptr));
  if (origin.on_device()) return from_device_array(origin.library, std::move(array));
  return to_library(origin.library, std::move(array), tensor_.dtype == CNNEXT_BFLOAT16);
}

}  // namespace bindings
