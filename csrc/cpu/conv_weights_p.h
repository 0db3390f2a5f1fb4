// Backward-weights for NCHW images of few channels: vectors along the pixels of both images, read as they
// lie.
#pragma once

#include "core/desc.h"
#include "core/exec.h"

namespace cnnext {

bool conv_weights_p_suits(const Conv2dDesc& desc);

// False: a value was not finite, and may have met a zero of the padding. The caller takes another algorithm,
// under which padding contributes nothing.
bool conv_weights_p(const Conv2dDesc& desc, Exec& exec);

}  // namespace cnnext
