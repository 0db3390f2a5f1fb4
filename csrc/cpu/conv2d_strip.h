// A copy of the input that a region of the output reads, pixel by pixel dense: what the K-kernel wants where
// the image is NCHW, where filter rows are taken as runs, and where groups lie interleaved.
#pragma once

#include "cpu/conv2d_k.h"

namespace cnnext {

// A region of the output: images [n0, n1), and of each the rows [row0, row0 + rows) of every phase that are
// there, which are the rows [h0, h1) of the image.
struct ConvRegion {
  int64_t n0, n1, row0, rows, h0, h1;
};

class ConvStrip {
 public:
  // Columns come with zeros for the padding where wide.
  ConvStrip(const ConvProblem& problem, bool wide);

  // Floats of one group for any region of so many images and rows of a phase; all_rows: regions are whole
  // images.
  int64_t group_floats(int64_t images, int64_t rows, bool all_rows) const;

  // Copies groups [group0, group1), each to its own part of memory, part_floats apart.
  void fill(const ConvRegion& region, int64_t group0, int64_t group1, float* memory,
            int64_t part_floats) const;

  // How to read a part.
  ConvKView view(const ConvRegion& region, const float* part) const;

 private:
  struct Rows {
    int64_t low, high;
  };
  void fill_half(const ConvRegion& region, int64_t group0, int64_t group1, float* memory,
                 int64_t part_floats) const;
  Rows rows_of(const ConvRegion& region) const;

  const ConvProblem& p_;
  int64_t col0_, cols_;          // columns of the image that the strip has; those outside are zeros
  int64_t left_, used_, right_;  // zeros, columns of the image, zeros
};

}  // namespace cnnext
