// The table of microkernels: plain function pointers, one table an instruction set. Each kernel family
// declares its part in kernels/<family>.h and fills it in kernels/<family>-inl.h, which isa/*.cpp include.
#pragma once

#include "cpu/kernels/activation.h"
#include "cpu/kernels/bf16.h"
#include "cpu/kernels/conv_k.h"
#include "cpu/kernels/conv_p.h"
#include "cpu/kernels/conv_pack.h"
#include "cpu/kernels/conv_weights.h"
#include "cpu/kernels/depthwise.h"
#include "cpu/kernels/half.h"
#include "cpu/kernels/inner_product.h"

namespace cnnext {

struct UkernelTable {
  const char* isa;  // "scalar", "avx2", "avx512"
  int lanes;        // floats in a vector
  ConvKUkernels conv_k;
  ConvPUkernels conv_p;
  ConvPackUkernels conv_pack;
  ActivationUkernels activation;
  InnerProductUkernels inner_product;
  ConvWeightsUkernels conv_weights;
  DepthwiseUkernels depthwise;
  HalfUkernels half;
};

// nullptr where this build has no such kernels (another processor family).
const UkernelTable* ukernels_scalar();
const UkernelTable* ukernels_avx2();
const UkernelTable* ukernels_avx512();

// The table of active_isa().
const UkernelTable& ukernels();

// nullptr as well on the baseline, which converts.
const DepthwiseHalfUkernels* depthwise_half_ukernels_avx2();
const DepthwiseHalfUkernels* depthwise_half_ukernels_avx512();
const DepthwiseHalfUkernels* depthwise_half_ukernels();

// What AVX512_BF16 adds; nullptr where this build has it not.
const Bf16Ukernels* bf16_ukernels_avx512();

// The addition of active_isa(), or nullptr.
const Bf16Ukernels* bf16_ukernels();

}  // namespace cnnext
