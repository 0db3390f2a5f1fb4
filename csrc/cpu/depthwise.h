// Depthwise convolution (one input and one output channel a group), all three passes.
#pragma once

#include "core/desc.h"
#include "core/exec.h"

namespace cnnext {

// Planes of a few channels go by columns: vectors over channels would be mostly empty.
bool depthwise_by_channels(const Conv2dDesc& desc);
bool depthwise_supports(const Conv2dDesc& desc);
void depthwise_forward(const Conv2dDesc& desc, Exec& exec);  // with bias, residual and activation
void depthwise_backward_data(const Conv2dDesc& desc, Exec& exec);
void depthwise_backward_weights(const Conv2dDesc& desc, Exec& exec);

// The same for images and weights of 16 bits.
bool depthwise_half_supports(const Conv2dDesc& desc);
void depthwise_half_forward(const Conv2dDesc& desc, Exec& exec);
void depthwise_half_backward_data(const Conv2dDesc& desc, Exec& exec);
void depthwise_half_backward_weights(const Conv2dDesc& desc, Exec& exec);

}  // namespace cnnext
