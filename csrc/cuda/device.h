// The CUDA runtime as a DeviceTable (device.cu; tests/cuda_host has another file in its place), and its
// errors.
#pragma once

#include "core/device_table.h"

namespace cnnext::cuda {

const DeviceTable* device_table();
DeviceFault fault_of(int error);  // a cudaError_t

}  // namespace cnnext::cuda
