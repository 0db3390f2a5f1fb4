// Matrix products with few rows, where packing the weights would cost more than the product: the weights are
// read once, as they lie.
#pragma once

#include <stdint.h>

namespace cnnext {

// y[r * y_stride + k] (+)= sum over i < length of x[r * x_stride + i] * w[k * w_stride + i].
struct DotArgs {
  const float* x;
  int64_t x_stride, rows;
  const float* w;
  int64_t w_stride, outputs, length;
  float* y;
  int64_t y_stride;
  bool accumulate;
};

// y[r * y_stride + j] = sum over k < terms of x[r * x_stride + k] * w[k * w_stride + j], for j < outputs.
struct AxpyArgs {
  const float* x;
  int64_t x_stride, rows;
  const float* w;
  int64_t w_stride, terms, outputs;
  float* y;
  int64_t y_stride;
};

struct InnerProductUkernels {
  void (*dot)(const DotArgs& args);
  void (*axpy)(const AxpyArgs& args);
  const char *dot_name, *axpy_name;
};

}  // namespace cnnext
