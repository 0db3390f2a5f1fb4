// One axis of a phase cut into runs of outputs that see the same taps inside the input. Under such a
// rectangle no tap meets padding, so nothing is multiplied by zero.
#pragma once

#include <algorithm>

#include "cpu/conv2d_problem.h"

namespace cnnext {

// Outputs [begin, end) and the taps [tap_begin, tap_end) that they all see.
struct ConvSegment {
  int64_t begin, end, tap_begin, tap_end;
};

// Taps along one axis of a phase, by rising distance.
struct ConvAxis {
  const ConvTap* taps;
  int64_t count, stride;  // tap i is taps[i * stride]
  bool rows;
  int64_t step, extent;  // input positions a tap moves by from one output to the next; input size

  int64_t distance(int64_t tap) const { return rows ? taps[tap * stride].dh : taps[tap * stride].dw; }

  // The segment that starts at `begin`, up to `limit`.
  ConvSegment segment(int64_t begin, int64_t limit) const {
    ConvSegment s{begin, limit, 0, count};
    const int64_t at = begin * step;
    while (s.tap_begin < count && at + distance(s.tap_begin) < 0) ++s.tap_begin;
    while (s.tap_end > s.tap_begin && at + distance(s.tap_end - 1) >= extent) --s.tap_end;
    // The next tap to come in, and the first to go out.
    if (s.tap_begin > 0) s.end = std::min(s.end, ceil_div(-distance(s.tap_begin - 1), step));
    if (s.tap_end > s.tap_begin) s.end = std::min(s.end, ceil_div(extent - distance(s.tap_end - 1), step));
    return s;
  }

 private:
  static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
};

inline ConvAxis row_axis(const ConvProblem& problem, const ConvPhase& phase) {
  return {phase.taps,      phase.num_taps / std::max<int64_t>(1, phase.wide_cols),
          phase.wide_cols, true,
          problem.step_h,  problem.in_h};
}
inline ConvAxis col_axis(const ConvProblem& problem, const ConvPhase& phase) {
  return {phase.taps, phase.num_taps ? phase.wide_cols : 0, 1, false, problem.step_w, problem.in_w};
}

}  // namespace cnnext
