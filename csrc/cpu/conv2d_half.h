// The K-kernel's way in and out for images of 16 bits: strips are widened as they are copied, finished
// regions are rounded as they leave their buffer. No more than a region is ever float32.
#pragma once

#include "cpu/conv2d_problem.h"

namespace cnnext {

// Output rows [row, row + rows) of one image, channels [first, first + channels) of all groups' together.
struct HalfRegion {
  int64_t image, row, rows, first, channels;
  int64_t buffer_channels;  // floats from one pixel of the buffer to the next
  bool stream;              // past the caches
};

// Residual, activation and rounding of a region's sums, pixel by pixel in `buffer`, which is written.
void store_half_region(const ConvProblem& problem, const HalfRegion& region, float* buffer);

}  // namespace cnnext
