// The transforms of Winograd's convolutions F(4x4, 3x3) and F(2x2, 5x5): a 6x6 tile of input and a filter
// become 36 elements each, whose products become a tile of output. Vectors run over channels throughout.
//
// The points are 0, +-5/8, +-3/2 and infinity. Of all pairs of short binary fractions they leave the least
// rounding error, 0.7 times that of 0, +-1, 2, -1/2, and less than half of that of 0, +-1, +-2.
#pragma once

#include <stdint.h>

namespace cnnext {

enum : int32_t { kWinogradIn = 6, kWinogradElements = 36 };

// One tile of input, some channels of it: element e goes to dst + e * plane.
struct WinogradInputArgs {
  // Pixel (i, j) is at src + i * row + j * col; or, where pixels is not null, at pixels[6 * i + j] + channel.
  const float* src;
  int64_t row, col;
  const float* const* pixels;
  int64_t channel;
  int64_t channels;
  float* dst;
  int64_t plane;
};

// One tile of output, `lanes` channels of it: element e is at src + e * plane.
struct WinogradOutputArgs {
  const float* src;
  int64_t plane, lanes;
  float* dst;  // pixel (i, j) at dst + i * row + j * col, for i < rows and j < cols
  int64_t row, col;
  int32_t rows, cols;
  const float* bias;  // of the first lane, or nullptr
  int64_t residual;   // floats from an output to its residual; read where flags has kConvKResidual
  int32_t flags;      // ConvKFlags: kConvKResidual, kConvKRelu, kConvKRelu6, kConvKLeakyRelu
  float alpha;
};

// Backward-weights of 3x3 is F(3x3, 4x4) at the same points: the same transform of the input, the
// adjoint of the output's for the gradient, the adjoint of the filter's for the result.

// One tile of the output's gradient, some channels of it, as elements: rows x cols pixels count, the others
// are 0.
struct WinogradGradArgs {
  const float* src;  // pixel (i, j) at src + i * row + j * col
  int64_t row, col;
  int32_t rows, cols;
  int64_t channels;
  float* dst;  // element e at dst + e * plane, whole vectors
  int64_t plane;
};

// Sums of products become filters, `lanes` of them: element e at src + e * plane, tap t to dst + t * tap.
struct WinogradFilterGradArgs {
  const float* src;
  int64_t plane, lanes;
  float* dst;
  int64_t tap;
};

// Filters, `lanes` output channels of each of `channels` input channels: tap t of channel c is at
// src + (t * channels + c) * lanes, element e goes to dst + e * plane + c * row.
struct WinogradWeightArgs {
  const float* src;
  int64_t channels, lanes;  // lanes: whole vectors
  float* dst;
  int64_t plane, row;
};

// What depends on the filter's size.
struct WinogradForm {
  int32_t out, taps;  // a tile is out x out, a filter has that many taps
  void (*output)(const WinogradOutputArgs& args);
  bool (*weights)(const WinogradWeightArgs& args);  // true where every element is finite
  const char* name;                                 // "cpu/avx512/conv2d_winograd_4x4"
};

struct WinogradUkernels {
  int32_t lanes;
  WinogradForm of_3x3, of_5x5;
  void (*input)(const WinogradInputArgs& args);
  void (*grad)(const WinogradGradArgs& args);
  void (*filter_grad)(const WinogradFilterGradArgs& args);
  const char* weights_name;  // "cpu/avx512/conv2d_weights_winograd_4x4"
};

}  // namespace cnnext
