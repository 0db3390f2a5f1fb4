#include "cpu/depthwise_regions.h"

#include <algorithm>

namespace cnnext {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

// Position i reads input i * step + distance(tap) of [0, size).
template <class Distance>
std::vector<DepthwiseSegment> segments(int64_t positions, int64_t step, int64_t size, int64_t taps,
                                       const Distance& distance) {
  std::vector<int64_t> cuts{0, positions};
  for (int64_t t = 0; t < taps; ++t) {
    cuts.push_back(std::clamp<int64_t>(ceil_div(-distance(t), step), 0, positions));
    cuts.push_back(std::clamp<int64_t>(ceil_div(size - distance(t), step), 0, positions));
  }
  std::sort(cuts.begin(), cuts.end());
  std::vector<DepthwiseSegment> result;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    if (cuts[i] == cuts[i + 1]) continue;
    DepthwiseSegment segment{cuts[i], cuts[i + 1], 0, 0};
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t at = cuts[i] * step + distance(t);
      if (at < 0) segment.tap_begin = t + 1;  // distances rise
      if (at < size) segment.tap_end = t + 1;
    }
    segment.tap_end = std::max(segment.tap_end, segment.tap_begin);
    result.push_back(segment);
  }
  return result;
}

}  // namespace

std::vector<DepthwisePhase> depthwise_phases(const ConvProblem& problem, bool whole) {
  std::vector<DepthwisePhase> result;
  for (int64_t i = 0; i < problem.num_phases; ++i) {
    const ConvPhase& phase = problem.phases[i];
    if (phase.rows <= 0 || phase.cols <= 0) continue;
    DepthwisePhase p{&phase, 0, 0, {}, {}, {}, {}, {}};
    if (phase.num_taps) {
      p.col_taps = phase.wide_cols;
      p.row_taps = phase.num_taps / phase.wide_cols;
    }
    if (whole) {
      p.rows = {{0, phase.rows, 0, p.row_taps}};
      p.cols = {{0, phase.cols, 0, p.col_taps}};
    } else {
      p.rows = segments(phase.rows, problem.step_h, problem.in_h, p.row_taps,
                        [&](int64_t t) { return phase.taps[t * p.col_taps].dh; });
      p.cols = segments(phase.cols, problem.step_w, problem.in_w, p.col_taps,
                        [&](int64_t t) { return phase.taps[t].dw; });
    }
    result.push_back(std::move(p));
  }
  return result;
}

}  // namespace cnnext
