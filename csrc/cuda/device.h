// The CUDA runtime as a DeviceTable (device.cu; tests/cuda_host has another file in its place), and its
// errors.
#pragma once

#include "core/device_table.h"

namespace cnnext::cuda {

const DeviceTable* device_table();
DeviceFault fault_of(int error);  // a cudaError_t
// Why there is no device, by what cudaGetDeviceCount() answered. Versions are 1000 * major + 10 * minor, 0
// where there is no driver; visible: CUDA_VISIBLE_DEVICES or null.
void explain_no_device(int error, int driver, int runtime, const char* visible, char* text, size_t bytes);

}  // namespace cnnext::cuda
