// Python arrays as cnnext_tensor views. Nothing is copied, but NumPy arrays whose elements do not lie where a
// pointer of their type may point.
#pragma once

#include <initializer_list>

#include "dlpack.h"
#include "python.h"

namespace bindings {

// Whose array it is, and so whose array the result becomes. kPlain: anything else with __dlpack__; NumPy is
// returned for it.
enum class Library { kNumpy, kTorch, kJax, kPlain };

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

 private:
  void acquire(PyObject* object, const char* name, Access access);
  void view_numpy(PyObject* array, Access access);
  bool view_torch(PyObject* tensor, Access access);  // false: not an array that .numpy() can show
  void view_dlpack(PyObject* object);                // to be read only
  void read_dlpack(const dlpack::Tensor& source);
  void release();

  cnnext_tensor tensor_{};
  const char* name_ = "";
  Library library_ = Library::kNumpy;
  bool present_ = false;
  PyObject* owner_ = nullptr;  // a temporary that holds the memory; the caller holds its own arguments
  dlpack::Managed* managed_ = nullptr;
  dlpack::ManagedVersioned* versioned_ = nullptr;
};

// The library of the result: the first array's. A TypeError where two libraries other than NumPy meet.
Library result_library(std::initializer_list<const Array*> arrays);

// A NumPy array, handed over as an array of `library`. bfloat16: its int16 are that type's bits.
py::object to_library(Library library, py::object numpy_array, bool bfloat16);

}  // namespace bindings
