// Rows of a plane in a strip of scratch, with zeros where the padding is. With a stride the columns lie in
// runs, by their remainder, so that what one tap reads for neighbouring outputs is one run.
#pragma once

#include <stdint.h>

#include "cpu/kernels/depthwise.h"

namespace cnnext {

struct DepthwiseStrip {
  int64_t step = 1;        // columns from an output's input to the next one's
  int64_t run = 0;         // floats of a run
  int64_t row_floats = 0;  // step runs

  DepthwiseStrip() = default;
  // For `outputs` neighbouring outputs, whose taps reach over `reach` columns.
  DepthwiseStrip(int64_t outputs, int64_t step_, int64_t reach)
      : step(step_), run(outputs + (reach - 1) / step_), row_floats(step * run) {}

  // Where in a row the first output reads under a tap `distance` columns from the first.
  int64_t at(int64_t distance) const { return distance % step * run + distance / step; }

  // Rows [row, row + rows) and columns from col on of a plane of height x width; either may begin outside.
  void fill(const DepthwiseUkernels& kernels, const float* plane, int64_t height, int64_t width, int64_t row,
            int64_t rows, int64_t col, float* strip) const;

 private:
  void fill_row(const DepthwiseUkernels& kernels, const float* in, int64_t begin, int64_t end,
                float* out) const;
};

}  // namespace cnnext
