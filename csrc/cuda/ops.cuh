// The operations of this library. Those whose field stays empty in the table (backend.cu) are a clear
// NotImplementedError in core.
#pragma once

#include "core/op_table.h"

namespace cnnext::cuda {

#define CNNEXT_DECLARE_CUDA(name, Desc) Ran name(const Desc& desc, Exec& exec);
CNNEXT_OPS(CNNEXT_DECLARE_CUDA)
#undef CNNEXT_DECLARE_CUDA

}  // namespace cnnext::cuda
