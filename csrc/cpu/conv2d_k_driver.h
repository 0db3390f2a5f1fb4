// The K-kernel's driver: regions of the output as tasks, strips of the input and planes of the output where
// the images are NCHW.
#pragma once

#include "cpu/conv2d_k.h"

namespace cnnext {

// How a problem is cut up. It follows from the shape alone.
struct ConvKTasks {
  bool strip;            // copy each region's input into scratch, pixel by pixel dense
  bool wide;             // take filter rows as runs; needs a padded strip, or no padding in the columns
  bool buffered;         // collect the output in scratch and transpose it into planes
  int64_t images, rows;  // of a region: whole images, or some rows (of a phase) of one
  int64_t units;         // blocks of output channels (over all groups) of a task
  int64_t image_parts, row_parts, unit_parts;
  int64_t max_taps, max_run;
  int64_t panel_blocks;     // blocks whose weights fit the cache together
  int64_t buffer_channels;  // output channels in the buffer
  int64_t strip_floats, buffer_floats;

  int64_t count() const { return image_parts * row_parts * unit_parts; }
};

ConvKTasks plan_conv_k(const ConvProblem& problem, const ChannelBlocks& blocks, bool finite_weights);

// The largest part of a tap's run that keeps `taps` taps of nr output channels in the cache.
int64_t conv_k_run_part(int64_t run, int64_t taps, int64_t nr);

void run_conv_k(const ConvProblem& problem, const ChannelBlocks& blocks, const PackedConvWeight& packed,
                Exec& exec);

}  // namespace cnnext
