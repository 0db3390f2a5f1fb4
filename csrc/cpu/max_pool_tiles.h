// Max-pool's backward over planes whose windows lie side by side, two columns apart: 2x2 with stride 2 and
// its like.
#pragma once

#include "core/desc.h"
#include "core/exec.h"

namespace cnnext {

bool max_pool_is_tiled(const Pool2dDesc& desc);
// False where a code names no element of its window; grad_x is then unfinished.
bool max_pool_tiles_backward(const Pool2dDesc& desc, Exec& exec);

}  // namespace cnnext
