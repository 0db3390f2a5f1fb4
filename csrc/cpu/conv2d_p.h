// The P-kernel's driver: NCHW images read as they lie. A region's input rows are copied into a strip, channel
// by channel, with zeros for padding columns and, under a stride, each residue of columns by itself; vectors
// run along its rows, and what they compute is rows of the output's planes.
#pragma once

#include "cpu/conv2d_pack.h"

namespace cnnext {

// Whether it can run this. Taps in padding columns read zeros, so that weights have to be finite where there
// are any.
bool conv_p_may(const ConvProblem& problem, bool finite_weights);
// Whether it is faster than the K-kernel, too.
bool conv_p_suits(const ConvProblem& problem, bool finite_weights);

void run_conv_p(const ConvProblem& problem, const ChannelBlocks& blocks, const WeightLayout& layout,
                const PackedConvWeight& packed, Exec& exec);

}  // namespace cnnext
