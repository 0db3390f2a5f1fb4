// Python arrays as cnnext_tensor views, on the host and on CUDA devices. Nothing is copied, but NumPy arrays
// whose elements do not lie where a pointer of their type may point.
#pragma once

#include <initializer_list>

#include "dlpack.h"
#include "python.h"

namespace bindings {

// Whose array it is, and so whose array the result becomes. kPlain: anything else with __dlpack__ or
// __cuda_array_interface__; NumPy is returned for it on the host, a DeviceArray on CUDA.
enum class Library { kNumpy, kTorch, kJax, kCupy, kPlain };

// Whose the first array of a call is, and where it lies: what the results become.
struct Origin {
  Library library = Library::kNumpy;
  int32_t device_type = CNNEXT_CPU, device_id = 0;
  const char* name = "";

  bool on_device() const { return device_type == CNNEXT_CUDA; }
};

enum class Access { kRead, kWrite };

class Array {
 public:
  // `name` is the argument's, for messages; it must outlive the Array. None gives an absent array if
  // optional.
  Array(PyObject* object, const char* name, Access access = Access::kRead) : Array() {
    acquire(object, name, access);
  }
  static Array optional(PyObject* object, const char* name, Access access = Access::kRead) {
    return object == Py_None ? Array() : Array(object, name, access);
  }
  Array() = default;
  Array(Array&& other) noexcept;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { release(); }

  bool present() const { return present_; }
  cnnext_tensor* get() { return present_ ? &tensor_ : nullptr; }  // nullptr: absent
  Library library() const { return library_; }
  const char* name() const { return name_; }
  bool on_device() const { return tensor_.device_type == CNNEXT_CUDA; }
  Origin origin() const { return {library_, tensor_.device_type, tensor_.device_id, name_}; }

 private:
  void acquire(PyObject* object, const char* name, Access access);
  void view_numpy(PyObject* array, Access access);
  bool view_torch(PyObject* tensor, Access access);   // false: not dense, or not in memory that the CPU reads
  int read_tensor(py::handle tensor, Access access);  // its place apart; log2 of an element's bytes
  void view_cuda_tensor(PyObject* tensor, Access access);
  void view_dlpack(PyObject* object, Access access);
  void read_dlpack(const dlpack::Tensor& source);
  void view_cuda_interface(PyObject* object, Access access);
  void release();

  cnnext_tensor tensor_{};
  const char* name_ = "";
  Library library_ = Library::kNumpy;
  bool present_ = false;
  PyObject* owner_ = nullptr;  // a temporary that holds the memory; the caller holds its own arguments
  dlpack::Managed* managed_ = nullptr;
  dlpack::ManagedVersioned* versioned_ = nullptr;
};

// The origin of the results: the first array's. A TypeError where two libraries other than NumPy meet, on
// CUDA any two: each orders its work on a stream of its own.
Origin result_origin(std::initializer_list<const Array*> arrays);
[[noreturn]] void raise_two_libraries(const char* first, const char* second);

// A NumPy array, handed over as an array of `library`. bfloat16: its int16 are that type's bits.
py::object to_library(Library library, py::object numpy_array, bool bfloat16);

}  // namespace bindings
