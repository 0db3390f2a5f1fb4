// What cnnext_packed_weight is: a dense copy of the weights, which every backend can read, and beside it
// whatever one backend packed for its own kernels.
#pragma once

#include "core/tensor.h"

namespace cnnext {

// Packed by a backend through OpTable::pack_weight; blob stays nullptr where it packed nothing. Only that
// backend looks inside. isa and format say what it was packed for, in the backend's own numbers: a forward
// whose ISA or format differs uses the dense copy.
struct PackedBlob {
  void* blob = nullptr;
  void (*free_blob)(void*) = nullptr;
  size_t blob_bytes = 0;
  int32_t isa = 0;
  int32_t kind = 0;  // which kernel family's layout
  Format format = Format::kNCHW;
};

}  // namespace cnnext

// Reached from a descriptor by desc.packed (forward only); desc.w is then a view of its w.
struct cnnext_packed_weight {
  cnnext_conv2d_params params;  // the geometry it was packed for
  cnnext::Tensor w;             // (K,C/groups,R,S), dense in K,C,R,S order, owned
  cnnext::PackedBlob packed;
};
