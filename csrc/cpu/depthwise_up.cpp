#include "cpu/depthwise_up.h"

#include <algorithm>

namespace cnnext {
namespace {

struct Column {
  int64_t at;  // the output column that input column 0 adds to
  const DepthwisePhase* phase;
  int64_t tap;
};

bool neighbours(const std::vector<Column>& columns) {
  for (size_t i = 1; i < columns.size(); ++i) {
    if (columns[i].at != columns[i - 1].at + 1) return false;
  }
  return !columns.empty();
}

}  // namespace

std::vector<DepthwiseUpRows> depthwise_up_rows(const ConvProblem& problem,
                                               const std::vector<DepthwisePhase>& phases) {
  std::vector<DepthwiseUpRows> result;
  if (problem.out_step_w != 2 || problem.step_w != 1) return result;
  for (size_t f = 0; f + 1 < phases.size(); f += 2) {
    const DepthwisePhase &even = phases[f], &odd = phases[f + 1];
    if (even.phase->h0 != odd.phase->h0 || even.row_taps != odd.row_taps || !even.row_taps) return {};
    std::vector<Column> columns;
    for (const DepthwisePhase* phase : {&even, &odd}) {
      for (int64_t j = 0; j < phase->col_taps; ++j) {
        columns.push_back({phase->phase->w0 - 2 * phase->phase->taps[j].dw, phase, j});
      }
    }
    std::sort(columns.begin(), columns.end(), [](const Column& a, const Column& b) { return a.at < b.at; });
    if (!neighbours(columns)) return {};
    DepthwiseUpRows rows{
        even.phase->h0, columns[0].at, static_cast<int64_t>(columns.size()), &even.rows, {}, {}};
    for (int64_t i = 0; i < even.row_taps; ++i) {
      rows.tap_x.push_back(even.tap_row_x[static_cast<size_t>(i * even.col_taps)]);
      for (const Column& column : columns) {
        rows.tap_w.push_back(
            column.phase->tap_w[static_cast<size_t>(i * column.phase->col_taps + column.tap)]);
      }
    }
    result.push_back(std::move(rows));
  }
  // The phases of rows come in order, and all of them.
  for (size_t i = 0; i < result.size(); ++i) {
    if (result[i].h0 != static_cast<int64_t>(i)) return {};
  }
  if (static_cast<int64_t>(result.size()) != problem.out_step_h) return {};
  return result;
}

}  // namespace cnnext
