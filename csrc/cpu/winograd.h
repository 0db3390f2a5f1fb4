// Winograd's convolutions for filters without stride and dilation: F(4x4, 3x3), 36 products where the direct
// algorithms take 144, and F(2x2, 5x5), 36 where they take 100, for transforms of input, filter and output.
// Their rounding error is about 2.5 times the direct one's, so that only algorithm "auto" takes them.
#pragma once

#include "core/desc.h"
#include "core/exec.h"
#include "core/packed_weight.h"

namespace cnnext {

// Whether it is faster than the direct algorithms for this shape (and may be taken at all).
bool winograd_supports_forward(const Conv2dDesc& desc);
bool winograd_supports_backward_data(const Conv2dDesc& desc);
bool winograd_supports_backward_weights(const Conv2dDesc& desc);

// Whether it may be taken where somebody has found it faster.
bool winograd_may_forward(const Conv2dDesc& desc);
bool winograd_may_backward_data(const Conv2dDesc& desc);
bool winograd_may_backward_weights(const Conv2dDesc& desc);

// False: a weight is not finite, or was not after its transform. Nothing that was written counts then; the
// caller takes a direct algorithm, under which padding contributes nothing whatever the weights.
bool winograd_forward(const Conv2dDesc& desc, Exec& exec);
bool winograd_backward_data(const Conv2dDesc& desc, Exec& exec);

// What is not finite may spread over the 3x3 filter of its pair of channels.
void winograd_backward_weights(const Conv2dDesc& desc, Exec& exec);

// Transforms the weights for a handle. False, and blob as it was: the direct algorithms are to have them.
bool winograd_pack(const Conv2dDesc& desc, Exec& exec, PackedBlob* blob);

}  // namespace cnnext
