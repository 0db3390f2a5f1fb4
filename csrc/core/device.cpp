#include "core/device.h"

namespace cnnext {
namespace {

std::string gibibytes(size_t bytes) {
  std::ostringstream out;
  out.precision(3);
  out << static_cast<double>(bytes) / (1 << 30) << " GiB";
  return out.str();
}

std::string memory_text(const DeviceTable& device) {
  size_t free_bytes = 0, total_bytes = 0;
  if (device.memory(&free_bytes, &total_bytes) != 0) return "";
  return concat("; ", gibibytes(free_bytes), " of ", gibibytes(total_bytes), " are free");
}

}  // namespace

std::string device_name(int32_t id) { return concat("cuda:", id); }

void fail_device(const DeviceTable& device, int error, const std::string& what) {
  char text[256] = "";
  const DeviceFault fault = device.explain(error, text, sizeof(text));
  switch (fault) {
    case DeviceFault::kMemory:
      throw DeviceMemoryError(concat(what, ": ", text, memory_text(device)));
    case DeviceFault::kLaunch:
      throw Error(CNNEXT_RUNTIME_ERROR, concat(what, " did not launch: ", text));
    case DeviceFault::kLost:
      throw Error(
          CNNEXT_RUNTIME_ERROR,
          concat(
              what, ": ", text,
              ". The error is sticky: this process's CUDA context is lost, by this call or by ",
              "any kernel before it, and every CUDA call fails from now on until the process is restarted. ",
              "Arrays on the CPU are not affected"));
    default:
      throw Error(CNNEXT_RUNTIME_ERROR, concat(what, ": ", text));
  }
}

void* device_alloc(const DeviceTable& device, size_t bytes, void* stream, const char* what) {
  const auto lacks_memory = [&](int error) {
    char text[256];
    return device.explain(error, text, sizeof(text)) == DeviceFault::kMemory;
  };
  void* block = nullptr;
  int error = device.alloc(bytes, stream, &block);
  if (error && lacks_memory(error)) {
    device.trim();  // our own pool may be what fills the memory
    error = device.alloc(bytes, stream, &block);
  }
  if (error) {
    const char* const failed = lacks_memory(error) ? "no memory for " : "allocating ";
    fail_device(device, error, concat(failed, what, " of ", bytes, " bytes"));
  }
  return block;
}

void DeviceScope::enter(const DeviceTable& device, int32_t id) {
  int32_t current = 0;
  check_device(device, device.get_current(&current), "asking for the current device");
  if (current == id) return;
  const int error = device.set_current(id);
  if (error) {
    int32_t count = 0;
    if (device.count(&count) == 0 && (id < 0 || id >= count)) {
      fail_value(device_name(id), " does not exist; there are ", count, " CUDA devices");
    }
    fail_device(device, error, concat("making ", device_name(id), " the current device"));
  }
  previous_ = current;
  device_ = &device;
}

}  // namespace cnnext
