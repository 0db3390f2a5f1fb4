// torch's tensors, read by their attributes: a capsule takes longer, and numpy() marks a tensor's storage as
// not resizable for good, which breaks those that resize it (FSDP).
#include "array.h"
#include "array_internal.h"
#include "cuda_stream.h"

namespace bindings {
namespace {

// torch.dtype -> cnnext_dtype, and above its 8 bits log2 of the size.
PyObject* torch_types() {
  static PyObject* types = nullptr;
  if (types) return types;
  const py::module_ torch = py::module_::import("torch");
  static constexpr struct {
    const char* name;
    int number, shift;
  } kKnown[] = {{"float32", CNNEXT_FLOAT32, 2}, {"float64", CNNEXT_FLOAT64, 3},
                {"float16", CNNEXT_FLOAT16, 1}, {"bfloat16", CNNEXT_BFLOAT16, 1},
                {"uint8", CNNEXT_UINT8, 0},     {"int8", CNNEXT_INT8, 0},
                {"uint16", CNNEXT_UINT16, 1},   {"int16", CNNEXT_INT16, 1},
                {"int32", CNNEXT_INT32, 2},     {"int64", CNNEXT_INT64, 3}};
  py::dict made;
  for (const auto& known : kKnown) {
    const py::object type = py::getattr(torch, known.name, py::none());  // uint16 came later
    if (!type.is_none()) made[type] = known.number | known.shift << 8;
  }
  types = made.release().ptr();
  return types;
}

py::object checked(PyObject* object) {
  if (!object) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

// `name`: kept from call to call, made of `text` in the first.
py::object attribute(py::handle object, PyObject** name, const char* text) {
  if (!*name) *name = PyUnicode_InternFromString(text);
  return checked(PyObject_GetAttr(object.ptr(), *name));
}

py::object method_result(py::handle object, PyObject** name, const char* text) {
  if (!*name) *name = PyUnicode_InternFromString(text);
  return checked(PyObject_CallMethodNoArgs(object.ptr(), *name));
}

int64_t item(const py::tuple& values, int i) {
  const int64_t value = PyLong_AsLongLong(PyTuple_GET_ITEM(values.ptr(), i));
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  return value;
}

bool is_dense(py::handle tensor) {
  static PyObject *strided = nullptr, *layout = nullptr;
  return attribute(tensor, &layout, "layout").is(py::handle(kept_attr(&strided, "torch", "strided")));
}

}  // namespace

int Array::read_tensor(py::handle tensor, Access access) {
  static PyObject *is_neg = nullptr, *dtype = nullptr, *shape = nullptr, *stride = nullptr,
                  *data_ptr = nullptr;
  if (method_result(tensor, &is_neg, "is_neg").ptr() == Py_True) {  // a flag, not in memory
    if (access == Access::kWrite) {
      raise(PyExc_TypeError, "%s is written, so it must be no negated view", name_);
    }
    owner_ = py::object(tensor.attr("resolve_neg")()).release().ptr();
    tensor = owner_;
  }
  const py::object type = attribute(tensor, &dtype, "dtype");
  PyObject* const known = PyDict_GetItemWithError(torch_types(), type.ptr());
  if (!known) raise(PyExc_TypeError, "%s has dtype %S; %s", name_, type.ptr(), kDtypes);
  const auto shapes = py::tuple(attribute(tensor, &shape, "shape"));
  const auto strides = py::tuple(method_result(tensor, &stride, "stride"));
  if (shapes.size() > CNNEXT_MAX_NDIM) {
    raise(PyExc_ValueError, "%s has %zd dimensions; at most %d are supported", name_, shapes.size(),
          CNNEXT_MAX_NDIM);
  }
  const long number = PyLong_AsLong(known);
  tensor_.dtype = static_cast<int32_t>(number & 255);
  tensor_.ndim = static_cast<int32_t>(shapes.size());
  tensor_.data = reinterpret_cast<void*>(method_result(tensor, &data_ptr, "data_ptr").cast<uintptr_t>());
  for (int i = 0; i < tensor_.ndim; ++i) {
    tensor_.shape[i] = item(shapes, i);
    tensor_.strides[i] = item(strides, i);
  }
  return static_cast<int>(number >> 8);
}

bool Array::view_torch(PyObject* tensor, Access access) {
  static PyObject* is_cpu = nullptr;
  if (attribute(tensor, &is_cpu, "is_cpu").ptr() != Py_True || !is_dense(tensor)) return false;
  int shift = 0;
  try {
    shift = read_tensor(tensor, access);
  } catch (py::error_already_set& error) {
    if (owner_ || !error.matches(PyExc_RuntimeError)) throw;
    return false;  // a subclass without memory of its own
  }
  if (aligned(tensor_.data, shift)) return true;
  if (access == Access::kWrite) {
    raise(PyExc_ValueError, "%s is written, so its elements must be aligned to their size", name_);
  }
  PyObject* const copy = py::object(py::handle(owner_ ? owner_ : tensor).attr("clone")()).release().ptr();
  Py_XDECREF(owner_);
  owner_ = copy;
  read_tensor(copy, access);
  return true;
}

// torch gives capsules of its current device alone, and slowly.
void Array::view_cuda_tensor(PyObject* tensor, Access access) {
  if (!is_dense(tensor)) {
    raise(PyExc_TypeError, "%s must be a dense tensor, got layout %S", name_,
          py::object(py::handle(tensor).attr("layout")).ptr());
  }
  const int device_id = py::handle(tensor).attr("get_device")().cast<int>();
  check_cuda(name_, device_id);
  read_tensor(tensor, access);
  tensor_.device_type = CNNEXT_CUDA;
  tensor_.device_id = device_id;
  wait_for_library(Library::kTorch, device_id);
}

}  // namespace bindings
