#include "array.h"

#include <pybind11/numpy.h>

#include <cstring>
#include <string>
#include <utility>

#include "array_internal.h"

namespace bindings {
namespace {

constexpr const char* kAccepted = "a NumPy array, a torch tensor or another object with __dlpack__";
ElementType integer_type(size_t size, int32_t dtype_of_4, int32_t dtype_of_8) {
  return size == 8 ? ElementType{dtype_of_8, 3} : ElementType{dtype_of_4, 2};
}

// The number that NumPy gave ml_dtypes' bfloat16; -1 as long as nobody has imported ml_dtypes.
int bfloat16_type() {
  static int number = -1;
  if (number >= 0 || !PyDict_GetItemString(PyImport_GetModuleDict(), "ml_dtypes")) return number;
  const py::object type = py::getattr(py::module_::import("ml_dtypes"), "bfloat16", py::none());
  if (!type.is_none()) number = py::dtype::from_args(type).num();  // ml_dtypes may be half imported
  return number;
}

// By NumPy's type number (its ABI): int, long and long long are distinct types of the same sizes.
ElementType from_numpy_type(int type_num) {
  using api = py::detail::npy_api;
  switch (type_num) {
    case api::NPY_FLOAT_:
      return {CNNEXT_FLOAT32, 2};
    case api::NPY_DOUBLE_:
      return {CNNEXT_FLOAT64, 3};
    case api::NPY_BYTE_:
      return {CNNEXT_INT8, 0};
    case api::NPY_UBYTE_:
      return {CNNEXT_UINT8, 0};
    case api::NPY_SHORT_:
      return {CNNEXT_INT16, 1};
    case api::NPY_USHORT_:
      return {CNNEXT_UINT16, 1};
    case api::NPY_INT_:
      return {CNNEXT_INT32, 2};
    case api::NPY_LONG_:
      return integer_type(sizeof(long), CNNEXT_INT32, CNNEXT_INT64);
    case api::NPY_LONGLONG_:
      return {CNNEXT_INT64, 3};
    case 23:
      return {CNNEXT_FLOAT16, 1};  // NPY_HALF
    default:
      return type_num == bfloat16_type() ? ElementType{CNNEXT_BFLOAT16, 1} : ElementType{-1, 0};
  }
}

// torch.Tensor once torch has been imported by somebody; nullptr before. cnnext itself never imports it.
PyTypeObject* torch_tensor_type() {
  static PyObject* type = nullptr;  // kept for good
  if (!type) {
    PyObject* torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
    type = torch ? PyObject_GetAttrString(torch, "Tensor") : nullptr;
    if (!type) PyErr_Clear();  // torch may be half imported
  }
  return reinterpret_cast<PyTypeObject*>(type);
}

// Whether a torch tensor lies on a CUDA device.
bool is_cuda_tensor(PyObject* tensor) {
  static PyObject* name = PyUnicode_InternFromString("is_cuda");
  PyObject* value = PyObject_GetAttr(tensor, name);
  if (!value) PyErr_Clear();
  Py_XDECREF(value);
  return value == Py_True;
}

bool is_true_attr(PyObject* object, const char* name) {
  PyObject* value = PyObject_GetAttrString(object, name);
  bool on = value && value == Py_True;
  if (!value) PyErr_Clear();
  Py_XDECREF(value);
  return on;
}

// numpy.float32(1) and its kind: what arithmetic of arrays without axes gives.
bool is_numpy_scalar(PyObject* object) {
  static PyObject* type = py::object(py::module_::import("numpy").attr("generic")).release().ptr();
  return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(type));
}

// By the name of the module that the object's type is from.
Library library_of(PyObject* object) {
  py::object module =
      py::getattr(py::handle(reinterpret_cast<PyObject*>(Py_TYPE(object))), "__module__", py::none());
  if (!py::isinstance<py::str>(module)) return Library::kPlain;
  const std::string name = module.cast<std::string>();
  if (name.rfind("jax", 0) == 0) return Library::kJax;
  return name == "cupy" || name.rfind("cupy.", 0) == 0 ? Library::kCupy : Library::kPlain;
}

}  // namespace

Array::Array(Array&& other) noexcept
    : tensor_(other.tensor_),
      name_(other.name_),
      library_(other.library_),
      present_(other.present_),
      owner_(std::exchange(other.owner_, nullptr)),
      managed_(std::exchange(other.managed_, nullptr)),
      versioned_(std::exchange(other.versioned_, nullptr)) {}

void Array::release() {
  Py_XDECREF(owner_);
  if (managed_ && managed_->deleter) managed_->deleter(managed_);
  if (versioned_ && versioned_->deleter) versioned_->deleter(versioned_);
}

