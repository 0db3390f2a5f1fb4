// The P-kernel: vectors over the pixels of a row, weights broadcast. It computes one register tile, up to MR
// output channels by NV vectors of neighbouring pixels, from a strip whose channels are planes.
#pragma once

#include <stdint.h>

namespace cnnext {

constexpr int kConvPMaxChannels = 8, kConvPMaxVectors = 3;

struct ConvPArgs {
  // Term i, a tap of an input channel, reads vector v at in[v] + input[i], where a whole vector can be read,
  // and output channel m's weight at weight[i * nr + m].
  const float* in[kConvPMaxVectors];
  const int64_t* input;
  const float* weight;
  int64_t nr, terms;
  int64_t run_end, run;  // sums are cut before term run_end and then after every `run` terms
  // Vector v of output channel m goes to out[v] + m * out_step.
  float* out[kConvPMaxVectors];
  int64_t out_step;
  const float* bias;  // of the tile's first channel, or nullptr
  int64_t residual;   // floats from an output to its residual
  int32_t lanes;      // pixels of each vector that count
  int32_t flags;      // ConvKFlags: kConvKResidual, kConvKStream and the activations'
  float alpha;
};

// Rows of a strip: `left` zeros, `cols` floats src[row * src_step + col * every], `right` zeros. After a
// row's end up to a vector of what follows is overwritten, row by row in order.
struct ConvPFillArgs {
  const float* src;
  int64_t src_step, every;
  int64_t rows, left, cols, right;
  float* dst;
  int64_t dst_step;
};

// Backward-weights along the pixels: sums[(m * taps + t) * lanes + lane] (+)= the products of output channel
// m's gradient and what tap t reads, pixel by pixel of each lane. `whole` vectors of a row and then, if any,
// one of `tail` pixels; rows follow one another.
struct ConvPWeightsArgs {
  const float* grad;  // output channel m at + m * grad_channel
  int64_t grad_channel, grad_row;
  const float* in[kConvPMaxVectors];  // of each tap
  int64_t in_row;
  int64_t rows, whole;
  int32_t tail;
  bool accumulate;
  float* sums;  // of output channel m at + m * sums_channel
  int64_t sums_channel;
};

struct ConvPUkernels {
  int32_t lanes, channels, vectors;                                                 // of the largest tile
  void (*run[kConvPMaxVectors + 1][kConvPMaxChannels + 1])(const ConvPArgs& args);  // run[vectors][channels]
  void (*weights[kConvPMaxVectors + 1][kConvPMaxChannels + 1])(
      const ConvPWeightsArgs& args);  // [taps][channels]
  // dst[i] = the sum of the lanes of vector i.
  void (*fold)(int64_t vectors, const float* src, float* dst);
  void (*fill)(const ConvPFillArgs& args);
  const char* weights_name;  // "cpu/avx512/conv2d_weights_p_8x3"
  const char* name;          // "cpu/avx512/conv2d_p_8x48"
};

}  // namespace cnnext
