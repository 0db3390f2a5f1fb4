// Autotune of the products on tensor cores: the tiles that a convolution may take, timed on the stream at the
// first call of a shape.
#pragma once

#include <functional>

#include "cuda/conv_mma_parts.cuh"

namespace cnnext::cuda {

constexpr int kAsTable = -1;

// The tile, of first to last (shapes of mma.sync, then wgmma's from kFirstWgmma on), that autotune keeps for
// the convolution, which it times first where none is kept: launches(shape) queues the products by that tile,
// whose results are the same bits by any of them. kAsTable where autotune is off, where nothing else is
// faster, and where the stream is being captured or the call only plans and nothing is kept.
int tuned_shape(const Op& op, MmaPass pass, const Conv2dDesc& d, int first, int last,
                const std::function<void(int shape)>& launches);

}  // namespace cnnext::cuda
