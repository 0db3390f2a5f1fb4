// The DLPack ABI (https://dmlc.github.io/dlpack), the part that consumers and producers on the CPU and on
// CUDA use.
#pragma once

#include <cstdint>

namespace bindings::dlpack {

constexpr int32_t kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13;  // DLDeviceType
constexpr uint64_t kReadOnly = 1;                                         // of flags

struct Device {
  int32_t type, id;
};

enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: row-major
  uint64_t byte_offset;
};

struct Managed {  // a capsule named "dltensor"
  Tensor tensor;
  void* manager;
  void (*deleter)(Managed*);
};

struct ManagedVersioned {  // a capsule named "dltensor_versioned", since DLPack 1.0
  uint32_t major, minor;
  void* manager;
  void (*deleter)(ManagedVersioned*);
  uint64_t flags;
  Tensor tensor;
};

}  // namespace bindings::dlpack
