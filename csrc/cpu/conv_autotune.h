// Convolution under autotune: the first call of a shape times the variants that its driver offers.
#pragma once

#include "core/op_table.h"

namespace cnnext {

enum class ConvPass : int64_t { kForward, kBackwardData, kBackwardWeights };
using ConvRun = Ran (*)(const Conv2dDesc& desc, Exec& exec);

// run(desc, exec) with the variant that autotune's mode asks for. The last run of all, whose result stays, is
// the chosen one's, so that the first call's bits are the later calls'.
Ran run_tuned(ConvPass pass, const Conv2dDesc& desc, Exec& exec, ConvRun run);

}  // namespace cnnext
