// Arrays through DLPack, versioned (1.x) and unversioned.
#include <string>

#include "array.h"
#include "array_internal.h"

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

}  // namespace

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

void Array::view_dlpack(PyObject* object) {
  check_device(object, name_);
  py::object capsule = dlpack_capsule(object, name_);
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
    source = &managed->tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    managed_ = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
    source = &managed_->tensor;
  } else {
    raise(PyExc_TypeError, "%s.__dlpack__() returned %S, not a DLPack capsule", name_,
          type_name(capsule.ptr()).ptr());
  }
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

}  // namespace bindings