void Array::acquire(PyObject* object, const char* name, Access access) {
  name_ = name;
  present_ = true;
  tensor_.device_type = CNNEXT_CPU;
  if (py::detail::npy_api::get().PyArray_Check_(object)) return view_numpy(object, access);
  if (access == Access::kRead && is_numpy_scalar(object)) {
    owner_ = py::module_::import("numpy").attr("asarray")(py::handle(object)).release().ptr();
    return view_numpy(owner_, access);
  }
  PyTypeObject* torch = torch_tensor_type();
  bool is_torch = torch && PyObject_TypeCheck(object, torch);
  if (is_torch) library_ = Library::kTorch;
  const bool has_dlpack = is_torch || PyObject_HasAttrString(object, "__dlpack__");
  if (!has_dlpack && !PyObject_HasAttrString(object, "__cuda_array_interface__")) {
    raise(PyExc_TypeError, "%s must be %s, got %S", name, kAccepted, type_name(object).ptr());
  }
  if (is_true_attr(object, "requires_grad")) {
    raise(PyExc_TypeError, "%s requires grad, which cnnext.ops does not record: use %s, or pass %s.detach()",
          name, is_torch ? "cnnext.interop.torch" : "cnnext.nn.functional", name);
  }
  if (is_torch && is_cuda_tensor(object)) return view_cuda_tensor(object, access);
  if (is_torch && view_torch(object, access)) return;
  if (!is_torch) library_ = library_of(object);
  if (library_ == Library::kJax && access == Access::kWrite) {
    raise(PyExc_TypeError, "%s is a JAX array, which cannot be written", name);
  }
  has_dlpack ? view_dlpack(object, access) : view_cuda_interface(object, access);
}

void Array::view_numpy(PyObject* array, Access access) {
  const auto* source = py::detail::array_proxy(array);
  const auto* descr = py::detail::array_descriptor_proxy(source->descr);
  ElementType type = from_numpy_type(descr->type_num);
  if (type.dtype < 0) raise(PyExc_TypeError, "%s has dtype %S; %s", name_, source->descr, kDtypes);
  if (descr->byteorder == '>') {
    raise(PyExc_TypeError,
          "%s has dtype %S, which is not this machine's byte order; convert it with .astype()", name_,
          source->descr);
  }
  if (source->nd > CNNEXT_MAX_NDIM) {
    raise(PyExc_ValueError, "%s has %d dimensions; at most %d are supported", name_, source->nd,
          CNNEXT_MAX_NDIM);
  }
  if (access == Access::kWrite && !(source->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_)) {
    raise(PyExc_ValueError, "%s is read-only, and it is written", name_);
  }
  tensor_.dtype = type.dtype;
  tensor_.ndim = source->nd;
  tensor_.data = source->data;
  const ssize_t mask = (ssize_t{1} << type.shift) - 1;
  bool fits = aligned(source->data, type.shift);
  for (int i = 0; i < source->nd; ++i) {
    tensor_.shape[i] = source->dimensions[i];
    tensor_.strides[i] = source->strides[i] >> type.shift;
    if ((source->strides[i] & mask) && source->dimensions[i] > 1) fits = false;
  }
  if (fits) return;
  if (access == Access::kWrite) {
    raise(PyExc_ValueError, "%s is written, so its elements must be aligned to their size", name_);
  }
  PyObject* copy = py::detail::npy_api::get().PyArray_NewCopy_(array, 0 /* C order */);
  if (!copy) throw py::error_already_set();
  Py_XDECREF(owner_);  // may be array
  owner_ = copy;
  view_numpy(copy, access);
}

void raise_two_libraries(const char* first, const char* second) {
  raise(PyExc_TypeError, "%s and %s are arrays of two libraries; one call takes one (and NumPy beside it)",
        first, second);
}

Origin result_origin(std::initializer_list<const Array*> arrays) {
  const Array* foreign = nullptr;
  for (const Array* array : arrays) {
    bool named =
        array->on_device() || array->library() == Library::kTorch || array->library() == Library::kJax;
    if (!array->present() || !named) continue;
    if (foreign && foreign->library() != array->library())
      raise_two_libraries(foreign->name(), array->name());
    if (!foreign) foreign = array;
  }
  return (*arrays.begin())->origin();
}

namespace {

PyObject* call_one(PyObject* function, PyObject* argument) {
  PyObject* result = PyObject_CallOneArg(function, argument);
  if (!result) throw py::error_already_set();
  return result;
}

// NumPy knows bfloat16 by ml_dtypes alone.
py::object as_numpy_bfloat16(py::object bits) {
  static PyObject* type = nullptr;
  try {
    return bits.attr("view")(py::handle(kept_attr(&type, "ml_dtypes", "bfloat16")));
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_ImportError)) throw;
    py::raise_from(e, PyExc_TypeError,
                   "the result is bfloat16, which NumPy has from ml_dtypes alone: pip install ml_dtypes, or "
                   "pass torch tensors");
    throw py::error_already_set();
  }
}

}  // namespace

py::object to_library(Library library, py::object array, bool bfloat16) {
  static PyObject *from_numpy = nullptr, *asarray = nullptr, *torch_type = nullptr;
  if (library == Library::kTorch) {
    auto tensor = py::reinterpret_steal<py::object>(
        call_one(kept_attr(&from_numpy, "torch", "from_numpy"), array.ptr()));
    return bfloat16 ? tensor.attr("view")(py::handle(kept_attr(&torch_type, "torch", "bfloat16"))) : tensor;
  }
  if (bfloat16) array = as_numpy_bfloat16(std::move(array));
  if (library != Library::kJax) return array;
  return py::reinterpret_steal<py::object>(
      call_one(kept_attr(&asarray, "jax.numpy", "asarray"), array.ptr()));
}

}  // namespace bindings
