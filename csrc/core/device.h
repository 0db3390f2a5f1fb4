// Device tables as core uses them: errors become exceptions, and the current device is restored.
#pragma once

#include <string>

#include "core/device_table.h"
#include "core/error.h"

namespace cnnext {

// Device memory is aligned to this, as the device's own allocator does.
constexpr size_t kDeviceAlign = 256;

// "cuda:0"
std::string device_name(int32_t id);

// A device that has no memory left: a Call adds which operation wanted it.
struct DeviceMemoryError : Error {
  explicit DeviceMemoryError(const std::string& message) : Error(CNNEXT_OUT_OF_MEMORY, message) {}
};

// Throws what the error number says: MemoryError or RuntimeError; `what` is what was attempted.
[[noreturn]] void fail_device(const DeviceTable& device, int error, const std::string& what);

inline void check_device(const DeviceTable& device, int error, const char* what) {
  if (error) fail_device(device, error, what);
}

// A block of at least one byte; after giving back what the pool keeps, if need be.
void* device_alloc(const DeviceTable& device, size_t bytes, void* stream, const char* what);

// Makes a device current, and the one that was current again at the end.
class DeviceScope {
 public:
  DeviceScope() = default;
  DeviceScope(const DeviceTable& device, int32_t id) { enter(device, id); }
  ~DeviceScope() {
    if (device_) device_->set_current(previous_);
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

  void enter(const DeviceTable& device, int32_t id);

 private:
  const DeviceTable* device_ = nullptr;  // where there is something to restore
  int32_t previous_ = 0;
};

}  // namespace cnnext
