// Convolutions in all three passes beside ref, for the files of cases that have them.
#pragma once

#include "suite.h"

struct ConvShape {
  int64_t N, C, H, W, K, R, S, groups, stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right;
};

struct ConvCase {
  ConvShape s;
  int32_t dtype, activation;
  cnnext::Format format, w_format;
  bool extras;    // bias, residual, activation
  bool infinite;  // some weights
  bool tf32 = false;
  bool weights = true;  // backward-weights too
  // Multiprocessors of a device on which another kernel gives the same bits: forward's, backward-data's.
  int also_forward = 0, also_data = 0;
};
void run_conv_case(Suite& suite, const ConvCase& c);
