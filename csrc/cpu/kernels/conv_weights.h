// Backward-weights. The kernel computes one register tile of a weight gradient: up to MR rows (channels of
// side A, one or several taps of them) by a few vectors of channels of side B, summed over a block of pixels.
// Beside it stand the movers that bring strips of an image into the order the tile wants, and sums into the
// weights'.
#pragma once

#include <stdint.h>

namespace cnnext {

constexpr int kConvWeightsMaxRows = 8;     // rows of a tile
constexpr int kConvWeightsMaxVectors = 4;  // vectors across

// The pixels summed over: three nested loops; steps count floats.
struct ConvWeightsPixels {
  int64_t images, rows, cols;
  int64_t a_image, a_row, a_col;
  int64_t b_image, b_row, b_col;
  int64_t run;  // so many pixels are summed before they are added to the rest
};

// out[m][v] (+)= sum over pixels of a[m][pixel] * b[pixel][v], v over the tile's vectors.
struct ConvWeightsTile {
  const float* a[kConvWeightsMaxRows];
  float* out[kConvWeightsMaxRows];
  const float* b;
  bool accumulate;
};

struct ConvWeightsUkernels {
  int32_t lanes;                             // floats in a vector
  int32_t vectors;                           // of the widest tile
  int32_t rows[kConvWeightsMaxVectors + 1];  // of the tallest tile, by vectors
  bool narrow;                               // few registers, so tiles read each float often
  // run[vectors][rows]
  void (*run[kConvWeightsMaxVectors + 1][kConvWeightsMaxRows + 1])(const ConvWeightsPixels&,
                                                                   const ConvWeightsTile&);
  // out[j * out_step + i] = in[i * in_step + j] for i < rows, j < cols. The padded form writes zeros from
  // rows up to the next multiple of `lanes`.
  void (*transpose)(int64_t rows, int64_t cols, const float* in, int64_t in_step, float* out,
                    int64_t out_step);
  void (*transpose_padded)(int64_t rows, int64_t cols, const float* in, int64_t in_step, float* out,
                           int64_t out_step);
  // out[i * out_step + j] = in[i * in_step + j] for i < rows, j < cols. Row by row in order; where out_step
  // is less than the next multiple of `lanes`, what follows a row is overwritten by the next row, and after
  // the last one up to lanes - 1 floats.
  void (*copy_rows)(int64_t rows, int64_t cols, const float* in, int64_t in_step, float* out,
                    int64_t out_step);
  // sum[i] += parts[j * step + i] for j in [0, count) in order
  void (*add)(int64_t n, int64_t count, const float* parts, int64_t step, float* sum);
  const char* name;  // "cpu/avx512/conv2d_weights_6x4"
};

}  // namespace cnnext
