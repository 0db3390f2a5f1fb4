// What the runtime's errors mean for what comes after them.
#include <cuda_runtime.h>

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

}  // namespace cnnext::cuda
