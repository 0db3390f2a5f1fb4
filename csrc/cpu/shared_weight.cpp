#include "cpu/shared_weight.h"

#include "cpu/cpu.h"

namespace cnnext {

SharedWeight::SharedWeight(const Conv2dDesc& part, Exec& exec) {
  handle_ = static_cast<const cnnext_packed_weight*>(part.packed);
  if (handle_ && handle_->packed.blob) return;
  cpu_pack_weight(part, exec, &own_.packed);
  if (!own_.packed.blob) return;
  exec.borrows(own_.packed.blob_bytes);
  exec.packs(static_cast<int64_t>(own_.packed.blob_bytes / sizeof(float)));
  handle_ = &own_;
}

SharedWeight::~SharedWeight() {
  if (own_.packed.blob) own_.packed.free_blob(own_.packed.blob);
}

}  // namespace cnnext
