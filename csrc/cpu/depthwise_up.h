// Rows of outputs two columns apart from phase to phase (backward-data of stride 2), both phases at once: a
// row is then written from left to right.
#pragma once

#include <vector>

#include "cpu/depthwise_regions.h"

namespace cnnext {

// Output rows h0, h0 + out_step_h, ... The taps of tap row i are those at i * num_cols of tap_w: column s of
// them adds input pixel q to output column 2 q + s + first.
struct DepthwiseUpRows {
  int64_t h0, first, num_cols;
  const std::vector<DepthwiseSegment>* rows;
  std::vector<int64_t> tap_x, tap_w;
};

// One for each phase of rows, by h0; none where the taps' columns are not neighbours.
std::vector<DepthwiseUpRows> depthwise_up_rows(const ConvProblem& problem,
                                               const std::vector<DepthwisePhase>& phases);

}  // namespace cnnext
