// Preparing images for a network. core declares it and judges the arguments, cpu/augment.cpp computes. No
// part of the op table: the host does this for every backend, and nothing differentiates it.
#pragma once

#include <cstdint>

#include "core/exec.h"

namespace cnnext {

constexpr int64_t kMaxColorChannels = 16;  // of a matrix over the channels

// All row-major; what is nullptr is left out. See cnnext_augment.
struct AugmentDesc {
  int64_t N, C, H, W, P, Q;
  bool bytes, bilinear, clamp;
  float scale;
  const void* x;         // uint8 if bytes, else float
  const double* affine;  // (N, 2, 3)
  const float* color;
  int64_t color_terms;   // 2, or C + 1
  int64_t color_stride;  // from one image's to the next: 0 for all the same
  const int64_t* erase;  // (N, rectangles, 4), inside P x Q
  int64_t rectangles;
  const float* erase_value;  // (C)
  float* y;
};
void augment(const AugmentDesc& desc, Exec& exec);

struct MixDesc {
  int64_t N, inner;
  const float* x;
  const int64_t* partner;
  const float* weight;
  float* y;
};
void mix_images(const MixDesc& desc, Exec& exec);

}  // namespace cnnext
