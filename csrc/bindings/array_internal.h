// What array.cpp and array_dlpack.cpp share.
#pragma once

#include <cstdint>

#include "python.h"

namespace bindings {

struct ElementType {
  int32_t dtype;  // cnnext_dtype, or -1
  int32_t shift;  // log2 of the size in bytes
};

inline bool aligned(const void* data, int shift) {
  return (reinterpret_cast<uintptr_t>(data) & ((uintptr_t{1} << shift) - 1)) == 0;
}

constexpr const char* kDtypes =
    "cnnext takes float32, float64, float16, bfloat16, uint8, int8, uint16, int16, int32 and int64";

// A ValueError that says where the array is, unless it is in memory that the CPU reads.
void check_device(PyObject* object, const char* name);

}  // namespace bindings
