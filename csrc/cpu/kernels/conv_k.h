// The K-kernel: vectors over output channels, activations broadcast.
#pragma once

namespace cnnext {

struct ConvKUkernels {};

}  // namespace cnnext
