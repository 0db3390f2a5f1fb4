// A copy of some rows of NCHW planes, channel by channel, that vectors can run along: zeros stand for padding
// columns and, under a stride, each residue of columns lies by itself, so that the columns of one tap are
// neighbours.
#pragma once

#include <cstdint>

namespace cnnext {

struct PlaneStrip {
  int64_t groups, channels, in_h, in_w;  // of the image
  int64_t step, min_dw, max_dw;          // output column j reads columns j * step + dw, dw from min to max
  int64_t cols;                          // of the output, at most
  int64_t pitch, row, channel;           // floats from residue to residue, row to row, channel to channel

  // Of `rows` input rows for `cols` output columns.
  PlaneStrip(int64_t groups, int64_t channels, int64_t in_h, int64_t in_w, int64_t step, int64_t min_dw,
             int64_t max_dw, int64_t rows, int64_t cols);

  int64_t floats() const;
  // Where a tap's column is, from output column 0 on.
  int64_t tap(int64_t dw) const { return (dw - min_dw) % step * pitch + (dw - min_dw) / step; }
  // Input rows [low, high) of a group of one image, under output columns [col0, col1).
  void fill(const float* images, int64_t image, int64_t group, int64_t low, int64_t high, int64_t col0,
            int64_t col1, float* memory) const;
};

}  // namespace cnnext
