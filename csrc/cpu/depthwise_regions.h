// A phase's outputs cut into rectangles under which the same taps lie inside the input. Taps in the padding
// are thus left out, not multiplied by zero: an infinite weight must not see them.
#pragma once

#include <vector>

#include "cpu/conv2d_problem.h"

namespace cnnext {

// Positions [begin, end) of one axis and the taps [tap_begin, tap_end) along it that are inside the input.
struct DepthwiseSegment {
  int64_t begin, end, tap_begin, tap_end;
};

// The part of a segment in [begin, end); empty as begin >= end.
inline DepthwiseSegment clip(DepthwiseSegment segment, int64_t begin, int64_t end) {
  if (segment.begin < begin) segment.begin = begin;
  if (segment.end > end) segment.end = end;
  return segment;
}

struct DepthwisePhase {
  const ConvPhase* phase;
  int64_t row_taps, col_taps;  // phase->taps[i * col_taps + j]
  std::vector<DepthwiseSegment> rows, cols;
  std::vector<int64_t> tap_x, tap_row_x, tap_w;  // what the kernels take, for each of the phase's taps
};

// One for each of the problem's phases that has outputs. whole: taps outside count as well (they read zeros),
// which makes every phase one rectangle.
std::vector<DepthwisePhase> depthwise_phases(const ConvProblem& problem, bool whole);

}  // namespace cnnext
