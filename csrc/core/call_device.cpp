// Where a call runs: the one device of its tensors.
#include "core/call.h"

namespace cnnext {

void Call::settle_elsewhere() {
  const int32_t backend = exec_.backend();
  if (device_type_ != CNNEXT_CUDA) {
    if (backend != CNNEXT_BACKEND_CUDA || !first_) return;
    if (!cuda_table()) {
      fail_not_implemented("the cuda backend is not available: ", cnnext_cuda_reason());
    }
    fail_value(first_, " is on the CPU, but the context's backend is 3 (cuda)");
  }
  if (backend != CNNEXT_BACKEND_AUTO && backend != CNNEXT_BACKEND_CUDA) {
    fail_value(first_, " is on ", device_name(device_id_), ", but the context's backend is ", backend,
               ", which runs on the CPU");
  }
  const OpTable* table = cuda_table();
  if (!table) {
    fail_not_implemented(first_, " is on ", device_name(device_id_),
                         ", and the cuda backend is not available: ", cnnext_cuda_reason());
  }
  scope_.enter(*table->device, device_id_);
  exec_.use_device(*table->device);
}

void Call::note(const Tensor& t, const char* name) {
  if (noted_ < kMaxNoted) notes_[noted_++] = {&t, name};
}

void Call::check_launches(const char* op_name) const {
  const DeviceTable& device = *exec_.device();
  if (const int error = device.take_error()) fail_device(device, error, described(op_name));
}

// "add on cuda:0 (a float32 (2, 3), b float32 (2, 3))"
std::string Call::described(const char* op_name) const {
  std::string text = concat(op_name, " on ", device_name(device_id_), " (");
  for (int i = 0; i < noted_; ++i) {
    const Tensor& t = *notes_[i].tensor;
    text += concat(i ? ", " : "", notes_[i].name, " ", dtype_name(t.dtype), " ", shape_string(t));
  }
  return text + ")";
}

void Call::fail_memory(const char* op_name, const DeviceMemoryError& error) const {
  throw Error(error.status, concat(described(op_name), ": ", error.what()));
}

void Call::fail_apart(const Tensor& t, const char* name) const {
  const auto place_name = [](int32_t type, int32_t id) {
    if (type == CNNEXT_CUDA) return device_name(id);
    return type == CNNEXT_CPU ? std::string("the CPU") : concat("device type ", type);
  };
  throw ErrorOfCall(
      CNNEXT_INVALID_VALUE,
      concat(name, " is on ", place_name(t.device_type, t.device_id), ", but ", first_, " is on ",
             place_name(device_type_, device_id_), "; the arrays of one call must be on one device (", name,
             " is ", dtype_name(t.dtype), " ", shape_string(t), ")"));
}

void Call::fail_unsupported(const char* op_name) const {
  if (on_device()) {
    fail_not_implemented(op_name, " is not supported by the cuda backend: ", described(op_name));
  }
  fail_not_implemented(op_name, " is not supported by the ref backend for these arguments");
}

}  // namespace cnnext
