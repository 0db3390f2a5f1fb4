#include "array.h"

#include <pybind11/numpy.h>

#include <cstring>
#include <string>
#include <utility>

namespace bindings {
namespace {

constexpr const char* kAccepted = "a NumPy array, a torch tensor or another object with __dlpack__";
constexpr const char* kDtypes =
    "cnnext takes float32, float64, float16, bfloat16, uint8, int8, uint16, int16, int32 and int64";

struct ElementType {
  int32_t dtype;  // cnnext_dtype, or -1
  int32_t shift;  // log2 of the size in bytes
};

ElementType integer_type(size_t size, int32_t dtype_of_4, int32_t dtype_of_8) {
  return size == 8 ? ElementType{dtype_of_8, 3} : ElementType{dtype_of_4, 2};
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
      return {-1, 0};
  }
}

ElementType from_dlpack_type(const dlpack::DataType& type) {
  if (type.lanes != 1) return {-1, 0};
  switch (type.code << 8 | type.bits) {
    case dlpack::kFloat << 8 | 32:
      return {CNNEXT_FLOAT32, 2};
    case dlpack::kFloat << 8 | 64:
      return {CNNEXT_FLOAT64, 3};
    case dlpack::kFloat << 8 | 16:
      return {CNNEXT_FLOAT16, 1};
    case dlpack::kBfloat << 8 | 16:
      return {CNNEXT_BFLOAT16, 1};
    case dlpack::kUInt << 8 | 8:
      return {CNNEXT_UINT8, 0};
    case dlpack::kInt << 8 | 8:
      return {CNNEXT_INT8, 0};
    case dlpack::kUInt << 8 | 16:
      return {CNNEXT_UINT16, 1};
    case dlpack::kInt << 8 | 16:
      return {CNNEXT_INT16, 1};
    case dlpack::kInt << 8 | 32:
      return {CNNEXT_INT32, 2};
    case dlpack::kInt << 8 | 64:
      return {CNNEXT_INT64, 3};
    default:
      return {-1, 0};
  }
}

const char* dlpack_kind(uint8_t code) {
  switch (code) {
    case dlpack::kInt:
      return "int";
    case dlpack::kUInt:
      return "uint";
    case dlpack::kFloat:
      return "float";
    case dlpack::kBfloat:
      return "bfloat";
    case dlpack::kComplex:
      return "complex";
    case dlpack::kBool:
      return "bool";
    default:
      return "opaque";
  }
}

bool aligned(const void* data, int shift) {
  return (reinterpret_cast<uintptr_t>(data) & ((uintptr_t{1} << shift) - 1)) == 0;
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

bool is_jax(PyObject* object) {
  py::object module =
      py::getattr(py::handle(reinterpret_cast<PyObject*>(Py_TYPE(object))), "__module__", py::none());
  if (!py::isinstance<py::str>(module)) return false;
  return module.cast<std::string>().rfind("jax", 0) == 0;
}

// Calls object.__dlpack__(), asking for a versioned capsule where the object knows of them.
py::object dlpack_capsule(PyObject* object, const char* name) {
  try {
    py::object method = py::handle(object).attr("__dlpack__");
    try {
      return method(py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set& e) {
      if (!e.matches(PyExc_TypeError)) throw;  // TypeError: older than DLPack 1.0
      return method();
    }
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_Exception)) throw;
    py::raise_from(e, PyExc_TypeError,
                   (std::string(name) + " refused to be read through __dlpack__").c_str());
    throw py::error_already_set();
  }
}

void check_device(PyObject* object, const char* name) {
  if (!PyObject_HasAttrString(object, "__dlpack_device__")) return;  // the capsule says it too
  py::object device = py::handle(object).attr("__dlpack_device__")();
  if (!PyTuple_Check(device.ptr()) || PyTuple_GET_SIZE(device.ptr()) != 2) {
    raise(PyExc_TypeError, "%s.__dlpack_device__() returned %R, not (device_type, device_id)", name,
          device.ptr());
  }
  int type = py::int_(device.attr("__getitem__")(0)).cast<int>();
  if (type == dlpack::kCpu || type == dlpack::kCudaHost) return;
  int id = py::int_(device.attr("__getitem__")(1)).cast<int>();
  if (type == dlpack::kCuda) {
    raise(PyExc_ValueError, "%s is on CUDA device %d; this call takes arrays in CPU memory (CUDA: %s)", name,
          id, cnnext_cuda_available() ? "available" : cnnext_cuda_reason());
  }
  raise(PyExc_ValueError, "%s is on device %d:%d (DLPack's numbers); this call takes arrays in CPU memory",
        name, type, id);
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
  if (!is_torch && !PyObject_HasAttrString(object, "__dlpack__")) {
    raise(PyExc_TypeError, "%s must be %s, got %S", name, kAccepted, type_name(object).ptr());
  }
  if (is_true_attr(object, "requires_grad")) {
    raise(PyExc_TypeError, "%s requires grad, which cnnext.ops does not record: use %s, or pass %s.detach()",
          name, is_torch ? "cnnext.interop.torch" : "cnnext.nn.functional", name);
  }
  if (is_torch && view_torch(object, access)) return;
  if (!is_torch) library_ = is_jax(object) ? Library::kJax : Library::kPlain;
  if (access == Access::kWrite && !is_torch) {
    if (library_ == Library::kJax) raise(PyExc_TypeError, "%s is a JAX array, which cannot be written", name);
    raise(PyExc_TypeError, "%s is written, so it must be a NumPy array or a torch tensor, got %S", name,
          type_name(object).ptr());
  }
  view_dlpack(object, access);
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

bool Array::view_torch(PyObject* tensor, Access access) {
  static PyObject* method = PyUnicode_InternFromString("numpy");
  PyObject* array = PyObject_CallMethodNoArgs(tensor, method);
  if (!array) {  // another device, bfloat16, sparse...: DLPack knows, or says why not
    if (!PyErr_ExceptionMatches(PyExc_Exception)) throw py::error_already_set();
    PyErr_Clear();
    return false;
  }
  owner_ = array;
  view_numpy(array, access);
  return true;
}

void Array::view_dlpack(PyObject* object, Access access) {
  check_device(object, name_);
  py::object capsule = dlpack_capsule(object, name_);
  const dlpack::Tensor* source = nullptr;
  bool read_only = false;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* managed =
        static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    versioned_ = managed;
    if (managed->major != 1) {
      raise(PyExc_TypeError, "%s: DLPack version %u.%u is not supported, only 1.x and unversioned", name_,
            managed->major, managed->minor);
    }
    source = &managed->tensor;
    read_only = managed->flags & dlpack::kReadOnly;
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    managed_ = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
    source = &managed_->tensor;
  } else {
    raise(PyExc_TypeError, "%s.__dlpack__() returned %S, not a DLPack capsule", name_,
          type_name(capsule.ptr()).ptr());
  }
  if (read_only && access == Access::kWrite)
    raise(PyExc_ValueError, "%s is read-only, and it is written", name_);
  read_dlpack(*source);
}

void Array::read_dlpack(const dlpack::Tensor& source) {
  if (source.device.type != dlpack::kCpu && source.device.type != dlpack::kCudaHost) {
    raise(PyExc_ValueError,
          "%s's capsule is on device %d:%d (DLPack's numbers); this call takes arrays in CPU memory", name_,
          source.device.type, source.device.id);
  }
  ElementType type = from_dlpack_type(source.dtype);
  if (type.dtype < 0) {
    if (source.dtype.code == dlpack::kBool) raise(PyExc_TypeError, "%s has dtype bool; %s", name_, kDtypes);
    raise(PyExc_TypeError, "%s has dtype %s%d (lanes %d); %s", name_, dlpack_kind(source.dtype.code),
          int{source.dtype.bits}, int{source.dtype.lanes}, kDtypes);
  }
  if (source.ndim < 0 || source.ndim > CNNEXT_MAX_NDIM) {
    raise(PyExc_ValueError, "%s has %d dimensions; at most %d are supported", name_, source.ndim,
          CNNEXT_MAX_NDIM);
  }
  tensor_.dtype = type.dtype;
  tensor_.ndim = source.ndim;
  tensor_.data = source.data ? static_cast<char*>(source.data) + source.byte_offset : nullptr;
  if (!aligned(tensor_.data, type.shift)) raise(PyExc_ValueError, "%s is not aligned to its elements", name_);
  int64_t dense = 1;
  for (int i = source.ndim - 1; i >= 0; --i) {
    tensor_.shape[i] = source.shape[i];
    tensor_.strides[i] = source.strides ? source.strides[i] : dense;
    // Wraps only for shapes that no memory holds; the core judges sizes.
    dense = static_cast<int64_t>(static_cast<uint64_t>(dense) * static_cast<uint64_t>(source.shape[i]));
  }
}

Library result_library(std::initializer_list<const Array*> arrays) {
  const Array* foreign = nullptr;
  for (const Array* array : arrays) {
    bool named = array->library() == Library::kTorch || array->library() == Library::kJax;
    if (!array->present() || !named) continue;
    if (foreign && foreign->library() != array->library()) {
      raise(PyExc_TypeError,
            "%s and %s are arrays of two libraries; one call takes one (and NumPy beside it)",
            foreign->name(), array->name());
    }
    if (!foreign) foreign = array;
  }
  return (*arrays.begin())->library();
}

py::object to_library(Library library, py::object numpy_array) {
  if (library == Library::kNumpy || library == Library::kPlain) return numpy_array;
  static PyObject* converters[2] = {};  // torch.from_numpy, jax.numpy.asarray: kept for good
  const bool torch = library == Library::kTorch;
  PyObject*& converter = converters[torch ? 0 : 1];
  if (!converter) {
    py::module_ module = py::module_::import(torch ? "torch" : "jax.numpy");
    converter = py::object(module.attr(torch ? "from_numpy" : "asarray")).release().ptr();
  }
  PyObject* result = PyObject_CallOneArg(converter, numpy_array.ptr());
  if (!result) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

}  // namespace bindings
