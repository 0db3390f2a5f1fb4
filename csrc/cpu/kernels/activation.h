// The activations over a run of floats, within a few units in the last place of ref's (double) ones.
#pragma once

#include <stdint.h>

namespace cnnext {

struct ActivationUkernels {
  // y[i] = activation(x[i]); kind is a cnnext_activation; y may be x.
  void (*run)(int32_t kind, float alpha, const float* x, float* y, int64_t count);
};

}  // namespace cnnext
