// What array.cpp and the files beside it (_cuda, _dlpack, _torch) share.
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

// Whether the array lies on a CUDA device, by its __dlpack_device__; a ValueError where neither the CPU nor
// an operation of ours reads it.
bool is_on_cuda(PyObject* object, const char* name);

// A ValueError where CUDA is off.
void check_cuda(const char* name, int device_id);

}  // namespace bindings
