// Arrays on CUDA devices that come through __cuda_array_interface__ (versions 2 and 3).
#include <string>

#include "array.h"
#include "array_internal.h"
#include "cuda_stream.h"

namespace bindings {
namespace {

ElementType from_typestr(const std::string& text) {
  if (text.size() < 3 || (text[0] != '<' && text[0] != '|' && text[0] != '=')) return {-1, 0};
  static const struct {
    const char* kind;
    ElementType type;
  } kTypes[] = {{"f4", {CNNEXT_FLOAT32, 2}}, {"f8", {CNNEXT_FLOAT64, 3}}, {"f2", {CNNEXT_FLOAT16, 1}},
                {"u1", {CNNEXT_UINT8, 0}},   {"i1", {CNNEXT_INT8, 0}},    {"u2", {CNNEXT_UINT16, 1}},
                {"i2", {CNNEXT_INT16, 1}},   {"i4", {CNNEXT_INT32, 2}},   {"i8", {CNNEXT_INT64, 3}}};
  for (const auto& [kind, type] : kTypes) {
    if (text.compare(1, std::string::npos, kind) == 0) return type;
  }
  return {-1, 0};
}

py::object entry(const py::dict& interface, const char* key) {
  return interface.contains(key) ? py::object(interface[key]) : py::none();
}

[[noreturn]] void raise_malformed(const char* name, const char* key, const py::object& value) {
  raise(PyExc_TypeError, "%s.__cuda_array_interface__[\"%s\"] is %R", name, key, value.ptr());
}

py::tuple tuple_entry(const py::dict& interface, const char* name, const char* key) {
  py::object value = entry(interface, key);
  if (!PyTuple_Check(value.ptr())) raise_malformed(name, key, value);
  return py::tuple(value);
}

// Has the calls' stream wait for the array's producer, where it says on which stream that works.
void wait_for_producer(const py::dict& interface, const char* name, int device_id) {
  const py::object stream = entry(interface, "stream");
  if (stream.is_none()) return;
  const auto number = stream.cast<uintptr_t>();
  if (number == 0) raise_malformed(name, "stream", stream);  // ambiguous, says the interface
  check(cnnext_cuda_wait(device_id, foreign_stream(), from_interface_stream(number)));
}

}  // namespace

void Array::view_cuda_interface(PyObject* object, Access access) {
  library_ = Library::kPlain;
  const py::object value = py::handle(object).attr("__cuda_array_interface__");
  if (!PyDict_Check(value.ptr())) {
    raise(PyExc_TypeError, "%s.__cuda_array_interface__ is %S, not a dict", name_,
          type_name(value.ptr()).ptr());
  }
  const py::dict interface(value);
  check_cuda(name_, 0);
  const py::tuple shape = tuple_entry(interface, name_, "shape");
  const py::tuple data = tuple_entry(interface, name_, "data");
  const py::object typestr = entry(interface, "typestr"), strides = entry(interface, "strides");
  if (data.size() != 2) raise_malformed(name_, "data", data);
  if (!entry(interface, "mask").is_none())
    raise(PyExc_TypeError, "%s has a mask, which cnnext does not take", name_);
  if (!py::isinstance<py::str>(typestr)) raise_malformed(name_, "typestr", typestr);
  const ElementType type = from_typestr(typestr.cast<std::string>());
  if (type.dtype < 0) raise(PyExc_TypeError, "%s has dtype %S; %s", name_, typestr.ptr(), kDtypes);
  if (shape.size() > CNNEXT_MAX_NDIM) {
    raise(PyExc_ValueError, "%s has %zd dimensions; at most %d are supported", name_, shape.size(),
          CNNEXT_MAX_NDIM);
  }
  if (access == Access::kWrite && data[1].cast<bool>()) {
    raise(PyExc_ValueError, "%s is read-only, and it is written", name_);
  }
  tensor_.dtype = type.dtype;
  tensor_.ndim = static_cast<int32_t>(shape.size());
  tensor_.data = reinterpret_cast<void*>(data[0].cast<uintptr_t>());
  tensor_.device_type = CNNEXT_CUDA;
  int64_t dense = 1;
  for (int i = tensor_.ndim - 1; i >= 0; --i) {
    tensor_.shape[i] = shape[static_cast<size_t>(i)].cast<int64_t>();
    tensor_.strides[i] = dense;
    dense = static_cast<int64_t>(static_cast<uint64_t>(dense) * static_cast<uint64_t>(tensor_.shape[i]));
  }
  bool fits = aligned(tensor_.data, type.shift);
  if (!strides.is_none()) {
    const py::tuple bytes = tuple_entry(interface, name_, "strides");
    if (bytes.size() != shape.size()) raise_malformed(name_, "strides", bytes);
    for (size_t i = 0; i < bytes.size(); ++i) {
      const auto step = bytes[i].cast<int64_t>();
      tensor_.strides[i] = step >> type.shift;
      fits = fits && (tensor_.shape[i] <= 1 || (tensor_.strides[i] * (int64_t{1} << type.shift)) == step);
    }
  }
  if (!fits) raise(PyExc_ValueError, "%s is not aligned to its elements", name_);
  if (!tensor_.data) return;  // empty: on no device in particular
  check(cnnext_cuda_pointer_device(tensor_.data, &tensor_.device_id));
  if (tensor_.device_id < 0) {
    raise(PyExc_ValueError, "%s's __cuda_array_interface__ shows memory of no CUDA device", name_);
  }
  wait_for_producer(interface, name_, tensor_.device_id);
}

}  // namespace bindings
