// The Python class PackedWeight: owns a cnnext_packed_weight.
#pragma once

#include "python.h"

namespace bindings {

class PackedWeight {
 public:
  explicit PackedWeight(cnnext_packed_weight* handle, py::tuple shape, py::str dtype)
      : handle_(handle), shape_(std::move(shape)), dtype_(std::move(dtype)) {}
  PackedWeight(const PackedWeight&) = delete;
  PackedWeight& operator=(const PackedWeight&) = delete;
  ~PackedWeight() { cnnext_packed_weight_free(handle_); }

  const cnnext_packed_weight* handle() const { return handle_; }
  uint64_t nbytes() const { return cnnext_packed_weight_bytes(handle_); }
  const py::tuple& shape() const { return shape_; }
  const py::str& dtype() const { return dtype_; }

 private:
  cnnext_packed_weight* handle_;
  py::tuple shape_;
  py::str dtype_;
};

// The PackedWeight that object is, or nullptr.
const PackedWeight* packed_weight_of(PyObject* object);

}  // namespace bindings
