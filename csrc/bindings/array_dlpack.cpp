// Arrays through DLPack, versioned (1.x) and unversioned.
#include <string>

#include "array.h"
#include "array_internal.h"
#include "cuda_stream.h"

namespace bindings {
namespace {

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

// cnnext.Tensor, or a class of a user's on it.
bool is_own_tensor(PyObject* object) {
  static PyObject* type = nullptr;
  if (!type) {
    PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), "cnnext.tensor");
    type = module ? PyObject_GetAttrString(module, "Tensor") : nullptr;
    if (!type) PyErr_Clear();
  }
  return type && PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(type));
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

// Calls object.__dlpack__(**how), asking for a versioned capsule where the object knows of them.
py::object dlpack_capsule(PyObject* object, const char* name, const py::dict& how) {
  try {
    py::object method = py::handle(object).attr("__dlpack__");
    try {
      return method(**how, py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set& e) {
      if (!e.matches(PyExc_TypeError)) throw;  // TypeError: older than DLPack 1.0
      return method(**how);
    }
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_Exception)) throw;
    py::raise_from(e, PyExc_TypeError,
                   (std::string(name) + " refused to be read through __dlpack__").c_str());
    throw py::error_already_set();
  }
}

bool is_cuda_type(int type) { return type == dlpack::kCuda || type == dlpack::kCudaManaged; }

// What __dlpack__ is told: nothing on the host; on CUDA the stream that must find the array written, or -1:
// CuPy would have that stream wait for the current device's, which need not be the array's.
py::dict dlpack_stream(Library library, bool on_cuda) {
  py::dict how;
  if (!on_cuda) return how;
  if (library == Library::kCupy) {
    how["stream"] = -1;
  } else {
    how["stream"] = interface_stream(foreign_stream());
  }
  return how;
}

}  // namespace

void check_cuda(const char* name, int device_id) {
  if (cnnext_cuda_available()) return;
  raise(PyExc_ValueError, "%s is on CUDA device %d; this call takes arrays in CPU memory (CUDA: %s)", name,
        device_id, cnnext_cuda_reason());
}

bool is_on_cuda(PyObject* object, const char* name) {
  if (!PyObject_HasAttrString(object, "__dlpack_device__")) return false;  // the capsule says it too
  py::object device = py::handle(object).attr("__dlpack_device__")();
  if (!PyTuple_Check(device.ptr()) || PyTuple_GET_SIZE(device.ptr()) != 2) {
    raise(PyExc_TypeError, "%s.__dlpack_device__() returned %R, not (device_type, device_id)", name,
          device.ptr());
  }
  int type = py::int_(device.attr("__getitem__")(0)).cast<int>();
  if (type == dlpack::kCpu || type == dlpack::kCudaHost) return false;
  int id = py::int_(device.attr("__getitem__")(1)).cast<int>();
  if (is_cuda_type(type)) {
    check_cuda(name, id);
    return true;
  }
  raise(PyExc_ValueError,
        "%s is on device %d:%d (DLPack's numbers); cnnext takes arrays in CPU memory and on CUDA devices",
        name, type, id);
}

void Array::view_dlpack(PyObject* object, Access access) {
  const bool on_cuda = is_on_cuda(object, name_);
  if (access == Access::kWrite && !on_cuda) {
    raise(PyExc_TypeError, "%s is written, so it must be a NumPy array or a %s, got %S", name_,
          library_ == Library::kTorch ? "dense tensor that .numpy() can show" : "torch tensor",
          type_name(object).ptr());
  }
  // A Tensor of ours on CUDA holds a CuPy array.
  if (on_cuda && library_ == Library::kPlain && is_own_tensor(object)) library_ = Library::kCupy;
  py::object capsule = dlpack_capsule(object, name_, dlpack_stream(library_, on_cuda));
  const dlpack::Tensor* source = nullptr;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* managed =
        static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    versioned_ = managed;
    if (managed->major != 1) {
      raise(PyExc_TypeError, "%s: DLPack version %u.%u is not supported, only 1.x and unversioned", name_,
            managed->major, managed->minor);
    }
    if (access == Access::kWrite && (managed->flags & dlpack::kReadOnly)) {
      raise(PyExc_ValueError, "%s is read-only, and it is written", name_);
    }
    source = &managed->tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    managed_ = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
    source = &managed_->tensor;
  } else {
    raise(PyExc_TypeError, "%s.__dlpack__() returned %S, not a DLPack capsule", name_,
          type_name(capsule.ptr()).ptr());
  }
  // Without __dlpack_device__ nobody has asked the producer for a stream.
  if (is_cuda_type(source->device.type) != on_cuda) {
    raise(PyExc_ValueError,
          "%s's capsule is on device %d:%d (DLPack's numbers), which __dlpack_device__ does "
          "not say",
          name_, source->device.type, source->device.id);
  }
  read_dlpack(*source);
  if (on_cuda && library_ == Library::kCupy) wait_for_library(Library::kCupy, tensor_.device_id);
}

void Array::read_dlpack(const dlpack::Tensor& source) {
  if (is_cuda_type(source.device.type)) {
    tensor_.device_type = CNNEXT_CUDA;
    tensor_.device_id = source.device.id;
  } else if (source.device.type != dlpack::kCpu && source.device.type != dlpack::kCudaHost) {
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

}  // namespace bindings
