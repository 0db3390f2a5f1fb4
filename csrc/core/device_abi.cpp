// The ABI's functions on devices, their memory and their streams.
#include "core/device.h"
#include "core/error.h"
#include "core/op_table.h"

namespace cnnext {
namespace {

const DeviceTable& device_table() {
  const OpTable* table = cuda_table();
  if (!table) fail_not_implemented("the cuda backend is not available: ", cnnext_cuda_reason());
  return *table->device;
}

// body(table), with that device current.
template <class Body>
cnnext_status on_device(int32_t id, const Body& body) {
  return guard([&] {
    const DeviceTable& table = device_table();
    const DeviceScope scope(table, id);
    body(table);
  });
}

}  // namespace
}  // namespace cnnext

using namespace cnnext;

extern "C" {

int32_t cnnext_cuda_device_count(void) {
  const OpTable* table = cuda_table();
  int32_t count = 0;
  return table && table->device->count(&count) == 0 ? count : 0;
}

cnnext_status cnnext_cuda_device_name(int32_t device, char* text, size_t bytes) {
  return guard([&] {
    if (!text || !bytes) fail_value("text is NULL or has no room");
    const DeviceTable& table = device_table();
    check_device(table, table.describe(device, text, bytes), "asking for a device's name");
  });
}

cnnext_status cnnext_cuda_pointer_device(const void* pointer, int32_t* device) {
  return guard([&] {
    if (!device) fail_value("device is NULL");
    const DeviceTable& table = device_table();
    check_device(table, table.owner(pointer, device), "asking whose memory a pointer is");
  });
}

cnnext_status cnnext_cuda_alloc(int32_t device, size_t bytes, void* stream, void** block) {
  return on_device(device, [&](const DeviceTable& table) {
    if (!block) fail_value("block is NULL");
    *block = nullptr;
    if (bytes) *block = device_alloc(table, bytes, stream, "a block");
  });
}

cnnext_status cnnext_cuda_free(int32_t device, void* block, void* stream) {
  return on_device(device, [&](const DeviceTable& table) {
    if (block) check_device(table, table.free(block, stream), "freeing a block");
  });
}

cnnext_status cnnext_cuda_copy(int32_t device, void* to, const void* from, size_t bytes, void* stream) {
  return on_device(device, [&](const DeviceTable& table) {
    if (bytes) check_device(table, table.copy(to, from, bytes, stream), "copying");
  });
}

cnnext_status cnnext_cuda_wait(int32_t device, void* stream, void* producer) {
  return on_device(device, [&](const DeviceTable& table) {
    if (stream != producer) check_device(table, table.wait(stream, producer), "waiting for a stream");
  });
}

cnnext_status cnnext_cuda_synchronize(int32_t device, void* stream) {
  return on_device(device, [&](const DeviceTable& table) {
    check_device(table, table.synchronize(stream), "waiting for a stream's end");
  });
}

}  // extern "C"
