// Max-pool's forward of uint8 and int8.
#pragma once

#include "core/op_table.h"

namespace cnnext {

Ran max_pool_bytes_forward(const Pool2dDesc& desc, Exec& exec);

}  // namespace cnnext
