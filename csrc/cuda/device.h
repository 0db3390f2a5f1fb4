// The CUDA runtime as a DeviceTable. tests/cuda_host has another file in its place.
#pragma once

#include "core/device_table.h"

namespace cnnext::cuda {

const DeviceTable* device_table();

}  // namespace cnnext::cuda
