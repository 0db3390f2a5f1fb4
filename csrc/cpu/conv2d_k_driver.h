// The K-kernel's driver: regions of the output as tasks, strips of the input and planes of the output where
// the images are NCHW.
#pragma once

#include "cpu/conv2d_k.h"

namespace cnnext {

// How a problem is cut up. It follows from the shape (and from whether every weight is finite) alone.
struct ConvKTasks {
  ConvForm form;
  ConvPadding padding;
  bool stream;           // write the output past the caches
  bool buffered;         // collect the output in scratch and transpose it into planes
  int64_t images, rows;  // of a region: whole images, or some rows (of a phase) of one
  int64_t units;         // blocks of output channels (over all groups) of a task
  int64_t image_parts, row_parts, unit_parts;
  int64_t max_taps, max_run;
  bool whole_runs;                    // no phase's runs are cut into parts
  int64_t panel_blocks;               // blocks whose weights fit the cache together
  int64_t buffer_channels;            // output channels in the buffer
  int64_t strip_floats, strip_parts;  // of one group; groups in the strip at once
  int64_t buffer_floats;

  int64_t count() const { return image_parts * row_parts * unit_parts; }
  // Whether the bits are the same for regions of any size. Tiles that run on across segments leave out the
  // taps that none of their pixels has; the others' zeros turn a sum that underflowed to -0 into 0.
  bool free_regions() const { return padding != ConvPadding::kZeros && !form.pack_late; }
};

ConvKTasks plan_conv_k(const ConvProblem& problem, const ConvForm& form, const ChannelBlocks& blocks,
                       bool finite_weights);

// A phase's taps as the form takes them: how many, and floats of each.
struct ConvRuns {
  int64_t taps, run;
};
inline ConvRuns conv_runs(const ConvProblem& problem, const ConvPhase& phase, bool wide) {
  if (!wide) return {phase.num_taps, problem.in_channels};
  return {phase.num_wide, phase.wide_cols * problem.in_channels};
}

// The largest part of a tap's run that keeps `taps` taps of nr output channels in the cache.
int64_t conv_k_run_part(const ConvRuns& runs, int64_t nr);

void run_conv_k(const ConvProblem& problem, const ConvForm& form, const ChannelBlocks& blocks,
                const WeightLayout& layout, const PackedConvWeight& packed, Exec& exec);

}  // namespace cnnext
