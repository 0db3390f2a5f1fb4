// What the runtime's errors mean for what comes after them, and for who reads them.
#include <cuda_runtime.h>

#include <cstdio>

#include "cuda/device.h"

namespace cnnext::cuda {

// By number where a runtime of 12.4 has no name for it.
DeviceFault fault_of(int error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return DeviceFault::kMemory;
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidKernelImage:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorCooperativeLaunchTooLarge:
      return DeviceFault::kLaunch;
    // Those of which the runtime's documentation says that the process must be ended, and uncorrectable
    // memory.
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case 226:  // cudaErrorContained
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case 721:  // cudaErrorTensorMemoryLeak
    case cudaErrorExternalDevice:
      return DeviceFault::kLost;
    default:
      return DeviceFault::kOther;
  }
}

// The runtime's own text for a machine without a driver is that the driver is too old.
void explain_no_device(int error, int driver, int runtime, const char* visible, char* text, size_t bytes) {
  const auto status = static_cast<cudaError_t>(error);
  if (status == cudaErrorInsufficientDriver && driver == 0) {
    snprintf(text, bytes, "no NVIDIA driver is installed (libcuda.so.1 was not found)");
  } else if (status == cudaErrorInsufficientDriver) {
    snprintf(text, bytes,
             "the NVIDIA driver is too old: it is for CUDA %d.%d, and this library was built with CUDA %d.%d",
             driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  } else if (status == cudaErrorNoDevice || status == cudaSuccess) {
    snprintf(text, bytes, "the NVIDIA driver shows no CUDA device%s%s%s",
             visible ? "; CUDA_VISIBLE_DEVICES is '" : "", visible ? visible : "", visible ? "'" : "");
  } else {
    snprintf(text, bytes, "%s (%s)", cudaGetErrorString(status), cudaGetErrorName(status));
  }
}

}  // namespace cnnext::cuda
