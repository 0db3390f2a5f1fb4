#include "device_array.h"

#include <pybind11/numpy.h>

#include <memory>
#include <string>
#include <utility>

#include "cuda_stream.h"
#include "params.h"

namespace bindings {
namespace {

// Freed in the order of the stream that it was made on, which must live as long (as for other libraries'
// pools).
struct Block {
  void* memory = nullptr;
  void* stream = nullptr;
  int32_t device_id = 0;
  size_t bytes = 0;

  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { cnnext_cuda_free(device_id, memory, stream); }
};

struct DeviceArray {
  std::shared_ptr<Block> block;
  cnnext_tensor tensor;
};

int64_t count_of(const cnnext_tensor& t) {
  int64_t count = 1;
  for (int i = 0; i < t.ndim; ++i) count *= t.shape[i];
  return count;
}

bool is_row_major(const cnnext_tensor& t) {
  int64_t dense = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    if (t.shape[i] != 1 && t.strides[i] != dense) return count_of(t) == 0;
    dense *= t.shape[i];
  }
  return true;
}

int64_t element_bytes(int32_t dtype) {
  switch (dtype) {
    case CNNEXT_UINT8:
    case CNNEXT_INT8:
      return 1;
    case CNNEXT_FLOAT16:
    case CNNEXT_BFLOAT16:
    case CNNEXT_UINT16:
    case CNNEXT_INT16:
      return 2;
    case CNNEXT_FLOAT32:
    case CNNEXT_INT32:
      return 4;
    default:
      return 8;
  }
}

char kind_of(int32_t dtype) {
  if (dtype <= CNNEXT_FLOAT16) return 'f';
  return dtype == CNNEXT_UINT8 || dtype == CNNEXT_UINT16 ? 'u' : 'i';
}

std::string typestr(int32_t dtype) {
  const int64_t bytes = element_bytes(dtype);
  return std::string(bytes == 1 ? "|" : "<") + kind_of(dtype) + std::to_string(bytes);
}

py::tuple tuple_of(const int64_t* values, int count, int64_t times) {
  py::tuple result(count);
  for (int i = 0; i < count; ++i) result[static_cast<size_t>(i)] = values[i] * times;
  return result;
}
py::tuple shape_of(const DeviceArray& a) { return tuple_of(a.tensor.shape, a.tensor.ndim, 1); }
py::tuple byte_strides(const DeviceArray& a) {
  return tuple_of(a.tensor.strides, a.tensor.ndim, element_bytes(a.tensor.dtype));
}
py::str device_of(const DeviceArray& a) { return py::str("cuda:{}").format(a.tensor.device_id); }
int64_t nbytes(const DeviceArray& a) { return count_of(a.tensor) * element_bytes(a.tensor.dtype); }

// ---- DLPack: a capsule holds the block until its consumer, or the capsule itself, is done with it ----

template <class Managed>
struct Exported {
  Managed managed{};
  std::shared_ptr<Block> block;
  int64_t shape[CNNEXT_MAX_NDIM], strides[CNNEXT_MAX_NDIM];
};

constexpr const char *kVersioned = "dltensor_versioned", *kUnversioned = "dltensor";

template <class Managed>
void free_capsule(PyObject* capsule) {
  const char* name = PyCapsule_GetName(capsule);
  if (!name || (std::string(name) != kVersioned && std::string(name) != kUnversioned)) return;  // consumed
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  managed->deleter(managed);
}

dlpack::DataType dlpack_type(int32_t dtype) {
  const auto bits = static_cast<uint8_t>(8 * element_bytes(dtype));
  if (dtype == CNNEXT_BFLOAT16) return {dlpack::kBfloat, bits, 1};
  const char kind = kind_of(dtype);
  return {static_cast<uint8_t>(kind == 'f'   ? dlpack::kFloat
                               : kind == 'u' ? dlpack::kUInt
                                             : dlpack::kInt),
          bits, 1};
}

template <class Managed>
py::object export_capsule(const DeviceArray& a, const char* name) {
  auto exported = std::make_unique<Exported<Managed>>();
  exported->block = a.block;
  std::copy(a.tensor.shape, a.tensor.shape + a.tensor.ndim, exported->shape);
  std::copy(a.tensor.strides, a.tensor.strides + a.tensor.ndim, exported->strides);
  Managed& managed = exported->managed;
  managed.manager = exported.get();
  managed.deleter = [](Managed* self) { delete static_cast<Exported<Managed>*>(self->manager); };
  managed.tensor = {a.tensor.data,
                    {dlpack::kCuda, a.tensor.device_id},
                    a.tensor.ndim,
                    dlpack_type(a.tensor.dtype),
                    exported->shape,
                    exported->strides,
                    0};
  if constexpr (std::is_same_v<Managed, dlpack::ManagedVersioned>) managed.major = 1;
  PyObject* capsule = PyCapsule_New(&managed, name, free_capsule<Managed>);
  if (!capsule) throw py::error_already_set();
  exported.release();
  return py::reinterpret_steal<py::object>(capsule);
}

py::object to_dlpack(const DeviceArray& a, const py::object& stream, const py::object& max_version,
                     const py::object& dl_device, const py::object& copy) {
  if (!copy.is_none() && copy.cast<bool>())
    raise(PyExc_BufferError, "a DeviceArray is not copied by __dlpack__");
  if (!dl_device.is_none() && !dl_device.equal(py::make_tuple(int{dlpack::kCuda}, a.tensor.device_id))) {
    raise(PyExc_BufferError, "a DeviceArray stays on %S; dl_device is %R", device_of(a).ptr(),
          dl_device.ptr());
  }
  const int64_t number = stream.is_none() ? 1 : parse_int(stream.ptr(), "stream");
  if (number == 0 || number < -1) {
    raise(PyExc_ValueError, "stream is %R; it must be -1, 1, 2 or a cudaStream_t (DLPack)", stream.ptr());
  }
  if (number > 0) {
    void* const consumer = from_interface_stream(static_cast<uintptr_t>(number));
    check(cnnext_cuda_wait(a.tensor.device_id, consumer, a.block->stream));
  }
  const bool versioned = !max_version.is_none() && max_version[py::int_(0)].cast<int>() >= 1;
  return versioned ? export_capsule<dlpack::ManagedVersioned>(a, kVersioned)
                   : export_capsule<dlpack::Managed>(a, kUnversioned);
}

py::tuple dlpack_device(const DeviceArray& a) {
  return py::make_tuple(int{dlpack::kCuda}, a.tensor.device_id);
}

py::dict cuda_interface(const DeviceArray& a) {
  if (a.tensor.dtype == CNNEXT_BFLOAT16) {
    raise(PyExc_AttributeError, "bfloat16 has no typestr for __cuda_array_interface__; use __dlpack__");
  }
  py::dict result;
  result["version"] = 3;
  result["shape"] = shape_of(a);
  result["typestr"] = typestr(a.tensor.dtype);
  result["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(a.tensor.data), false);
  if (is_row_major(a.tensor)) {
    result["strides"] = py::none();
  } else {
    result["strides"] = byte_strides(a);
  }
  result["stream"] = interface_stream(a.block->stream);
  return result;
}

// ---- for what cnnext itself does with one ----

// A copy on the host, when the work that fills it is done.
py::object to_numpy(const DeviceArray& a) {
  const bool bfloat16 = a.tensor.dtype == CNNEXT_BFLOAT16;
  const py::module_ numpy = py::module_::import("numpy");
  const py::object flat = numpy.attr("empty")(nbytes(a), "uint8");
  void* const to = py::detail::array_proxy(flat.ptr())->data;
  {
    const py::gil_scoped_release release;
    cnnext_status status = cnnext_cuda_copy(a.tensor.device_id, to, a.tensor.data,
                                            static_cast<size_t>(nbytes(a)), a.block->stream);
    if (status == CNNEXT_OK) status = cnnext_cuda_synchronize(a.tensor.device_id, a.block->stream);
    const py::gil_scoped_acquire acquire;
    check(status);
  }
  const py::str dtype(bfloat16 ? "int16" : dtype_name(a.tensor.dtype));
  py::object array = numpy.attr("ndarray")(shape_of(a), dtype, flat, 0, byte_strides(a));
  return to_library(Library::kNumpy, std::move(array), bfloat16);
}

// A view of the same memory; row-major arrays only.
DeviceArray reshape(const DeviceArray& a, const py::object& shape) {
  DeviceArray view = a;
  view.tensor.ndim = parse_shape(shape.ptr(), "shape", view.tensor.shape);
  int64_t dense = 1;
  for (int i = view.tensor.ndim - 1; i >= 0; --i) {
    view.tensor.strides[i] = dense;
    if (__builtin_mul_overflow(dense, view.tensor.shape[i], &dense)) dense = -1;
  }
  if (!is_row_major(a.tensor) || dense != count_of(a.tensor)) {
    raise(PyExc_ValueError, "a DeviceArray of shape %S cannot be seen as %S", shape_of(a).ptr(), shape.ptr());
  }
  return view;
}

py::str repr(const DeviceArray& a) {
  return py::str("DeviceArray(shape={}, dtype={}, device={})")
      .format(shape_of(a), dtype_name(a.tensor.dtype), device_of(a));
}

}  // namespace

py::object new_device_array(cnnext_tensor* described, void* stream) {
  auto block = std::make_shared<Block>();
  block->stream = stream;
  block->device_id = described->device_id;
  int64_t bytes = element_bytes(described->dtype);
  for (int i = 0; i < described->ndim; ++i) {
    if (__builtin_mul_overflow(bytes, described->shape[i], &bytes)) {
      raise(PyExc_MemoryError, "no memory for a result whose size in bytes overflows 64 bits");
    }
  }
  const cnnext_status status =
      cnnext_cuda_alloc(described->device_id, static_cast<size_t>(bytes), stream, &block->memory);
  if (status == CNNEXT_OUT_OF_MEMORY) {
    raise(PyExc_MemoryError, "a result of %s %S on cuda:%d: %s", dtype_name(described->dtype),
          tuple_of(described->shape, described->ndim, 1).ptr(), described->device_id, cnnext_last_error());
  }
  check(status);
  described->data = block->memory;
  return py::cast(DeviceArray{std::move(block), *described});
}

py::object from_device_array(Library library, py::object array) {
  if (library != Library::kJax) return array;
  static PyObject* from_dlpack = nullptr;
  return py::handle(kept_attr(&from_dlpack, "jax.dlpack", "from_dlpack"))(std::move(array));
}

void add_device_array(py::module_& m) {
  py::class_<DeviceArray> type(m, "DeviceArray", py::is_final(),
                               "A result on a CUDA device, for libraries to take by __dlpack__ or "
                               "__cuda_array_interface__. The stream that it was made on must outlive it.");
  type.def_property_readonly("shape", &shape_of);
  type.def_property_readonly("ndim", [](const DeviceArray& a) { return a.tensor.ndim; });
  type.def_property_readonly("dtype", [](const DeviceArray& a) { return dtype_name(a.tensor.dtype); });
  type.def_property_readonly("device", &device_of);
  type.def_property_readonly("nbytes", &nbytes);
  type.def("reshape", &reshape, py::arg("shape"), py::pos_only());
  type.def("numpy", &to_numpy);
  type.def("__dlpack__", &to_dlpack, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(),
           py::arg("copy") = py::none());
  type.def("__dlpack_device__", &dlpack_device);
  type.def_property_readonly("__cuda_array_interface__", &cuda_interface);
  type.def("__repr__", &repr);
}

}  // namespace bindings
