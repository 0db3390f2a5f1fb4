// What the families' cases share.
#pragma once

#include "suite.h"

inline int32_t dtype_on(Side side, int32_t dtype) {
  const bool half = dtype == CNNEXT_FLOAT16 || dtype == CNNEXT_BFLOAT16;
  return side == Side::kRef && half ? static_cast<int32_t>(CNNEXT_FLOAT32) : dtype;
}

inline std::string describe(const char* family, int32_t dtype, std::initializer_list<int64_t> numbers) {
  std::string text = std::string(family) + " " + name_of_dtype(dtype);
  for (const int64_t n : numbers) text += " " + std::to_string(n);
  return text;
}

inline cnnext::Tensor on(const ArgPtr& arg, Side side) { return arg ? arg->on(side) : cnnext::absent(); }

void cases_elementwise(Suite& suite);
void cases_dropout(Suite& suite);
void cases_max_pool(Suite& suite);
void cases_avg_pool(Suite& suite);
void cases_channels(Suite& suite);
void cases_softmax(Suite& suite);
void cases_optim(Suite& suite);
void cases_conv(Suite& suite);
void cases_conv_fused(Suite& suite);
void cases_conv_mma(Suite& suite);
void cases_conv_wgmma(Suite& suite);
void cases_copy(Suite& suite);
