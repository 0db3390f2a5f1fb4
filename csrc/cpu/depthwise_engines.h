// The two ways to run depthwise: vectors over the channels of channels-last images, or over the columns of
// planes.
#pragma once

#include "cpu/conv2d_problem.h"

namespace cnnext {

// dtype: of the images, whose pointers are typed as floats.
void depthwise_channels_run(const ConvProblem& problem, int32_t dtype, Exec& exec);
void depthwise_columns_run(const ConvProblem& problem, Exec& exec);
void depthwise_channels_weights(const Conv2dDesc& desc, int32_t dtype, Exec& exec);
void depthwise_columns_weights(const Conv2dDesc& desc, Exec& exec);

}  // namespace cnnext
