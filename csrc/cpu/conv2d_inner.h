// Convolutions that are a matrix product with few rows: linear layers and 1x1 convolutions of few pixels, and
// filters as large as their image. No packing.
#pragma once

#include "core/desc.h"
#include "core/exec.h"

namespace cnnext {

bool inner_product_supports_forward(const Conv2dDesc& desc);
bool inner_product_supports_backward_data(const Conv2dDesc& desc);
void inner_product_forward(const Conv2dDesc& desc, Exec& exec);
void inner_product_backward_data(const Conv2dDesc& desc, Exec& exec);

}  // namespace cnnext
