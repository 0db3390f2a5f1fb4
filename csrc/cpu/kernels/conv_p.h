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

struct ConvPUkernels {
  int32_t lanes, channels, vectors;                                                 // of the largest tile
  void (*run[kConvPMaxVectors + 1][kConvPMaxChannels + 1])(const ConvPArgs& args);  // run[vectors][channels]
  void (*fill)(const ConvPFillArgs& args);
  const char* name;  // "cpu/avx512/conv2d_p_8x48"
};

}  // namespace cnnext
